"""The NVIDIA GPU that the target tensorrt runs on, opened: CUDA, TensorRT, the kernels, and OpenGL on the same GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import moderngl

from ..avatar import Avatar
from ..face.gl import create_context
from .cache import kernel_folder
from .cuda import Cuda
from .interop import interop_device
from .kernel_compiler import compile_kernels
from .plan_cache import GpuModel, avatar_plans
from .tensorrt_module import load_tensorrt, rtx_target

Plans: TypeAlias = Callable[[Avatar, int], dict[str, bytes]]  # of an avatar's networks for a size of frame, by name


@dataclass(frozen=True)
class OpenedGpu:
    """What a GpuPipeline needs of a machine. One thread opens it and uses it; a pipeline closes `cuda`."""

    cuda: Cuda
    trt: Any  # the module tensorrt, or tensorrt_rtx
    image: bytes  # the compiled kernels
    plans: Plans
    create_context: Callable[[], moderngl.Context]


def open_gpu(index: int = 0, trt: Any = None, plans: Plans | None = None) -> OpenedGpu:
    """Opens a GPU. Compiles the kernels for it if that was not done before; CUDA_VISIBLE_DEVICES chooses among several.

    Args:
        trt, plans: what runs the networks; by default TensorRT, with plans from the user's cache.

    Raises MiravoxError if CUDA, its driver, a GPU, its compiler or TensorRT is missing, or TensorRT does not run on it.
    """
    trt = trt or load_tensorrt()
    cuda = Cuda(index)
    try:
        rtx_target(trt, cuda.compute_capability)
        image = compile_kernels(cuda.compute_capability, kernel_folder())
    except BaseException:  # whatever it is, the device is closed again
        cuda.close()
        raise
    model = GpuModel.of(cuda)
    of_avatar: Plans = plans or (lambda avatar, size: avatar_plans(trt, avatar, model, size))
    return OpenedGpu(cuda, trt, image, of_avatar, lambda: create_context(interop_device(index)))
