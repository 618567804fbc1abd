"""The checks of the GPU's self-test (bench/gpu.py). Each opens the GPU itself: a pipeline closes what it was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.gpu_budget import PEAKS, budget, roofline_ms
from bench.shadowed_kernels import ShadowedKernels
from realtime.arrays import ByteArray
from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar
from realtime.camera import Camera
from realtime.contract import (
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
from realtime.face.engine import onnxruntime  # whose telemetry it has switched off
from realtime.face.neural_face import NeuralFace
from realtime.face.pipeline import FacePipeline
from realtime.face.rasteriser import Rasteriser
from realtime.face.shared_engines import SharedEngines
from realtime.face.yuv import planes
from realtime.gpu.interop import probe_interop
from realtime.gpu.kernels import SIGNATURES
from realtime.gpu.opened_gpu import OpenedGpu
from realtime.gpu.pipeline import GpuPipeline
from realtime.gpu.plan_engine import PlanEngine
from realtime.stage_timer import StageTimer
from realtime.stream.encoders import VideoEncoder, probe_nvenc
from realtime.stream.rate_control import BITRATES

Figures = dict[str, Any]
Open = Callable[[], OpenedGpu]

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
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


@dataclass(frozen=True)
class Check:
    """What came of one check."""

    status: str
    why: str = ""
    figures: Figures = field(default_factory=dict)


def check(passes: bool, why: str, **figures: object) -> Check:
    return Check(PASSED if passes else FAILED, "" if passes else why, figures)


def check_device(open_: Open) -> Check:
    gpu = open_()
    cuda = gpu.cuda
    found = {
        "name": cuda.name,
        "compute_capability": cuda.compute_capability,
        "memory_gb": cuda.memory / 1e9,
        "driver": cuda.driver_version,
        "runtime": cuda.runtime_version,
        "tensorrt": f"{gpu.trt.__name__} {gpu.trt.__version__}",
    }
    cuda.close()
    return Check(PASSED, figures=found)


def check_interop(open_: Open) -> Check:
    """A drawn gradient, through the texture's array, against what OpenGL itself reads back."""
    gpu = open_()
    cuda, context, size = gpu.cuda, gpu.create_context(), 64
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


def check_kernels(avatar: Avatar, open_: Open) -> Check:
    """Every kernel on the memory of a real frame, against its C++ twin."""
    with GpuPipeline(avatar, ring_of(avatar), gpu=open_()) as pipeline:
        pipeline.paint(GOLDEN_FRAMES[0])
        shadowed = ShadowedKernels(pipeline.kernels, pipeline.cuda, pipeline.buffers)
        pipeline.kernels = pipeline.mesh.kernels = shadowed
        pipeline.mesh.displace(pipeline.buffers.vertices)
        pipeline.paint_box(pipeline.bucket_of_frame[GOLDEN_FRAMES[0]])
        pipeline.cuda.synchronize(pipeline.stream)
    missing = sorted(set(SIGNATURES) - set(shadowed.worst))
    off = [name for name, worst in shadowed.worst.items() if worst > 1.01 / 255]
    why = f"differ from C++: {off}" if off else f"never launched: {missing}"
    return check(not off and not missing, why, largest_difference=shadowed.worst)


def check_engines(avatar: Avatar, open_: Open) -> Check:
    """Every plan against ONNX Runtime with the same file, on random input within the contract's ranges."""
    gpu, rng = open_(), np.random.default_rng(0)
    figures: dict[str, float] = {}
    try:
        plans = gpu.plans(avatar, avatar.width)
        stream = gpu.cuda.create_stream()
        for network in PLAN_NETWORKS:
            inputs = random_inputs(avatar, network, rng)
            engine = PlanEngine(plans[network.name], network, gpu.trt, gpu.cuda, stream, network.name)
            found = [array.copy() for array in engine.run(*inputs)]
            engine.close()
            figures[network.name] = differences(avatar, network, inputs, found)
        gpu.cuda.destroy_stream(stream)
    finally:
        gpu.cuda.close()
    off = [name for name, worst in figures.items() if worst > NETWORK_TOLERANCE]
    return check(not off, f"differ from ONNX Runtime: {off}", largest_difference=figures)


def differences(
    avatar: Avatar, network: Network, inputs: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]
) -> float:
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
        DEFORMATION.name: [(len(avatar.template), 3), (1, LATENT)],
        COMPOSITION.name: [(1, 6, side, side)],
        ENCODED_COLOR.name: [(4096, encoded_width(avatar.info["frequencies"])), (1, LATENT)],
    }
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


