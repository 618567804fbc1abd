"""A machine with a GPU, made of the fakes of CUDA and TensorRT; and networks that are small enough for many runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from realtime.avatar import Avatar
from realtime.contract import EMBEDDING, EMBEDDINGS, LATENT, MEL_BANDS, MEL_FRAMES, encoded_width
from realtime.face.gl import create_context
from realtime.gpu.cuda import Cuda
from realtime.gpu.opened_gpu import OpenedGpu
from realtime.gpu.profiles import profiles
from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import FakeTensorRT
from tests.fake_tensorrt import plan as plan_of

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@dataclass
class FakeGpu:
    """`open` makes what open_gpu (realtime/gpu/opened_gpu.py) makes on a real machine."""

    files: dict[str, Path] | None = None  # of the networks; the avatar's own by default
    cuda: FakeCuda = field(default_factory=FakeCuda)
    make_cuda: Callable[..., Cuda] = Cuda

    def __post_init__(self) -> None:
        self.trt = FakeTensorRT(self.cuda)

    def open(self) -> OpenedGpu:
        cuda = self.make_cuda(0, self.cuda.runtime, self.cuda.driver)
        return OpenedGpu(cuda, self.trt, b"kernels", self.plans, create_context)

    def plans(self, avatar: Avatar, size: int) -> dict[str, bytes]:
        folder = avatar.folder / "targets" / "tensorrt"
        files = self.files or {name: folder / f"{name}.onnx" for name in profiles(avatar, size)}
        return {name: plan_of(files[name], profile) for name, profile in profiles(avatar, size).items()}


def small_networks(avatar: Avatar, folder: Path) -> dict[str, Path]:
    """A network of one layer for each of an avatar's, with the same inputs and outputs, in which every input counts."""
    rng = np.random.default_rng(0)
    side, width = avatar.composition_size, encoded_width(avatar.info["frequencies"])

    def weights(name: str, *shape: int, size: float = 1.0) -> onnx.TensorProto:
        values: NDArray[Any] = rng.normal(0, size / np.sqrt(shape[0]), shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs.split(), [output], **attributes)

    networks: dict[str, tuple[list[Any], list[Any], list[onnx.NodeProto], list[onnx.TensorProto]]] = {
        "audio_encoder": (
            [("mel", FLOAT, [1, 1, MEL_BANDS, MEL_FRAMES])],
            [("embedding", FLOAT, [1, EMBEDDING]), ("presence", FLOAT, [1, 1])],
            [
                node("Flatten", "mel", "flat"),
                node("MatMul", "flat w", "sum"),
                node("Relu", "sum", "embedding"),
                node("MatMul", "flat p", "level"),
                node("Sigmoid", "level", "presence"),
            ],
            [weights("w", MEL_BANDS * MEL_FRAMES, EMBEDDING), weights("p", MEL_BANDS * MEL_FRAMES, 1)],
        ),
        "projection": (
            [("embeddings", FLOAT, [1, EMBEDDINGS, EMBEDDING])],
            [("latent", FLOAT, [1, LATENT])],
            [node("Flatten", "embeddings", "flat"), node("MatMul", "flat w", "latent")],
            [weights("w", EMBEDDINGS * EMBEDDING, LATENT)],
        ),
        "deformation": (
            [("points", FLOAT, ["N", 3]), ("latent", FLOAT, [1, LATENT])],
            [("displacement", FLOAT, ["N", 3])],
            [
                node("MatMul", "points a", "moved"),
                node("MatMul", "latent b", "shift"),
                node("Add", "moved shift", "displacement"),
            ],
            [weights("a", 3, 3, size=0.3), weights("b", LATENT, 3, size=0.3)],
        ),
        "color": (
            [("encoded", HALF, ["N", width]), ("latent", FLOAT, [1, LATENT])],
            [("rgb", FLOAT, ["N", 3])],
            [
                node("Cast", "encoded", "wide", to=FLOAT),
                node("MatMul", "wide a", "of_point"),
                node("MatMul", "latent b", "of_speech"),
                node("Add", "of_point of_speech", "sum"),
                node("Sigmoid", "sum", "rgb"),
            ],
            [weights("a", width, 3), weights("b", LATENT, 3)],
        ),
        "composition": (
            [("layers", FLOAT, [1, 6, side, side])],
            [("rgb", FLOAT, [1, 3, side, side])],
            [node("Conv", "layers w", "mixed", pads=[1, 1, 1, 1]), node("Sigmoid", "mixed", "rgb")],
            [numpy_helper.from_array(rng.normal(0, 0.1, (3, 6, 3, 3)).astype(np.float32), "w")],
        ),
    }
    files = {}
    for name, (inputs, outputs, nodes, constants) in networks.items():
        ends = [[helper.make_tensor_value_info(*tensor) for tensor in tensors] for tensors in (inputs, outputs)]
        graph = helper.make_graph(nodes, name, ends[0], ends[1], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        files[name] = folder / f"{name}.onnx"
        onnx.save(model, files[name])
    return files
