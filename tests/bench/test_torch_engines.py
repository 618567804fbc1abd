"""Torch in TensorRT's place: each network gives what its exported file gives, through the engine that runs plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.gpu_checks import NETWORK_TOLERANCE, differences, random_inputs
from realtime.avatar import load_avatar
from realtime.contract import PLAN_NETWORKS, Network
from realtime.gpu.plan_engine import PlanEngine

STREAM = 7


class HostMemory:
    """What PlanEngine needs of Cuda (realtime/gpu/cuda.py), where "the device" is the host."""

    name = "host"

    def __init__(self) -> None:
        self.arrays: dict[int, NDArray[np.uint8]] = {}

    def allocate(self, nbytes: int) -> int:
        array = self.pinned(nbytes)
        self.arrays[array.ctypes.data] = array
        return array.ctypes.data

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        return np.full(nbytes, 255, np.uint8)  # not a number, in float16 and float32

    def free(self, pointer: int) -> None:
        del self.arrays[pointer]

    def free_pinned(self, array: NDArray[Any]) -> None:
        pass

    def upload(self, to: int, array: NDArray[Any], stream: int) -> None:
        self.arrays[to][:] = array.reshape(-1).view(np.uint8)

    def download(self, array: NDArray[Any], from_: int, stream: int) -> None:
        array.reshape(-1).view(np.uint8)[:] = self.arrays[from_]

    def synchronize(self, stream: int) -> None:
        assert stream == STREAM


@pytest.mark.parametrize("network", PLAN_NETWORKS, ids=lambda network: network.name)
def test_each_network_gives_what_its_file_gives(ada: Path, torch: Any, network: Network) -> None:
    from bench.torch_engines import TorchEngines

    avatar, memory, trt = load_avatar(ada), HostMemory(), TorchEngines(on_gpu=False)
    plan = trt.plans(avatar, avatar.width)[network.name]
    engine = PlanEngine(plan, network, trt, memory, STREAM, network.name)  # type: ignore[arg-type]
    inputs = random_inputs(avatar, network, np.random.default_rng(3))
    assert differences(avatar, network, inputs, engine.run(*inputs)) < NETWORK_TOLERANCE / 4
    engine.close()
    assert not memory.arrays
