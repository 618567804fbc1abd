"""A recording -> frames of the avatar saying it, as fast as the machine can; and those as a video file."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from time import perf_counter

import av
import numpy as np

from ..arrays import FloatArray
from ..audio.block import Block
from ..audio.ring import AudioRing
from ..audio.sound_file import blocks, read_speech
from ..avatar import Avatar, load_avatar
from ..config import OUTPUT_FOLDER, StreamConfig
from ..contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from ..face.shared_engines import SharedEngines
from ..targets import open_pipeline
from .recorder import Recorder


def frame_count(samples: FloatArray) -> int:
    """How many frames show a recording; the last one covers its end."""
    return math.ceil(len(samples) / SAMPLES_PER_FRAME)


def render_frames(
    avatar: Avatar,
    samples: FloatArray,
    target: str,
    size: int,
    background: Executor,
    engines: SharedEngines | None = None,
) -> Generator[tuple[av.VideoFrame, Block], None, None]:
    """Every frame of a recording in order, yuv420p, with the 640 samples that it shows. A generator that is drawn from
    and closed on one thread, which owns OpenGL meanwhile.

    Args:
        samples: float32 [n], n >= 1, 16 kHz, in [-1, 1]. After its end the networks see silence.
        background: decodes the source loop's next picture while the caller has the frame.
        engines: the avatar's, if others share them.
    """
    frames = frame_count(samples)
    padded = np.zeros(frames * SAMPLES_PER_FRAME + avatar.lookahead_samples, np.float32)
    padded[: len(samples)] = samples
    ring = AudioRing(SAMPLE_RATE)
    arriving = blocks(padded, SAMPLES_PER_FRAME)
    reading: Future[None] | None = None
    with open_pipeline(avatar, ring, target, size, engines=engines) as pipeline:
        try:
            for k in range(frames):
                sample = SAMPLES_PER_FRAME * k
                while ring.end_sample < sample + avatar.lookahead_samples:
                    ring.write(next(arriving))
                picture = pipeline.render(k)
                reading = background.submit(pipeline.read_ahead)  # if that fails, the next frame says so
                yield picture, Block(sample, padded[sample : sample + SAMPLES_PER_FRAME])
        finally:
            if reading is not None:
                wait([reading])  # it uses the pipeline


def render(config: StreamConfig) -> str:
    """Renders config.source into config.record; returns the closing line. On MiravoxError no file is left."""
    from tqdm import tqdm

    assert config.source_file is not None and config.record is not None
    avatar = load_avatar(config.avatar)
    size = config.size_pixels or avatar.width
    speech = read_speech(config.source_file)
    if config.record.parent == OUTPUT_FOLDER:
        with contextlib.suppress(OSError):  # the recorder tells why it cannot write there
            OUTPUT_FOLDER.mkdir(exist_ok=True)

    frames = frame_count(speech.samples)
    started = perf_counter()
    with (
        Recorder(config.record, size, avatar.name, avatar.marking) as recorder,
        ThreadPoolExecutor(1) as background,  # a frame is encoded, and one decoded, while the next one is painted
        contextlib.closing(render_frames(avatar, speech.samples, config.target, size, background)) as rendered,
    ):
        encoded: Future[None] | None = None
        for picture, block in tqdm(rendered, desc=avatar.name, total=frames, unit="frame", disable=None):
            if encoded is not None:
                encoded.result()
            encoded = background.submit(recorder.write, block.start // SAMPLES_PER_FRAME, picture, block)
        if encoded is not None:
            encoded.result()
    seconds = perf_counter() - started
    return (
        f"{frames} frames in {seconds:.1f} s, {frames / seconds:.1f} frames per second, "
        f"{speech.bad_samples} samples silenced (NaN or infinite): {config.record}"
    )
