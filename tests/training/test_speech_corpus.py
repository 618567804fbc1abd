"""Labels of recordings: presence at the borders of silence, and the shape of the mouth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("torch")


def test_presence_is_not_judged_at_borders() -> None:
    from training.speech_corpus import near_border

    phones = np.zeros(40, np.int64)
    phones[10:20] = 5
    assert np.flatnonzero(near_border(phones)).tolist() == [*range(6, 14), *range(16, 24)]


def test_the_mouth_shape_closes_on_lips(data_folder: Path) -> None:
    from dataset.phones import Utterance
    from training.speech_corpus import mouth_shape

    phones = (("SIL", 0, 20), ("AA", 20, 20), ("B", 40, 10), ("AA", 50, 20), ("SIL", 70, 30))
    shape = mouth_shape(Utterance(id="", seconds=1.0, phones=phones), 100)
    assert shape[30, 0] > 0.5 and not shape[30, 2], "centimetres, open"
    assert shape[45, 2] and shape[95, 2]
