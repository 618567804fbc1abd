"""LiveAvatar: one avatar that speaks in real time, without anything that sends it anywhere.

speech -> AudioInput -> AudioRing -> RenderLoop -> Mailbox -> ComposeLoop -> encode, on_frame
                     -> on_speech
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..audio.block import Block
from ..audio.input import AudioInput
from ..audio.playback import Playback
from ..audio.ring import AudioRing
from ..avatar import Avatar
from ..contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from ..face.shared_engines import SharedEngines
from ..frames import FULL_QUALITY, Frame, Painted, Quality
from ..stage_timer import StageTimer
from ..targets import open_pipeline
from .compose_loop import ComposeLoop
from .mailbox import Mailbox
from .render_loop import RenderLoop
from .schedule import Cores

RING_SECONDS = 2


class LiveAvatar:
    """The sample clock and the two threads that make frames. Any one thread makes, starts and closes it.

    Args:
        target: "baked", "onnx" or "tensorrt".
        size: side of the square frame, pixels.
        on_speech: is given every block, on the input's thread.
        on_frame: is given every frame, on the composing thread; it must not wait.
        wanted: whether anybody takes the frames; none are made while nobody does.
        encode: is given every frame before on_frame, as a part of what the frame costs.
        on_playback: is told of segments that begin to be played, were played or cut off.
        timer: is told how long stages took, and counts frames.
        cores: that frames of several avatars share.
        engines: of the avatar, if several share them.
        keep_on_device: a GPU's frames are also left in its memory, for an encoder there.
        frame_phase_seconds: when within 40 ms its frames begin, for queued speech; see AudioInput.
    """

    def __init__(
        self,
        avatar: Avatar,
        target: str,
        size: int,
        *,
        on_speech: Callable[[Block], None],
        on_frame: Callable[[Frame], None],
        wanted: Callable[[], bool] = lambda: True,
        encode: Callable[[Frame], None] = lambda frame: None,
        on_playback: Callable[[Playback], None] | None = None,
        timer: StageTimer | None = None,
        cores: Cores | None = None,
        engines: SharedEngines | None = None,
        keep_on_device: bool = False,
        frame_phase_seconds: float | None = None,
    ) -> None:
        self.avatar, self.size = avatar, size
        self.timer = timer or StageTimer()
        self.ring = AudioRing(RING_SECONDS * SAMPLE_RATE)
        self.input = AudioInput(
            self._write_speech,
            block_phase=avatar.lookahead_samples,
            on_playback=on_playback,
            frame_phase_seconds=frame_phase_seconds,
        )
        self._on_speech, self._on_frame, self._encode = on_speech, on_frame, encode
        self._cores = cores or Cores()
        self._mailbox: Mailbox[Painted[Any]] = Mailbox()
        self._failure: Exception | None = None  # of what was closed
        self._render_loop: RenderLoop | None = RenderLoop(  # until it is closed
            lambda: open_pipeline(avatar, self.ring, target, size, self.timer, keep_on_device, engines),
            self.ring,
            avatar.lookahead_samples,
            self._mailbox,
            self.timer,
            self._cores,
            wanted,
        )
        self._compose_loop: ComposeLoop | None = None  # once started

    def wait_until_ready(self) -> None:
        """Returns when frames can be rendered. Raises what stands in the way."""
        self._open_loop().wait_until_ready()

    def _open_loop(self) -> RenderLoop:
        assert self._render_loop is not None, "a closed avatar"
        return self._render_loop

    def start(self) -> None:
        """Starts the sample clock at sample 0. Waits until frames can be rendered; raises what stands in the way."""
        pipeline = self._open_loop().wait_until_ready()
        self._compose_loop = ComposeLoop(
            pipeline,
            self._mailbox,
            self.timer,
            self._cores,
            epoch=lambda: self.input.epoch,
            encode=self._encode,
            deliver=self._on_frame,
        )
        self.input.start()
        self._open_loop().start()

    def stop(self) -> None:
        """No block and no frame comes after this. The pipeline still holds what it has; `close` must follow."""
        self.input.stop()
        self._mailbox.close()
        if self._compose_loop is not None:
            self._compose_loop.stop()

    def close(self) -> None:
        """Ends every thread, and gives back OpenGL, the pipeline's memory and what a GPU holds. May be called twice."""
        self.stop()
        if self._render_loop is not None:
            self._render_loop.stop()
            self._failure = self.failure
            self._render_loop = self._compose_loop = None  # and with them the pipeline, now rather than some time later

    def _write_speech(self, block: Block) -> None:
        self.ring.write(block)
        self._on_speech(block)

    @property
    def failure(self) -> Exception | None:
        """What ended the rendering, if something did."""
        composing = self._compose_loop.failure if self._compose_loop is not None else None
        rendering = self._render_loop.failure if self._render_loop is not None else None
        return self._failure or rendering or composing

    @property
    def quality(self) -> Quality:
        """Of the next frame: less than full while frames come late."""
        return self._render_loop.quality if self._render_loop is not None else FULL_QUALITY

    def latency_ms(self, frame: Frame) -> float:
        """From the arrival of the sample that a frame shows until now."""
        arrival = self.input.state.arrival
        arrived = arrival.seconds + (SAMPLES_PER_FRAME * frame.index - arrival.sample) / SAMPLE_RATE
        return 1000 * (time.monotonic() - arrived)
