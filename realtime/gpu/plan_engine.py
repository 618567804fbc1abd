"""PlanEngine: one network as TensorRT's plan on a GPU, checked against the contract.

`Engine` (realtime/face/engine.py) is the same on the CPU. TensorRT reports most failures by returning False or None:
every such value is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import FloatArray
from ..contract import ANY, Network
from ..errors import MiravoxError
from ..face.engine import check_inputs
from .cuda import Cuda
from .tensorrt_module import complaints, logger

if TYPE_CHECKING:
    import tensorrt

Shape = tuple[int, ...]


class Binding:
    """A plan at fixed shapes and addresses, which a CUDA graph may record. PlanEngine makes it and closes it."""

    def __init__(self, name: str, context: tensorrt.IExecutionContext, stream: int) -> None:
        self.name, self.stream = name, stream
        self.context: tensorrt.IExecutionContext | None = context

    def enqueue(self) -> None:
        """Puts one run into the engine's stream. Raises MiravoxError if TensorRT refuses."""
        if self.context is None:
            raise RuntimeError(f"{self.name} is closed")
        if not self.context.execute_async_v3(self.stream):
            raise MiravoxError(
                self.name, found="a run that TensorRT refused", wanted="a run", remedy="See whether `nvidia-smi` works."
            )


@dataclass(frozen=True)
class Staging:
    """What `PlanEngine.run` needs at one set of shapes: page-locked arrays and their addresses on the device."""

    binding: Binding
    arrays: dict[str, NDArray[Any]]
    pointers: dict[str, int]


