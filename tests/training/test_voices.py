"""Voices that were not filmed: their embeddings, their frames, their closures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.contract import EMBEDDINGS

pytestmark = pytest.mark.usefixtures("torch")


def test_frames_that_show_a_closure() -> None:
    from training.voices import shows_closure

    phones = (("AA", 0, 40), ("B", 40, 8), ("AA", 48, 32))  # B from 400 to 480 ms
    assert np.flatnonzero(shows_closure(phones, 20)).tolist() == [10, 11, 12]
    assert shows_closure((("M", -3, 4),), 3).tolist() == [True, False, False]


def test_voices_are_embedded_as_takes_are_and_kept(
    torch: Any, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import training.voices as voices
    from dataset.phones import load_utterances
    from dataset.speech_curves import expression_curves
    from networks.audio_encoder import AudioEncoder
    from realtime.audio.sound_file import read_speech
    from training.embeddings import embed_speech, window_embeddings

    utterances = [u for u in load_utterances(data_folder) if u.corpus == "librispeech" and u.seconds < 6]
    few = [next(u for u in utterances if u.held_out), *[u for u in utterances if not u.held_out][:2]]
    monkeypatch.setattr(voices, "load_utterances", lambda data: few)
    torch.manual_seed(0)
    encoder, names = AudioEncoder().eval(), ("jawOpen", "mouthClose")
    arguments = (encoder, 1800, names, data_folder, 1.0, 0)
    loaded = voices.load_voices(tmp_path / "voices.safetensors", *arguments)

    speech = read_speech(few[1].path(data_folder)).samples
    frames = len(speech) // 640
    everything = embed_speech(encoder, speech, frames + 8, 1800, -8)
    wanted = window_embeddings(everything[8:], everything[:8])
    assert np.allclose(loaded.windows(np.arange(frames)), wanted, atol=2e-3, rtol=2e-3), "first of those not held out"
    assert np.array_equal(loaded.expression[:frames], expression_curves(few[1].phones, frames, names))
    labels = few[1].phone_indices()
    assert loaded.phones[20, 2].tolist() == labels[4 * 20 - 1 : 4 * 20 + 2].tolist(), "1800 samples before its end"
    second = len(read_speech(few[2].path(data_folder)).samples) // 640
    assert 2 * (frames + second) - 4 <= len(loaded.newest) <= 2 * (frames + second), "each once more, degraded"
    assert loaded.windows(np.array([len(loaded.newest) - 1])).shape == (1, EMBEDDINGS, 512)

    perturbed = voices.embed_voices(*arguments[:-2], 2.5, 0)
    assert len(perturbed.newest) > 3 * (frames + second) - 8, "each twice more, and perhaps once more"

    monkeypatch.setattr(voices, "embed_voices", None)
    again = voices.load_voices(tmp_path / "voices.safetensors", *arguments)
    assert np.array_equal(again.embeddings, loaded.embeddings) and np.array_equal(again.together, loaded.together)
    with pytest.raises(TypeError):
        voices.load_voices(tmp_path / "voices.safetensors", AudioEncoder(), *arguments[1:])
    with pytest.raises(TypeError):
        voices.load_voices(tmp_path / "voices.safetensors", *arguments[:-2], 2.0, 0)
