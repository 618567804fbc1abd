"""A recording -> a video of the avatar saying it, as fast as the machine can."""

from __future__ import annotations

import contextlib
import math
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter

import numpy as np
from tqdm import tqdm

from networks.contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.audio_input import Block
from realtime.audio_ring import AudioRing
from realtime.avatar import load_avatar
from realtime.config import OUTPUT_FOLDER, StreamConfig
from realtime.recorder import Recorder
from realtime.sound_file import blocks, read_speech
from realtime.targets import open_pipeline


def render(config: StreamConfig) -> str:
    """Renders config.source into config.record; returns the closing line. On MiravoxError no file is left."""
    assert config.source_file is not None and config.record is not None
    avatar = load_avatar(config.avatar)
    size = config.size_pixels or avatar.width
    speech = read_speech(config.source_file)
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
        Recorder(config.record, size, avatar.name, avatar.marking) as recorder,
        open_pipeline(avatar, ring, config.target, size) as pipeline,
        ThreadPoolExecutor(1) as encoder,  # a frame is encoded, and one decoded, while the next one is painted
    ):
        encoded: Future[None] | None = None
        for k in tqdm(range(frames), desc=avatar.name, unit="frame", disable=None):
            sample = SAMPLES_PER_FRAME * k
            while ring.end_sample < sample + avatar.lookahead_samples:
                ring.write(next(arriving))
            picture = pipeline.render(k)
            if encoded is not None:
                encoded.result()
            encoder.submit(pipeline.read_ahead)  # if that fails, the next frame says so
            speech_of_frame = Block(sample, padded[sample : sample + SAMPLES_PER_FRAME])
            encoded = encoder.submit(recorder.write, k, picture, speech_of_frame)
        if encoded is not None:
            encoded.result()
    seconds = perf_counter() - started
    return (
        f"{frames} frames in {seconds:.1f} s, {frames / seconds:.1f} frames per second, "
        f"{speech.bad_samples} samples silenced (NaN or infinite): {config.record}"
    )
