"""Which target `--target auto` is on this machine, and the pipeline of a target."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from realtime.config import StreamConfig
from realtime.errors import MiravoxError

if TYPE_CHECKING:
    from realtime.audio_ring import AudioRing
    from realtime.avatar import Avatar
    from realtime.gpu_pipeline import GpuPipeline
    from realtime.pipeline import Pipeline
    from realtime.stage_timer import StageTimer

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"  # NVIDIA's

AnyPipeline: TypeAlias = "Pipeline | GpuPipeline"


def resolved(config: StreamConfig) -> StreamConfig:
    """The same with a target instead of "auto": tensorrt where it runs, else baked.

    For tensorrt the avatar must be exported for it, and the plans be in the user's cache or, unless it is a dry run, be
    built now. Where a driver and TensorRT are installed and yet cannot be used, stderr says why.
    """
    if config.target != "auto":
        return config
    if not _has_tensorrt(config.avatar) or not has_driver():
        return replace(config, target="baked")
    try:
        _prepare(config)
    except MiravoxError as error:
        print(f"miravox: target baked, since tensorrt cannot run here: {error}", file=sys.stderr)
        return replace(config, target="baked")
    return replace(config, target="tensorrt")


def _has_tensorrt(avatar: Path) -> bool:
    """Whether the avatar is exported for it and the packages are installed: no more than a look."""
    if not (avatar / "targets" / "tensorrt").is_dir():
        return False
    return find_spec("cuda") is not None and any(find_spec(name) for name in ("tensorrt", "tensorrt_rtx"))


def has_driver() -> bool:
    """Whether NVIDIA's driver is installed."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def _prepare(config: StreamConfig) -> None:
    """Opens the GPU, and builds what plans are missing. Raises MiravoxError for whatever stands in the way."""
    from realtime.avatar import load_avatar
    from realtime.gpu import open_device

    device = open_device()
    try:
        if not config.dry_run:
            avatar = load_avatar(config.avatar)
            device.plans(avatar, config.size_pixels or avatar.width)
    finally:
        device.cuda.close()


def open_pipeline(
    avatar: Avatar, ring: AudioRing, target: str, size: int | None = None, timer: StageTimer | None = None,
    keep_on_device: bool = False,
) -> AnyPipeline:  # fmt: skip
    """Renders one avatar from one ring of speech, on this thread.

    Args:
        target: "baked", "onnx" or "tensorrt"; no other is taken instead of it.
        keep_on_device: a GPU's frames are also left in its memory, for an encoder there.

    Raises MiravoxError if the avatar is not exported for it, or the machine lacks what it needs.
    """
    if target not in avatar.targets:
        raise MiravoxError(
            f"target {target}", found=f"{avatar.folder} exported for {', '.join(avatar.targets) or 'nothing'}",
            wanted=f"targets/{target}", remedy="Export it, or choose another --target.",
        )  # fmt: skip
    if target == "tensorrt":
        from realtime.gpu_pipeline import GpuPipeline

        return GpuPipeline(avatar, ring, size, timer, keep_on_device=keep_on_device)
    from realtime.pipeline import Pipeline

    return Pipeline(avatar, ring, target, size, timer)
