"""Which target `--target auto` is on this machine, and the pipeline of a target."""

from __future__ import annotations

import ctypes
import logging
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from .config import StreamConfig
from .errors import MiravoxError
from .frames import Pipeline

if TYPE_CHECKING:
    from .audio.ring import AudioRing
    from .avatar import Avatar
    from .face.shared_engines import SharedEngines
    from .stage_timer import StageTimer

log = logging.getLogger("miravox")

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"  # NVIDIA's

AnyPipeline: TypeAlias = Pipeline[Any]  # whose faces nobody looks into


def resolved(config: StreamConfig) -> StreamConfig:
    """The same with a target instead of "auto": tensorrt where it runs, else baked.

    For tensorrt the avatar must be exported for it, and the plans be in the user's cache or, unless it is a dry run, be
    built now. Where a driver and TensorRT are installed and yet cannot be used, the log says why.
    """
    if config.target != "auto":
        return config
    if not _has_tensorrt(config.avatar) or not has_driver():
        return replace(config, target="baked")
    try:
        _prepare(config)
    except MiravoxError as error:
        log.warning("target baked, since tensorrt cannot run here: %s", error)
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
    from .avatar import load_avatar
    from .gpu.opened_gpu import open_gpu

    gpu = open_gpu()
    try:
        if not config.dry_run:
            avatar = load_avatar(config.avatar)
            gpu.plans(avatar, config.size_pixels or avatar.width)
    finally:
        gpu.cuda.close()


def open_pipeline(
    avatar: Avatar,
    ring: AudioRing,
    target: str,
    size: int | None = None,
    timer: StageTimer | None = None,
    keep_on_device: bool = False,
    engines: SharedEngines | None = None,
) -> AnyPipeline:
    """A pipeline that renders one avatar from one ring of speech, on this thread.

    Args:
        target: "baked", "onnx" or "tensorrt"; no other is taken instead of it.
        engines: of the avatar, for the targets baked and onnx, if several pipelines share them.
        keep_on_device: a GPU's frames are also left in its memory, for an encoder there.

    Raises MiravoxError if the avatar is not exported for it, or the machine lacks what it needs.
    """
    if target not in avatar.targets:
        raise MiravoxError(
            f"target {target}",
            found=f"{avatar.folder} exported for {', '.join(avatar.targets) or 'nothing'}",
            wanted=f"targets/{target}",
            remedy="Export it, or choose another --target.",
        )
    if target == "tensorrt":
        from .gpu.pipeline import GpuPipeline

        return GpuPipeline(avatar, ring, size, timer, keep_on_device=keep_on_device)
    from .face.pipeline import FacePipeline

    return FacePipeline(avatar, ring, target, size, timer, engines)
