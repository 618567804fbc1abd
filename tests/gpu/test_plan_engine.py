"""PlanEngine on fakes of TensorRT and CUDA: what it computes, what it checks, what it tells, what it gives back."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from realtime.contract import ANY, AUDIO_ENCODER, DEFORMATION, PROJECTION, Network, Tensor
from realtime.errors import MiravoxError
from realtime.face.engine import Engine
from realtime.gpu.cuda import Cuda
from realtime.gpu.cuda_error import CudaError
from realtime.gpu.plan_engine import Binding, PlanEngine
from tests import fake_tensorrt
from tests.fake_cuda import FakeCuda, Violation
from tests.fake_tensorrt import FakeTensorRT, Profile

# y = x scale + mean(b): free extents, both types, two outputs.
TOY = Network(
    "toy",
    (Tensor("x", (ANY, 4), "values", "float16"), Tensor("b", (1, 3), "more values")),
    (Tensor("y", (ANY, 4), "what comes out"), Tensor("total", (1, 1), "mean of b")),
)
PROFILE: Profile = {"x": ((2, 4), (8, 4), (16, 4)), "b": ((1, 3), (1, 3), (1, 3))}
SHAPES = {"x": (8, 4), "b": (1, 3)}


def toy(
    path: Path,
    x_name: str = "x",
    x_type: int = TensorProto.FLOAT16,
    x_shape: Sequence[Any] = ("N", 4),
    more: bool = False,
) -> Path:
    """Writes the toy network, or one that differs from it."""
    nodes = [
        helper.make_node("Cast", [x_name], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["b"], ["total"], keepdims=1),
        helper.make_node("Add", ["wide", "total"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info(x_name, x_type, x_shape),
        helper.make_tensor_value_info("b", TensorProto.FLOAT, (1, 3)),
    ]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, x_shape),
        helper.make_tensor_value_info("total", TensorProto.FLOAT, (1, 1)),
    ]
    if more:
        nodes.append(helper.make_node("Identity", ["y"], ["again"]))
        outputs.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, x_shape))
    graph = helper.make_graph(nodes, "toy", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


class Gpu:
    """Fakes of CUDA and TensorRT, and the wrapper."""

    def __init__(self, memory: int = 8 << 30) -> None:
        self.fake = FakeCuda(lambda *_: None, {}, memory=memory)
        self.trt = FakeTensorRT(self.fake)
        self.cuda = Cuda(0, self.fake.runtime, self.fake.driver)
        self.stream = self.cuda.create_stream()

    def engine(self, onnx_path: Path, network: Network, profile: Profile | None = None) -> PlanEngine:
        plan = fake_tensorrt.plan(onnx_path, profile)
        return PlanEngine(plan, network, self.trt, self.cuda, self.stream, "toy.plan")

    def finish(self) -> None:
        """Everything else must have been given back."""
        self.cuda.destroy_stream(self.stream)
        self.cuda.close()
        self.fake.check_leaks()


class Toy(Gpu):
    """The toy network, and memory for its largest shapes."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.toy = self.engine(toy(folder / "toy.onnx"), TOY, PROFILE)
        self.pointers = {name: self.cuda.allocate(1024) for name in ("x", "b", "y", "total")}

    def bind(self, rows: int = 8) -> Binding:
        return self.toy.bind({**SHAPES, "x": (rows, 4)}, self.pointers)

    def upload(self, rows: int, value: float) -> None:
        self.cuda.upload(self.pointers["x"], np.full((rows, 4), value, np.float16), self.stream)
        self.cuda.upload(self.pointers["b"], np.array([[1, 2, 3]], np.float32), self.stream)

    def result(self, rows: int) -> Any:
        result = np.empty((rows, 4), np.float32)
        self.cuda.download(result, self.pointers["y"], self.stream)
        return result


@pytest.fixture
def gpu() -> Gpu:
    return Gpu()


