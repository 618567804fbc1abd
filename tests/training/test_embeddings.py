"""Windows of embeddings stay within their take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.contract import EMBEDDINGS, SAMPLES_PER_FRAME

pytestmark = pytest.mark.usefixtures("torch")


def test_windows_never_cross_takes(torch: Any, tmp_path: Path) -> None:
    """What is spoken in one take leaves no trace in the windows of the next; frame 0 looks back into silence."""
    from dataset.files import write_wav
    from dataset.folder import Take
    from networks.audio_encoder import AudioEncoder
    from training.embeddings import embed_dataset

    rng = np.random.default_rng(0)
    frames = 12

    def dataset(first_speech: np.ndarray) -> Any:
        takes = []
        for number, samples in enumerate((first_speech, rng_second)):
            path = tmp_path / f"{number}-{abs(hash(samples.tobytes()))}.wav"
            write_wav(path, samples)
            first = number * frames
            takes.append(
                Take(
                    name=str(number),
                    first=first,
                    end=first + frames,
                    speech=path,
                    held_out=False,
                    corpus="",
                    phones=(),
                )
            )
        return type("Takes", (), {"takes": tuple(takes)})()

    rng_second = (0.1 * rng.standard_normal(frames * SAMPLES_PER_FRAME)).astype(np.float32)
    torch.manual_seed(0)
    encoder = AudioEncoder()
    loud = embed_dataset(
        encoder, dataset((0.3 * rng.standard_normal(frames * SAMPLES_PER_FRAME)).astype(np.float32)), 1800
    )
    quiet = embed_dataset(encoder, dataset(np.zeros(frames * SAMPLES_PER_FRAME, np.float32)), 1800)
    assert loud.shape == (2 * frames, EMBEDDINGS, 512)
    assert not np.allclose(loud[:frames], quiet[:frames])
    assert np.array_equal(loud[frames:], quiet[frames:])
    silent = quiet[0, 0]  # an embedding of nothing at all
    assert np.allclose(loud[frames, 0], silent, atol=1e-5), "frame -8 of a take lies in silence"
    assert np.array_equal(loud[5, 1:], loud[6, :-1]), "windows slide by one embedding"
