"""Phone labels: read with their viseme classes, and a malformed one is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dataset.phones import PHONES, VISEME_OF_PHONE, VISEMES, Utterance, phone_index, read_labels
from realtime.errors import MiravoxError

MALFORMED = ("no json", "[1, 2]", '{"id": "a", "seconds": 1}', '{"id": "a", "seconds": 1, "phones": [["M", 1]]}')


@pytest.mark.parametrize("line", MALFORMED)
def test_a_malformed_label_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"id": "good", "seconds": 1, "phones": []}\n' + line + "\n")
    with pytest.raises(MiravoxError, match=r"labels\.jsonl, line 2"):
        read_labels(path)


def test_labels_are_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    rows = [
        {"id": "a", "seconds": 0.5, "phones": [["AH1", 10, 20]], "corpus": "test", "text": "uh"},
        {"id": "b", "seconds": 1, "phones": []},
    ]
    path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n")
    first, second = read_labels(path)
    assert first == Utterance(id="a", seconds=0.5, phones=(("AH1", 10, 20),), corpus="test", text="uh")
    assert second == Utterance(id="b", seconds=1.0, phones=())
    with pytest.raises(MiravoxError, match="no such file"):
        read_labels(tmp_path / "absent.jsonl")


def test_every_10_ms_has_its_phone() -> None:
    """Silence where there is no label, and for what is no phone; labels that begin before the recording are cut."""
    phones = (("M", -2, 5), ("AH0", 10, 4), ("NOISE", 14, 3))
    labels = Utterance(id="a", seconds=0.2, phones=phones).phone_indices()
    wanted = np.zeros(21, int)
    wanted[:3], wanted[10:14] = phone_index("M"), PHONES.index("AH")
    assert labels.tolist() == wanted.tolist()


def test_every_phone_has_one_viseme() -> None:
    assert PHONES[0] == "SIL" and len(set(PHONES)) == len(PHONES) == 40 and len(VISEMES) == 13
    for phone, viseme in zip(PHONES, VISEME_OF_PHONE, strict=True):
        assert phone in VISEMES[viseme]
