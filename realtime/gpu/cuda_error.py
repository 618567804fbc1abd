"""What CUDA refuses, with what a user can do about it."""

from __future__ import annotations

from ..errors import MiravoxError

# Numbers of cudaError_t.
OUT_OF_MEMORY, OLD_DRIVER, NO_DEVICE, WRONG_DEVICE, LOST_CONTEXT, NO_INTEROP, UNKNOWN = 2, 35, 100, 101, 219, 304, 999
HOST_COPIES = (
    "CUDA and OpenGL share no memory here: WSL2 and VirtualGL cannot, and a container needs "
    "NVIDIA_DRIVER_CAPABILITIES=graphics,compute,video,utility."
)
REMEDIES = {
    OUT_OF_MEMORY: "Close other programs that use the GPU (nvidia-smi lists them), or choose a smaller picture.",
    OLD_DRIVER: "Install an NVIDIA driver for CUDA 13: version 580 or newer.",
    NO_DEVICE: "Run on a machine with an NVIDIA GPU, or choose another target.",
    WRONG_DEVICE: "Let OpenGL and CUDA use one GPU; on a laptop with two: __NV_PRIME_RENDER_OFFLOAD=1.",
    LOST_CONTEXT: "The OpenGL context is gone: the driver was reset or the GPU taken away. Start again.",
    NO_INTEROP: HOST_COPIES,
    UNKNOWN: HOST_COPIES,
}
REMEDY = "See with nvidia-smi whether the GPU and its driver work; choose another target if they do not."


class CudaError(MiravoxError):
    """A call that CUDA refused.

    Attributes:
        call: the function's name, such as "cudaMalloc".
        code: the number of the cudaError_t or CUresult.
    """

    def __init__(self, call: str, code: int, reason: str) -> None:
        self.call, self.code = call, code
        super().__init__(call, found=f"error {code}, {reason}", wanted="success", remedy=REMEDIES.get(code, REMEDY))
