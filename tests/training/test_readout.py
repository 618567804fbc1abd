"""The readout belongs to one encoder, and learns what its embeddings tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.errors import MiravoxError

pytestmark = pytest.mark.usefixtures("torch")


def test_the_readout_of_another_encoder_is_refused(torch: Any, ada: Path, tmp_path: Path) -> None:
    from networks.audio_encoder import AudioEncoder
    from networks.readout import Readout
    from training.encoders import load_encoder
    from training.readout import ReadoutTraining, load_readout, save_readout

    encoder, _ = load_encoder(ada)
    with pytest.raises(MiravoxError, match="no such file"):
        load_readout(tmp_path / "absent.safetensors", encoder)
    save_readout(Readout(), AudioEncoder(), ReadoutTraining(), tmp_path / "readout.safetensors")
    with pytest.raises(MiravoxError, match="another encoder"):
        load_readout(tmp_path / "readout.safetensors", encoder)


def test_the_readout_learns_what_embeddings_tell(torch: Any) -> None:
    """Embeddings that spell out the phone of their own moment: the readout finds it at every lookahead that the window
    reaches.
    """
    from realtime.contract import EMBEDDING, EMBEDDINGS
    from training.readout import ReadoutTraining, fit
    from training.voices import Voices

    rng = np.random.default_rng(0)
    frames, phones = 4000, np.repeat(rng.integers(0, 40, 800), 5)
    embeddings = np.zeros((frames + EMBEDDINGS - 1, EMBEDDING), np.float16)
    embeddings[np.arange(frames) + EMBEDDINGS - 1, phones] = 2
    labels = np.stack([np.roll(phones, back) for back in range(6)], 1)  # a frame further back at each lookahead
    voices = Voices(
        embeddings=embeddings,
        newest=np.arange(frames) + EMBEDDINGS - 1,
        expression=np.zeros((frames, 0), np.float32),
        together=np.zeros(frames, bool),
        phones=np.repeat(labels[..., None], 3, -1).astype(np.int8),
    )
    readout = fit(voices, ReadoutTraining(epochs=12, batch=128, learning_rate=3e-3))
    rows = np.arange(10, frames)
    found = readout(torch.from_numpy(voices.windows(rows))).argmax(-1).numpy()
    assert (found == labels[rows]).mean() > 0.9
