"""ONNX against torch in float64, network by network, on identical inputs.

    python -m export.parity avatars/ada

Prints a table, and exits with 1 if a network differs by more than 1e-4.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from export.onnx import example_inputs
from export.weights import load_networks
from realtime import contract
from realtime.contract import Network
from realtime.face.engine import Engine

TOLERANCE = 1e-4
POINTS = 500  # rows where the contract leaves the extent free


@dataclass(frozen=True)
class Difference:
    """Largest absolute difference of one output."""

    network: str
    output: str
    difference: float

    @property
    def fits(self) -> bool:
        return self.difference <= TOLERANCE


def compare(module: nn.Module, network: Network, path: Path, side: int, seed: int = 0) -> list[Difference]:
    """Runs both on the same random inputs within the contract's ranges."""
    if network is contract.COMPOSITION:
        inputs: tuple[torch.Tensor, ...] = (
            torch.rand(1, 6, side, side, generator=torch.Generator().manual_seed(seed)),
        )
    else:
        inputs = example_inputs(network, seed, POINTS if network.inputs[0].shape[0] == contract.ANY else None)
    with torch.no_grad():
        wanted = module.double().eval()(*(x.double() for x in inputs))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    found = Engine(path, network).run(*(x.numpy() for x in inputs))
    return [
        Difference(network.name, tensor.name, float(np.abs(f - w.numpy()).max()))
        for tensor, f, w in zip(network.outputs, found, wanted, strict=True)
    ]


def check_avatar(folder: Path) -> list[Difference]:
    """Compares every ONNX file of an avatar folder with the reference weights of its networks.safetensors."""
    networks, side = load_networks(folder)
    differences = []
    for network in contract.NETWORKS:
        where = "baked" if network is contract.COEFFICIENTS else "onnx"
        path = folder / "targets" / where / f"{network.name}.onnx"
        differences += compare(networks[network.name], network, path, side)
    return differences


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export.parity", description="Compares ONNX with torch float64.")
    parser.add_argument("avatar", type=Path)
    differences = check_avatar(parser.parse_args().avatar)
    print(f"{'network':16}{'output':14}{'largest difference':>20}   limit {TOLERANCE:g}")
    for d in differences:
        print(f"{d.network:16}{d.output:14}{d.difference:20.2e}   {'ok' if d.fits else 'DIFFERS'}")
    raise SystemExit(0 if all(d.fits for d in differences) else 1)


if __name__ == "__main__":
    main()
