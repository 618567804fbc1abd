"""ONNX says what torch says in float64, and a difference is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from realtime import contract

pytestmark = pytest.mark.usefixtures("torch")


def rounded(module: Any) -> Any:
    """The module with float16 numbers as weights, as they ship."""
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.half().float()
    return module.eval()


def test_onnx_agrees_with_torch_float64(torch: Any, tmp_path: Path) -> None:
    """Network by network, with the free extents at another size than the exporter saw, and L = 16 in the colour
    network.
    """
    from export.coefficients import Coefficients
    from export.onnx import export_onnx
    from export.parity import TOLERANCE, compare
    from networks.color import Color
    from networks.composition import STRIDED16, Composition

    torch.manual_seed(1)
    made: dict[str, tuple[contract.Network, Any]] = {
        contract.COLOR.name: (contract.COLOR, Color()),
        contract.COMPOSITION.name: (contract.COMPOSITION, Composition(STRIDED16)),
        contract.COEFFICIENTS.name: (contract.COEFFICIENTS, Coefficients(4, 6)),
    }
    torch.nn.init.normal_(made["composition"][1].decoder[-1].weight, std=0.1)  # it starts as the identity otherwise
    for name, (network, module) in made.items():
        path = tmp_path / f"{name}.onnx"
        export_onnx(rounded(module), network, path, 64)
        for difference in compare(module, network, path, 64):
            assert difference.fits, difference
    assert TOLERANCE == 1e-4


def test_parity_sees_a_difference(torch: Any, tmp_path: Path) -> None:
    from export.coefficients import Coefficients
    from export.onnx import export_onnx
    from export.parity import compare

    module = rounded(Coefficients(4, 6))
    export_onnx(module, contract.COEFFICIENTS, tmp_path / "c.onnx")
    module.color.bias.data += 0.01
    assert [d.fits for d in compare(module, contract.COEFFICIENTS, tmp_path / "c.onnx", 64)] == [True, False]


def test_adas_networks_agree_with_her_reference_weights(ada: Path) -> None:
    from export.parity import check_avatar

    differences = check_avatar(ada)
    assert {d.network for d in differences} == {n.name for n in contract.NETWORKS}
    assert all(d.fits for d in differences), [d for d in differences if not d.fits]
