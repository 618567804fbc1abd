"""Speech from outside -> 16 kHz mono float32 blocks, each stamped with the index of its first sample.

One AudioInput a session. Its thread is the only one that writes blocks, and the only code that reads a clock: all that
follows goes by the index of a sample. Whatever speaks holds a Feed:

    feed = input.attach(live=False)     a recording or an agent: pushes faster than real time, nothing of it is lost
    feed.push(samples, 24_000)          float32 mono at any rate
    feed.end_segment()                  ... `on_playback` is told when the last sample of it was played
    feed.clear()                        barge-in: what is queued is dropped, the epoch goes up, the mouth comes to rest

    feed = input.attach(live=True)      a microphone: samples come in real time and are passed on at once
    feed.push(samples, 48_000)

Silence keeps the clock running when samples stop. Attaching another feed takes the speech from the one before.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from networks.contract import SAMPLE_RATE
from realtime.resampler import FloatArray, StreamResampler
from realtime.schedule import FRAME_SECONDS

BLOCK_SAMPLES = 320  # 20 ms: what is released at once of queued speech
OVERDUE_SAMPLES = 960  # 60 ms without samples from a live source: silence takes their place
DRIFT_SAMPLES, SETTLED_SAMPLES = 320, 32  # 20 ms of drift are corrected until 2 ms are left
DRIFT_CHUNKS = 50  # arrivals that a drift is judged by: the earliest of them, since jitter only delays
CALIBRATION_SECONDS = 2.0  # after (re)starting, an early arrival corrects the schedule instead
QUIET = 0.003  # -50 dB: among live samples below that the phase of the blocks is corrected
PHASE_STEP = 64  # samples, 4 ms, at once
STALE_SECONDS = 0.06  # a queued rest shorter than a block waits so long for more speech
ROUNDING_SAMPLES = 0.01  # a wait that ends on time must not end too early by a rounding error
REFILL_SAMPLES = SAMPLE_RATE  # a feed with `on_low` is asked for more below that


@dataclass(frozen=True)
class Block:
    """A piece of speech on the sample clock."""

    start: int  # index of the first sample, 16 kHz
    samples: FloatArray  # [n], in [-1, 1]
    epoch: int = 0  # goes up when speech is cut off; whatever belongs to an older epoch is discarded


@dataclass(frozen=True)
class PlaybackFinished:
    """A segment was played to its end, or cut off."""

    seconds: float  # of the segment's speech that were played
    interrupted: bool


@dataclass(frozen=True)
class InputCounts:
    """Samples since the start that were not simply passed on."""

    silence: int  # inserted because none came
    discarded: int  # late: silence had taken their place
    bad: int  # NaN or infinite: silenced


@dataclass(frozen=True)
class Arrival:
    """When a sample reached this machine, on the monotonic clock; and how its source counts."""

    sample: int
    seconds: float
    stamp: tuple[int, int] | None = None  # (source_time, sample): a stamp given with `push`, and the sample it names


@dataclass(frozen=True)
class _Chunk:
    samples: FloatArray  # [n] at `rate`
    rate: int
    seconds: float  # when it was pushed
    source_time: int | None


class _SegmentEnd:
    """Marks the end of a segment in the queue."""


class Feed:
    """What a source speaks into. Any thread may call it; calls after another feed was attached do nothing."""

    def __init__(self, owner: AudioInput, live: bool, on_low: Callable[[], None] | None) -> None:
        self._input, self.live, self.on_low = owner, live, on_low

    def push(self, samples: FloatArray, rate: int = SAMPLE_RATE, source_time: int | None = None) -> None:
        """Hands over float32 mono samples [n]; copies nothing, waits for nothing."""
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
    """The sample clock of one session.

    Args:
        write: is given every block, in order and without a gap, on the input's own thread.
        phase: blocks of a live source end at samples that are this modulo 320, so that the block which completes a
            frame's window does not make it wait: the avatar's lookahead.
        on_playback: is told of segments that were played or cut off, on the thread that found out.
        clock: seconds, monotonic.
        turn: seconds, 0 to below 0.04: when in a frame's 40 ms of the clock this input's frames begin, unless a live
            source says when. By default whenever a source is attached.
    """

    def __init__(
        self,
        write: Callable[[Block], None],
        phase: int = 0,
        on_playback: Callable[[PlaybackFinished], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        turn: float | None = None,
    ) -> None:
        self._write, self._phase, self._on_playback, self._clock = write, phase, on_playback, clock
        self._turn = turn
        self._changed = threading.Condition()  # guards what other threads touch: feed, inbox, epoch, marks
        self._feed: Feed | None = None
        self._inbox: deque[_Chunk | _SegmentEnd] = deque()
        self._epoch = 0
        self._segments: deque[tuple[int, int]] = deque()  # first and end sample of those released whole, not yet played
        self._begun: int | None = None  # first sample of the one that is being released
        self._unfinished = False  # speech was pushed after the last end of a segment
        self._played = 0
        self._stopping = False
        self._thread: threading.Thread | None = None

        # Only the input's thread (or, in tests, whoever calls `advance`) touches these.
        self._end_sample = 0
        self._due_at = 0.0, 0  # at that second, that sample is due
        self._current: Feed | None = None
        self._written_epoch = 0
        self._resampler = StreamResampler(SAMPLE_RATE)
        self._queue: deque[FloatArray | _SegmentEnd] = deque()
        self._queued_samples = 0
        self._queue_changed = 0.0
        self._owed = 0  # samples of silence inserted for ones that may still come
        self._paused = True  # the next arrival of a live source restarts the schedule
        self._calibrating_until = 0.0
        self._leads: deque[float] = deque(maxlen=DRIFT_CHUNKS)
        self._drift = 0.0  # samples
        self._silence = self._discarded = self._bad = 0
        self._arrival = Arrival(0, clock())

    # What any thread may ask

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def counts(self) -> InputCounts:
        return InputCounts(self._silence, self._discarded, self._bad)

    @property
    def arrival(self) -> Arrival:
        """The newest block's first sample, and when it came if its samples came one by one. Live sources stamp it."""
        return self._arrival

    @property
    def drift_seconds(self) -> float:
        """How far the live source's clock has run ahead of this machine's since it was last corrected."""
        return self._drift / SAMPLE_RATE

    @property
    def waiting(self) -> bool:
        """Whether a live source is silent: none of its samples came in the last 60 ms."""
        return self._paused

    @property
    def queued_seconds(self) -> float:
        return self._queued_samples / SAMPLE_RATE

    def attach(self, live: bool, on_low: Callable[[], None] | None = None) -> Feed:
        """A new feed, which takes the place of the one before (its unplayed speech is dropped).

        Args:
            live: samples come in real time, and are late if they come later.
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
        finished = []
        with self._changed:
            self._played = max(self._played, end_sample)
            while self._segments and self._segments[0][1] <= end_sample:
                first, end = self._segments.popleft()
                finished.append(PlaybackFinished((end - first) / SAMPLE_RATE, interrupted=False))
        for each in finished:
            self._report(each)

    # What a feed does

    def _push(self, feed: Feed, samples: FloatArray, rate: int, source_time: int | None) -> None:
        with self._changed:
            if feed is self._feed:
                self._inbox.append(_Chunk(samples, rate, self._clock(), source_time))
                self._unfinished = True
                self._changed.notify()

    def _end_segment(self, feed: Feed) -> None:
        with self._changed:
            if feed is self._feed:
                self._inbox.append(_SegmentEnd())
                self._unfinished = False
                self._changed.notify()

    def _clear(self, feed: Feed) -> None:
        with self._changed:
            interrupted = self._cut_off() if feed is self._feed else None
            self._changed.notify()
        self._report(interrupted)

    def _cut_off(self) -> PlaybackFinished | None:
        """Starts a new epoch. The caller holds the lock, and reports what is returned after releasing it."""
        pending = self._unfinished or bool(self._segments) or self._begun is not None
        pending = pending or any(isinstance(item, _SegmentEnd) for item in (*self._inbox, *self._queue))
        first = self._segments[0][0] if self._segments else self._begun
        seconds = max(0, self._played - first) / SAMPLE_RATE if first is not None else 0.0
        was_queued = self._feed is not None and not self._feed.live
        self._epoch += 1
        self._inbox.clear()
        self._segments.clear()
        self._begun, self._unfinished = None, False
        return PlaybackFinished(seconds, interrupted=True) if pending and was_queued else None

    def _report(self, finished: PlaybackFinished | None) -> None:
        if finished is not None and self._on_playback is not None:
            self._on_playback(finished)

    # The input's thread

    def start(self) -> None:
        """Starts the clock."""
        self._restart_schedule(self._clock())
        self._thread = threading.Thread(target=self._run, name="audio input", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops the clock; returns when no more block will be written."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            wake_at = self.advance(self._clock())
            with self._changed:
                if self._stopping:
                    return
                live = self._feed is not None and self._feed.live
                changed = self._feed is not self._current or self._epoch != self._written_epoch
                if not changed and not (live and self._inbox):
                    self._changed.wait(max(0.0, wake_at - self._clock()))

    def advance(self, now: float) -> float:
        """Does all that is due at `now` seconds; returns when there will be something to do if nothing arrives."""
        with self._changed:
            arrived = list(self._inbox)
            self._inbox.clear()
            feed, epoch = self._feed, self._epoch
        if feed is not self._current or epoch != self._written_epoch:
            self._begin_epoch(feed, epoch, now)
        if feed is not None and feed.live:
            for chunk in arrived:
                if isinstance(chunk, _Chunk):
                    self._receive(chunk)
            return self._fill_if_overdue(now)
        self._enqueue(arrived, now)
        return self._release(feed, now)

    def _begin_epoch(self, feed: Feed | None, epoch: int, now: float) -> None:
        self._queue.clear()
        self._queued_samples = 0
        if feed is not self._current:
            self._current = feed
            self._resampler = StreamResampler(SAMPLE_RATE)
            self._owed = 0
            self._paused = True
            self._leads.clear()
            self._drift = 0.0
            self._restart_schedule(now)
        self._written_epoch = epoch
        self._emit(np.zeros(0, np.float32), now)  # tells the ring at once

    def _restart_schedule(self, now: float) -> None:
        """The next sample is due at the input's turn, or now."""
        wait = 0.0 if self._turn is None else (self._turn + self._end_sample / SAMPLE_RATE - now) % FRAME_SECONDS
        self._due_at = now + wait, self._end_sample

    def _due(self, seconds: float) -> float:
        """The sample that is due at that moment."""
        since, sample = self._due_at
        return sample + (seconds - since) * SAMPLE_RATE + ROUNDING_SAMPLES

    def _emit(self, samples: FloatArray, seconds: float, stamp: tuple[int, int] | None = None) -> None:
        block = Block(self._end_sample, samples, self._written_epoch)
        self._end_sample += len(samples)
        self._arrival = Arrival(block.start, seconds - len(samples) / SAMPLE_RATE, stamp)
        self._write(block)

    def _emit_silence(self, count: int, seconds: float) -> None:
        if count > 0:
            self._silence += count
            self._emit(np.zeros(count, np.float32), seconds)

    def _to_speech(self, chunk: _Chunk) -> FloatArray:
        """16 kHz samples in [-1, 1], all finite."""
        if chunk.rate != self._resampler.rate:
            self._resampler = StreamResampler(chunk.rate)
        samples = chunk.samples
        if not np.isfinite(samples).all():
            good = np.isfinite(samples)
            self._bad += int(samples.size - np.count_nonzero(good))
            samples = np.where(good, samples, np.float32(0))
        return np.clip(self._resampler(samples), -1, 1)

    # Live: samples are passed on as they come

    def _receive(self, chunk: _Chunk) -> None:
        held = round(self._resampler.held_samples) if chunk.rate == self._resampler.rate else 0
        samples = self._to_speech(chunk)
        if self._paused:
            self._emit_silence(self._to_phase(len(samples)), chunk.seconds)
            self._due_at = chunk.seconds, self._end_sample + len(samples)
            self._calibrating_until = chunk.seconds + CALIBRATION_SECONDS
            self._leads.clear()
            self._paused = False
        elif np.abs(samples).max(initial=0) < QUIET:
            samples = self._back_in_phase(samples, chunk.seconds)
        count = len(samples)
        lead = self._end_sample + count - self._due(chunk.seconds)
        if self._owed and lead > 0:
            late = min(self._owed, count, int(np.ceil(lead)))
            late = max(0, late - self._to_phase(count - late))
            self._owed -= late
            self._discarded += late
            samples, lead = samples[late:], lead - late
        elif lead > 0 and chunk.seconds < self._calibrating_until:
            self._due_at, lead = (chunk.seconds, self._end_sample + len(samples)), 0.0
        if len(samples):
            first = self._end_sample + len(samples) - count + held
            stamp = None if chunk.source_time is None else (chunk.source_time, first)
            self._emit(samples, chunk.seconds, stamp)
            self._correct_drift(lead, chunk)

    def _to_phase(self, count: int) -> int:
        """How many samples a block of `count` ends before the next sample at which a window may end."""
        return (self._phase - self._end_sample - count) % BLOCK_SAMPLES

    def _back_in_phase(self, samples: FloatArray, seconds: float) -> FloatArray:
        """Corrects by a few samples where a block ends; between two words nobody hears it."""
        missing = self._to_phase(len(samples))
        if missing <= PHASE_STEP:
            self._emit_silence(missing, seconds)
        elif BLOCK_SAMPLES - missing <= PHASE_STEP:
            self._discarded += BLOCK_SAMPLES - missing
            samples = samples[BLOCK_SAMPLES - missing :]
        return samples

    def _correct_drift(self, lead: float, chunk: _Chunk) -> None:
        """Plays a live source 0.5 % faster or slower while its clock is 20 ms ahead of this machine's or behind."""
        self._leads.append(lead)
        if len(self._leads) < DRIFT_CHUNKS or chunk.seconds < self._calibrating_until:
            return
        self._drift = drift = max(self._leads)
        speed = self._resampler.speed
        if speed == 0 and abs(drift) > DRIFT_SAMPLES:
            speed = 1 if drift > 0 else -1
        elif speed and drift * speed < SETTLED_SAMPLES:
            speed = 0
        rest = self._resampler.set_speed(speed)
        if len(rest):
            self._emit(np.clip(rest, -1, 1), chunk.seconds)

    def _fill_if_overdue(self, now: float) -> float:
        missing = self._due(now) - self._end_sample
        if missing > OVERDUE_SAMPLES:
            # Up to one or two blocks before what is due, so that samples which come on time again find their place.
            count = int(missing) - BLOCK_SAMPLES
            count -= -self._to_phase(count) % BLOCK_SAMPLES
            self._emit_silence(count, now)
            self._owed = min(self._owed + count, SAMPLE_RATE)
            self._paused = True
            missing -= count
        return now + (OVERDUE_SAMPLES - missing + 1) / SAMPLE_RATE

    # Queued: speech is released in real time

    def _enqueue(self, arrived: list[_Chunk | _SegmentEnd], now: float) -> None:
        for item in arrived:
            piece = self._to_speech(item) if isinstance(item, _Chunk) else item
            self._queue.append(piece)
            self._queued_samples += 0 if isinstance(piece, _SegmentEnd) else len(piece)
            self._queue_changed = now

    def _release(self, feed: Feed | None, now: float) -> float:
        while self._due(now) - self._end_sample >= BLOCK_SAMPLES:
            if self._due(now) - self._end_sample > SAMPLE_RATE:  # this machine slept: nobody waits for that second
                self._restart_schedule(now - BLOCK_SAMPLES / SAMPLE_RATE)
            self._release_block(now)
        if feed is not None and feed.on_low is not None and self._queued_samples < REFILL_SAMPLES:
            feed.on_low()
        since, sample = self._due_at
        return since + (self._end_sample + BLOCK_SAMPLES - sample) / SAMPLE_RATE

    def _release_block(self, now: float) -> None:
        block = np.zeros(BLOCK_SAMPLES, np.float32)
        filled = 0
        whole = self._queued_samples >= BLOCK_SAMPLES or any(isinstance(item, _SegmentEnd) for item in self._queue)
        if whole or now - self._queue_changed >= STALE_SECONDS:
            while self._queue and (filled < BLOCK_SAMPLES or isinstance(self._queue[0], _SegmentEnd)):
                item = self._queue.popleft()
                if isinstance(item, _SegmentEnd):
                    self._end_of_segment(self._end_sample + filled)
                    continue
                count = min(len(item), BLOCK_SAMPLES - filled)
                self._begin_segment(self._end_sample + filled)
                block[filled : filled + count] = item[:count]
                filled += count
                self._queued_samples -= count
                if count < len(item):
                    self._queue.appendleft(item[count:])
        self._silence += BLOCK_SAMPLES - filled
        self._emit(block, now)

    def _begin_segment(self, sample: int) -> None:
        with self._changed:
            if self._begun is None and self._epoch == self._written_epoch:
                self._begun = sample

    def _end_of_segment(self, sample: int) -> None:
        with self._changed:
            if self._epoch == self._written_epoch:
                self._segments.append((sample if self._begun is None else self._begun, sample))
                self._begun = None


def in_epoch(block: Block, epoch: int) -> Block:
    """The block itself, or as much silence if it belongs to an older epoch."""
    return block if block.epoch >= epoch else replace(block, samples=np.zeros_like(block.samples), epoch=epoch)
