"""Networks -> ONNX files (dynamo exporter, opset 20), weights stored in float16, cast when the session opens."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from realtime import contract
from realtime.contract import ANY, Network
from realtime.whole_file import replacing

OPSET = 20
SMALL = 64  # initialisers with fewer values stay float32: constants of shapes and the like
EXAMPLE = 3  # of a free extent, when the exporter traces
COMPOSITION_EXAMPLE = 64  # pixels


def example_inputs(network: Network, seed: int = 0, free: int | None = None) -> tuple[torch.Tensor, ...]:
    """Random float32 inputs within the contract's ranges; free extents become `free`."""
    rng = np.random.default_rng(seed)
    values = []
    for tensor in network.inputs:
        extent = free or EXAMPLE
        shape = [extent if e == ANY else e for e in tensor.shape]
        if network is contract.COMPOSITION:
            shape = [1, 6, COMPOSITION_EXAMPLE, COMPOSITION_EXAMPLE]
        low = -1.0 if tensor.low is None else tensor.low
        high = 1.0 if tensor.high is None else tensor.high
        values.append(torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32)))
    return tuple(values)


def export_onnx(module: nn.Module, network: Network, path: Path, fixed_extent: int | None = None) -> None:
    """Writes one network.

    Args:
        fixed_extent: side of the square that the composition network takes; its batch is 1.
    """
    module = module.eval().float()
    inputs = example_inputs(network)
    dynamic: tuple[dict[int, object], ...] | None
    if network is contract.COMPOSITION:
        assert fixed_extent is not None
        inputs, dynamic = (torch.rand(1, 6, fixed_extent, fixed_extent),), None
    else:
        dynamic = tuple(
            {i: torch.export.Dim.DYNAMIC for i, e in enumerate(t.shape) if e == ANY} for t in network.inputs
        )
    write_onnx(module, inputs, dynamic, network, path)


def write_onnx(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    dynamic: tuple[dict[int, object], ...] | None,
    network: Network,
    path: Path,
    optimize: bool = False,
) -> None:
    """Exports the module as it is, traced on `inputs`; `dynamic` names the axes of each that stay free.

    Args:
        optimize: what is computed from constants alone becomes a constant.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=dynamic,
            optimize=optimize,
            verbose=False,
            input_names=[t.name for t in network.inputs],
            output_names=[t.name for t in network.outputs],
        )
    assert program is not None
    model = program.model_proto
    halve_weights(model)
    strip_traces(model)
    onnx.checker.check_model(model)
    with replacing(path) as partial:
        onnx.save(model, partial)


def strip_traces(model: onnx.ModelProto) -> None:
    """Removes what the exporter notes of its own run: stack traces with the paths of the machine that it ran on."""
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""


def halve_weights(model: onnx.ModelProto) -> None:
    """Stores float32 initialisers as float16 with a Cast behind each, which the session folds away when it opens.

    Exact when the weights are float16 numbers already, as the shipped ones are.
    """
    casts = []
    for initialiser in list(model.graph.initializer):
        values = numpy_helper.to_array(initialiser)
        if values.dtype != np.float32 or values.size < SMALL:
            continue
        name = initialiser.name
        halved = numpy_helper.from_array(values.astype(np.float16), f"{name}.float16")
        model.graph.initializer.remove(initialiser)
        model.graph.initializer.append(halved)
        casts.append(helper.make_node("Cast", [halved.name], [name], f"{name}.cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for info in list(model.graph.value_info):  # the exporter lists initialisers there too
        if any(info.name == cast.output[0] for cast in casts):
            model.graph.value_info.remove(info)
