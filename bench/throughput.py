"""How many frames a second the whole path renders offline: recording to encoded video, as run_stream.py does it.

    python -m bench throughput --json F [--avatar avatars/ada] [--source FILE] [--seconds S] [--target baked] [--size
    512]

The run is timed from the decoded recording to the finished file: opening the networks and writing the video are part
of it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from dataset.files import write_wav
from realtime.audio.sound_file import read_speech
from realtime.avatar import load_avatar
from realtime.config import StreamConfig
from realtime.contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.stream.offline import render

WARM_UP_SECONDS = 1.0


def throughput(avatar: Path, source: Path, seconds: float, target: str, size: int) -> dict[str, object]:
    """Renders `seconds` of the source, repeated as needed, after a short run that warms caches."""
    speech = np.resize(read_speech(source).samples, int(seconds * SAMPLE_RATE))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        warm, timed = place / "warm.wav", place / "timed.wav"
        write_wav(warm, speech[: int(WARM_UP_SECONDS * SAMPLE_RATE)])
        write_wav(timed, speech)
        render(StreamConfig(str(warm), place / "warm.mp4", avatar, target, size))
        started = time.perf_counter()
        render(StreamConfig(str(timed), place / "timed.mp4", avatar, target, size))
        elapsed = time.perf_counter() - started
    frames = int(np.ceil(len(speech) / SAMPLES_PER_FRAME))
    return {"fps": frames / elapsed, "frames": frames, "seconds": elapsed, "target": target, "size": size}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, help="the avatar's sample recording by default")
    parser.add_argument("--seconds", type=float, default=20.0, help="of speech")
    parser.add_argument("--target", choices=("baked", "onnx", "tensorrt"), default="baked")
    parser.add_argument("--size", type=int, default=512)


def run(o: argparse.Namespace) -> dict[str, object]:
    result = throughput(o.avatar, o.source or load_avatar(o.avatar).sample, o.seconds, o.target, o.size)
    print(f"{result['frames']} frames of {o.size} x {o.size}, target {o.target}: {result['fps']:.1f} frames a second")
    return result
