"""Plans that were built before, in the user's cache: found, made when they are missing, and kept whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..avatar import Avatar
from ..contract import PLAN_NETWORKS
from ..face.network_check import read_network as check_network_file
from .cache import check_writable, keep, kept, plan_folder
from .cuda import Cuda
from .plans import build, read_network
from .profiles import Profile, profiles
from .tensorrt_module import logger, refusal


@dataclass(frozen=True)
class GpuModel:
    """What a plan depends on besides the network and TensorRT."""

    name: str
    compute_capability: int  # 89 is 8.9
    driver_version: int  # as cudaDriverGetVersion says it: 13000 is 13.0

    @classmethod
    def of(cls, cuda: Cuda) -> GpuModel:
        return cls(cuda.name, cuda.compute_capability, cuda.driver_version)


def current_gpu_model() -> GpuModel:
    """The GPU that this process would use.

    Raises MiravoxError if there is none, or no driver.
    """
    cuda = Cuda()
    try:
        return GpuModel.of(cuda)
    finally:
        cuda.close()


def avatar_plans(trt: Any, avatar: Avatar, gpu: GpuModel, size: int) -> dict[str, bytes]:
    """The plans of all networks of an avatar for frames of `size` x `size` pixels, by name, from the cache if there.

    Raises MiravoxError as `cached_plan`, or if the avatar is not exported for TensorRT.
    """
    wanted = profiles(avatar, size)
    paths = {network: avatar.file(f"targets/tensorrt/{network.name}.onnx") for network in PLAN_NETWORKS}
    for network, path in paths.items():  # TensorRT's parser is not made for files of strangers
        check_network_file(path, network)
    return {network.name: cached_plan(trt, path, wanted[network.name], gpu) for network, path in paths.items()}


def cached_plan(
    trt: Any, onnx_path: Path, profile: Profile, gpu: GpuModel, progress: Callable[[float], None] | None = None
) -> bytes:
    """The plan from the user's cache; built and kept there if it is not there, or does not load.

    Args:
        progress: as for `build`; by default a bar is drawn on stderr.

    Raises MiravoxError if it cannot be built, loaded or kept.
    """
    version = f"{trt.__name__} {trt.__version__}"
    folder = plan_folder()
    path = folder / f"{plan_key(hashlib.sha256(read_network(onnx_path)).hexdigest(), version, gpu, profile)}.plan"
    if (plan := kept(path)) is not None and loads(trt, plan):
        return plan
    check_writable(folder)  # before minutes go into a plan that cannot be kept
    of_gpu = hashlib.sha256(json.dumps([version, asdict(gpu)]).encode()).hexdigest()[:32]
    timings = folder / f"{of_gpu}.timings"
    if progress:
        plan = build(trt, onnx_path, profile, timings, progress, gpu.compute_capability)
    else:
        with tqdm(total=100, desc=f"plan of {onnx_path.stem}", unit="%", bar_format="{l_bar}{bar}| {elapsed}") as bar:
            plan = build(trt, onnx_path, profile, timings, lambda share: _show(bar, share), gpu.compute_capability)
    if not loads(trt, plan):
        found, wanted = "a new plan that does not load", f"one for {gpu.name}"
        raise refusal(trt, str(onnx_path), found, wanted, "Update TensorRT and the driver.")
    keep(path, plan)
    return plan


def plan_key(model_hash: str, tensorrt: str, gpu: GpuModel, profile: Profile) -> str:
    """What a plan is kept under: it fits nothing that differs in any of these.

    Args:
        model_hash: SHA-256 of the ONNX file.
        tensorrt: name and version of the module.
    """
    parts = {"model": model_hash, "tensorrt": tensorrt, "gpu": asdict(gpu), "profile": profile}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def loads(trt: Any, plan: bytes) -> bool:
    """Whether this TensorRT on this GPU takes the plan."""
    runtime = trt.Runtime(logger(trt))
    return runtime.deserialize_cuda_engine(plan) is not None


def _show(bar: Any, share: float) -> None:
    bar.n = round(100 * share)
    bar.refresh()
