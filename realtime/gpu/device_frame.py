"""A picture in GPU memory becomes a frame of FFmpeg's without a copy: its planes are handed over as DLPack tensors.

The same code takes pictures in host memory, so that it can be tried where there is no GPU.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import av
from av.video.frame import CudaContext

from ..face.yuv import flag_bt709

CPU, CUDA = 1, 2  # DLPack's kinds of device
UNSIGNED = 1  # DLPack's kind of number
PITCH_STEP = 4  # bytes: NVENC takes no other pitches


class _DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _ManagedTensor(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("manager", ctypes.c_void_p), ("deleter", _Deleter)]


@dataclass(frozen=True)
class _Export:
    """What a consumer of a tensor points into."""

    managed: _ManagedTensor
    extents: ctypes.Array[ctypes.c_int64]  # shape, then strides
    frame: DeviceFrame


_exports: dict[int, _Export] = {}  # by the address of the managed tensor, until its consumer lets go


# Prototypes of our own: those of ctypes.pythonapi belong to everybody. The capsule has no destructor: one in Python
# might run while an exception unwinds, and lose it.
CAPSULE_NAME = ctypes.c_char_p(b"dltensor")
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_DELETER = _Deleter(_exports.__delitem__)


def _discard(capsule: object) -> None:
    """Releases a tensor that nobody took: the capsule of one that was taken has another name."""
    if _is_valid(capsule, CAPSULE_NAME):
        del _exports[_pointer_of(capsule, CAPSULE_NAME)]


def _keep_for_ever(thing: object) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


_keep_for_ever(_DELETER)  # FFmpeg may let go of a frame after Python has cleared this module


@cache
def _cuda_context(device: int) -> CudaContext:
    """FFmpeg's view of the CUDA context that is current on the thread that makes the first frame.

    Asked for the primary context itself, FFmpeg refuses the one that CUDA's runtime made, since it has other flags. And
    the view stays for ever: there are versions of FFmpeg that destroy a borrowed context with it.
    """
    context = CudaContext(device_id=device, primary_ctx=False, current_ctx=True)
    _keep_for_ever(context)
    return context


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane of a DeviceFrame, uint8 `shape`, as a DLPack producer. `strides` in bytes."""

    frame: DeviceFrame
    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.frame.device_type, self.frame.device

    def __dlpack__(self, *, stream: int | None = None) -> object:
        """A capsule "dltensor", which must be taken: one that is thrown away keeps the frame in use.

        Nothing is awaited for the consumer's `stream`: whoever wrote the picture has waited.
        """
        count = len(self.shape)
        extents = (ctypes.c_int64 * (2 * count))(*self.shape, *self.strides)
        shape = ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64))
        strides = ctypes.cast(ctypes.byref(extents, count * ctypes.sizeof(ctypes.c_int64)), type(shape))
        tensor = _Tensor(
            self.pointer, self.frame.device_type, self.frame.device, count, _DataType(UNSIGNED, 8, 1), shape, strides, 0
        )
        managed = _ManagedTensor(tensor, None, _DELETER)
        address = ctypes.addressof(managed)
        _exports[address] = _Export(managed, extents, self.frame)
        return _new_capsule(address, CAPSULE_NAME, None)


@dataclass(frozen=True, eq=False)
class DeviceFrame:
    """An NV12 picture (BT.709, limited range) in memory that somebody else owns, on the GPU or on the host.

    Y lies at `pointer`, `height` rows of `pitch` bytes; U and V, interleaved, follow at once with the same pitch in
    half as many rows. NVENC is told nothing but `pointer` and `pitch`, so the picture can't lie otherwise.

    Args:
        pitch: bytes from row to row, at least `width` and a multiple of 4.
        width, height: in pixels, even.
        device: the CUDA device's index; 0 on the host.
        device_type: CUDA or CPU.
        owner: is kept alive until every consumer has let go.
    """

    pointer: int
    pitch: int
    width: int
    height: int
    device: int = 0
    device_type: int = CUDA
    owner: object = None

    def __post_init__(self) -> None:
        assert self.pointer, "an address"
        assert self.width > 0 and self.height > 0 and not (self.width | self.height) & 1, "an even size"
        assert self.pitch >= self.width and self.pitch % PITCH_STEP == 0, "a pitch of whole rows, in steps of 4 bytes"
        assert self.device_type == CUDA or (self.device_type, self.device) == (CPU, 0), "a CUDA device or the host"

    @property
    def luma(self) -> Plane:
        """Y [height, width]."""
        return Plane(self, self.pointer, (self.height, self.width), (self.pitch, 1))

    @property
    def chroma(self) -> Plane:
        """U and V [height / 2, width / 2, 2]."""
        pointer = self.pointer + self.pitch * self.height
        return Plane(self, pointer, (self.height // 2, self.width // 2, 2), (self.pitch, 2, 1))

    @property
    def in_use(self) -> bool:
        """Somebody still holds this picture (a video frame, an encoder): it must neither be written to nor freed."""
        return any(export.frame is self for export in list(_exports.values()))

    def to_video_frame(self) -> av.VideoFrame:
        """The picture as a frame that shares its memory: format "cuda" on the GPU, "nv12" on the host.

        What writes the picture must have ended (its stream synchronised): encoders read it on a stream of their own. On
        the GPU, the first call of the process for a device must come from a thread where that device is current.
        """
        context = _cuda_context(self.device) if self.device_type == CUDA else None
        capsules = self.luma.__dlpack__(), self.chroma.__dlpack__()
        try:
            frame = av.VideoFrame.from_dlpack(capsules, format="nv12", cuda_context=context)
        finally:
            for capsule in capsules:
                _discard(capsule)
        flag_bt709(frame)
        return frame
