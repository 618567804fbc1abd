"""Plans: what TensorRT builds of an avatar's ONNX files for one GPU, kept in the user's cache. No torch import.

TensorRT 10, 11 and TensorRT-RTX (`tensorrt_rtx`, for GeForce and RTX cards) will do; only names that all three have are
used. TensorRT reports most failures by returning False or None: every such value is checked.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from networks.contract import PLAN_NETWORKS, encoded_width
from realtime.avatar import Avatar
from realtime.errors import MiravoxError
from realtime.inpaint_boxes import InpaintBoxes

if TYPE_CHECKING:
    import tensorrt

Profile = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]  # input: smallest, usual, largest shape

RTX = "tensorrt_rtx"
NAMES = ("tensorrt", RTX)
INSTALL = (
    "Install it from the clone: `pip install -e .[tensorrt] --extra-index-url https://pypi.nvidia.com`, or for GeForce "
    "and RTX cards `pip install -e .[rtx]`; or choose another --target."
)
NEWEST_RTX = 121  # the compute capability up to which TensorRT-RTX names those that it builds for
SMALLEST_BUCKET = 4096  # points
KEPT_MESSAGES = 200
PLAN_BYTES = 20e6  # about what the plan of the largest network needs


@dataclass(frozen=True)
class Gpu:
    """What a plan depends on besides the network and TensorRT."""

    name: str
    compute_capability: int  # 89 is 8.9
    driver_version: int  # as cudaDriverGetVersion says it: 13000 is 13.0


def current_gpu() -> Gpu:
    """The GPU that this process would use.

    Raises MiravoxError if there is none, or no driver.
    """
    from realtime.gl_cuda import Cuda

    cuda = Cuda()
    try:
        return Gpu(cuda.name, cuda.compute_capability, cuda.driver_version)
    finally:
        cuda.close()


def load_tensorrt() -> ModuleType:
    """The module `tensorrt`, or else `tensorrt_rtx`.

    Raises MiravoxError if neither is here.
    """
    reasons = []
    for name in NAMES:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: a library that the module opens is missing
            reasons.append(str(error))
    raise MiravoxError(
        "TensorRT", found="; ".join(reasons), wanted=f"the module {' or '.join(NAMES)}", remedy=INSTALL
    )  # fmt: skip


@cache
def logger(trt: Any) -> Any:
    """The logger of this process; its `messages` are the latest errors and warnings, as (severity, text).

    TensorRT ignores every logger but the first for as long as anything made with that one lives, and uses it on: all
    must share this one.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: deque[tuple[int, str]] = deque(maxlen=KEPT_MESSAGES)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.WARNING):  # what it did well fills pages
                self.messages.append((int(severity), message))

    return Log()


def complaints(trt: Any) -> str:
    """The errors among the logger's messages, the warnings if there is none, or words that say so."""
    messages = list(logger(trt).messages)
    for severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.WARNING):
        if texts := [text for level, text in messages if level <= int(severity)]:
            return "; ".join(dict.fromkeys(texts))
    return "no reason given"


