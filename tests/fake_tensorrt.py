"""A TensorRT without a GPU: a plan is an ONNX file with its profile, which ONNX Runtime runs on the fake CUDA's memory.

Failures are reported as TensorRT does: by returning False or None, with a message to the logger.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import ref

import numpy as np

from realtime.face.engine import onnxruntime  # whose telemetry it has switched off
from realtime.gpu.tensorrt_module import RTX
from tests.fake_cuda import ALIGNMENT, DEVICE, FakeCuda, Violation, Work

Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]

MAGIC = b"fake plan\n"
ANY = -1
SCRATCH = 4096  # bytes of an engine's activations


class Level(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class BaseLogger:
    Severity = Level

    def log(self, severity: Level, message: str) -> None:
        raise NotImplementedError


class DataTypes(enum.Enum):
    FLOAT, HALF, INT8, INT32, INT64 = range(5)


class Modes(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class Strategies(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


TYPES: dict[str, tuple[DataTypes, np.dtype[Any]]] = {
    "tensor(float)": (DataTypes.FLOAT, np.dtype(np.float32)),
    "tensor(float16)": (DataTypes.HALF, np.dtype(np.float16)),
    "tensor(int64)": (DataTypes.INT64, np.dtype(np.int64)),
}


def plan(onnx: Path, profile: Profile | None = None) -> bytes:
    """The plan of an ONNX file. Without a profile every shape that the file allows is taken."""
    return MAGIC + json.dumps(profile or {}).encode() + b"\n" + onnx.read_bytes()


def standing_in(trt: ModuleType, name: str = RTX, **changed: Any) -> ModuleType:
    """A TensorRT with other things in it."""
    module = ModuleType(name)
    vars(module).update({**vars(trt), "__name__": name, **changed})
    return module


class FakeTensorRT:
    """Stands in for the module `tensorrt`.

    Attributes:
        runs: how often any context was enqueued, recorded runs included once.
    """

    __name__, __version__ = "tensorrt", "11.4.0"
    ILogger, DataType, TensorIOMode = BaseLogger, DataTypes, Modes
    ExecutionContextAllocationStrategy = Strategies

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.failing: dict[str, int] = {}
        self.runs = 0

    def fail(self, name: str, after: int = 0) -> None:
        """The call of this method after `after` more ones fails, once."""
        self.failing[name] = after

    def fails(self, name: str) -> bool:
        if name not in self.failing:
            return False
        if self.failing[name]:
            self.failing[name] -= 1
            return False
        del self.failing[name]
        return True

    def Runtime(self, logger: BaseLogger) -> FakeRuntime:
        return FakeRuntime(self, logger)


class FakeRuntime:
    def __init__(self, trt: FakeTensorRT, logger: BaseLogger) -> None:
        self.trt, self.logger = trt, logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> FakeEngine | None:
        if self.trt.fails("deserialize_cuda_engine") or not serialized_engine.startswith(MAGIC):
            self.logger.log(Level.ERROR, "Serialization assertion magicTag == kMAGIC_TAG failed.")
            return None
        _, profile, onnx = serialized_engine.split(b"\n", 2)
        return FakeEngine(self, onnx, json.loads(profile))


class FakeEngine:
    device_memory_size_v2 = SCRATCH

    def __init__(self, runtime: FakeRuntime, onnx: bytes, profile: Profile) -> None:
        self.runtime, self.trt, self.profile = runtime, runtime.trt, profile
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.inputs = [t.name for t in self.session.get_inputs()]
        self.outputs = [t.name for t in self.session.get_outputs()]
        found = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.types = {t.name: TYPES[t.type] for t in found}
        self.shapes: dict[str, Shape] = {
            t.name: tuple(e if isinstance(e, int) else ANY for e in t.shape) for t in found
        }
        self.extents = {t.name: t.shape for t in found}
        self.names: list[str] = [*self.inputs, *self.outputs]
        self.num_io_tensors = len(self.names)
        self.contexts = 0

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> Modes:
        return Modes.INPUT if name in self.inputs else Modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataTypes:
        return self.types[name][0]

    def get_tensor_shape(self, name: str) -> Shape:
        return self.shapes[name]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Shape]:
        shape = self.shapes[name]
        return [tuple(s) for s in self.profile.get(name, (shape, shape, shape))]

    def create_execution_context(self, strategy: Strategies) -> FakeContext | None:
        if self.trt.fails("create_execution_context"):
            self.runtime.logger.log(Level.ERROR, "Out of memory")
            return None
        if strategy != Strategies.USER_MANAGED:
            raise Violation("a context that takes memory for itself")
        self.contexts += 1
        # The real one chooses a profile for its first context only.
        return FakeContext(self, active_profile=0 if self.contexts == 1 else -1)


class FakeContext:
    def __init__(self, engine: FakeEngine, active_profile: int) -> None:
        self.engine, self.trt, self.active_optimization_profile = engine, engine.trt, active_profile
        self.shapes: dict[str, Shape] = {}
        self.addresses: dict[str, int] = {}
        self.memory: tuple[int, int] | None = None
        self.has_run = False  # with these shapes and addresses

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.trt.cuda.stream(stream_handle, "set_optimization_profile_async")
        if self.trt.fails("set_optimization_profile_async"):
            return False
        self.active_optimization_profile = profile_index
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        if memory % ALIGNMENT or size < self.engine.device_memory_size_v2:
            raise Violation(f"{size} bytes of device memory at {memory:#x}")
        self.memory = memory, size

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        if self.active_optimization_profile != 0:
            raise Violation("set_input_shape before a profile is chosen")
        wanted = self.engine.shapes[name]
        least, _, most = self.engine.profile.get(name, (None, None, None))
        fits = len(shape) == len(wanted) and all(w in (ANY, e) for w, e in zip(wanted, shape, strict=True))
        if least is not None and most is not None and fits:
            fits = all(a <= e <= b for a, e, b in zip(least, shape, most, strict=True))
        if not fits or self.trt.fails("set_input_shape"):
            return False
        self.shapes[name] = tuple(shape)
        self.has_run = False
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if memory == 0 or name not in self.engine.names or self.trt.fails("set_tensor_address"):
            return False
        if memory % ALIGNMENT:
            raise Violation(f"{name} at {memory:#x}, no multiple of {ALIGNMENT}")
        self.addresses[name] = memory
        self.has_run = False
        return True

    def infer_shapes(self) -> list[str]:
        missing = [name for name in self.engine.inputs if name not in self.shapes]
        if missing or self.trt.fails("infer_shapes"):
            return missing or self.engine.inputs
        known: dict[int | str | None, int] = {}  # free extents by their names in the file
        for name in self.engine.inputs:
            known |= dict(zip(self.engine.extents[name], self.shapes[name], strict=True))
        for name in self.engine.outputs:
            self.shapes[name] = tuple(e if isinstance(e, int) else known[e] for e in self.engine.extents[name])
        return []

    def get_tensor_shape(self, name: str) -> Shape:
        return self.shapes.get(name, self.engine.shapes[name])

    def range(self, name: str) -> tuple[int, int]:
        """Address and bytes of a tensor."""
        return self.addresses[name], int(np.prod(self.shapes[name])) * self.engine.types[name][1].itemsize

    def execute_async_v3(self, stream_handle: int) -> bool:
        cuda, what = self.trt.cuda, "a plan"
        stream = cuda.stream(stream_handle, what)
        if self.trt.fails("execute_async_v3"):
            return False
        if self.memory is None or not set(self.addresses) == set(self.shapes) == set(self.engine.names):
            raise Violation(f"{what} is run without memory, addresses or shapes for all tensors")
        if stream.recorded is not None and not self.has_run:
            raise Violation(f"{what} is captured before it has run with these shapes and addresses")
        self.has_run = True
        self.trt.runs += 1
        memory, reads = self.memory, [self.range(name) for name in self.engine.inputs]
        writes = [self.range(name) for name in self.engine.outputs]
        key, own = (dict(self.shapes), dict(self.addresses)), ref(self)

        def context() -> FakeContext:
            if (found := own()) is None:
                raise Violation(f"{what} is run after its context was closed")
            return found

        def make() -> Work:
            found = context()
            if key != (found.shapes, found.addresses):
                raise Violation(f"{what} is launched in a graph after its shapes or addresses were changed")
            for address, nbytes in (*reads, *writes, memory):
                cuda.require(address, nbytes, (DEVICE,), what)
            return Work(what, lambda: context().calculate(), reads, [*writes, memory])

        cuda.put(stream_handle, what, make)
        return True

    def calculate(self) -> None:
        feed = {}
        for name in self.engine.inputs:
            data = self.trt.cuda.view(*self.range(name)).view(self.engine.types[name][1])
            feed[name] = data.reshape(self.shapes[name]).copy()
        for name, array in zip(self.engine.outputs, self.engine.session.run(self.engine.outputs, feed), strict=True):
            self.trt.cuda.view(*self.range(name))[:] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
