"""The NVIDIA GPU that the target tensorrt runs on, opened: CUDA, TensorRT, the kernels, and OpenGL on the same GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import moderngl

from realtime.avatar import Avatar
from realtime.gl_cuda import Cuda, interop_device
from realtime.kernels import compile_kernels
from realtime.plans import Gpu, avatar_plans, cache_folder, load_tensorrt
from realtime.rasteriser import create_context


@dataclass(frozen=True)
class Device:
    """What a GpuPipeline needs of a machine. One thread opens it and uses it."""

    cuda: Cuda
    trt: Any  # the module tensorrt, or tensorrt_rtx
    image: bytes  # the compiled kernels
    plans: Callable[[Avatar, int], dict[str, bytes]]  # of an avatar's networks for a size of frame, by name
    create_context: Callable[[], moderngl.Context]


def open_device(index: int = 0) -> Device:
    """Opens a GPU. Compiles the kernels for it if that was not done before; CUDA_VISIBLE_DEVICES chooses among several.

    Raises MiravoxError if CUDA, its driver, a GPU, its compiler or TensorRT is missing.
    """
    trt = load_tensorrt()
    cuda = Cuda(index)
    try:
        image = compile_kernels(cuda.compute_capability, cache_folder() / "kernels")
    except BaseException:  # whatever it is, the device is closed again
        cuda.close()
        raise
    gpu = Gpu(cuda.name, cuda.compute_capability, cuda.driver_version)
    return Device(
        cuda, trt, image, lambda avatar, size: avatar_plans(trt, avatar, gpu, size),
        lambda: create_context(interop_device(index)),
    )  # fmt: skip
