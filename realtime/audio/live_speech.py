"""LiveSpeech: a microphone's samples are passed on at the pace of the clock, as soon as their arrivals allow.

Blocks of 20 ms have their turns on the sample clock, which keeps real time whatever comes. A source whose pieces come
evenly is passed on as it comes. One whose pieces come late again and again, or in bursts, is delayed by as many whole
blocks as its lateness needs: silence goes first, and what comes late is kept. When it comes evenly again, blocks are
left out of its pauses, or it is played 0.5 % faster for four seconds. The same corrects a sound card's clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray
from ..contract import SAMPLE_RATE
from .block import BLOCK_SAMPLES
from .lateness import KEPT_PIECES, LATE_SAMPLES, LOST_SAMPLES, Lateness, Verdict
from .live_queue import LiveQueue, Stretch
from .resampler import SPEED_STEP, SpeechConverter
from .sample_clock import SampleClock
from .source_time import HOLES, SourceTime

OVERDUE_SAMPLES = 416  # a block that is not there 26 ms after its turn becomes silence
EARLY_SAMPLES = 32  # a block that is there goes up to 2 ms before its turn, so that jitter makes few wait
WAITING_SAMPLES = 960  # after 60 ms of silence in a row a source counts as silent
PAUSE_SAMPLES = SAMPLE_RATE // 2  # after half a second what comes is new, and given the usual delay from the beginning
MAX_DELAY_SAMPLES = 4000  # 250 ms: nothing waits longer, but for the length of the longest piece lately
DROP_TO_SAMPLES = MAX_DELAY_SAMPLES // 2  # what waits is cut to that when it would
RECOVERY_SECONDS = 1.0  # after a silence: pieces that come faster than real time are the late ones
LATE_AT_FIRST_SAMPLES = 224  # 14 ms: the first piece goes at once as far as it may come late; it is rarely early
CALIBRATION_SECONDS = 0.5  # so long after it the turns are moved, by less than a block, to when pieces come
CALIBRATED_SAMPLES = 16  # 1 ms: near enough
JUDGED_PIECES = 8  # how often it is looked whether the delay could be shorter
TOLERATED_SAMPLES = 64  # so much too little slack is no reason to add a block
DRIFTED_SAMPLES = 96  # a source of which half the pieces come later than that is slow
PATIENCE_SECONDS = 2.0  # so long a pause is waited for before the speed is changed
SETTLED_SAMPLES = 4  # the speed is changed until pieces end so little after a block
QUIET_SHARE, FAINT = 0.06, 1e-4  # -24 dB against the peaks of the last seconds is a pause, and so are -80 dB
CLICK_SHARE, LOUDNESS_PIECES = 0.1, 500  # how fast peaks are learnt, so that a click is none, and forgotten
PHASE_STEP = 64  # samples, 4 ms, at once: in a pause the phase of the blocks is corrected
UNKNOWN_SAMPLES = 1 << 40  # of silence before the first piece


@dataclass(frozen=True)
class Piece:
    """What was pushed at once."""

    samples: FloatArray  # [n] at `rate`
    rate: int  # Hz
    seconds: float  # when it was pushed
    source_time: int | None  # the source's own time stamp of its first sample: samples at `rate`, modulo 2 ** 32


class LiveSpeech:
    """The delay of one live source. Used on the input's thread.

    Args:
        block_phase: blocks end at samples that are this modulo 320.
    """

    def __init__(self, clock: SampleClock, convert: SpeechConverter, block_phase: int) -> None:
        self._clock, self._convert, self._block_phase = clock, convert, block_phase
        self.discarded_samples = 0  # that came too late, or were left out to shorten the delay
        self.begin()

    def begin(self) -> None:
        """Another source takes over."""
        self._queue, self._lateness, self._source_time = LiveQueue(), Lateness(), SourceTime()
        self._owed = UNKNOWN_SAMPLES  # silence in place of samples that may still come
        self._silent = UNKNOWN_SAMPLES  # samples of silence in a row, since the newest piece
        self._recovering_until = -math.inf  # seconds; owed samples are told from new ones until then
        self._recovery_began = 0  # samples received
        self._calibrating, self._calibrate_from = True, -math.inf
        self._judge_in = 1  # pieces
        self._longest = 0.0  # piece lately
        self._wanted, self._wanted_since = 0, 0.0  # blocks by which the delay should be longer, or shorter; since when
        self._next_speed = 0  # of the pieces that follow: 1 is 0.5 % faster, -1 slower
        self._speeding = 0.0  # samples by which the changed speed is yet to lengthen the delay; below 0, to shorten it
        self._drift_zero: float | None = None  # the earliest pieces' lead when drift was corrected last
        self._loudness = 0.0  # peaks of the last seconds' speech
        self.drift_samples = 0.0
        self.buffer_samples = 0.0  # how long the newest samples of a piece wait for their turn

    @property
    def waiting(self) -> bool:
        """Nothing came lately: silence stands for it."""
        return self._silent >= WAITING_SAMPLES

    def silence(self, now: float) -> None:
        """What waits is not said."""
        self._queue.silence(now)

    # What comes

    def receive(self, piece: Piece) -> None:
        """Queues a piece where its turn is, but for what came too late."""
        held = self._convert.held_samples(piece.rate)
        samples = self._convert(piece.samples, piece.rate)
        given, stamp, seconds = len(piece.samples), piece.source_time, piece.seconds
        ahead = self._source_time.ahead(stamp, piece.rate, seconds)
        if ahead < 0 and stamp is not None:
            if self._fill_gap(stamp, given, samples, seconds):
                return
            self._source_time.distrust(seconds)
        elif ahead > 0:
            self._note_gap(ahead, len(samples), seconds)
        self._source_time.follow(stamp, piece.rate, given)
        if len(samples):
            self._place(samples, seconds, None if stamp is None else (stamp, held))
            self._steady_speed(piece)

    def _place(self, samples: FloatArray, seconds: float, stamp: tuple[int, int] | None) -> None:
        count = len(samples)
        self._longest = max(count, self._longest * (1 - 1 / KEPT_PIECES))
        if self._silent and self._owed:
            self._recover(count, seconds)
        elif seconds > self._recovering_until:
            self._owed = 0
        self._silent = 0
        lead = self._lead(count, seconds)
        cut = 0
        if self._owed and lead is not None:
            cut = self._late_part(lead, count)
            lead -= cut
        if lead is not None:
            self._lateness.add(lead, count)
            self._judge_in -= 1
            if lead < -LATE_SAMPLES or self._judge_in <= 0:
                self._judge(lead, count, seconds)
        if cut:
            self.discarded_samples += cut
            samples, stamp = samples[cut:], None if stamp is None else (stamp[0], stamp[1] - cut)
        quiet = self._is_quiet(samples)
        if quiet:
            samples, stamp = self._back_in_phase(samples, seconds, stamp)
        self._queue.append(Stretch(samples, seconds, stamp, quiet=quiet))
        excess = self._end_sample - len(samples) - self._clock.due_sample(seconds)
        if excess > MAX_DELAY_SAMPLES + self._longest:
            drop = _whole_blocks(excess - DROP_TO_SAMPLES)
            self.discarded_samples += self._queue.drop(drop)
            self._lateness.shift(-drop)

    @property
    def _end_sample(self) -> int:
        """Where the next piece begins."""
        return self._clock.end_sample + self._queue.count

    def _lead(self, count: int, seconds: float) -> float | None:
        """How many samples before its turn a piece came; None if no block ends in it."""
        first, due = self._end_sample, self._clock.due_sample(seconds)
        odd = count % BLOCK_SAMPLES
        if min(odd, BLOCK_SAMPLES - odd) <= 2 + count // 100 or (odd == count and BLOCK_SAMPLES % count == 0):
            return first + min(count, BLOCK_SAMPLES) - due  # blocks end where pieces do, or soon will again
        block_end = first + (self._block_phase - first - 1) % BLOCK_SAMPLES + 1
        return block_end - due if block_end <= first + count else None

    def _recover(self, count: int, seconds: float) -> None:
        """A piece comes after silence. After a pause it is given the usual delay, and ends where a block does."""
        if self._silent >= PAUSE_SAMPLES:
            usual, pad = self._lateness.verdict().typical, self._to_phase(count)
            lead = self._end_sample + pad + min(count, BLOCK_SAMPLES) - self._clock.due_sample(seconds)
            wait = max(0, math.ceil((usual - LATE_AT_FIRST_SAMPLES - lead) / BLOCK_SAMPLES)) * BLOCK_SAMPLES
            if not self._clock.end_sample:
                self._clock.schedule(lead + wait + self._clock.due_sample(seconds), seconds)
            elif not self._lateness.received_samples:
                self._clock.shift(max(0.0, lead + wait), seconds)
            self._queue.append_silence(pad + wait, seconds)
            self._calibrating, self._calibrate_from = True, seconds + CALIBRATION_SECONDS
        self._recovering_until, self._recovery_began = seconds + RECOVERY_SECONDS, self._lateness.received_samples

    def _late_part(self, lead: float, count: int) -> int:
        """How much of a piece is left out since it is late: it came early, so those since the silence were late.

        If pieces were late before, they are kept instead, as far as the delay has to grow.
        """
        early = lead - self._lateness.verdict().earliest if self._lateness.received_samples else 0.0
        owed = min(round(early / BLOCK_SAMPLES) * BLOCK_SAMPLES, self._owed)
        if owed < (2 * BLOCK_SAMPLES if self._owed > UNKNOWN_SAMPLES // 2 else BLOCK_SAMPLES):
            return 0  # one block may be jitter where it is not known what is owed
        self._lateness.shift(-owed, since=self._recovery_began)
        verdict = self._lateness.verdict()
        kept = min(owed, self._growth(verdict))
        cut = min(owed - kept, count)
        self._lateness.shift(owed - kept - cut, since=self._recovery_began)
        self._lengthened(kept)
        self._owed -= kept + cut
        return cut

    # What the source's time stamps say

    def _note_gap(self, ahead: int, count: int, seconds: float) -> None:
        """Leaves room for samples that did not come, if the clock agrees: silence counts that stands there already."""
        owed = self._owed if self._silent else 0
        lead = self._end_sample + min(count, BLOCK_SAMPLES) - self._clock.due_sample(seconds)
        late = owed + self._lateness.verdict().early - lead
        if late < ahead - LATE_SAMPLES:
            self._source_time.distrust(seconds)
            return
        covered = min(owed, ahead)
        holes = min((ahead - covered) // count, HOLES) if count else 0
        silent = ahead - holes * count
        self._owed -= covered
        if silent:
            self._source_time.note_gap(silent, self._end_sample - covered, None)
            self._queue.append_silence(silent - covered, seconds)
        for _ in range(holes):
            first = self._end_sample
            self._source_time.note_gap(count, first, self._queue.append_silence(count, seconds, hole=True))

    def _fill_gap(self, stamp: int, given: int, samples: FloatArray, seconds: float) -> bool:
        """Puts a piece that others have overtaken where it belongs; False if nothing was missing there."""
        found = self._source_time.gap_of(stamp, given)
        if found is None:
            return False
        gap, after = found
        placed = self._queue.fill(gap.hole, samples, seconds) if gap.hole is not None else 0
        self.discarded_samples += len(samples) - placed
        lead = gap.sample + after + min(len(samples), BLOCK_SAMPLES) - self._clock.due_sample(seconds)
        self._lateness.add(lead, len(samples))
        self._judge(lead, len(samples), seconds)
        return True

    # The delay

    def _judge(self, lead: float, count: int, seconds: float) -> None:
        """Looks at the newest pieces, of which one with that lead has just come, and decides about the delay."""
        self._judge_in = JUDGED_PIECES
        if self._calibrating:
            self._calibrate(seconds)
        verdict = self._lateness.verdict()
        if self._drift_zero is None or self._calibrating:
            self._drift_zero = verdict.early
        self.drift_samples = verdict.early - self._drift_zero
        self.buffer_samples = max(0.0, verdict.typical) + max(0, count - BLOCK_SAMPLES)
        slack = verdict.slack + self._speeding
        wanted = 0
        # While the turns are still being moved to the arrivals, a little lateness says nothing of the arrivals.
        if verdict.short > TOLERATED_SAMPLES and lead < -(LOST_SAMPLES if self._calibrating else LATE_SAMPLES):
            growth = max(0, self._growth(verdict) - self._owed)  # that silence is there already: what is late is kept
            self._queue.append_silence(growth, seconds)
            self._lengthened(growth)
        elif slack < 0 and verdict.typical < -DRIFTED_SAMPLES:
            wanted = 1
        elif slack >= BLOCK_SAMPLES:
            wanted = -int(slack // BLOCK_SAMPLES)
        if np.sign(wanted) != np.sign(self._wanted):
            self._wanted_since = seconds
        self._wanted = wanted
        if wanted and not self._speeding and seconds - self._wanted_since > PATIENCE_SECONDS:
            self._next_speed, self._wanted_since = -1 if wanted > 0 else 1, seconds

    def _growth(self, verdict: Verdict) -> int:
        """Whole blocks, in samples, by which the delay is too short; none beyond its bound."""
        blocks = math.ceil(verdict.short / BLOCK_SAMPLES)
        return max(0, min(blocks * BLOCK_SAMPLES, _whole_blocks(MAX_DELAY_SAMPLES + self._longest - verdict.early)))

    def _lengthened(self, samples: int) -> None:
        """The delay of what follows has grown, or shrunk if that is below 0."""
        if samples:
            self._lateness.shift(samples)
            self._drift_zero = None

    def _calibrate(self, seconds: float) -> None:
        """Moves the turns, by less than a block, to when nine of ten pieces come."""
        if seconds < self._calibrate_from:
            return
        verdict = self._lateness.verdict()
        early = min(verdict.early, max(0.0, verdict.slack))
        if CALIBRATED_SAMPLES < abs(early) < BLOCK_SAMPLES:
            self._lateness.shift(-self._clock.shift(early, seconds))
        else:
            self._calibrating = False

    def _steady_speed(self, piece: Piece) -> None:
        """Changes the speed until that has moved what follows by one block, and its phase is what it was."""
        speed = self._convert.resampler.speed
        if self._next_speed:
            self._append_rest(self._convert.set_speed(self._next_speed), piece.seconds)
            self._speeding, self._next_speed = -float(self._next_speed * BLOCK_SAMPLES), 0
        elif self._speeding:
            done = speed * SPEED_STEP * len(piece.samples) * SAMPLE_RATE / piece.rate
            self._speeding += done
            self._lateness.shift(-done)
            left = -self._speeding * speed
            held = round(self._convert.resampler.held_samples) if piece.rate == SAMPLE_RATE else 0
            past = (self._end_sample + held - self._block_phase) % BLOCK_SAMPLES
            if speed == 0 or (left < SETTLED_SAMPLES and past < SETTLED_SAMPLES) or left < -4 * SETTLED_SAMPLES:
                self._append_rest(self._convert.set_speed(0), piece.seconds)
                self._speeding, self._drift_zero = 0.0, None

    def _append_rest(self, rest: FloatArray, seconds: float) -> None:
        self._queue.append(Stretch(rest, seconds, quiet=False))

    # Pauses

    def _is_quiet(self, samples: FloatArray) -> bool:
        """Whether nobody speaks, against how loud this source has been lately."""
        peak = float(np.abs(samples).max(initial=0))
        change = peak - self._loudness
        self._loudness += change * (CLICK_SHARE if change > 0 else 1 / LOUDNESS_PIECES)
        return peak < max(FAINT, QUIET_SHARE * self._loudness)

    def _to_phase(self, count: int) -> int:
        """How many samples a piece of `count` ends before the next sample at which a window may end."""
        return (self._block_phase - self._end_sample - count) % BLOCK_SAMPLES

    def _back_in_phase(
        self, samples: FloatArray, seconds: float, stamp: tuple[int, int] | None
    ) -> tuple[FloatArray, tuple[int, int] | None]:
        """Corrects by a few samples where a block ends; between two words nobody hears it."""
        missing = self._to_phase(len(samples))
        if missing <= PHASE_STEP:
            self._queue.append_silence(missing, seconds)
        elif BLOCK_SAMPLES - missing <= PHASE_STEP:
            cut = BLOCK_SAMPLES - missing
            self.discarded_samples += min(cut, len(samples))
            samples, stamp = samples[cut:], None if stamp is None else (stamp[0], stamp[1] - cut)
        return samples, stamp

    # What goes

    def release(self, now: float) -> float:
        """Writes every block that is due; returns when to look again if nothing comes."""
        clock, queue = self._clock, self._queue
        while True:
            count = self._to_boundary()
            ready = queue.ready(count)
            at = clock.end_sample + (count - EARLY_SAMPLES if ready else BLOCK_SAMPLES + OVERDUE_SAMPLES)
            if clock.due_sample(now) < at:
                return clock.due_seconds(at)
            if ready and self._wanted and count == BLOCK_SAMPLES and queue.quiet(count):
                self._use_pause(now)
                continue
            if not ready and (whole := queue.whole()):
                count = min(count, whole)
            taken = queue.take(count, now)
            stamp = None if taken.stamp is None else (taken.stamp[0], clock.end_sample + taken.stamp[1])
            clock.emit_partly(taken.samples, taken.speech, taken.seconds, stamp)
            if taken.missing:
                self._owed = (self._owed if self._silent or now < self._recovering_until else 0) + taken.missing
                self._silent += taken.missing

    def _to_boundary(self) -> int:
        """Samples until the next one at which a window may end, 1 to 320."""
        return (self._block_phase - self._clock.end_sample - 1) % BLOCK_SAMPLES + 1

    def _use_pause(self, now: float) -> None:
        """Leaves a block of a pause out, or inserts one."""
        if self._wanted < 0:
            self.discarded_samples += self._queue.drop(BLOCK_SAMPLES)
            self._wanted += 1
            self._lengthened(-BLOCK_SAMPLES)
        else:
            self._clock.emit_silence(BLOCK_SAMPLES, now)
            self._wanted -= 1
            self._lengthened(BLOCK_SAMPLES)


def _whole_blocks(samples: float) -> int:
    """Rounded down to whole blocks."""
    return int(samples // BLOCK_SAMPLES) * BLOCK_SAMPLES
