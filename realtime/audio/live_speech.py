"""LiveSpeech: samples of a microphone are passed on as they come; silence takes the place of those that do not."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray
from ..contract import SAMPLE_RATE
from .block import BLOCK_SAMPLES
from .resampler import SpeechConverter
from .sample_clock import SampleClock

OVERDUE_SAMPLES = 960  # 60 ms without samples from a live source: silence takes their place
DRIFT_SAMPLES, SETTLED_SAMPLES = 320, 32  # 20 ms of drift are corrected until 2 ms are left
DRIFT_PIECES = 50  # arrivals that a drift is judged by: the earliest of them, since jitter only delays
CALIBRATION_SECONDS = 2.0  # after (re)starting, an early arrival corrects the schedule instead
QUIET = 0.003  # -50 dB: among live samples below that, the phase of the blocks is corrected
PHASE_STEP = 64  # samples, 4 ms, at once


@dataclass(frozen=True)
class Piece:
    """What was pushed at once."""

    samples: FloatArray  # [n] at `rate`
    rate: int  # Hz
    seconds: float  # when it was pushed
    source_time: int | None  # the source's own time stamp of its first sample


class LiveSpeech:
    """The schedule of one live source. Used on the input's thread.

    Args:
        block_phase: blocks end at samples that are this modulo 320.
    """

    def __init__(self, clock: SampleClock, convert: SpeechConverter, block_phase: int) -> None:
        self._clock, self._convert, self._block_phase = clock, convert, block_phase
        self._owed = 0  # samples of silence inserted for ones that may still come
        self._calibrating_until = 0.0
        self._leads: deque[float] = deque(maxlen=DRIFT_PIECES)  # samples by which pieces came before they were due
        self.waiting = True  # silent: the next piece restarts the schedule
        self.drift_samples = 0.0
        self.discarded_samples = 0  # that came late: silence had taken their place

    def begin(self) -> None:
        """Another source takes over."""
        self._owed = 0
        self.waiting = True
        self._leads.clear()
        self.drift_samples = 0.0

    def receive(self, piece: Piece) -> None:
        """Passes a piece on, but for what came too late."""
        clock, held = self._clock, self._convert.held_samples(piece.rate)
        samples = self._convert(piece.samples, piece.rate)
        if self.waiting:
            clock.emit_silence(self._to_phase(len(samples)), piece.seconds)
            clock.schedule(clock.end_sample + len(samples), piece.seconds)
            self._calibrating_until = piece.seconds + CALIBRATION_SECONDS
            self._leads.clear()
            self.waiting = False
        elif np.abs(samples).max(initial=0) < QUIET:
            samples = self._back_in_phase(samples, piece.seconds)
        count = len(samples)
        lead = clock.end_sample + count - clock.due_sample(piece.seconds)
        if self._owed and lead > 0:
            late = min(self._owed, count, int(np.ceil(lead)))
            late = max(0, late - self._to_phase(count - late))
            self._owed -= late
            self.discarded_samples += late
            samples, lead = samples[late:], lead - late
        elif lead > 0 and piece.seconds < self._calibrating_until:
            clock.schedule(clock.end_sample + len(samples), piece.seconds)
            lead = 0.0
        if len(samples):
            first = clock.end_sample + len(samples) - count + held
            clock.emit(samples, piece.seconds, None if piece.source_time is None else (piece.source_time, first))
            self._correct_drift(lead, piece)

    def _to_phase(self, count: int) -> int:
        """How many samples a block of `count` ends before the next sample at which a window may end."""
        return (self._block_phase - self._clock.end_sample - count) % BLOCK_SAMPLES

    def _back_in_phase(self, samples: FloatArray, seconds: float) -> FloatArray:
        """Corrects by a few samples where a block ends; between two words nobody hears it."""
        missing = self._to_phase(len(samples))
        if missing <= PHASE_STEP:
            self._clock.emit_silence(missing, seconds)
        elif BLOCK_SAMPLES - missing <= PHASE_STEP:
            self.discarded_samples += BLOCK_SAMPLES - missing
            samples = samples[BLOCK_SAMPLES - missing :]
        return samples

    def _correct_drift(self, lead: float, piece: Piece) -> None:
        """Plays a source 0.5 % faster or slower while its clock is 20 ms ahead of this machine's or behind."""
        self._leads.append(lead)
        if len(self._leads) < DRIFT_PIECES or piece.seconds < self._calibrating_until:
            return
        self.drift_samples = drift = max(self._leads)
        speed = self._convert.resampler.speed
        if speed == 0 and abs(drift) > DRIFT_SAMPLES:
            speed = 1 if drift > 0 else -1
        elif speed and drift * speed < SETTLED_SAMPLES:
            speed = 0
        rest = self._convert.set_speed(speed)
        if len(rest):
            self._clock.emit(rest, piece.seconds)

    def fill_if_overdue(self, now: float) -> float:
        """Inserts silence for samples that are overdue; returns when to look again if nothing comes."""
        clock = self._clock
        missing = clock.due_sample(now) - clock.end_sample
        if missing > OVERDUE_SAMPLES:
            # Up to one or two blocks before what is due, so that samples which come on time again find their place.
            count = int(missing) - BLOCK_SAMPLES
            count -= -self._to_phase(count) % BLOCK_SAMPLES
            clock.emit_silence(count, now)
            self._owed = min(self._owed + count, SAMPLE_RATE)
            self.waiting = True
            missing -= count
        return now + (OVERDUE_SAMPLES - missing + 1) / SAMPLE_RATE