def buckets(box_area: int) -> tuple[int, ...]:
    """Counts of points that the colour network is run for: 4096, 6144, 8192, 12288, 16384, 24576, ... up to the first
    that holds every pixel of a box. A frame's points are filled up to one of them: a CUDA graph has fixed shapes.
    """
    counts = [SMALLEST_BUCKET]
    while counts[-1] < box_area:
        power = counts[-1] & (counts[-1] - 1) == 0
        counts.append(counts[-1] // 2 * 3 if power else counts[-1] // 3 * 4)
    return tuple(counts)


def bucket_of(count: int, sizes: tuple[int, ...]) -> int:
    """The smallest bucket that holds `count` points."""
    return next(size for size in sizes if size >= count)


def profiles(avatar: Avatar, size: int) -> dict[str, Profile]:
    """Each network's profile for frames of `size` x `size` pixels; empty where all shapes are fixed in the file."""
    boxes = InpaintBoxes(avatar, size)
    sizes = buckets(boxes.box_size[0] * boxes.box_size[1])
    usual = bucket_of(int((boxes.mask(0) > 0).sum()), sizes)
    width, vertices = encoded_width(avatar.info["frequencies"]), len(avatar.template)
    some: dict[str, Profile] = {
        "deformation": {"points": ((vertices, 3), (vertices, 3), (vertices, 3))},
        "color": {"encoded": ((sizes[0], width), (usual, width), (sizes[-1], width))},
    }
    return {network.name: some.get(network.name, {}) for network in PLAN_NETWORKS}


def build(
    trt: Any, onnx_path: Path, profile: Profile, timing_cache: Path | None = None,
    progress: Callable[[float], None] | None = None, compute_capability: int | None = None,
) -> bytes:  # fmt: skip
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
    model = _read(onnx_path)
    log = logger(trt)
    log.messages.clear()
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # the constructor gave nothing: no driver or no device
        raise _failed(trt, onnx_path, "no builder", "a GPU and its driver", "See that `nvidia-smi` works.") from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        reasons = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise MiravoxError(
            str(onnx_path), found="; ".join(reasons) or complaints(trt), wanted="a network that TensorRT can parse",
            remedy="Export the avatar again with `python -m export AVATAR --target tensorrt`, or update TensorRT.",
        )  # fmt: skip
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
        raise _failed(trt, onnx_path, "a build that failed", "a plan", "Mend what it says, or update TensorRT.")
    if timings:
        measured = config.get_timing_cache()
        data = None if measured is None else measured.serialize()
        if data is not None:
            _write(timings, bytes(data))
    if progress:
        progress(1.0)
    return bytes(plan)


def _failed(trt: Any, path: Path, found: str, wanted: str, remedy: str) -> MiravoxError:
    return MiravoxError(str(path), found=f"{found} ({complaints(trt)})", wanted=wanted, remedy=remedy)


def rtx_target(trt: Any, compute_capability: int) -> Any:
    """What TensorRT-RTX calls a GPU of this compute capability (89 for 8.9); None for one that is newer than its names,
    and with TensorRT itself, which looks at the GPU.

    Raises MiravoxError for a GPU that it does not run on, such as an H100.
    """
    if trt.__name__ != RTX:
        return None
    kinds: Any = getattr(trt, "ComputeCapability", None)
    target = getattr(kinds, f"SM{compute_capability}", None)
    if target is None and compute_capability < NEWEST_RTX:
        raise MiravoxError(
            "TensorRT-RTX", found=f"a GPU of compute capability {compute_capability / 10}",
            wanted="a GeForce or RTX card", remedy=f"Install TensorRT itself instead. {INSTALL}",
        )  # fmt: skip
    return target


def _set_profile(
    trt: Any, path: Path, builder: tensorrt.Builder, config: tensorrt.IBuilderConfig, profile: Profile
) -> None:  # fmt: skip
    shapes = builder.create_optimization_profile()
    wanted = "smallest, usual and largest shapes in that order for the network's inputs"
    remedy = "Give every input with a free extent such a profile."
    for name, triple in profile.items():
        try:
            smallest, usual, largest = (trt.Dims(shape) for shape in triple)
            shapes.set_shape(name, smallest, usual, largest)
        except ValueError as error:
            found = f"the profile {triple} of {name}: {error}"
            raise _failed(trt, path, found, wanted, remedy) from error
    if config.add_optimization_profile(shapes) < 0:
        raise _failed(trt, path, f"the profile {profile}", wanted, remedy)


def _use_timings(config: tensorrt.IBuilderConfig, path: Path) -> None:
    """Measurements kept in `path`, or none if they are of another version or GPU."""
    kept = path.read_bytes() if path.is_file() else b""
    for data in (kept, b""):
        timings = config.create_timing_cache(data)
        if timings is not None and config.set_timing_cache(timings, False):
            return
    raise MiravoxError(
        str(path), found="a timing cache that TensorRT refuses, even an empty one", wanted="one that it takes",
        remedy="Update TensorRT.",
    )  # fmt: skip


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


def plan_key(model_hash: str, tensorrt: str, gpu: Gpu, profile: Profile) -> str:
    """What a plan is kept under: it fits nothing that differs in any of these.

    Args:
        model_hash: SHA-256 of the ONNX file.
        tensorrt: name and version of the module.
    """
    parts = {"model": model_hash, "tensorrt": tensorrt, "gpu": asdict(gpu), "profile": profile}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def cache_folder() -> Path:
    """The user's cache of Miravox: $XDG_CACHE_HOME/miravox, or ~/.cache/miravox."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / "miravox"


def plan_folder() -> Path:
    return cache_folder() / "plans"


def cached_plan(
    trt: Any, onnx_path: Path, profile: Profile, gpu: Gpu, progress: Callable[[float], None] | None = None
) -> bytes:  # fmt: skip
    """The plan from the user's cache; built and kept there if it is not there, or does not load.

    Args:
        progress: as for `build`; by default a bar is drawn on stderr.

    Raises MiravoxError if it cannot be built, loaded or kept.
    """
    version = f"{trt.__name__} {trt.__version__}"
    folder = plan_folder()
    path = folder / f"{plan_key(hashlib.sha256(_read(onnx_path)).hexdigest(), version, gpu, profile)}.plan"
    if path.is_file():
        plan = _read(path)
        if loads(trt, plan):
            return plan
    _check_writable(folder)  # before minutes go into a plan that cannot be kept
    of_gpu = hashlib.sha256(json.dumps([version, asdict(gpu)]).encode()).hexdigest()[:32]
    timings = folder / f"{of_gpu}.timings"
    if progress:
        plan = build(trt, onnx_path, profile, timings, progress, gpu.compute_capability)
    else:
        with tqdm(total=100, desc=f"plan of {onnx_path.stem}", unit="%", bar_format="{l_bar}{bar}| {elapsed}") as bar:
            plan = build(trt, onnx_path, profile, timings, lambda share: _show(bar, share), gpu.compute_capability)
    if not loads(trt, plan):
        raise _failed(
            trt, onnx_path, "a new plan that does not load", f"one for {gpu.name}", "Update TensorRT and the driver."
        )
    _write(path, plan)
    return plan


def avatar_plans(trt: Any, avatar: Avatar, gpu: Gpu, size: int) -> dict[str, bytes]:
    """The plans of all networks of an avatar for frames of `size` x `size` pixels, by name, from the cache if there.

    Raises MiravoxError as `cached_plan`, or if the avatar is not exported for TensorRT.
    """
    folder = avatar.folder / "targets" / "tensorrt"
    return {name: cached_plan(trt, folder / f"{name}.onnx", p, gpu) for name, p in profiles(avatar, size).items()}


def loads(trt: Any, plan: bytes) -> bool:
    """Whether this TensorRT on this GPU takes the plan."""
    runtime = trt.Runtime(logger(trt))
    return runtime.deserialize_cuda_engine(plan) is not None


def _show(bar: Any, share: float) -> None:
    bar.n = round(100 * share)
    bar.refresh()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MiravoxError(
            str(path), found=error.strerror or str(error), wanted="a file that can be read",
            remedy="Export the avatar with `python -m export AVATAR --target tensorrt`.",
        ) from error  # fmt: skip


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _cannot_keep(folder, error) from error


def _write(path: Path, data: bytes) -> None:
    """Writes the whole file or nothing, so that another process never reads half of one."""
    partial: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            partial = Path(file.name)
            file.write(data)
        os.replace(partial, path)
    except OSError as error:
        raise _cannot_keep(path.parent, error) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _cannot_keep(folder: Path, error: OSError) -> MiravoxError:
    return MiravoxError(
        str(folder), found=error.strerror or str(error), wanted=f"room for {PLAN_BYTES / 1e6:.0f} MB a plan, and the "
        "right to write", remedy="Make room there, or name another folder in XDG_CACHE_HOME.",
    )  # fmt: skip