class PlanEngine:
    """One network as TensorRT's plan on one stream of a device.

    All bindings share the memory for activations, so no two may run at a time: they are for one stream.
    """

    def __init__(self, plan: bytes, network: Network, trt: Any, cuda: Cuda, stream: int, name: str) -> None:
        """Loads a plan.

        Args:
            plan: what `realtime.gpu.plans.build` made for this GPU and this TensorRT.
            trt: the module tensorrt or tensorrt_rtx.
            stream: of `cuda`, and not the default one.
            name: of the plan, for messages.
        """
        self.network, self.name, self.trt, self.cuda, self.stream = network, name, trt, cuda, stream
        self.tensors = {tensor.name: tensor for tensor in (*network.inputs, *network.outputs)}
        self.bindings: list[Binding] = []
        self.staged: dict[tuple[Shape, ...], Staging] = {}
        self.pointers: list[int] = []  # device memory that was allocated here, for `close`
        self.arrays: list[NDArray[Any]] = []  # page-locked memory, likewise
        logger(trt).messages.clear()
        # Runtime and plan must outlive the engine, the engine its contexts.
        self.plan, self.runtime = plan, trt.Runtime(logger(trt))
        engine: tensorrt.ICudaEngine | None = self.runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._error(f"a plan that does not load ({complaints(trt)})", f"a plan for {cuda.name}")
        self.engine = engine
        self._check()
        # Contexts at the profile's largest shapes would each take this much.
        self.scratch_bytes = max(1, int(engine.device_memory_size_v2))
        self.scratch = self._allocate(self.scratch_bytes)

    def _allocate(self, nbytes: int) -> int:
        self.pointers.append(self.cuda.allocate(nbytes))
        return self.pointers[-1]

    def _error(self, found: str, wanted: str) -> MiravoxError:
        return MiravoxError(
            self.name, found=found, wanted=wanted, remedy="Delete the plan to have it built anew, or update TensorRT."
        )

    def _check(self) -> None:
        """Names, directions, types and shapes as the contract has them; an extent fixed in one may be free in the
        other.
        """
        types = {self.trt.DataType.FLOAT: "float32", self.trt.DataType.HALF: "float16"}
        inputs = {tensor.name for tensor in self.network.inputs}
        found = {}
        for i in range(self.engine.num_io_tensors):
            tensor = self.engine.get_tensor_name(i)
            dtype = self.engine.get_tensor_dtype(tensor)
            is_input = self.engine.get_tensor_mode(tensor) == self.trt.TensorIOMode.INPUT
            found[tensor] = (is_input, types.get(dtype, str(dtype)), tuple(self.engine.get_tensor_shape(tensor)))
        wanted = {name: (name in inputs, tensor.dtype, tensor.shape) for name, tensor in self.tensors.items()}
        fits = found.keys() == wanted.keys() and all(
            found[name][:2] == wanted[name][:2]
            and len(found[name][2]) == len(wanted[name][2])
            and all(ANY in (f, w) or f == w for f, w in zip(found[name][2], wanted[name][2], strict=True))
            for name in wanted
        )
        if not fits:
            raise self._error(_described(found), _described(wanted))

    def bind(self, shapes: Mapping[str, Shape], pointers: Mapping[str, int]) -> Binding:
        """Fixes shapes and addresses, and runs once, since a first run may allocate, which no capture may see.

        Args:
            shapes: of every input; of outputs as well if they are to be checked.
            pointers: device memory of every input and output, at least as large as its shape and type need; multiples
                of 256.
        """
        context = self._context(shapes)
        for name in self.tensors.keys() & shapes.keys():
            if (found := tuple(context.get_tensor_shape(name))) != tuple(shapes[name]):
                raise self._error(f"{name} of shape {list(found)}", f"{list(shapes[name])}")
        return self._addressed(context, pointers)

    def _context(self, shapes: Mapping[str, Shape]) -> tensorrt.IExecutionContext:
        """A new context for these shapes of the inputs."""
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context: tensorrt.IExecutionContext | None = self.engine.create_execution_context(strategy)
        if context is None:
            raise self._error(f"no execution context ({complaints(self.trt)})", "one more")
        # Only an engine's first context is sure to have its profile chosen.
        if context.active_optimization_profile != 0 and not context.set_optimization_profile_async(0, self.stream):
            raise self._error(f"a profile that cannot be chosen ({complaints(self.trt)})", "profile 0")
        context.set_device_memory(self.scratch, self.scratch_bytes)
        for tensor in self.network.inputs:
            if not context.set_input_shape(tensor.name, tuple(shapes[tensor.name])):
                least, _, most = (list(shape) for shape in self.engine.get_tensor_profile_shape(tensor.name, 0))
                raise self._error(f"{tensor.name} of shape {list(shapes[tensor.name])}", f"{least} to {most}")
        if unresolved := context.infer_shapes():
            raise self._error(f"no shape for {unresolved}", "the shapes of all tensors from those of the inputs")
        return context

    def _addressed(self, context: tensorrt.IExecutionContext, pointers: Mapping[str, int]) -> Binding:
        for name in self.tensors:
            if not context.set_tensor_address(name, pointers[name]):
                raise self._error(f"the address {pointers[name]:#x} for {name}", "an address that TensorRT takes")
        binding = Binding(self.name, context, self.stream)
        self.bindings.append(binding)
        binding.enqueue()
        self.cuda.synchronize(self.stream)
        return binding

    def run(self, *inputs: NDArray[Any]) -> tuple[FloatArray, ...]:
        """Runs the network on host arrays in the contract's order, and waits; returns its outputs in that order.

        Memory is kept for every set of shapes that it is called with.
        """
        check_inputs(self.network, inputs)
        shapes = tuple(array.shape for array in inputs)
        if shapes not in self.staged:
            self.staged[shapes] = self._stage(shapes)
        staged = self.staged[shapes]
        for tensor, array in zip(self.network.inputs, inputs, strict=True):
            staged.arrays[tensor.name][:] = array
            self.cuda.upload(staged.pointers[tensor.name], staged.arrays[tensor.name], self.stream)
        staged.binding.enqueue()
        outputs = [tensor.name for tensor in self.network.outputs]
        for name in outputs:
            self.cuda.download(staged.arrays[name], staged.pointers[name], self.stream)
        self.cuda.synchronize(self.stream)
        return tuple(staged.arrays[name].copy() for name in outputs)

    def _stage(self, shapes: tuple[Shape, ...]) -> Staging:
        context = self._context({t.name: shape for t, shape in zip(self.network.inputs, shapes, strict=True)})
        arrays, pointers = {}, {}
        for name, tensor in self.tensors.items():
            shape, dtype = tuple(context.get_tensor_shape(name)), np.dtype(tensor.dtype)
            nbytes = dtype.itemsize * int(np.prod(shape))
            self.arrays.append(self.cuda.pinned(nbytes))
            arrays[name] = self.arrays[-1].view(dtype).reshape(shape)
            pointers[name] = self._allocate(nbytes)
        return Staging(self._addressed(context, pointers), arrays, pointers)

    def close(self) -> None:
        """Gives everything back. Graphs that hold a run of this engine must be gone; its bindings are closed."""
        for binding in self.bindings:
            binding.context = None
        self.staged.clear()
        del self.engine, self.runtime  # in this order, after the contexts
        with ExitStack() as rest:  # one that fails does not keep the others
            for array in self.arrays:
                rest.callback(self.cuda.free_pinned, array)
            for pointer in self.pointers:
                rest.callback(self.cuda.free, pointer)


def _described(tensors: Mapping[str, tuple[bool, str, Shape]]) -> str:
    """Tensors by name: whether an input, type, shape."""
    return ", ".join(
        f"{'input' if is_input else 'output'} {name} {dtype} {list(shape)}"
        for name, (is_input, dtype, shape) in tensors.items()
    )
