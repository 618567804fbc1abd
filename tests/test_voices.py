"""Voices that were not filmed: their frames, their closures, and the loss that teaches the mouth from them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from networks.contract import EMBEDDINGS

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
    from networks.audio_encoder import AudioEncoder
    from realtime.sound_file import read_speech
    from studio.speech_curves import expression_curves
    from training.dataset import embed_speech, window_embeddings
    from training.phones import load_utterances

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

    strangers = voices.embed_voices(*arguments[:-2], 2.5, 0)
    assert len(strangers.newest) > 3 * (frames + second) - 8, "each twice more, and perhaps once more"

    monkeypatch.setattr(voices, "embed_voices", None)
    again = voices.load_voices(tmp_path / "voices.safetensors", *arguments)
    assert np.array_equal(again.embeddings, loaded.embeddings) and np.array_equal(again.together, loaded.together)
    with pytest.raises(TypeError):
        voices.load_voices(tmp_path / "voices.safetensors", AudioEncoder(), *arguments[1:])
    with pytest.raises(TypeError):
        voices.load_voices(tmp_path / "voices.safetensors", *arguments[:-2], 2.0, 0)


def test_open_lips_that_should_touch_cost_more(torch: Any) -> None:
    """The same error of the lip opening weighs more in a frame that shows P, B or M."""
    from training.face import FaceConfig, VoiceLoss
    from training.voices import Voices

    vertices = 8
    rng = np.random.default_rng(0)
    geometry = {
        "triangles": np.array([[0, 1, 2], [3, 4, 5], [5, 6, 7]]),
        "landmark_triangles": np.array([0] * 62 + [0] + [0] * 3 + [1] + [0]),
        "landmark_barycentrics": np.full((68, 3), 1 / 3),
    }  # fmt: skip
    basis = np.zeros((1, vertices, 3), np.float32)
    basis[0, 3:6, 1] = -1  # the lower lip goes down
    dataset: Any = SimpleNamespace(
        geometry=geometry, regions=np.ones((5, vertices), np.float32), basis=basis, scale=lambda p: p,
        canonical=rng.random((vertices, 3)).astype(np.float32),
    )  # fmt: skip
    newest = np.arange(EMBEDDINGS - 1, EMBEDDINGS + 1)
    still = SimpleNamespace(projection=lambda w: torch.zeros(len(w), 64), deformation=lambda p, b: torch.zeros(p.shape))

    def lips(truth: list[float], part: int = 1) -> float:
        """The loss of the lips, or another part, if the first of two frames shows a closure and nothing moves, for the
        true openings in cm.
        """
        voices = Voices(
            np.zeros((EMBEDDINGS + 1, 512), np.float16), newest, np.array(truth, np.float32)[:, None],
            np.array([True, False]), np.zeros((2, 6, 3), np.int8),
        )  # fmt: skip
        config = FaceConfig(voice_frames=64, voice_vertices=2, closure_weight=4.0)
        networks: Any = still
        return float(VoiceLoss(config, dataset, voices)(networks, np.random.default_rng(1))[part])

    assert lips([0.0, 0.0]) == 0
    ratio = lips([0.5, 0.0]) / lips([0.0, 0.5])
    assert 2 < ratio < 8, "about four, by how often each frame was drawn"
    assert lips([0.5, 0.5], part=2) == pytest.approx(0, abs=1e-4), "an error that stays is no change"
    assert lips([0.5, 0.0], part=2) > 1
