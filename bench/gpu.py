"""What an NVIDIA GPU makes of the target tensorrt: a self-test that gives full evidence in ten minutes.

    python -m bench gpu --json F [--frames 10000]       on a machine with the GPU
    python -m bench gpu --json F --engines torch        the same without TensorRT: torch runs the networks
    python -m bench gpu --budget                        on any: what a frame costs on paper

Every check says passed, failed or not run, and why; what cannot run on this machine is never called passed. It ends
with exit code 1 if a check failed.
"""

from __future__ import annotations

import argparse
import ctypes
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bench.kernel_twins import launch as launch_twin
from networks.contract import (
    ANY,
    COMPOSITION,
    DEFORMATION,
    ENCODED_COLOR,
    LATENT,
    PLAN_NETWORKS,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    Network,
    encoded_width,
)
from realtime.audio_input import Block
from realtime.audio_ring import AudioRing
from realtime.avatar import Avatar, load_avatar
from realtime.encoders import BITRATES, VideoEncoder, probe_nvenc
from realtime.engine import PlanEngine
from realtime.errors import MiravoxError
from realtime.gl_cuda import probe_interop
from realtime.gpu import Device, open_device
from realtime.gpu_pipeline import GpuPipeline
from realtime.inpaint_boxes import InpaintBoxes
from realtime.kernels import SIGNATURES, Kernels
from realtime.neural_face import NeuralFace
from realtime.pipeline import Pipeline
from realtime.plans import bucket_of, buckets
from realtime.rasteriser import Camera, Rasteriser
from realtime.sound_file import read_speech
from realtime.stage_timer import StageTimer
from realtime.yuv import planes

