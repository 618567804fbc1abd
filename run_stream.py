"""Speak and see: an avatar says a recording, into a video.

python run_stream.py [--source FILE] [--record OUT.mp4] [--offline] [--avatar DIR] [--target auto|baked|onnx]
                     [--size N] [--dry-run]
"""

from __future__ import annotations

import contextlib
import math
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from types import FrameType

import numpy as np
from tqdm import tqdm

from networks.contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.audio_input import Block, blocks, read_speech
from realtime.audio_ring import AudioRing
from realtime.avatar import load_avatar
from realtime.config import OUTPUT_FOLDER, StreamConfig, parse_config
from realtime.errors import MiravoxError
from realtime.pipeline import Pipeline
from realtime.recorder import Recorder


def render(config: StreamConfig) -> str:
    """Renders config.source into config.record; returns the closing line. On MiravoxError no file is left."""
    avatar = load_avatar(config.avatar)
    size = config.size_pixels or avatar.width
    speech = read_speech(config.source)
    if config.record.parent == OUTPUT_FOLDER:
        with contextlib.suppress(OSError):  # the recorder tells why it cannot write there
            OUTPUT_FOLDER.mkdir(exist_ok=True)

    # The last frame covers the end of the speech; what the networks see after it is silence.
    frames = math.ceil(len(speech.samples) / SAMPLES_PER_FRAME)
    padded = np.zeros(frames * SAMPLES_PER_FRAME + avatar.lookahead_samples, np.float32)
    padded[: len(speech.samples)] = speech.samples

    ring = AudioRing(SAMPLE_RATE)
    arriving = blocks(padded, SAMPLES_PER_FRAME)
    started = perf_counter()
    with (
        Recorder(config.record, size) as recorder,
        Pipeline(avatar, ring, config.target, size) as pipeline,
        ThreadPoolExecutor(1) as encoder,  # a frame is encoded while the next one is painted
    ):
        encoded: Future[None] | None = None
        for k in tqdm(range(frames), desc=avatar.name, unit="frame", disable=None):
            sample = SAMPLES_PER_FRAME * k
            while ring.end_sample < sample + avatar.lookahead_samples:
                ring.write(next(arriving))
            image = pipeline.render(k)
            if encoded is not None:
                encoded.result()
            speech_of_frame = Block(sample, padded[sample : sample + SAMPLES_PER_FRAME])
            encoded = encoder.submit(recorder.write, k, image, speech_of_frame)
        if encoded is not None:
            encoded.result()
    seconds = perf_counter() - started
    return (
        f"{frames} frames in {seconds:.1f} s, {frames / seconds:.1f} frames per second, "
        f"{speech.bad_samples} samples silenced (NaN or infinite): {config.record}"
    )


def terminate(number: int, frame: FrameType | None) -> None:
    """Ends the run as Ctrl-C does, so that no half-written file stays behind."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 for a fault that the user can mend, 130 when interrupted."""
    signal.signal(signal.SIGTERM, terminate)
    try:
        config = parse_config(sys.argv[1:] if arguments is None else arguments)
        print(config.to_json() if config.dry_run else render(config))
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("miravox: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
