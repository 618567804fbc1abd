"""Encoders from an avatar, a run or a Wav2Lip checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime import contract
from realtime.errors import MiravoxError

pytestmark = pytest.mark.usefixtures("torch")


def wav2lip_state(torch: Any, prefix: str = "module.") -> dict[str, Any]:
    """What a published checkpoint holds of the audio encoder, and something of the face encoder."""
    from networks.audio_encoder import WAV2LIP, AudioEncoder

    torch.manual_seed(3)
    encoder = AudioEncoder(WAV2LIP)
    for value in encoder.state_dict().values():
        if value.dtype.is_floating_point:
            value.copy_(torch.rand_like(value) * 0.1 + 0.01)
    state = {prefix + k: v for k, v in encoder.state_dict().items() if k.startswith("audio_encoder.")}
    state[prefix + "face_encoder_blocks.0.0.conv_block.0.weight"] = torch.zeros(16, 6, 7, 7)
    return state


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_a_wav2lip_checkpoint_is_loaded(torch: Any, tmp_path: Path, prefix: str) -> None:
    from training.encoders import load_wav2lip

    state = wav2lip_state(torch, prefix)
    path = tmp_path / "wav2lip.pth"
    torch.save({"state_dict": state, "optimizer": None, "global_step": 1, "global_epoch": 1}, path)
    encoder = load_wav2lip(path)
    for key, value in encoder.state_dict().items():
        if key.startswith("audio_encoder."):
            assert torch.equal(value, state[prefix + key]), key


def test_training_on_a_wav2lip_checkpoint_leaves_its_convolutions(
    torch: Any, tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    import training.speech as speech
    from dataset.phones import load_utterances

    few = [u for u in load_utterances(data_folder) if u.corpus == "librispeech"][:3]
    monkeypatch.setattr(speech, "load_utterances", lambda data: few)
    monkeypatch.setattr(speech, "evaluate", lambda *a, **k: {})
    state = wav2lip_state(torch)
    torch.save({"state_dict": state}, tmp_path / "wav2lip.pth")
    config = speech.SpeechConfig(steps=2, batch=16, pitches=0, source="wav2lip.pth")
    path = speech.train(config, tmp_path / "run", data_folder, source=tmp_path / "wav2lip.pth")
    trained = load_file(path)
    for key, value in trained.items():
        if key.startswith("audio_encoder."):
            assert torch.equal(value, state["module." + key].half()), key
    assert "presence.weight" in trained


def test_what_is_no_wav2lip_checkpoint_is_refused(torch: Any, tmp_path: Path) -> None:
    from training.encoders import load_wav2lip

    with pytest.raises(MiravoxError, match="no such file"):
        load_wav2lip(tmp_path / "absent.pth")

    state = wav2lip_state(torch)
    del state["module.audio_encoder.0.conv_block.0.weight"]
    torch.save({"state_dict": state}, tmp_path / "lacking.pth")
    with pytest.raises(MiravoxError, match=r"audio_encoder\.0\.conv_block\.0\.weight"):
        load_wav2lip(tmp_path / "lacking.pth")

    state = wav2lip_state(torch)
    state["module.audio_encoder.0.conv_block.0.weight"] = torch.zeros(16, 1, 3, 3)
    torch.save({"state_dict": state}, tmp_path / "narrow.pth")
    with pytest.raises(MiravoxError, match=r"\(16, 1, 3, 3\)"):
        load_wav2lip(tmp_path / "narrow.pth")


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (np.save, ("touched", np.zeros(1)))


def test_nothing_in_a_checkpoint_is_executed(torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.encoders import load_wav2lip

    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(MiravoxError, match="only tensors"):
        load_wav2lip(tmp_path / "evil.pth")
    assert not (tmp_path / "touched.npy").exists()


def test_the_same_weights_have_the_same_hash(torch: Any, ada: Path) -> None:
    from networks.audio_encoder import AudioEncoder
    from training.encoders import load_encoder, weights_hash

    encoder, _ = load_encoder(ada)
    again, _ = load_encoder(ada)
    assert weights_hash(encoder) == weights_hash(again) != weights_hash(AudioEncoder())


def test_encoders_of_both_sizes_are_read_and_others_refused(torch: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from networks.audio_encoder import COMPACT, WAV2LIP, AudioEncoder
    from training.encoders import load_encoder, weights_hash

    for config in (COMPACT, WAV2LIP):
        encoder = AudioEncoder(config)
        state = {k: v.half().contiguous() for k, v in encoder.state_dict().items() if "num_batches" not in k}
        save_file(state, tmp_path / "encoder.safetensors", {"config": "{}"})
        assert weights_hash(load_encoder(tmp_path / "encoder.safetensors")[0]) == weights_hash(encoder)
    save_file({"w": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(MiravoxError, match="wanted an audio encoder"):
        load_encoder(tmp_path / "other.safetensors")


def test_an_encoder_comes_from_an_avatar_too(ada: Path, torch: Any) -> None:
    """`make avatar` trains with the encoder that ships."""
    from realtime.avatar import load_avatar
    from realtime.face.engine import Engine
    from training.encoders import load_encoder, lookahead_of

    encoder, config = load_encoder(ada)
    assert lookahead_of(config) == load_avatar(ada).lookahead_samples
    mel = np.random.default_rng(0).uniform(-4, 4, (2, 1, 80, 16)).astype(np.float32)
    with torch.no_grad():
        embedding, presence = encoder(torch.from_numpy(mel))
    found = Engine(ada / "targets" / "onnx" / "audio_encoder.onnx", contract.AUDIO_ENCODER).run(mel)
    assert np.abs(found[0] - embedding.numpy()).max() < 1e-3 and np.abs(found[1] - presence.numpy()).max() < 1e-4
