"""The networks for TensorRT: they say what torch says in float64, in the types and shapes of the contract, and
TensorRT-RTX builds them.
"""

from __future__ import annotations

import copy
import importlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import pytest

from realtime import contract
from realtime.avatar import load_avatar
from realtime.contract import AUDIO_ENCODER, COMPOSITION, DEFORMATION, ENCODED_COLOR, PLAN_NETWORKS, PROJECTION, Network
from realtime.errors import MiravoxError
from realtime.face.engine import onnxruntime  # whose telemetry it has switched off
from realtime.gpu import plans
from tests.conftest import ROOT, lacking

pytestmark = pytest.mark.usefixtures("torch")

PICTURE = 2 / 255  # what the pixels may differ by
# Largest difference of each output: presence is a probability, the displacement in centimetres.
LIMITS = {"embedding": 5e-3, "presence": 5e-3, "latent": 5e-3, "displacement": 2e-3, "rgb": PICTURE}
COUNTS = (2, 333, 4096)  # points
HALF, FLOAT = 10, 1  # onnx.TensorProto


def session_of(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs_of(torch: Any, network: Network, side: int, count: int) -> tuple[Any, ...]:
    """What the reference network takes, float64: values as they occur, and of the whole range."""
    generator = torch.Generator().manual_seed(count)
    latent = torch.randn(1, 64, generator=generator).double()
    latent = (latent - latent.mean()) / latent.std()
    points = (torch.rand(count, 3, generator=generator) * 2 - 1).double()
    if network is AUDIO_ENCODER:
        return ((torch.rand(1, 1, 80, 16, generator=generator) * 8 - 4).double(),)
    if network is PROJECTION:
        return (torch.relu(torch.randn(1, 9, 512, generator=generator)).double(),)
    if network is COMPOSITION:
        return (torch.rand(1, 6, side, side, generator=generator).double(),)
    return points, latent


def differences(torch: Any, path: Path, network: Network, module: Any, side: int, count: int = 2) -> dict[str, float]:
    """Largest difference of each output from the reference in float64: of the file in ONNX Runtime, which computes in
    float32 what it says of float16, and of the exported module in torch, which rounds every layer to float16.
    """
    from export.tensorrt import halved
    from networks.color import encode_position

    exact = copy.deepcopy(module).double().eval()
    inputs = inputs_of(torch, network, side, count)
    with torch.no_grad():
        wanted = exact(*inputs)
    if network is ENCODED_COLOR:
        frequencies = module.config.frequencies
        encoded = torch.zeros(count, contract.encoded_width(frequencies), dtype=torch.float64)
        encoded[:, : 6 * frequencies] = encode_position(inputs[0], frequencies)
        inputs = encoded, inputs[1]
    arrays = [x.numpy().astype(t.dtype) for t, x in zip(network.inputs, inputs, strict=True)]
    session = session_of(path)
    found = session.run(
        [t.name for t in network.outputs], {t.name: a for t, a in zip(network.inputs, arrays, strict=True)}
    )
    with torch.no_grad():
        rounded = halved(module, network)(*(torch.from_numpy(a) for a in arrays))
    wanted, rounded = (x if isinstance(x, tuple) else (x,) for x in (wanted, rounded))
    return {
        t.name: max(float(np.abs(x.astype(np.float64) - w.numpy()).max()) for x in (f, r.numpy()))
        for t, f, r, w in zip(network.outputs, found, rounded, wanted, strict=True)
    }


def check(path: Path, network: Network, module: Any, side: int, torch: Any, counts: Sequence[int]) -> None:
    """Parity at several counts, ONNX's own check, and the contract's names, types and shapes."""
    import onnx

    for count in counts if network in (DEFORMATION, ENCODED_COLOR) else (2, 3):
        found = differences(torch, path, network, module, side, count)
        assert found and all(value <= LIMITS[name] for name, value in found.items()), (network.name, count, found)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 20
    for tensors, values in ((network.inputs, model.graph.input), (network.outputs, model.graph.output)):
        assert [t.name for t in tensors] == [v.name for v in values]
        for tensor, value in zip(tensors, values, strict=True):
            kind = value.type.tensor_type
            assert kind.elem_type == (HALF if tensor.dtype == "float16" else FLOAT)
            shape = tuple(d.dim_value if d.HasField("dim_value") else contract.ANY for d in kind.shape.dim)
            assert contract.check_shape(tensor, tuple(e if e != contract.ANY else 5 for e in shape)), (tensor, shape)
            free = tensor.name in ("points", "encoded", "displacement")
            free = free or (network is ENCODED_COLOR and tensor.name == "rgb")
            assert [e == contract.ANY for e in shape] == [free, *[False] * (len(shape) - 1)], (tensor, shape)


@pytest.fixture(scope="module")
def rtx() -> ModuleType:
    try:
        return importlib.import_module("tensorrt_rtx")
    except ImportError:
        lacking("tensorrt_rtx (pip install -e .[dev])")


@pytest.fixture(scope="module")
def adas(ada: Path) -> tuple[dict[str, Any], int]:
    """Her networks, and the side of her composition network's square."""
    from export.weights import load_networks

    return load_networks(ada)


@pytest.mark.parametrize("network", PLAN_NETWORKS, ids=lambda n: n.name)
def test_adas_files_say_what_her_weights_say(
    torch: Any, ada: Path, adas: tuple[dict[str, Any], int], network: Network
) -> None:
    networks, side = adas
    check(ada / "targets" / "tensorrt" / f"{network.name}.onnx", network, networks[network.name], side, torch, COUNTS)


def others() -> dict[str, tuple[Network, Any]]:
    """Networks with other settings than Ada's."""
    from networks.audio_encoder import WAV2LIP, AudioEncoder
    from networks.color import Color, ColorConfig
    from networks.composition import STRIDED, Composition, CompositionConfig
    from networks.projection import Projection, ProjectionConfig

    return {
        "wav2lip": (AUDIO_ENCODER, AudioEncoder(WAV2LIP)),
        "window of one": (PROJECTION, Projection(ProjectionConfig(window=1))),
        "L = 16": (ENCODED_COLOR, Color()),
        "L = 3, padded": (ENCODED_COLOR, Color(ColorConfig(layers=6, width=64, skip=2, frequencies=3))),
        "dilated": (COMPOSITION, Composition(CompositionConfig(base=4))),
        "strided": (COMPOSITION, Composition(STRIDED)),
    }


@pytest.mark.parametrize("name", ["wav2lip", "window of one", "L = 16", "L = 3, padded", "dilated", "strided"])
def test_other_settings_are_exported_and_built(torch: Any, rtx: ModuleType, tmp_path: Path, name: str) -> None:
    from export.tensorrt import export_half

    torch.manual_seed(3)
    network, module = others()[name]
    module.eval().requires_grad_(False)
    path = tmp_path / f"{network.name}.onnx"
    before = copy.deepcopy(module.state_dict())
    export_half(module, network, path, 32)
    assert all(torch.equal(before[k], v) and before[k].dtype == v.dtype for k, v in module.state_dict().items())
    check(path, network, module, 32, torch, COUNTS[:2])
    width = contract.encoded_width(module.config.frequencies) if network is ENCODED_COLOR else 0
    profile: plans.Profile = {"encoded": ((64, width), (128, width), (512, width))} if width else {}
    assert len(plans.build(rtx, path, profile)) > 1000


def test_a_difference_is_seen(torch: Any, ada: Path, adas: tuple[dict[str, Any], int]) -> None:
    module = copy.deepcopy(adas[0]["color"])
    module.output.bias.data += 0.05
    path = ada / "targets" / "tensorrt" / "color.onnx"
    assert differences(torch, path, ENCODED_COLOR, module, 96)["rgb"] > LIMITS["rgb"]


def test_what_fills_up_the_encoding_is_not_seen(ada: Path) -> None:
    session = session_of(ada / "targets" / "tensorrt" / "color.onnx")
    rng = np.random.default_rng(0)
    encoded = rng.uniform(-1, 1, (5, 64)).astype(np.float16)
    latent = rng.normal(size=(1, 64)).astype(np.float32)
    (one,) = session.run(None, {"encoded": encoded, "latent": latent})
    encoded[:, 60:] = 1
    (other,) = session.run(None, {"encoded": encoded, "latent": latent})
    assert np.array_equal(one, other)
    encoded[:, 59] += 0.5
    (third,) = session.run(None, {"encoded": encoded, "latent": latent})
    assert not np.array_equal(one, third)


def test_float16_inside_float32_where_it_matters(ada: Path) -> None:
    """By operator: the types that its first input has, in all five files together."""
    import onnx

    types: dict[str, set[tuple[str, int]]] = {}
    for network in PLAN_NETWORKS:
        path = ada / "targets" / "tensorrt" / f"{network.name}.onnx"
        model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
        kinds = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
        kinds |= {v.name: v.type.tensor_type.elem_type for v in [*model.graph.input, *model.graph.output]}
        kinds |= {i.name: i.data_type for i in model.graph.initializer}
        for node in model.graph.node:
            types.setdefault(node.op_type, set()).add((network.name, kinds[node.input[0]]))
        large = [i for i in model.graph.initializer if np.prod(i.dims) >= 64]
        assert large and all(i.data_type == HALF for i in large), "weights are stored in float16"
        assert str(ROOT).encode() not in path.read_bytes(), "no path of this machine"
    assert types["Softmax"] == {("projection", FLOAT)} and types["Clip"] == {("composition", FLOAT)}
    assert types["Sigmoid"] == {("audio_encoder", FLOAT), ("color", FLOAT)}
    assert types["ReduceMean"] == {("projection", FLOAT)}
    assert types["Conv"] == {(n, HALF) for n in ("audio_encoder", "projection", "composition")} | {
        ("projection", FLOAT)
    }
    assert types["Relu"] >= {("color", HALF), ("deformation", HALF), ("audio_encoder", HALF)}


def no_gpu() -> NoReturn:
    raise MiravoxError("CUDA", found="no GPU", wanted="one", remedy="Plug one in.")


def test_a_copy_of_an_avatar_is_exported(
    ada: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command; two networks are exported, for the sake of time, and Ada's own files taken for the others.

    What is there already stays as it is.
    """
    from export import __main__ as command
    from export import tensorrt

    bare = tmp_path / "bare"
    shutil.copytree(ada, bare, ignore=shutil.ignore_patterns("tensorrt"))
    info = json.loads((bare / "avatar.json").read_text())
    del info["targets"]["tensorrt"]
    (bare / "avatar.json").write_text(json.dumps(info))
    assert load_avatar(bare).targets == ("baked", "onnx")
    export_half, exported = tensorrt.export_half, []

    def export_or_copy(module: Any, network: Network, path: Path, side: int) -> None:
        if network in (PROJECTION, COMPOSITION):
            export_half(module, network, path, side)
            exported.append(network)
        else:
            path.parent.mkdir(exist_ok=True)
            shutil.copyfile(ada / path.relative_to(tmp_path / "full"), path)

    monkeypatch.setattr(tensorrt, "export_half", export_or_copy)
    monkeypatch.setattr(tensorrt, "current_gpu_model", no_gpu)
    monkeypatch.setattr(sys, "argv", ["export", str(bare), "--target", "tensorrt", "--out", str(tmp_path / "full")])
    command.main()
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 'full'}\nno plans were built here: ") and "no GPU" in said
    full = load_avatar(tmp_path / "full")
    assert full.targets == ("baked", "onnx", "tensorrt")
    assert exported == [PROJECTION, COMPOSITION]
    new = full.info["targets"].pop("tensorrt")
    assert sorted(new) == sorted(f"targets/tensorrt/{network.name}.onnx" for network in PLAN_NETWORKS)
    assert full.info == info
    assert load_avatar(bare).targets == ("baked", "onnx")


def test_the_command_does_not_write_over_anything(
    ada: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from export import __main__ as command
    from export.tensorrt import export_target

    with pytest.raises(MiravoxError, match="new folder"):
        export_target(ada, tmp_path)
    with pytest.raises(MiravoxError, match="avatar.json"):
        export_target(tmp_path)
    options = command.parse([str(ada), "--target=tensorrt", "--size", "640"])
    assert (options.command, options.avatar, options.size, options.out) == ("target", ada, 640, None)
    assert command.parse(["face", "--out", "x"]).command == "face"
    with pytest.raises(SystemExit):
        command.parse([str(ada), "--target", "quantum"])
    assert "--target tensorrt" in capsys.readouterr().err
