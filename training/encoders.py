"""Audio encoders on disk: those of a run, of an avatar, and of a Wav2Lip checkpoint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from networks.audio_encoder import FIRST_WEIGHT, WAV2LIP, AudioEncoder, sizes_of
from realtime.contract import DEFAULT_LOOKAHEAD
from realtime.errors import MiravoxError
from training.foreign import read_state_dict


def load_encoder(path: Path) -> tuple[AudioEncoder, dict[str, object]]:
    """The audio encoder of a run (encoder.safetensors) or of an avatar (its folder), and the configuration it was
    trained with.

    Raises MiravoxError if it is not there, or is something else.
    """
    file = path / "networks.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise MiravoxError(
            str(file),
            found="no such file",
            wanted="the weights of an audio encoder",
            remedy="Run `make encoder` first.",
        )
    tensors = load_file(file)
    if path.is_dir():
        config = dict(json.loads((path / "avatar.json").read_text())["provenance"]["encoder"])
        tensors = {k: v for k, v in tensors.items() if k.startswith("audio_encoder/")}
    else:
        with safe_open(file, "pt") as f:
            config = dict(json.loads((f.metadata() or {}).get("config", "{}")))
    state = {k.removeprefix("audio_encoder/"): v.float() for k, v in tensors.items()}
    encoder = AudioEncoder(sizes_of(state.get(FIRST_WEIGHT, torch.empty(0))))
    wanted = {k: v.shape for k, v in encoder.state_dict().items() if not k.endswith("num_batches_tracked")}
    odd = sorted(set(state) ^ set(wanted)) or sorted(k for k, v in state.items() if v.shape != wanted[k])
    if odd:
        raise MiravoxError(
            str(file),
            found=f"other parameters ({odd[0]})",
            wanted="an audio encoder",
            remedy="Name the encoder.safetensors that training.speech wrote, or an avatar folder.",
        )
    encoder.load_state_dict(state, strict=False)
    return encoder.eval(), config


def weights_hash(encoder: AudioEncoder) -> str:
    """Says whether two encoders are the same, whatever file they came from: SHA-256 of the float16 weights."""
    digest = hashlib.sha256()
    for key, value in sorted(encoder.state_dict().items()):
        if not key.endswith("num_batches_tracked"):
            digest.update(key.encode() + value.half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def lookahead_of(config: dict[str, object]) -> int:
    """The lookahead in samples that an encoder was trained with."""
    lookahead = config.get("lookahead_samples", DEFAULT_LOOKAHEAD)
    assert isinstance(lookahead, int)
    return lookahead


def load_wav2lip(path: Path) -> AudioEncoder:
    """An encoder with the convolutions of a Wav2Lip checkpoint (Prajwal et al. 2020); nothing in it is executed.

    Raises MiravoxError if the file is missing, is no state dict, or lacks the audio encoder.
    """
    loaded = read_state_dict(
        path,
        "a Wav2Lip checkpoint",
        "Download wav2lip.pth or wav2lip_gan.pth from its authors, whose licence is for research only.",
    )
    state = {k.removeprefix("module."): v for k, v in loaded.items()}
    state = {k: v for k, v in state.items() if k.startswith("audio_encoder.")}
    encoder = AudioEncoder(WAV2LIP)
    wanted = {k: v.shape for k, v in encoder.state_dict().items() if k.startswith("audio_encoder.")}
    needed = {k for k in wanted if not k.endswith("num_batches_tracked")}
    odd = sorted(needed - set(state)) or sorted(k for k, v in state.items() if wanted.get(k) != v.shape)
    if odd:
        found = f"{odd[0]} of shape {tuple(state[odd[0]].shape)}" if odd[0] in state else f"no {odd[0]}"
        raise MiravoxError(
            str(path),
            found=found,
            wanted="the audio encoder of Wav2Lip",
            remedy="Name the checkpoint of the lip-sync network; SyncNet's has no such encoder.",
        )
    encoder.load_state_dict(state, strict=False)
    return encoder
