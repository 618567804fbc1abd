"""The NVIDIA GPU that the target tensorrt runs on, opened: CUDA, TensorRT, the kernels, and OpenGL on the same GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import moderngl

from realtime.avatar import Avatar
from realtime.gl_cuda import Cuda, interop_device
from realtime.kernels import compile_kernels
from realtime.plans import Gpu, avatar_plans, cache_folder, load_tensorrt, rtx_target
from realtime.rasteriser import create_context

Plans: TypeAlias = Callable[[Avatar, int], dict[str, bytes]]  # of an avatar's networks for a size of frame, by name


@dataclass(frozen=True)
class Device:
    """What a GpuPipeline needs of a machine. One thread opens it and uses it."""

    cuda: Cuda
    trt: Any  # the module tensorrt, or tensorrt_rtx
    image: bytes  # the compiled kernels
    plans: Plans
    create_context: Callable[[], moderngl.Context]


def open_device(index: int = 0, trt: Any = None, plans: Plans | None = None) -> Device:
    """Opens a GPU. Compiles the kernels for it if that was not done before; CUDA_VISIBLE_DEVICES chooses among several.

    Args:
        trt, plans: what runs the networks; by default TensorRT, with plans from the user's cache.

    Raises MiravoxError if CUDA, its driver, a GPU, its compiler or TensorRT is missing, or TensorRT does not run on it.
    """
    trt = trt or load_tensorrt()
    cuda = Cuda(index)
    try:
        rtx_target(trt, cuda.compute_capability)
        image = compile_kernels(cuda.compute_capability, cache_folder() / "kernels")
    except BaseException:  # whatever it is, the device is closed again
        cuda.close()
        raise
    gpu = Gpu(cuda.name, cuda.compute_capability, cuda.driver_version)
    of_avatar: Plans = plans or (lambda avatar, size: avatar_plans(trt, avatar, gpu, size))
    return Device(cuda, trt, image, of_avatar, lambda: create_context(interop_device(index)))