Figures = dict[str, Any]
ByteArray = NDArray[np.uint8]

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
CHECKS = ("device", "interop", "kernels", "engines", "golden", "stages", "memory", "handover", "nvenc")
GOLDEN_FRAMES = (10, 40, 41, 75)
TOLERANCE = 2  # of 255, between a frame of the GPU and the target onnx
VERTICES_CM = 0.005  # between the vertices of the two: a tenth of a pixel of Ada's 512
EDGE_SHARE = 1 / 2000  # of the painted pixels, that may differ by more since an edge of the mesh runs through them
# Between a plan and the same file in ONNX Runtime, as a share of the output's largest value.
NETWORK_TOLERANCE = 2 / 255
FLAT_BYTES = 2 << 20  # what the GPU's memory may grow by over all frames
TIMED_FRAMES = 200
MEMORY_WARM_UP_FRAMES = 100
ENCODED_FRAMES = 75
# Dense float16 with float32 sums, TFLOP/s, and memory GB/s, of the data sheets.
PEAKS = {
    "RTX 3060": (25.5, 360), "L4": (121, 300), "RTX 4090": (165, 1008), "H100": (989, 3350), "H200": (989, 4800),
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """What came of one check."""

    status: str
    why: str = ""
    figures: Figures = field(default_factory=dict)


def check(passes: bool, why: str, **figures: object) -> Check:
    return Check(PASSED if passes else FAILED, "" if passes else why, figures)


# What a frame costs on paper.


def budget(avatar: Avatar, size: int) -> dict[str, tuple[float, float]]:
    """GFLOP and MB of memory traffic of a frame's networks: every layer reads and writes its activations once, in
    float16, and its weights.
    """
    boxes = InpaintBoxes(avatar, size)
    sizes = buckets(boxes.box_size[0] * boxes.box_size[1])
    points = max(bucket_of(int((boxes.mask(k) > 0).sum()), sizes) for k in range(len(boxes)))
    width = encoded_width(avatar.info["frequencies"])
    color = [(width, 512), *[(512, 512)] * 3, (512 + width, 512), *[(512, 512)] * 3, (512, 3)]
    deformation = [(3, 512), *[(512, 512)] * 3, (512, 3)]
    return {
        "deformation": _layers(deformation, len(avatar.template)), "color": _layers(color, points),
        "composition": _convolutions(avatar.composition, avatar.composition_size),
    }  # fmt: skip


def _layers(layers: Sequence[tuple[int, int]], points: int) -> tuple[float, float]:
    flop = sum(2 * points * a * b for a, b in layers)
    traffic = sum(2 * (points * (a + b) + a * b) for a, b in layers)
    return flop / 1e9, traffic / 1e6


def _convolutions(name: str, side: int) -> tuple[float, float]:
    """Of the composition network, thesis 3.6: five convolutions, then five that take the encoder's levels again."""
    strided = name != "dilated"
    base = int(name.removeprefix("strided") or 32) if strided else 32
    widths = [base * m for m in (1, 2, 4, 8, 8)]
    pixels = [(side >> level if strided else side) ** 2 for level in range(5)]
    layers = [(a, b, pixels[k]) for k, (a, b) in enumerate(zip([6, *widths[:-1]], widths, strict=True))]
    layers.append((widths[4], widths[4], pixels[4]))
    before = widths[4]
    for level, after in zip((3, 2, 1, 0), (widths[2], widths[1], widths[0], 3), strict=True):
        layers.append((before + widths[level], after, pixels[level]))
        before = after
    flop = sum(2 * 9 * a * b * p for a, b, p in layers)
    return flop / 1e9, sum(2 * ((a + b) * p + 9 * a * b) for a, b, p in layers) / 1e6


def roofline_ms(cost: tuple[float, float], peak: tuple[float, float]) -> float:
    """The least time that a part can take: arithmetic or memory, whichever is longer."""
    (gflop, megabytes), (tflops, gigabytes) = cost, peak
    return max(gflop / tflops, megabytes / gigabytes)


def budget_table(avatar: Avatar, size: int) -> str:
    costs = budget(avatar, size)
    lines = [
        f"{avatar.name}, {size} x {size}", "",
        f"| network | GFLOP | MB | {' | '.join(f'{gpu}, ms' for gpu in PEAKS)} |", "|---" * (3 + len(PEAKS)) + "|",
    ]  # fmt: skip
    for name, cost in costs.items():
        times = [f"{roofline_ms(cost, peak):.2f}" for peak in PEAKS.values()]
        lines.append(f"| {name} | {cost[0]:.1f} | {cost[1]:.0f} | {' | '.join(times)} |")
    total = [f"{sum(roofline_ms(cost, peak) for cost in costs.values()):.2f}" for peak in PEAKS.values()]
    lines.append(f"| together | | | {' | '.join(total)} |")
    return "\n".join(lines)


# The checks. Each opens the device itself: a pipeline closes what it was given.


def check_device(open_: Callable[[], Device]) -> Check:
    device = open_()
    cuda = device.cuda
    found = {
        "name": cuda.name, "compute_capability": cuda.compute_capability, "memory_gb": cuda.memory / 1e9,
        "driver": cuda.driver_version, "runtime": cuda.runtime_version,
        "tensorrt": f"{device.trt.__name__} {device.trt.__version__}",
    }  # fmt: skip
    cuda.close()
    return Check(PASSED, figures=found)


def check_interop(open_: Callable[[], Device]) -> Check:
    """A drawn gradient, through the texture's array, against what OpenGL itself reads back."""
    device = open_()
    cuda, context, size = device.cuda, device.create_context(), 64
    try:
        reason = probe_interop(cuda, context)
        if reason is not None:
            return Check(NOT_RUN, f"frames go through the host here: {reason}")
        corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
        pose = np.eye(4, dtype=np.float32)
        pose[2, 3] = -30
        camera = Camera(float(size), float(size), size / 2, size / 2, size, size)
        with context:
            rasteriser = Rasteriser(context, np.array([[0, 1, 2], [0, 2, 3]], np.int32), 4, camera)
        wanted = rasteriser.draw(20 * corners, pose, corners).copy()
        stream, address = cuda.create_stream(), cuda.allocate(wanted.nbytes)
        with context:
            resource = cuda.register_texture(rasteriser.map_texture.glo)
            cuda.map([resource], stream)
            row = wanted.nbytes // size
            cuda.copy_from_array(address, row, cuda.mapped_array(resource), row, size, stream)
            cuda.unmap([resource], stream)
            found = np.empty_like(wanted)
            cuda.download(found, address, stream)
            cuda.synchronize(stream)
            cuda.unregister(resource)
        cuda.free(address)
        cuda.destroy_stream(stream)
        rasteriser.release()
        return check(bool((found == wanted).all()), f"differs by {np.abs(found - wanted).max()}")
    finally:
        context.release()
        cuda.close()


class ShadowedKernels(Kernels):
    """Runs every kernel twice, on the GPU and as C++ on copies of the same memory, and compares all buffers."""

    def __init__(self, pipeline: GpuPipeline) -> None:
        self.pipeline = pipeline
        self.worst: dict[str, float] = {}  # largest difference of each kernel
        self.cuda, self.module, self.kernels = pipeline.cuda, pipeline.kernels.module, pipeline.kernels.kernels
        self.device = pipeline.cuda

    def _memory(self) -> dict[str, ByteArray]:
        copies = {name: np.empty(size, np.uint8) for name, size in self.pipeline.sizes.items()}
        for name, copy in copies.items():
            self.device.download(copy, self.pipeline.at[name], self.pipeline.stream)
        self.device.synchronize(self.pipeline.stream)
        return copies

    def _launch(self, name: str, stream: int, block: Any, extent: tuple[int, int], *values: int) -> None:
        twin = self._memory()
        super()._launch(name, stream, block, extent, *values)
        real = self._memory()
        at = {address: buffer for buffer, address in self.pipeline.at.items()}
        on_host = [
            twin[at[value]].ctypes.data if kind is ctypes.c_void_p else value
            for kind, value in zip(SIGNATURES[name], values, strict=True)
        ]
        blocks = tuple(-(-e // b) for e, b in zip((*extent, 1), block, strict=True))
        launch_twin(name, blocks, block, on_host)
        if name == "gather":  # in any order
            for memory in (twin, real):
                self._sort(memory)
        self.worst[name] = max(self.worst.get(name, 0.0), max(_difference(b, twin[b], real[b]) for b in real))

    def _sort(self, memory: dict[str, ByteArray]) -> None:
        """Brings the gathered points into the order of their pixels."""
        count = int(memory["count"].view(np.int32)[0])
        index = memory["index"].view(np.int32)
        encoded = memory["encoded"].reshape(len(index), -1)
        order = np.argsort(index[:count], kind="stable")
        index[:count], encoded[:count] = index[:count][order], encoded[:count][order]


KINDS = {"encoded": np.float16} | dict.fromkeys(("rgb", "face", "known", "painted", "frame"), np.uint8)


def _difference(buffer: str, wanted: ByteArray, found: ByteArray) -> float:
    kind = np.int32 if buffer in ("count", "index", "place") else KINDS.get(buffer, np.float32)
    a, b = wanted.view(kind).astype(np.float64), found.view(kind).astype(np.float64)
    scale = 255.0 if kind is np.uint8 else 1.0  # a step of 255 is what float32 sums may differ by at a rounding's edge
    return float(np.abs(a - b).max() / scale)


def check_kernels(avatar: Avatar, open_: Callable[[], Device]) -> Check:
    """Every kernel on the memory of a real frame, against its C++ twin."""
    with GpuPipeline(avatar, ring_of(avatar), device=open_()) as pipeline:
        pipeline.paint(GOLDEN_FRAMES[0])
        shadowed = ShadowedKernels(pipeline)
        pipeline.kernels = shadowed
        pipeline.displace(pipeline.at["vertices"])
        pipeline.paint_box(pipeline.bucket_of_frame[GOLDEN_FRAMES[0]])
        pipeline.cuda.synchronize(pipeline.stream)
    missing = sorted(set(SIGNATURES) - set(shadowed.worst))
    off = [name for name, worst in shadowed.worst.items() if worst > 1.01 / 255]
    why = f"differ from C++: {off}" if off else f"never launched: {missing}"
    return check(not off and not missing, why, largest_difference=shadowed.worst)


def check_engines(avatar: Avatar, open_: Callable[[], Device]) -> Check:
    """Every plan against ONNX Runtime with the same file, on random input within the contract's ranges."""
    device, rng = open_(), np.random.default_rng(0)
    figures: dict[str, float] = {}
    try:
        plans = device.plans(avatar, avatar.width)
        stream = device.cuda.create_stream()
        for network in PLAN_NETWORKS:
            inputs = random_inputs(avatar, network, rng)
            engine = PlanEngine(plans[network.name], network, device.trt, device.cuda, stream, network.name)
            found = [array.copy() for array in engine.run(*inputs)]
            engine.close()
            figures[network.name] = differences(avatar, network, inputs, found)
        device.cuda.destroy_stream(stream)
    finally:
        device.cuda.close()
    off = [name for name, worst in figures.items() if worst > NETWORK_TOLERANCE]
    return check(not off, f"differ from ONNX Runtime: {off}", largest_difference=figures)


def differences(
    avatar: Avatar, network: Network, inputs: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]
) -> float:  # fmt: skip
    """The largest one between what was found and what ONNX Runtime makes of the same inputs with the exported file, as
    a share of the output's largest value.
    """
    path = avatar.folder / "targets" / "tensorrt" / f"{network.name}.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted: Any = session.run(None, {t.name: x for t, x in zip(network.inputs, inputs, strict=True)})
    return max(float(np.abs(f - w).max() / max(1.0, np.abs(w).max())) for f, w in zip(found, wanted, strict=True))


def random_inputs(avatar: Avatar, network: Network, rng: np.random.Generator) -> list[NDArray[Any]]:
    """Of the shapes that a frame has."""
    side = avatar.composition_size
    fixed: dict[str, list[tuple[int, ...]]] = {
        DEFORMATION.name: [(len(avatar.template), 3), (1, LATENT)], COMPOSITION.name: [(1, 6, side, side)],
        ENCODED_COLOR.name: [(4096, encoded_width(avatar.info["frequencies"])), (1, LATENT)],
    }  # fmt: skip
    shapes = fixed.get(network.name) or [tuple(1 if e == ANY else e for e in t.shape) for t in network.inputs]
    return [
        rng.uniform(-1 if t.low is None else t.low, 1 if t.high is None else t.high, shape).astype(t.dtype)
        for t, shape in zip(network.inputs, shapes, strict=True)
    ]


def ring_of(avatar: Avatar, frames: int = 120) -> AudioRing:
    """The sample recording, repeated for so many frames."""
    samples = frames * SAMPLES_PER_FRAME + avatar.lookahead_samples + SAMPLE_RATE
    ring = AudioRing(samples)
    ring.write(Block(0, np.resize(read_speech(avatar.sample).samples, samples)))
    return ring


def check_golden(avatar: Avatar, open_: Callable[[], Device]) -> Check:
    """Frames against the target onnx, all planes.

    Where one part of the mesh hides another, a vertex that lies a hundred-thousandth of a millimetre elsewhere decides
    which of the two a pixel shows. So every pixel must be right for the vertices that the GPU has; and those must be as
    the target onnx has them, so that no more than a few pixels of its own frame differ.
    """
    worst = beyond = painted = 0
    moved = 0.0
    with (
        Pipeline(avatar, ring_of(avatar), "onnx") as reference,
        Pipeline(avatar, ring_of(avatar), "onnx") as same_mesh,
        GpuPipeline(avatar, ring_of(avatar), device=open_()) as pipeline,
    ):
        assert isinstance(reference.face, NeuralFace) and isinstance(same_mesh.face, NeuralFace)
        for k in GOLDEN_FRAMES:
            found = planes(pipeline.render(k))
            displacement = np.empty_like(avatar.template)
            pipeline.cuda.download(displacement, pipeline.at["displacement"], pipeline.stream)
            pipeline.cuda.synchronize(pipeline.stream)
            vertices, latent = avatar.template + displacement, same_mesh.latents.advance(k)
            face = same_mesh.face.shade(vertices, latent, avatar.source_pose[k], same_mesh.inpaint.boxes[k]).copy()
            worst = max(worst, *(int(d.max()) for d in _apart(found, planes(same_mesh.compose(k, face)))))
            luma, *_ = _apart(found, planes(reference.render(k)))
            beyond = max(beyond, int((luma > TOLERANCE).sum()))
            painted = int((reference.inpaint.mask(k) > 0).sum())
            moved = max(moved, float(np.abs(vertices - same_mesh.face.displace(latent)).max()))
    why = f"differs by {worst} of 255 with the same mesh; {beyond} pixels of {painted} with its own, {moved:.4f} cm off"
    return check(
        worst <= TOLERANCE and beyond <= EDGE_SHARE * painted and moved <= VERTICES_CM, why,
        largest_difference=worst, pixels_beyond=beyond, painted_pixels=painted, vertices_cm=moved,
    )  # fmt: skip


def _apart(found: Sequence[ByteArray], wanted: Sequence[ByteArray]) -> list[NDArray[np.int_]]:
    """How far the planes of two frames are apart, pixel by pixel."""
    return [np.abs(a.astype(int) - b) for a, b in zip(found, wanted, strict=True)]


def check_stages(avatar: Avatar, open_: Callable[[], Device]) -> Check:
    """Milliseconds of each part, waited for by itself, beside the roofline of this GPU; and of a frame's stages, in
    which the host works as well.
    """
    timer = StageTimer()
    with GpuPipeline(avatar, ring_of(avatar), timer=timer, device=open_()) as pipeline:
        name, cuda, stream = pipeline.cuda.name, pipeline.cuda, pipeline.stream
        pipeline.render(0)
        graph = pipeline.graphs[pipeline.bucket_of_frame[0]]
        parts: dict[str, Callable[[], object]] = {
            "deformation": pipeline.deformation.enqueue,
            "color": pipeline.color[pipeline.bucket_of_frame[0]].enqueue,
            "composition": pipeline.composition.enqueue,
            "graph": lambda: cuda.launch_graph(graph, stream),
        }
        times: dict[str, list[float]] = {part: [] for part in (*parts, "frame")}
        for k in range(TIMED_FRAMES):
            for part, start in parts.items():
                began = perf_counter()
                start()
                cuda.synchronize(stream)
                times[part].append(1000 * (perf_counter() - began))
            began = perf_counter()
            pipeline.render(k % 100 + 1)
            times["frame"].append(1000 * (perf_counter() - began))
    medians = {part: float(np.median(values)) for part, values in times.items()}
    costs, peak = budget(avatar, avatar.width), next((p for gpu, p in PEAKS.items() if gpu in name), None)
    roofline = {part: roofline_ms(cost, peak) for part, cost in costs.items()} if peak else None
    p95 = float(np.percentile(times["frame"], 95))
    stages = {stage: figures["p50"] for stage, figures in timer.percentiles().items()}
    return check(
        p95 < 40, f"a frame takes {p95:.1f} ms", median_ms=medians, frame_p95_ms=p95, stages_ms=stages,
        roofline_ms=roofline or f"not known for {name}",
    )  # fmt: skip


def check_memory(avatar: Avatar, open_: Callable[[], Device], frames: int) -> Check:
    """The GPU's memory after many frames, against after a few."""
    with GpuPipeline(avatar, ring_of(avatar), device=open_()) as pipeline:
        for k in range(MEMORY_WARM_UP_FRAMES):
            pipeline.render(k)
        before = pipeline.cuda.memory_used()
        for k in range(frames):
            pipeline.render(k % 100)
        grown = pipeline.cuda.memory_used() - before
    return check(grown <= FLAT_BYTES, f"{grown} bytes more", frames=frames, grown_bytes=grown)


def check_handover(avatar: Avatar, open_: Callable[[], Device]) -> Check:
    """Frames that are left on the GPU, as FFmpeg finds them there, against the same frames read back."""
    worst = 0
    with GpuPipeline(avatar, ring_of(avatar), device=open_(), keep_on_device=True) as pipeline:
        for rendered in [pipeline.paint(k) for k in GOLDEN_FRAMES]:  # all at once: none may overwrite another
            assert rendered.on_device is not None
            found = rendered.on_device.reformat(format="yuv420p")
            worst = max(worst, *(int(d.max()) for d in _apart(planes(found), planes(rendered.picture))))
        del rendered, found
    return check(worst == 0, f"differs by {worst} of 255", largest_difference=worst)


def check_nvenc(avatar: Avatar, open_: Callable[[], Device]) -> Check:
    """NVENC takes frames where they are, makes a keyframe when it is asked, and follows the bitrate."""
    reason = probe_nvenc()
    if reason is not None:
        return Check(NOT_RUN, f"frames are encoded by libx264 here: {reason}")
    encoder, low, high = VideoEncoder("H264", avatar.width, hardware=True), BITRATES[0], BITRATES[-1]
    sizes: dict[int, int] = {}
    with GpuPipeline(avatar, ring_of(avatar, 4 * ENCODED_FRAMES), device=open_(), keep_on_device=True) as pipeline:
        for k in range(2 * ENCODED_FRAMES):
            bitrate = high if k < ENCODED_FRAMES else low
            rendered = pipeline.paint(k)
            assert rendered.on_device is not None
            sizes[bitrate] = sizes.get(bitrate, 0) + sum(p.size for p in encoder.encode(rendered.on_device, k, bitrate))
        encoder.request_keyframe()
        rendered = pipeline.paint(2 * ENCODED_FRAMES)
        assert rendered.on_device is not None
        asked = any(p.is_keyframe for p in encoder.encode(rendered.on_device, 2 * ENCODED_FRAMES, low))
        encoder.close()
    follows = sizes[low] < sizes[high]
    return check(
        asked and follows and encoder.hardware, f"keyframe {asked}, bitrate {follows}, hardware {encoder.hardware}",
        bytes_by_bitrate={str(b): s for b, s in sizes.items()}, keyframes=encoder.keyframes,
    )  # fmt: skip


def self_test(
    avatar: Avatar, open_: Callable[[], Device], frames: int, only: Sequence[str] = CHECKS
) -> dict[str, Check]:  # fmt: skip
    """The checks that are named in `only`; none runs if the device cannot be opened."""
    checks: dict[str, Callable[[], Check]] = {
        "device": lambda: check_device(open_),
        "interop": lambda: check_interop(open_),
        "kernels": lambda: check_kernels(avatar, open_),
        "engines": lambda: check_engines(avatar, open_),
        "golden": lambda: check_golden(avatar, open_),
        "stages": lambda: check_stages(avatar, open_),
        "memory": lambda: check_memory(avatar, open_, frames),
        "handover": lambda: check_handover(avatar, open_),
        "nvenc": lambda: check_nvenc(avatar, open_),
    }
    try:
        device = open_()
    except MiravoxError as error:
        return dict.fromkeys(only, Check(NOT_RUN, str(error)))
    device.cuda.close()
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
    checks = self_test(avatar, device_opener(o.engines), o.frames, o.only)
    for name, result in checks.items():
        print(f"{name:10}{result.status:9}{result.why}")
    return {"engines": o.engines, "checks": {name: asdict(result) for name, result in checks.items()}}


def device_opener(engines: str) -> Callable[[], Device]:
    """How the GPU is opened for networks that are run by "tensorrt" or by "torch"."""
    if engines == "tensorrt":
        return open_device
    from bench.torch_engines import TorchEngines  # torch is not there where only the program is installed

    trt = TorchEngines()
    return lambda: open_device(trt=trt, plans=trt.plans)


def failed(result: Figures) -> bool:
    """Whether a check failed: the command's exit code."""
    return any(c["status"] == FAILED for c in result.get("checks", {}).values())
