"""Networks of strangers: what export writes passes, and nothing that loops, hides or swells does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from realtime import contract
from realtime.contract import Network
from realtime.errors import MiravoxError
from realtime.face.engine import Engine
from realtime.face.network_check import FREE_EXTENT, FREE_EXTENTS, check_network
from realtime.face.wire_format import BadMessage
from tests.conftest import ROOT

ADA = ROOT / "avatars" / "ada" / "targets"
Change = Callable[[ModelProto], object]


def path_of(network: Network) -> Path:
    return ADA / ("baked" if network is contract.COEFFICIENTS else "onnx") / f"{network.name}.onnx"


@pytest.fixture(scope="module")
def data(ada: Path) -> bytes:
    """A small network that export wrote."""
    return path_of(contract.COEFFICIENTS).read_bytes()


def changed(data: bytes, change: Change) -> bytes:
    model = onnx.load_from_string(data)
    change(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def first(model: ModelProto, *nodes: onnx.NodeProto, constants: dict[str, list[int]] | None = None) -> None:
    """Puts nodes before all others."""
    for name, values in (constants or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    rest = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(rest)


# What export writes


@pytest.mark.parametrize("network", contract.NETWORKS, ids=lambda network: network.name)
def test_what_ships_passes_with_the_shapes_that_it_makes(ada: Path, network: Network) -> None:
    """The slow twin runs it."""
    engine = Engine(path_of(network), network)
    inputs = []
    for found, tensor in zip(engine.session.get_inputs(), network.inputs, strict=True):
        free = FREE_EXTENTS.get(tensor.name, FREE_EXTENT)
        inputs.append(np.zeros([e if isinstance(e, int) else free for e in found.shape], np.float32))
    made = engine.run(*inputs)
    assert engine.output_shapes == {t.name: m.shape for t, m in zip(network.outputs, made, strict=True)}


@pytest.mark.parametrize("network", contract.PLAN_NETWORKS, ids=lambda network: network.name)
def test_what_plans_are_built_from_passes(ada: Path, network: Network) -> None:
    data = (ADA / "tensorrt" / f"{network.name}.onnx").read_bytes()
    assert set(check_network(data, network)) == {tensor.name for tensor in network.outputs}


# What nobody exports


def body(inputs: list[onnx.ValueInfoProto]) -> onnx.GraphProto:
    go_on = helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])
    return helper.make_graph([helper.make_node("Identity", ["condition"], ["go_on"])], "body", inputs, [go_on])


def endless_loop(model: ModelProto) -> None:
    values = [("step", TensorProto.INT64), ("condition", TensorProto.BOOL)]
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in values]
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    first(model, helper.make_node("Loop", ["", "always"], [], body=body(inputs)))


def branches(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    first(model, helper.make_node("If", ["condition"], ["x"], then_branch=body([]), else_branch=body([])))


def hidden_graph(model: ModelProto) -> None:
    """In an attribute of an operator that export does write."""
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.attribute.append(helper.make_attribute("body", body([])))


def constant_of_shape(model: ModelProto) -> None:
    node = helper.make_node("ConstantOfShape", ["many"], ["x"])
    first(model, node, constants={"many": [60_000, 60_000]})


def expand(model: ModelProto) -> None:
    first(model, helper.make_node("Expand", ["one", "many"], ["x"]), constants={"one": [1], "many": [60_000, 60_000]})


def expand_by_joined_shapes(model: ModelProto) -> None:
    nodes = [
        helper.make_node("Concat", ["many"] * 2, ["shape"], axis=0),
        helper.make_node("Expand", ["one", "shape"], ["x"]),
    ]
    first(model, *nodes, constants={"one": [1], "many": [60_000]})


def long_range(model: ModelProto) -> None:
    node = helper.make_node("Range", ["zero", "end", "step"], ["x"])
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.0, np.float32), "zero"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1.0, np.float32), "end"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1e-12, np.float32), "step"))
    first(model, node)


def doubled(model: ModelProto) -> None:
    """Each node makes twice what it is given."""
    names = ["latent", *(f"twice{i}" for i in range(40))]
    first(model, *(helper.make_node("Concat", [a, a], [b], axis=0) for a, b in zip(names[:-1], names[1:], strict=True)))


def squared(model: ModelProto) -> None:
    """A column and a row make a square."""
    nodes = [
        helper.make_node("Concat", ["latent"] * 300, ["long"], axis=1),
        helper.make_node("Reshape", ["long", "column"], ["tall"], allowzero=0),
        helper.make_node("Reshape", ["long", "row"], ["wide"], allowzero=0),
        helper.make_node("MatMul", ["tall", "wide"], ["x"]),
    ]
    first(model, *nodes, constants={"column": [-1, 1], "row": [1, -1]})


def resized(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1e6, 1e6], np.float32), "scales"))
    first(model, helper.make_node("Resize", ["latent", "", "scales"], ["x"], mode="nearest"))


def padded(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 1), np.float32), "kernel"))
    nodes = [
        helper.make_node("Reshape", ["latent", "shape"], ["signal"], allowzero=0),
        helper.make_node("Conv", ["signal", "kernel"], ["x"], pads=[1 << 40, 1 << 40]),
    ]
    first(model, *nodes, constants={"shape": [-1, 1, 64]})


def unknown_shape(model: ModelProto) -> None:
    """Whatever the input's values say."""
    nodes = [
        helper.make_node("Cast", ["latent"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "flat"], ["shape"], allowzero=0),
        helper.make_node("Expand", ["flat", "shape"], ["x"]),
    ]
    first(model, *nodes, constants={"flat": [-1]})


