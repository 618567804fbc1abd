"""Torch in TensorRT's place: the networks that would be a plan, in the same types, on the same memory and stream.

With it the self-test tries everything but TensorRT itself on a GPU where TensorRT is not installed or does not run.
It has as much of TensorRT's interface as realtime/gpu/plan_engine.py uses; every method is named after TensorRT's.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from export.tensorrt import halved
from export.weights import load_networks
from realtime.avatar import Avatar
from realtime.contract import ANY, PLAN_NETWORKS, Network, check_shape
from realtime.contract import Tensor as Described

Shape = tuple[int, ...]
BY_NAME = {network.name: network for network in PLAN_NETWORKS}


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Logger:
    """Base class of TensorRT's loggers."""

    Severity = Severity


class DataType(enum.Enum):
    FLOAT, HALF = "float32", "float16"


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class Strategy(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class TorchEngines:
    """Stands in for the module `tensorrt`.

    Args:
        on_gpu: whether the addresses that it is given lie on the current CUDA device, or in host memory.
    """

    __name__, __version__ = "torch", torch.__version__
    ILogger, TensorIOMode, ExecutionContextAllocationStrategy = Logger, TensorIOMode, Strategy
    DataType = DataType

    def __init__(self, on_gpu: bool = True) -> None:
        self.on_gpu = on_gpu
        # What a plan does not do either: `build` clears the flag TF32.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False

    def Runtime(self, logger: Logger) -> TorchRuntime:
        return TorchRuntime(self.on_gpu)

    @staticmethod
    def plans(avatar: Avatar, size: int) -> dict[str, bytes]:
        """What stands for plans: where each network lies. `size` of the frame counts for nothing here."""
        folder = str(avatar.folder)
        return {name: json.dumps({"avatar": folder, "network": name}).encode() for name in BY_NAME}


class TorchRuntime:
    def __init__(self, on_gpu: bool) -> None:
        self.on_gpu = on_gpu

    def deserialize_cuda_engine(self, plan: bytes) -> TorchEngine:
        named = json.loads(plan)
        network = BY_NAME[named["network"]]
        modules, _ = load_networks(Path(named["avatar"]))
        module = halved(modules[network.name], network)
        return TorchEngine(module.cuda() if self.on_gpu else module, network, self.on_gpu)


class TorchEngine:
    device_memory_size_v2 = 0  # torch allocates by itself

    def __init__(self, module: nn.Module, network: Network, on_gpu: bool) -> None:
        self.module, self.network, self.on_gpu = module, network, on_gpu
        self.tensors: dict[str, Described] = {t.name: t for t in (*network.inputs, *network.outputs)}
        self.names = list(self.tensors)
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if self.tensors[name] in self.network.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType(self.tensors[name].dtype)

    def get_tensor_shape(self, name: str) -> Shape:
        return self.tensors[name].shape

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[Shape]:
        return 3 * [self.tensors[name].shape]

    def create_execution_context(self, strategy: Strategy) -> TorchContext:
        return TorchContext(self)


class TorchContext:
    active_optimization_profile = 0

    def __init__(self, engine: TorchEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, Shape] = {}
        self.addresses: dict[str, int] = {}
        self.views: Mapping[str, torch.Tensor] | None = None  # of the memory, once all addresses are known

    def set_device_memory(self, memory: int, size: int) -> None:
        """Is not used."""

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        self.shapes[name], self.views = tuple(shape), None
        return check_shape(self.engine.tensors[name], shape)

    def infer_shapes(self) -> Sequence[str]:
        """A free extent of an output is the first input's along the same axis, in every network of the contract."""
        network = self.engine.network
        first = self.shapes[network.inputs[0].name]
        for tensor in network.outputs:
            self.shapes[tensor.name] = tuple(first[i] if e == ANY else e for i, e in enumerate(tensor.shape))
        return ()

    def get_tensor_shape(self, name: str) -> Shape:
        return self.shapes[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name], self.views = address, None
        return True

    def execute_async_v3(self, stream: int) -> bool:
        """Enqueues the network; a stream in capture records it, if it has run before with these shapes: what torch
        needs of memory it has taken then.
        """
        if self.views is None:
            self.views = {name: self._view(name) for name in self.engine.names}
        network, views = self.engine.network, self.views
        on_stream: AbstractContextManager[Any] = nullcontext()
        if self.engine.on_gpu:
            on_stream = torch.cuda.stream(torch.cuda.ExternalStream(stream))
        with on_stream, torch.inference_mode():
            outputs = self.engine.module(*(views[t.name] for t in network.inputs))
            for tensor, output in zip(
                network.outputs, outputs if isinstance(outputs, tuple) else (outputs,), strict=True
            ):
                views[tensor.name].copy_(output)
        return True

    def _view(self, name: str) -> torch.Tensor:
        shape, dtype = self.shapes[name], np.dtype(self.engine.tensors[name].dtype)
        if self.engine.on_gpu:
            return torch.as_tensor(_OnGpu(self.addresses[name], shape, dtype), device="cuda")
        memory = (ctypes.c_uint8 * (dtype.itemsize * int(np.prod(shape)))).from_address(self.addresses[name])
        return torch.from_numpy(np.ctypeslib.as_array(memory).view(dtype).reshape(shape))


class _OnGpu:
    """Memory of somebody else's, as torch takes it."""

    def __init__(self, address: int, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.__cuda_array_interface__ = {
            "version": 3,
            "data": (address, False),
            "shape": shape,
            "typestr": dtype.str,
            "strides": None,
        }
