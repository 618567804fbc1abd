"""What an NVIDIA GPU makes of the target tensorrt: a self-test that gives full evidence in ten minutes.

    python -m bench gpu --json F [--frames 10000]       on a machine with the GPU
    python -m bench gpu --json F --engines torch        the same without TensorRT: torch runs the networks
    python -m bench gpu --budget                        on any: what a frame costs on paper

Every check says passed, failed or not run, and why; what cannot run on this machine is never called passed. It ends
with exit code 1 if a check failed.
"""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict

from bench import gpu_checks
from bench.gpu_budget import budget, budget_table
from bench.gpu_checks import FAILED, NOT_RUN, Check, Figures, Open
from realtime.avatar import Avatar, load_avatar
from realtime.errors import MiravoxError
from realtime.gpu.opened_gpu import open_gpu

CHECKS = ("device", "interop", "kernels", "engines", "golden", "stages", "memory", "handover", "nvenc")


def self_test(avatar: Avatar, open_: Open, frames: int, only: Sequence[str] = CHECKS) -> dict[str, Check]:
    """The checks that are named in `only`; none runs if the GPU cannot be opened.

    `frames`: over how many memory must stay flat.
    """
    checks: dict[str, Callable[[], Check]] = {
        "device": lambda: gpu_checks.check_device(open_),
        "interop": lambda: gpu_checks.check_interop(open_),
        "kernels": lambda: gpu_checks.check_kernels(avatar, open_),
        "engines": lambda: gpu_checks.check_engines(avatar, open_),
        "golden": lambda: gpu_checks.check_golden(avatar, open_),
        "stages": lambda: gpu_checks.check_stages(avatar, open_),
        "memory": lambda: gpu_checks.check_memory(avatar, open_, frames),
        "handover": lambda: gpu_checks.check_handover(avatar, open_),
        "nvenc": lambda: gpu_checks.check_nvenc(avatar, open_),
    }
    try:
        gpu = open_()
    except MiravoxError as error:
        return dict.fromkeys(only, Check(NOT_RUN, str(error)))
    gpu.cuda.close()
    return {name: _run(checks[name]) for name in only}


def _run(run: Callable[[], Check]) -> Check:
    try:
        return run()
    except Exception as error:  # noqa: BLE001  whatever it is, it is the check's result, and the others go on
        traceback.print_exc()
        return Check(FAILED, f"{type(error).__name__}: {error}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=10_000, help="over which memory must stay flat")
    parser.add_argument("--engines", choices=("tensorrt", "torch"), default="tensorrt", help="what runs the networks")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), help="checks to run")
    parser.add_argument("--budget", action="store_true", help="print what a frame costs on paper, and stop")
    parser.add_argument("--size", type=int, default=512, help="of the frame that --budget is for")


def run(o: argparse.Namespace) -> Figures:
    avatar = load_avatar(o.avatar)
    if o.budget:
        print(budget_table(avatar, o.size))
        return {"budget": budget(avatar, o.size)}
    checks = self_test(avatar, opener(o.engines), o.frames, o.only)
    for name, result in checks.items():
        print(f"{name:10}{result.status:9}{result.why}")
    return {"engines": o.engines, "checks": {name: asdict(result) for name, result in checks.items()}}


def opener(engines: str) -> Open:
    """How the GPU is opened for networks that are run by "tensorrt" or by "torch"."""
    if engines == "tensorrt":
        return open_gpu
    from bench.torch_engines import TorchEngines  # torch is not there where only the program is installed

    trt = TorchEngines()
    return lambda: open_gpu(trt=trt, plans=trt.plans)


def failed(result: Figures) -> bool:
    """Whether a check failed: the command's exit code."""
    return any(c["status"] == FAILED for c in result.get("checks", {}).values())