def text_cast(model: ModelProto) -> None:
    first(model, helper.make_node("Cast", ["latent"], ["x"], to=TensorProto.STRING))


def foreign_operator(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    first(model, helper.make_node("Relu", ["latent"], ["x"], domain="com.example"))


def operator_of_the_runtime(model: ModelProto) -> None:
    first(model, helper.make_node("FusedMatMul", ["latent", "latent"], ["x"], domain="com.microsoft"))


def functions(model: ModelProto) -> None:
    relu = helper.make_node("Relu", ["a"], ["b"])
    model.functions.append(helper.make_function("", "Relu", ["a"], ["b"], [relu], [helper.make_opsetid("", 20)]))


def external_data(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def sparse(model: ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 40]))


def lying_tensor(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 1 << 23


def huge_tensor(model: ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1 << 62, 4]


def negative_tensor(model: ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [-1, -8]


def text_tensor(model: ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="t", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"]))


def cycle(model: ModelProto) -> None:
    nodes = [helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    first(model, *nodes)


def made_twice(model: ModelProto) -> None:
    first(model, *[helper.make_node("Relu", ["latent"], ["x"])] * 2)


def many_nodes(model: ModelProto) -> None:
    first(model, *(helper.make_node("Relu", ["latent"], [f"x{i}"]) for i in range(2000)))


def other_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 65


def second_input(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def no_output(model: ModelProto) -> None:
    for node in model.graph.node:
        node.output[:] = [name.replace("color", "colour") for name in node.output]


def old_operators(model: ModelProto) -> None:
    model.opset_import[0].version = 7


HOSTILE = [
    *(endless_loop, branches, hidden_graph, constant_of_shape, expand, expand_by_joined_shapes, long_range, doubled),
    *(squared, resized, padded, unknown_shape, text_cast, foreign_operator, operator_of_the_runtime, functions),
    *(external_data, sparse, lying_tensor, huge_tensor, negative_tensor, text_tensor, cycle, made_twice, many_nodes),
    *(other_input, second_input, no_output, old_operators),
]


@pytest.mark.parametrize("change", HOSTILE)
def test_hostile_networks_are_refused_before_they_run(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    """An endless Loop hung the start, and one ConstantOfShape took 13.6 GB."""
    monkeypatch.setattr("onnxruntime.InferenceSession", None)  # it must not be asked
    path = tmp_path / "coefficients.onnx"
    path.write_bytes(changed(data, change))
    with pytest.raises(MiravoxError) as caught:
        Engine(path, contract.COEFFICIENTS)
    assert caught.value.thing == str(path) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_every_attribute_that_is_no_number_text_or_tensor_is_refused(data: bytes) -> None:
    for kind in ("GRAPHS", "TENSORS", "STRINGS", "SPARSE_TENSOR", "TYPE_PROTO"):

        def change(model: ModelProto, kind: str = kind) -> None:
            model.graph.node[0].attribute.add(name="a", type=AttributeProto.AttributeType.Value(kind))

        with pytest.raises(BadMessage):
            check_network(changed(data, change), contract.COEFFICIENTS)


def test_a_file_joined_to_itself_is_refused(data: bytes) -> None:
    """Readers of protocol buffers merge the two graphs."""
    with pytest.raises(BadMessage, match="twice"):
        check_network(data + data, contract.COEFFICIENTS)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(MiravoxError, match="No such file"):
        Engine(tmp_path / "none.onnx", contract.COEFFICIENTS)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_in_words(draw: st.DataObject) -> None:
    """Bytes changed, cut out or put in, mostly where the graph is described, not in the weights."""
    data = bytearray(path_of(contract.COEFFICIENTS).read_bytes())
    for _ in range(draw.draw(st.integers(1, 4))):
        from_end = draw.draw(st.booleans())
        at = draw.draw(st.integers(0, 2500))
        at = len(data) - 1 - at if from_end else at
        junk = draw.draw(st.binary(min_size=0, max_size=6))
        data[at : at + draw.draw(st.integers(0, 6))] = junk
    try:
        shapes = check_network(bytes(data), contract.COEFFICIENTS)
    except BadMessage as refused:
        assert str(refused).isprintable()
    else:
        assert set(shapes) == {"displacement", "color"}
