"""Speech from outside -> 16 kHz mono float32 blocks, each stamped with the index of its first sample.

One AudioInput a session. Its thread is the only one that writes blocks, and the only code that reads a clock: all that
follows goes by the index of a sample. Whatever speaks holds a Feed:

    feed = input.attach(live=False)     a recording or an agent: pushes faster than real time, nothing of it is lost
    feed.push(samples, 24_000)          float32 mono at any rate
    feed.end_segment()                  ... `on_playback` is told when the last sample of it was played
    feed.clear()                        barge-in: what is queued is dropped, the epoch goes up, the mouth comes to rest

    feed = input.attach(live=True)      a microphone: samples come in real time, and are passed on as soon as can be
    feed.push(samples, 48_000)

Silence keeps the clock running when samples stop, and nothing that comes makes it run faster or slower. Attaching
another feed takes the speech from the one before.

What other threads hand over waits in an inbox behind a lock; what they may know of the input's thread is published as
one InputState after everything that it does.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray
from ..contract import SAMPLE_RATE
from .block import Block
from .live_speech import LiveSpeech, Piece
from .playback import Playback, PlaybackLedger
from .queued_speech import QueuedSpeech, SegmentEnd
from .resampler import SpeechConverter
from .sample_clock import Arrival, SampleClock


@dataclass(frozen=True)
class InputCounts:
    """Samples since the start that were not simply passed on."""

    silence: int  # inserted because none came
    discarded: int  # of a live source: too late, or left out to shorten its delay
    bad: int  # NaN or infinite: silenced


@dataclass(frozen=True)
class InputState:
    """The input at one moment."""

    counts: InputCounts
    arrival: Arrival  # the newest block's first sample, and when it came if its samples came one by one
    drift_seconds: float  # how far a live source's clock has run ahead of this machine's since it was last corrected
    buffer_seconds: float  # how long live speech waits for its turn after it came: as its lateness needs
    waiting: bool  # a live source is silent: 60 ms of silence or more stand for what did not come
    queued_seconds: float  # of speech that was pushed faster than real time


class Feed:
    """What a source speaks into. Any thread may call it; calls after another feed was attached do nothing."""

    def __init__(self, owner: AudioInput, live: bool, on_low: Callable[[], None] | None) -> None:
        self._input, self.live, self.on_low = owner, live, on_low

    def push(self, samples: FloatArray, rate: int = SAMPLE_RATE, source_time: int | None = None) -> None:
        """Hands over float32 mono samples [n]; copies nothing, waits for nothing.

        Args:
            rate: Hz.
            source_time: the source's own time stamp of the first sample: it counts samples at `rate`, modulo 2 ** 32.
        """
        self._input._push(self, samples, rate, source_time)

    def end_segment(self) -> None:
        """The speech pushed so far is one utterance; its end will be reported."""
        self._input._end_segment(self)

    def clear(self) -> None:
        """Drops all speech that was not played yet. An unfinished segment is reported as interrupted."""
        self._input._clear(self)

    @property
    def attached(self) -> bool:
        return self._input._feed is self


class AudioInput:
    """The audio input of one session, and its sample clock's thread.

    Args:
        write: is given every block, in order and without a gap, on the input's own thread.
        block_phase: blocks of a live source end at samples that are this modulo 320, so that the block which completes
            a frame's window does not make it wait: the avatar's lookahead.
        on_playback: is told of segments that begin to be played, were played or cut off, on the thread that found out.
        clock: seconds, monotonic.
        frame_phase_seconds: 0 to below 0.04: when in a frame's 40 ms of the clock this input's frames begin, unless a
            live source says when. None: whenever a source is attached.
    """

    def __init__(
        self,
        write: Callable[[Block], None],
        block_phase: int = 0,
        on_playback: Callable[[Playback], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        frame_phase_seconds: float | None = None,
    ) -> None:
        self._on_playback, self._clock = on_playback, clock
        self._changed = threading.Condition()  # guards what any thread touches: this block
        self._feed: Feed | None = None
        self._inbox: deque[Piece | SegmentEnd] = deque()
        self._epoch = 0
        self._ledger = PlaybackLedger()
        self._stopping = False
        self._thread: threading.Thread | None = None

        # Only the input's thread (or, in tests, whoever calls `advance`) touches these.
        self._current: Feed | None = None
        self._samples = SampleClock(write, frame_phase_seconds, clock())
        self._convert = SpeechConverter()
        self._live = LiveSpeech(self._samples, self._convert, block_phase)
        self._queued = QueuedSpeech(self._samples, self._released, self._segment_released)

        self._state = self._snapshot()  # replaced as a whole: any thread may read it

    # What any thread may ask

    @property
    def epoch(self) -> int:
        """Goes up whenever speech is cut off."""
        with self._changed:
            return self._epoch

    @property
    def state(self) -> InputState:
        """As it was after the last thing that the input's thread did."""
        return self._state

    def attach(self, live: bool, on_low: Callable[[], None] | None = None) -> Feed:
        """A new feed, which takes the place of the one before (its unplayed speech is dropped).

        Args:
            live: samples come in real time. What comes late again and again is waited for, up to 250 ms.
            on_low: is called, on the input's thread, when less than a second of speech is queued.
        """
        with self._changed:
            interrupted = self._cut_off()
            self._feed = feed = Feed(self, live, on_low)
            self._changed.notify()
        self._report(interrupted)
        return feed

    def played(self, end_sample: int) -> None:
        """The output tells that the speech before this sample has left."""
        with self._changed:
            news = self._ledger.played(end_sample)
        self._report(news)

    # What a feed does

    def _push(self, feed: Feed, samples: FloatArray, rate: int, source_time: int | None) -> None:
        with self._changed:
            if feed is self._feed:
                self._inbox.append(Piece(samples, rate, self._clock(), source_time))
                self._ledger.pushed()
                self._changed.notify()

    def _end_segment(self, feed: Feed) -> None:
        with self._changed:
            if feed is self._feed:
                self._inbox.append(SegmentEnd())
                self._ledger.ended()
                self._changed.notify()

    def _clear(self, feed: Feed) -> None:
        with self._changed:
            interrupted = self._cut_off() if feed is self._feed else []
            self._changed.notify()
        self._report(interrupted)

    def _cut_off(self) -> list[Playback]:
        """Starts a new epoch. The caller holds the lock, and reports what is returned after releasing it."""
        was_queued = self._feed is not None and not self._feed.live
        self._epoch += 1
        self._inbox.clear()
        interrupted = self._ledger.cut_off()
        return [interrupted] if interrupted is not None and was_queued else []

    def _report(self, news: list[Playback]) -> None:
        if self._on_playback is not None:
            for each in news:
                self._on_playback(each)

    # The input's thread

    def start(self) -> None:
        """Starts the clock."""
        self._samples.restart(self._clock())
        self._thread = threading.Thread(target=self._run, name="audio input", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops the clock; returns when no more block will be written."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        with self._changed:  # what is large, or has threads of its own, goes now rather than some time later
            self._feed = None
            self._inbox.clear()
            self._queued.clear()
            self._convert.restart()

    def _run(self) -> None:
        while True:
            wake_at = self.advance(self._clock())
            with self._changed:
                if self._stopping:
                    return
                live = self._feed is not None and self._feed.live
                changed = self._feed is not self._current or self._epoch != self._samples.epoch
                if not changed and not (live and self._inbox):
                    self._changed.wait(max(0.0, wake_at - self._clock()))

    def advance(self, now: float) -> float:
        """Does all that is due at `now` seconds; returns when there will be something to do if nothing arrives."""
        with self._changed:
            arrived = list(self._inbox)
            self._inbox.clear()
            feed, epoch = self._feed, self._epoch
        if feed is not self._current or epoch != self._samples.epoch:
            self._begin_epoch(feed, epoch, now)
        if feed is not None and feed.live:
            for item in arrived:
                if isinstance(item, Piece):
                    self._live.receive(item)
            wake_at = self._live.release(now)
        else:
            for item in arrived:
                if isinstance(item, Piece):
                    self._queued.append(self._convert(item.samples, item.rate), now)
                else:
                    self._queued.append(self._convert.finish(), now)  # an utterance keeps its last millisecond
                    self._queued.append(item, now)
            wake_at = self._queued.release(now, feed.on_low if feed is not None else None)
        self._state = self._snapshot()
        return wake_at

    def _begin_epoch(self, feed: Feed | None, epoch: int, now: float) -> None:
        self._queued.clear()
        self._live.silence(now)
        if feed is not self._current:
            self._current = feed
            self._convert.restart()
            self._live.begin()
            if feed is not None and not feed.live:
                self._samples.align(now)
        self._samples.epoch = epoch
        self._samples.emit(np.zeros(0, np.float32), now)  # tells the ring at once

    def _released(self, sample: int) -> None:
        with self._changed:
            if self._epoch == self._samples.epoch:
                self._ledger.released(sample)

    def _segment_released(self, sample: int) -> None:
        with self._changed:
            if self._epoch == self._samples.epoch:
                self._ledger.released_end(sample)

    def _snapshot(self) -> InputState:
        return InputState(
            counts=InputCounts(self._samples.silence_samples, self._live.discarded_samples, self._convert.bad_samples),
            arrival=self._samples.arrival,
            drift_seconds=self._live.drift_samples / SAMPLE_RATE,
            buffer_seconds=self._live.buffer_samples / SAMPLE_RATE,
            waiting=self._live.waiting,
            queued_seconds=self._queued.queued_samples / SAMPLE_RATE,
        )
