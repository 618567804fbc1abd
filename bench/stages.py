"""What one frame costs, from the window of speech to the finished picture in YUV, and its encoding after that.

    python -m bench stages --json F [--png F] [--source FILE] [--seconds S] [--target baked] [--size 512] [--reference]

The live pipeline renders one frame after the other on one thread, as fast as it goes: no frame is left out, none is
reused. Cold is the very first frame of a process that has opened the avatar; warm are those after WARM_UP_FRAMES.
With --reference a network of the shape of Wav2Lip's generator, with random weights, is timed in turns with the frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.picture import drawing
from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.stage_timer import RECENT, StageTimer
from realtime.stream.encoders import VideoEncoder
from realtime.stream.rate_control import START_BITRATE
from realtime.targets import open_pipeline

Figures = dict[str, Any]

WARM_UP_FRAMES = 25
REFERENCE_EVERY = 10  # frames between two runs of the reference


def spread(milliseconds: list[float] | NDArray[np.floating[Any]]) -> dict[str, float]:
    """Median, 95th and 99th percentile."""
    median, p95, p99 = np.percentile(milliseconds, (50, 95, 99))
    return {"median": float(median), "p95": float(p95), "p99": float(p99)}


def stages(avatar: Avatar, source: Path, seconds: float, target: str, size: int, reference: bool) -> Figures:
    """Milliseconds of a whole frame and of each stage over `seconds` of the source, repeated as needed."""
    frames = min(RECENT, max(1, round(seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)))
    rendered = WARM_UP_FRAMES + frames
    speech = np.resize(read_speech(source).samples, rendered * SAMPLES_PER_FRAME + avatar.lookahead_samples)
    ring = AudioRing(len(speech))
    ring.write(Block(0, speech))
    beside = reference_network() if reference else None
    timer, encoder = StageTimer(), VideoEncoder("H264", size)
    of_frame: list[float] = []
    of_reference: list[float] = []
    opened = perf_counter()
    with open_pipeline(avatar, ring, target, size, timer) as pipeline:
        opening_ms = 1000 * (perf_counter() - opened)
        for k in range(rendered):
            if k == WARM_UP_FRAMES:
                timer = pipeline.timer = StageTimer()
            started = perf_counter()
            picture = pipeline.render(k)
            of_frame.append(1000 * (perf_counter() - started))
            with timer.measure("encoding"):
                encoder.encode(picture, k, START_BITRATE)
            pipeline.read_ahead()  # as live
            if beside is not None and k >= WARM_UP_FRAMES and k % REFERENCE_EVERY == 0:
                started = perf_counter()
                beside()
                of_reference.append(1000 * (perf_counter() - started))
            if k == 0:
                cold = {name: times["p50"] for name, times in timer.percentiles().items()}
    result: Figures = {
        "target": target,
        "size": size,
        "frames": frames,
        "frame_ms": spread(of_frame[WARM_UP_FRAMES:]),
        "stages_ms": {
            name: {"median": t["p50"], "p95": t["p95"], "p99": t["p99"]} for name, t in timer.percentiles().items()
        },
        "cold": {"opening_ms": opening_ms, "frame_ms": of_frame[0], "stages_ms": cold},
    }
    if of_reference:
        result["reference_ms"] = spread(of_reference)
        result["share_of_reference"] = result["frame_ms"]["median"] / result["reference_ms"]["median"]
    return result


def reference_network() -> Callable[[], list[NDArray[np.float32]]]:
    """A call of Wav2Lip's generator, one frame, random weights, on one core of ONNX Runtime like our networks."""
    import tempfile

    from bench.wav2lip_generator import FACE_SIDE, export_generator
    from realtime.face.engine import onnxruntime  # there its telemetry is switched off

    with tempfile.TemporaryDirectory() as folder:
        path = export_generator(Path(folder) / "generator.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    inputs = {
        "mel": rng.uniform(-4, 4, (1, 1, 80, 16)).astype(np.float32),
        "faces": rng.random((1, 6, FACE_SIDE, FACE_SIDE)).astype(np.float32),
    }
    session.run(None, inputs)
    return lambda: list(session.run(None, inputs))


def print_table(result: Figures) -> None:
    print(f"target {result['target']}, {result['size']} x {result['size']}, {result['frames']} frames, milliseconds")
    print(f"{'':14} {'median':>8} {'p95':>8} {'p99':>8} {'cold':>8}")
    cold = result["cold"]
    rows = {"whole frame": (result["frame_ms"], cold["frame_ms"])}
    rows |= {name: (times, cold["stages_ms"].get(name)) for name, times in result["stages_ms"].items()}
    for name, (times, first) in rows.items():
        numbers = [times["median"], times["p95"], times["p99"], *([] if first is None else [first])]
        print(f"{name:14} " + " ".join(f"{n:8.2f}" for n in numbers))
    print(f"opening the avatar {cold['opening_ms']:.0f} ms")
    if "reference_ms" in result:
        print(
            f"Wav2Lip's generator, random weights, 96 x 96, in turns with it on one core: "
            f"{result['reference_ms']['median']:.1f} ms; a frame is {100 * result['share_of_reference']:.0f} % of that"
        )


def plot(result: Figures, path: Path) -> None:
    """Bars: median of each stage, its 95th percentile as a line."""
    times = {"whole frame": result["frame_ms"], **result["stages_ms"]}
    if "reference_ms" in result:
        times["Wav2Lip's generator"] = result["reference_ms"]
    names = list(times)
    with drawing(path, (8, 0.45 * len(names) + 1)) as axes:
        medians = [times[n]["median"] for n in names]
        axes.barh(names, medians, color="#3b6ea5")
        axes.hlines(names, medians, [times[n]["p95"] for n in names], color="#222222")
        axes.invert_yaxis()
        axes.set_xlabel("milliseconds: median, line to the 95th percentile")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, help="the avatar's sample recording by default")
    parser.add_argument("--seconds", type=float, default=20.0, help="of speech, 20 at most")
    parser.add_argument("--target", choices=("baked", "onnx", "tensorrt"), default="baked")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--reference", action="store_true", help="time Wav2Lip's generator in turns with it")
    parser.add_argument("--png", type=Path, help="picture of the figures")


def run(o: argparse.Namespace) -> Figures:
    avatar = load_avatar(o.avatar)
    result = stages(avatar, o.source or avatar.sample, o.seconds, o.target, o.size, o.reference)
    print_table(result)
    if o.png:
        plot(result, o.png)
    return result
