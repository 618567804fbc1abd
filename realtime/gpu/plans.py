"""Plans: what TensorRT builds of an avatar's ONNX files for one GPU. No torch import.

TensorRT reports most failures by returning False or None: every such value is checked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MiravoxError
from .cache import keep, kept
from .profiles import Profile
from .tensorrt_module import RTX, complaints, logger, refusal, rtx_target

if TYPE_CHECKING:
    import tensorrt


def read_network(path: Path) -> bytes:
    """An ONNX file. Raises MiravoxError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MiravoxError(
            str(path),
            found=error.strerror or str(error),
            wanted="a file that can be read",
            remedy="Export the avatar with `python -m export AVATAR --target tensorrt`.",
        ) from error


def build(
    trt: Any,
    onnx_path: Path,
    profile: Profile,
    timing_cache: Path | None = None,
    progress: Callable[[float], None] | None = None,
    compute_capability: int | None = None,
) -> bytes:
    """The plan of one ONNX file, for the current GPU.

    Args:
        trt: from `load_tensorrt`.
        profile: of every input with a free extent; empty if there is none.
        timing_cache: is read if it is there, and written anew: what was measured for one network helps the next.
        progress: is told the share that is done, 0 to 1, from any thread.
        compute_capability: of the GPU, 89 for 8.9, for TensorRT-RTX, which builds without looking at it: by default
            for several, and for none before 8.0.

    Raises MiravoxError with TensorRT's reasons if the file or the profile cannot be built.
    """
    model = read_network(onnx_path)
    log = logger(trt)
    log.messages.clear()
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # the constructor gave nothing: no driver or no device
        remedy = "See that `nvidia-smi` works."
        raise refusal(trt, str(onnx_path), "no builder", "a GPU and its driver", remedy) from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        reasons = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise MiravoxError(
            str(onnx_path),
            found="; ".join(reasons) or complaints(trt),
            wanted="a network that TensorRT can parse",
            remedy="Export the avatar again with `python -m export AVATAR --target tensorrt`, or update TensorRT.",
        )
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # what the network keeps in float32 shall be float32
    # TensorRT-RTX may else allocate while a plan runs, which a CUDA graph cannot record; TensorRT has no such flag.
    user_allocation = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if user_allocation is not None:
        config.set_flag(user_allocation)
    target = None if compute_capability is None else rtx_target(trt, compute_capability)
    if target is not None:
        for_rtx: Any = config  # TensorRT's own has no such attributes
        for_rtx.num_compute_capabilities = 1
        for_rtx.set_compute_capability(target, 0)
    if profile:
        _set_profile(trt, onnx_path, builder, config, profile)
    timings = timing_cache if trt.__name__ != RTX else None  # RTX measures nothing
    if timings:
        _use_timings(config, timings)
    monitor = _monitor(trt, progress) if progress else None
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        remedy = "Mend what it says, or update TensorRT."
        raise refusal(trt, str(onnx_path), "a build that failed", "a plan", remedy)
    if timings:
        measured = config.get_timing_cache()
        data = None if measured is None else measured.serialize()
        if data is not None:
            keep(timings, bytes(data))
    if progress:
        progress(1.0)
    return bytes(plan)


def _set_profile(
    trt: Any, path: Path, builder: tensorrt.Builder, config: tensorrt.IBuilderConfig, profile: Profile
) -> None:
    shapes = builder.create_optimization_profile()
    wanted = "smallest, usual and largest shapes in that order for the network's inputs"
    remedy = "Give every input with a free extent such a profile."
    for name, triple in profile.items():
        try:
            smallest, usual, largest = (trt.Dims(shape) for shape in triple)
            shapes.set_shape(name, smallest, usual, largest)
        except ValueError as error:
            found = f"the profile {triple} of {name}: {error}"
            raise refusal(trt, str(path), found, wanted, remedy) from error
    if config.add_optimization_profile(shapes) < 0:
        raise refusal(trt, str(path), f"the profile {profile}", wanted, remedy)


def _use_timings(config: tensorrt.IBuilderConfig, path: Path) -> None:
    """Measurements kept in `path`, or none if they are of another version or GPU."""
    for data in (kept(path) or b"", b""):
        timings = config.create_timing_cache(data)
        if timings is not None and config.set_timing_cache(timings, False):
            return
    raise MiravoxError(
        str(path),
        found="a timing cache that TensorRT refuses, even an empty one",
        wanted="one that it takes",
        remedy="Update TensorRT.",
    )


def _monitor(trt: Any, progress: Callable[[float], None]) -> Any:
    """Tells `progress` the share that is done: TensorRT's phases are nested, each of so many steps."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.lock = threading.Lock()  # TensorRT calls from several threads
            self.phases: dict[str, tuple[str | None, int, int]] = {}  # name: parent, steps done, steps
            self.told = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self.lock:
                self.phases[phase_name] = (parent_phase, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self.lock:
                if phase_name in self.phases:
                    parent, _, steps = self.phases[phase_name]
                    self.phases[phase_name] = (parent, step + 1, steps)
                self.told = max(self.told, *(self.share(n) for n, (p, _, _) in self.phases.items() if not p), 0.0)
                progress(self.told)
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            with self.lock:
                self.phases.pop(phase_name, None)

        def share(self, name: str) -> float:
            _, done, steps = self.phases[name]
            under = sum(self.share(n) for n, (parent, _, _) in self.phases.items() if parent == name)
            return min(1.0, (done + min(1.0, under)) / max(1, steps))

    return Monitor()