def check_golden(avatar: Avatar, open_: Open) -> Check:
    """Frames against the target onnx, all planes.

    Where one part of the mesh hides another, a vertex that lies a hundred-thousandth of a millimetre elsewhere decides
    which of the two a pixel shows. So every pixel must be right for the vertices that the GPU has; and those must be as
    the target onnx has them, so that no more than a few pixels of its own frame differ.
    """
    worst = beyond = painted = 0
    moved = 0.0
    engines = SharedEngines(avatar)
    with (
        FacePipeline(avatar, ring_of(avatar), "onnx", engines=engines) as reference,
        FacePipeline(avatar, ring_of(avatar), "onnx", engines=engines) as same_mesh,
        GpuPipeline(avatar, ring_of(avatar), gpu=open_()) as pipeline,
    ):
        assert isinstance(reference.face, NeuralFace) and isinstance(same_mesh.face, NeuralFace)
        for k in GOLDEN_FRAMES:
            found = planes(pipeline.render(k))
            displacement = np.empty_like(avatar.template)
            pipeline.cuda.download(displacement, pipeline.buffers.displacement, pipeline.stream)
            pipeline.cuda.synchronize(pipeline.stream)
            vertices, latent = avatar.template + displacement, same_mesh.latents.advance(k)
            face = same_mesh.face.shade(vertices, latent, avatar.source_pose[k], same_mesh.inpaint.boxes[k]).copy()
            wanted = planes(same_mesh.finish(k, face).picture)
            worst = max(worst, *(int(d.max()) for d in _apart(found, wanted)))
            luma, *_ = _apart(found, planes(reference.render(k)))
            beyond = max(beyond, int((luma > TOLERANCE).sum()))
            painted = int((reference.inpaint.mask(k) > 0).sum())
            moved = max(moved, float(np.abs(vertices - same_mesh.face.displace(latent)).max()))
    why = f"differs by {worst} of 255 with the same mesh; {beyond} pixels of {painted} with its own, {moved:.4f} cm off"
    return check(
        worst <= TOLERANCE and beyond <= EDGE_SHARE * painted and moved <= VERTICES_CM,
        why,
        largest_difference=worst,
        pixels_beyond=beyond,
        painted_pixels=painted,
        vertices_cm=moved,
    )


def _apart(found: Sequence[ByteArray], wanted: Sequence[ByteArray]) -> list[NDArray[np.int_]]:
    """How far the planes of two frames are apart, pixel by pixel."""
    return [np.abs(a.astype(int) - b) for a, b in zip(found, wanted, strict=True)]


def check_stages(avatar: Avatar, open_: Open) -> Check:
    """Milliseconds of each part, waited for by itself, beside the roofline of this GPU; and of a frame's stages, in
    which the host works as well.
    """
    timer = StageTimer()
    with GpuPipeline(avatar, ring_of(avatar), timer=timer, gpu=open_()) as pipeline:
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
        p95 < 40,
        f"a frame takes {p95:.1f} ms",
        median_ms=medians,
        frame_p95_ms=p95,
        stages_ms=stages,
        roofline_ms=roofline or f"not known for {name}",
    )


def check_memory(avatar: Avatar, open_: Open, frames: int) -> Check:
    """The GPU's memory after many frames, against after a few."""
    with GpuPipeline(avatar, ring_of(avatar), gpu=open_()) as pipeline:
        for k in range(MEMORY_WARM_UP_FRAMES):
            pipeline.render(k)
        before = pipeline.cuda.memory_used()
        for k in range(frames):
            pipeline.render(k % 100)
        grown = pipeline.cuda.memory_used() - before
    return check(grown <= FLAT_BYTES, f"{grown} bytes more", frames=frames, grown_bytes=grown)


def check_handover(avatar: Avatar, open_: Open) -> Check:
    """Frames that are left on the GPU, as FFmpeg finds them there, against the same frames read back."""
    worst = 0
    with GpuPipeline(avatar, ring_of(avatar), gpu=open_(), keep_on_device=True) as pipeline:
        for frame in [pipeline.paint(k) for k in GOLDEN_FRAMES]:  # all at once: none may overwrite another
            assert frame.on_device is not None
            found = frame.on_device.reformat(format="yuv420p")
            worst = max(worst, *(int(d.max()) for d in _apart(planes(found), planes(frame.picture))))
        del frame, found
    return check(worst == 0, f"differs by {worst} of 255", largest_difference=worst)


def check_nvenc(avatar: Avatar, open_: Open) -> Check:
    """NVENC takes frames where they are, makes a keyframe when it is asked, and follows the bitrate."""
    reason = probe_nvenc()
    if reason is not None:
        return Check(NOT_RUN, f"frames are encoded by libx264 here: {reason}")
    encoder, low, high = VideoEncoder("H264", avatar.width, hardware=True), BITRATES[0], BITRATES[-1]
    sizes: dict[int, int] = {}
    with GpuPipeline(avatar, ring_of(avatar, 4 * ENCODED_FRAMES), gpu=open_(), keep_on_device=True) as pipeline:
        for k in range(2 * ENCODED_FRAMES):
            bitrate = high if k < ENCODED_FRAMES else low
            frame = pipeline.paint(k)
            assert frame.on_device is not None
            sizes[bitrate] = sizes.get(bitrate, 0) + sum(p.size for p in encoder.encode(frame.on_device, k, bitrate))
        encoder.request_keyframe()
        frame = pipeline.paint(2 * ENCODED_FRAMES)
        assert frame.on_device is not None
        asked = any(p.is_keyframe for p in encoder.encode(frame.on_device, 2 * ENCODED_FRAMES, low))
        encoder.close()
    follows = sizes[low] < sizes[high]
    return check(
        asked and follows and encoder.hardware,
        f"keyframe {asked}, bitrate {follows}, hardware {encoder.hardware}",
        bytes_by_bitrate={str(b): s for b, s in sizes.items()},
        keyframes=encoder.keyframes,
    )
