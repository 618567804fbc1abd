"""Weights that others made: state dicts out of files that torch wrote, of which nothing is executed."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from realtime.errors import MiravoxError


def read_state_dict(path: Path, wanted: str, missing: str) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the one under `state_dict` in a checkpoint.

    Args:
        wanted: what the file should be.
        missing: where it is to be had.

    Raises MiravoxError if the file is missing, or holds more than tensors.
    """
    if not path.is_file():
        raise MiravoxError(str(path), found="no such file", wanted=wanted, remedy=missing)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise many kinds for what is not a checkpoint
        raise MiravoxError(
            str(path),
            found=f"a file that is not only tensors ({str(error).splitlines()[0]})",
            wanted=f"{wanted}, which torch.load reads with weights_only=True",
            remedy="Save its state dict alone: torch.save({'state_dict': checkpoint['state_dict']}, path).",
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    return {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
