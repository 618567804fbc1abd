"""A recording -> frames of the avatar saying it, as fast as the machine can; and those as a video file."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from time import perf_counter

import av
import numpy as np

from ..arrays import FloatArray
from ..audio.block import Block
from ..audio.ring import AudioRing
from ..audio.sound_file import SpeechFile, open_speech
from ..avatar import Avatar, load_avatar
from ..config import OUTPUT_FOLDER, StreamConfig
from ..contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from ..errors import MiravoxError
from ..face.shared_engines import SharedEngines
from ..interruption import bounded_start, interrupt_on_signals
from ..targets import open_pipeline
from .recorder import Recorder
from .recording_file import check_place


def frame_count(speech: FloatArray | SpeechFile) -> int:
    """How many frames show a recording; the last one covers its end."""
    return math.ceil(len(speech) / SAMPLES_PER_FRAME)


def render_frames(
    avatar: Avatar,
    speech: FloatArray | SpeechFile,
    target: str,
    size: int,
    background: Executor,
    engines: SharedEngines | None = None,
) -> Generator[tuple[av.VideoFrame, Block], None, None]:
    """Every frame of a recording in order, yuv420p, with the 640 samples that it shows. A generator that is drawn from
    and closed on one thread, which owns OpenGL meanwhile.

    Args:
        speech: a recording that is read as it is shown, or all of one: float32 [n], n >= 1, 16 kHz, in [-1, 1]. After
            its end the networks see silence.
        background: decodes the source loop's next picture while the caller has the frame.
        engines: the avatar's, if others share them.
    """
    ring = AudioRing(SAMPLE_RATE)
    arriving = _padded_blocks([speech] if isinstance(speech, np.ndarray) else speech.pieces())
    unshown: deque[Block] = deque()  # what is in the ring, and not beside its frame yet
    reading: Future[None] | None = None
    with open_pipeline(avatar, ring, target, size, engines=engines) as pipeline:
        try:
            for k in range(frame_count(speech)):
                while ring.end_sample < SAMPLES_PER_FRAME * k + max(SAMPLES_PER_FRAME, avatar.lookahead_samples):
                    unshown.append(next(arriving))
                    ring.write(unshown[-1])
                picture = pipeline.render(k)
                reading = background.submit(pipeline.read_ahead)  # if that fails, the next frame says so
                yield picture, unshown.popleft()
        finally:
            if reading is not None:
                wait([reading])  # it uses the pipeline


def _padded_blocks(pieces: Iterable[FloatArray]) -> Iterator[Block]:
    """A recording as blocks of one frame's samples each, and silence after it without end."""
    start, rest = 0, np.zeros(0, np.float32)
    for piece in pieces:
        rest = np.concatenate([rest, piece]) if len(rest) else piece
        whole = len(rest) - len(rest) % SAMPLES_PER_FRAME
        for at in range(0, whole, SAMPLES_PER_FRAME):
            yield Block(start + at, rest[at : at + SAMPLES_PER_FRAME])
        start, rest = start + whole, rest[whole:]
    while True:
        yield Block(start, np.pad(rest, (0, SAMPLES_PER_FRAME - len(rest))))
        start, rest = start + SAMPLES_PER_FRAME, np.zeros(0, np.float32)


def render(config: StreamConfig) -> str:
    """Renders config.source into config.record; returns the closing line.

    What was rendered before a fault or an interruption is kept: a KeyboardInterrupt says how much, if it is anything.
    Raises MiravoxError, without a file if there was no frame yet.
    """
    assert config.source_file is not None and config.record is not None
    check_place(config.record, config.force)  # at once, not after an hour's recording was read
    with bounded_start(str(config.avatar)):
        avatar = load_avatar(config.avatar)
    size = config.size_pixels or avatar.width
    own = config.source_file == config.avatar / "sample.flac"
    speech = open_speech(avatar.sample if own else config.source_file)  # which must be one of its checked files
    if config.record.parent == OUTPUT_FOLDER:
        with contextlib.suppress(OSError):  # the recorder tells why it cannot write there
            OUTPUT_FOLDER.mkdir(exist_ok=True)

    frames = frame_count(speech)
    started = perf_counter()
    recorder = Recorder(config.record, size, avatar.name, avatar.marking, config.force)
    try:
        with recorder, speech:
            _record(recorder, avatar, speech, config.target, size)
    except (KeyboardInterrupt, MiravoxError) as error:
        if not recorder.is_kept:
            raise
        kept = f"the first {recorder.seconds:.1f} s are in {config.record}"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(kept) from error
        if error.thing == str(config.record):  # the recorder has said so
            raise
        remedy = f"{error.remedy} T{kept[1:]}."
        raise MiravoxError(error.thing, found=error.found, wanted=error.wanted, remedy=remedy) from error
    seconds = perf_counter() - started
    return (
        f"{frames} frames in {seconds:.1f} s, {frames / seconds:.1f} frames per second, "
        f"{speech.bad_samples} samples silenced (NaN or infinite): {config.record}"
    )


def _record(recorder: Recorder, avatar: Avatar, speech: SpeechFile, target: str, size: int) -> None:
    """Every frame of a recording into the file."""
    from tqdm import tqdm

    with (
        ThreadPoolExecutor(1) as background,  # a frame is encoded, and one decoded, while the next one is painted
        contextlib.closing(render_frames(avatar, speech, target, size, background)) as rendered,
    ):
        with bounded_start(str(avatar.folder)) if target != "tensorrt" else contextlib.nullcontext():
            first = next(rendered)  # a plan for a GPU may take minutes
        interrupt_on_signals()
        encoded: Future[None] | None = None
        every = itertools.chain([first], rendered)
        for picture, block in tqdm(every, desc=avatar.name, total=frame_count(speech), unit="frame", disable=None):
            if encoded is not None:
                encoded.result()
            encoded = background.submit(recorder.write, block.start // SAMPLES_PER_FRAME, picture, block)
        if encoded is not None:
            encoded.result()
