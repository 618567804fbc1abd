"""Engine: one network's ONNX file on the CPU by ONNX Runtime, which is given nothing but what export writes.

The one module of the live path that imports onnxruntime. Its Linux builds report to their maker unless they are told
not to before they are imported, and Miravox contacts nothing that its user did not name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..arrays import FloatArray
from ..contract import Network, Tensor, check_shape
from ..errors import MiravoxError
from .network_check import REMEDY, read_network

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime


def check_inputs(network: Network, inputs: tuple[NDArray[Any], ...]) -> None:
    """Raises ValueError unless arrays have the types and shapes of a network's inputs, in their order."""
    for tensor, array in zip(network.inputs, inputs, strict=True):
        if array.dtype != tensor.dtype or not check_shape(tensor, array.shape):
            raise ValueError(
                f"{network.name}.{tensor.name}: {array.dtype} {list(array.shape)}; "
                f"wanted {tensor.dtype} {list(tensor.shape)}"
            )


class Engine:
    """One network, which many threads may run at once. `threads` is how many cores a call may use."""

    def __init__(self, path: Path, network: Network, threads: int = 1) -> None:
        """Raises MiravoxError if the file is not that network, or not made of what export writes."""
        self.path, self.network = path, network
        model, self.output_shapes = read_network(path, network)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A waiting thread that spins takes a core from the encoder and from OpenGL.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no public base class for what it raises
            raise MiravoxError(
                str(path),
                found=f"a file that ONNX Runtime refuses ({str(error)[:120]})",
                wanted=f"the {network.name} network",
                remedy=REMEDY,
            ) from error
        self._check("input", self.session.get_inputs(), network.inputs)
        self._check("output", self.session.get_outputs(), network.outputs)
        self.output_names = [t.name for t in network.outputs]

    def _check(self, kind: str, found: list[Any], wanted: tuple[Tensor, ...]) -> None:
        """Names, types and shapes as the contract has them; an extent that is fixed in the file may be free in the
        contract.
        """
        described = [f"{t.name} {t.type} {list(t.shape)}" for t in found]
        fits = len(found) == len(wanted) and all(
            f.name == w.name
            and f.type == "tensor(float)"
            and len(f.shape) == len(w.shape)
            and all(not isinstance(e, int) or want in (-1, e) for e, want in zip(f.shape, w.shape, strict=True))
            for f, w in zip(found, wanted, strict=False)
        )
        if not fits:
            raise MiravoxError(
                str(self.path),
                found=f"{kind}s {described}",
                wanted=f"{[(w.name, list(w.shape)) for w in wanted]}",
                remedy=REMEDY,
            )

    def run(self, *inputs: FloatArray) -> tuple[FloatArray, ...]:
        """Runs the network on float32 arrays in the contract's order; returns its outputs in that order."""
        check_inputs(self.network, inputs)
        feed = {tensor.name: array for tensor, array in zip(self.network.inputs, inputs, strict=True)}
        return tuple(self.session.run(self.output_names, feed))