@pytest.fixture
def bench(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


@pytest.mark.parametrize("network", [AUDIO_ENCODER, PROJECTION, DEFORMATION], ids=lambda network: network.name)
def test_it_gives_what_the_engine_gives(ada: Path, gpu: Gpu, network: Network) -> None:
    path = ada / "targets" / "onnx" / f"{network.name}.onnx"
    generator = np.random.default_rng(3)
    engine, reference = gpu.engine(path, network), Engine(path, network)
    for rows in (1, 1, 5):
        inputs = [
            generator.uniform(0, 1, [e if e != ANY else rows for e in tensor.shape]).astype(np.float32)
            for tensor in network.inputs
        ]
        found, wanted = engine.run(*inputs), reference.run(*inputs)
        assert len(found) == len(wanted) == len(network.outputs)
        for a, b in zip(found, wanted, strict=True):
            assert a.dtype == np.float32
            assert np.array_equal(a, b)
    engine.close()
    gpu.finish()


def test_results_stay_and_memory_is_taken_once(bench: Toy) -> None:
    b = np.array([[1, 2, 3]], np.float32)
    first, total = bench.toy.run(np.full((2, 4), 5, np.float16), b)
    taken = bench.fake.calls.copy()
    second, _ = bench.toy.run(np.full((2, 4), 6, np.float16), b)
    assert (first == 7).all() and (second == 8).all() and total.item() == 2
    for name in ("cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags"):
        assert bench.fake.calls[name] == taken[name]
    assert bench.fake.calls["cudaStreamSynchronize"] == taken["cudaStreamSynchronize"] + 1


@pytest.mark.parametrize(
    "inputs",
    [
        (np.zeros((2, 4), np.float32), np.zeros((1, 3), np.float32)),
        (np.zeros((2, 5), np.float16), np.zeros((1, 3), np.float32)),
        (np.zeros((2, 4), np.float16), np.zeros((2, 3), np.float32)),
    ],
)
def test_inputs_are_checked(bench: Toy, inputs: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"toy\.(x|b): .*; wanted float"):
        bench.toy.run(*inputs)


def test_bindings_of_several_shapes_run_in_graphs(bench: Toy) -> None:
    graphs = {}
    for rows in (2, 8):
        binding = bench.bind(rows)
        bench.cuda.begin_capture(bench.stream)
        binding.enqueue()
        graphs[rows] = bench.cuda.end_capture(bench.stream)
    for rows, value in ((2, 1.0), (8, 2.0), (2, 3.0)):
        bench.cuda.clear(bench.pointers["y"], 1024, bench.stream)
        bench.upload(rows, value)
        bench.cuda.launch_graph(graphs[rows], bench.stream)
        result = bench.result(9)
        assert (result[:rows] == value + 2).all()
        assert not result[rows:].any(), "only the rows of the binding"
    for graph in graphs.values():
        bench.cuda.destroy_graph(graph)
    bench.toy.close()
    for pointer in bench.pointers.values():
        bench.cuda.free(pointer)
    bench.finish()


def test_a_graph_must_not_outlive_its_engine(bench: Toy) -> None:
    binding = bench.bind()
    bench.cuda.begin_capture(bench.stream)
    binding.enqueue()
    graph = bench.cuda.end_capture(bench.stream)
    bench.toy.close()
    with pytest.raises(RuntimeError, match=r"toy\.plan is closed"):
        binding.enqueue()
    gc.collect()
    with pytest.raises(Violation, match="after its context was closed"):
        bench.cuda.launch_graph(graph, bench.stream)


def test_a_capture_sees_no_first_run(bench: Toy) -> None:
    """`bind` has run the plan once; the fake refuses a capture of one that has not."""
    binding = bench.bind()
    assert binding.context is not None
    binding.context.set_tensor_address("y", bench.pointers["y"] + 256)
    bench.cuda.begin_capture(bench.stream)
    with pytest.raises(Violation, match="captured before it has run"):
        binding.enqueue()
    bench.cuda.abort_capture(bench.stream)
    bench.cuda.begin_capture(bench.stream)
    with pytest.raises(Violation, match="captured before it has run"):
        bench.bind()


@pytest.mark.parametrize(
    ("pointers", "words"),
    [
        (lambda gpu: {"x": gpu.pointers["x"] + 2}, "no multiple of 256"),
        (lambda gpu: {"y": gpu.cuda.allocate(64)}, "out of bounds, 128 bytes where 64 are"),
        (lambda gpu: {"y": gpu.cuda.pinned(128).ctypes.data}, "page-locked"),
    ],
)
def test_addresses_that_do_not_fit_are_caught(
    bench: Toy, pointers: Callable[[Toy], dict[str, int]], words: str
) -> None:
    with pytest.raises(Violation, match=words):
        bench.toy.bind(SHAPES, {**bench.pointers, **pointers(bench)})


def test_memory_for_activations_is_not_shared_over_streams(bench: Toy) -> None:
    """Bindings share it, so one of another stream is caught."""
    binding = bench.bind()
    other = Binding("other", bench.bind(2).context, bench.cuda.create_stream())
    binding.enqueue()
    with pytest.raises(Violation, match="unordered with a plan on another"):
        other.enqueue()


@pytest.mark.parametrize("rows", [1, 17])
def test_a_shape_outside_the_profile_is_told(bench: Toy, rows: int) -> None:
    words = rf"toy\.plan: found x of shape \[{rows}, 4\]; wanted \[2, 4\] to \[16, 4\]"
    with pytest.raises(MiravoxError, match=words):
        bench.bind(rows)


def test_an_output_of_another_shape_is_told(bench: Toy) -> None:
    with pytest.raises(MiravoxError, match=r"found y of shape \[8, 4\]; wanted \[9, 4\]"):
        bench.toy.bind({**SHAPES, "y": (9, 4)}, bench.pointers)
    bench.toy.bind({**SHAPES, "y": (8, 4)}, bench.pointers)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_name": "z"}, r"found input z float16 \[-1, 4\]"),
        ({"x_type": TensorProto.FLOAT}, r"found input x float32 \[-1, 4\].*wanted input x float16 \[-1, 4\]"),
        ({"x_type": TensorProto.INT64}, r"found input x .*INT64"),
        ({"x_shape": ("N", 5)}, r"found input x float16 \[-1, 5\].*output y float32 \[-1, 5\]"),
        ({"x_shape": ("N", 1, 4)}, r"found input x float16 \[-1, 1, 4\]"),
        ({"more": True}, r"output again float32"),
    ],
)
def test_a_plan_of_another_network_is_told(gpu: Gpu, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = toy(tmp_path / "other.onnx", **changes)
    with pytest.raises(MiravoxError, match=words) as error:
        gpu.engine(path, TOY)
    assert "Delete the plan" in error.value.remedy
    gpu.finish()


@pytest.mark.parametrize("shape", [(8, 4), ("N", "M")])
def test_an_extent_may_be_fixed_in_one_and_free_in_the_other(gpu: Gpu, tmp_path: Path, shape: Sequence[Any]) -> None:
    engine = gpu.engine(toy(tmp_path / "toy.onnx", x_shape=shape), TOY)
    found, _ = engine.run(np.ones((8, 4), np.float16), np.zeros((1, 3), np.float32))
    assert (found == 1).all()


def test_a_plan_that_does_not_load_is_told_with_the_reason(gpu: Gpu) -> None:
    with pytest.raises(MiravoxError, match=r"x\.plan: found a plan that does not load \(.*kMAGIC_TAG.*Fake GPU"):
        PlanEngine(b"something else", TOY, gpu.trt, gpu.cuda, gpu.stream, "x.plan")
    gpu.finish()


@pytest.mark.parametrize(
    ("name", "after", "words"),
    [
        ("create_execution_context", 0, r"no execution context \(Out of memory"),
        ("set_optimization_profile_async", 0, "a profile that cannot be chosen"),
        ("set_input_shape", 1, r"b of shape \[1, 3\]"),
        ("set_tensor_address", 2, "the address 0x.* for y"),
        ("infer_shapes", 0, r"no shape for \['x', 'b'\]"),
        ("execute_async_v3", 0, "a run that TensorRT refused"),
    ],
)
def test_what_tensorrt_refuses_is_told(bench: Toy, name: str, after: int, words: str) -> None:
    bench.bind()  # the next context has no profile of its own
    bench.trt.fail(name, after)
    with pytest.raises(MiravoxError, match=words):
        bench.bind()
    assert not bench.trt.failing
    bench.bind().enqueue()
    bench.cuda.synchronize(bench.stream)
    bench.toy.close()
    for pointer in bench.pointers.values():
        bench.cuda.free(pointer)
    bench.finish()


def test_a_run_that_is_refused_is_told(bench: Toy) -> None:
    inputs = np.zeros((2, 4), np.float16), np.zeros((1, 3), np.float32)
    bench.toy.run(*inputs)
    bench.trt.fail("execute_async_v3")
    with pytest.raises(MiravoxError, match="a run that TensorRT refused"):
        bench.toy.run(*inputs)
    bench.fake.fail("cudaStreamSynchronize", 700)
    with pytest.raises(CudaError, match="error 700"):
        bench.toy.run(*inputs)


@pytest.mark.parametrize(("name", "after"), [("cudaMalloc", 0), ("cudaMalloc", 3), ("cudaHostAlloc", 2)])
def test_memory_that_runs_out_is_told_and_given_back(bench: Toy, name: str, after: int) -> None:
    inputs = np.zeros((2, 4), np.float16), np.zeros((1, 3), np.float32)
    bench.fake.fail(name, 2, after)
    with pytest.raises(CudaError, match=f"{name}: found error 2"):
        bench.toy.run(*inputs)
    bench.toy.run(*inputs)
    bench.toy.close()
    for pointer in bench.pointers.values():
        bench.cuda.free(pointer)
    bench.finish()


def test_no_memory_for_activations_is_told(tmp_path: Path) -> None:
    gpu = Gpu(memory=100)
    with pytest.raises(CudaError, match="cudaMalloc: found error 2"):
        gpu.engine(toy(tmp_path / "toy.onnx"), TOY)
    gpu.finish()


@pytest.mark.parametrize("name", ["cudaFree", "cudaFreeHost"])
def test_what_cannot_be_given_back_keeps_nothing_else(gpu: Gpu, tmp_path: Path, name: str) -> None:
    engine = gpu.engine(toy(tmp_path / "toy.onnx"), TOY)
    engine.run(np.zeros((2, 4), np.float16), np.zeros((1, 3), np.float32))
    gpu.fake.fail(name, 700, after=1)
    with pytest.raises(CudaError, match=f"{name}: found error 700"):
        engine.close()
    gpu.cuda.destroy_stream(gpu.stream)
    gpu.cuda.close()  # tells of nothing that was forgotten


def test_the_engine_is_closed_after_its_contexts(bench: Toy) -> None:
    """TensorRT wants contexts to go first, then the engine, then the runtime."""
    order: list[str] = []
    weakref.finalize(bench.bind().context, order.append, "context")
    weakref.finalize(bench.toy.engine, order.append, "engine")
    weakref.finalize(bench.toy.runtime, order.append, "runtime")
    bench.toy.close()
    assert order == ["context", "engine", "runtime"]
