"""What several tests of training share: a tiny film, and an encoder that was not trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.contract import SAMPLE_RATE, SAMPLES_PER_FRAME


@pytest.fixture(scope="session")
def dataset_folder(data_folder: Path, gl_context: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty silent frames, and two short takes of a hum, one of them held out."""
    import studio.film as film_module
    from dataset.files import write_wav
    from studio.film import SOURCE, FilmConfig, Script, film

    place = tmp_path_factory.mktemp("actor")
    t = np.arange(14 * SAMPLES_PER_FRAME) / SAMPLE_RATE
    write_wav(place / "hum.wav", np.asarray(0.1 * np.sin(2 * np.pi * 150 * t), np.float32))
    phones = (("M", 0, 10), ("AA", 10, 30), ("SIL", 40, 16))
    takes = [
        Script(id=name, corpus="test", held_out=held_out, audio=place / "hum.wav", phones=phones)
        for name, held_out in (("a", False), ("b", True))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film_module, "SOURCE_FRAMES", 20)
        film(place / "dataset", FilmConfig(), [SOURCE, *takes])
    return place / "dataset"


@pytest.fixture(scope="session")
def encoder_path(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import save_file

    from networks.audio_encoder import AudioEncoder

    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    state = {k: v.half().contiguous() for k, v in AudioEncoder().state_dict().items() if "num_batches" not in k}
    save_file(state, path, {"config": json.dumps({"lookahead_samples": 1000})})
    return path
