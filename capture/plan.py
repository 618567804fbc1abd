"""Which frames of a captured person become which take of the dataset, and which take is the source loop.

The source loop is the stillest stretch there is, silent if there is one. What is held out are whole takes: those that
are named, or the last tenth.

Shape letters: N frames of all takes, F frames of one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from capture.landmarks import Landmarks
from capture.morphable_model import MorphableModel
from capture.track import Track
from capture.video import Take
from dataset.folder import INNER_LOWER, INNER_UPPER
from realtime.arrays import BoolArray, Float64Array
from realtime.contract import FRAME_RATE, SAMPLES_PER_FRAME
from realtime.errors import MiravoxError

HELD_OUT_SHARE = 0.1
LEAST_TAKE = 25  # frames: shorter pieces are left out
LOST = 5  # frames in a row without a face end a take; fewer are tracked by their neighbours
GAP = 25  # frames between what is trained on and what is held out, where one take has to be cut
SOURCE_SECONDS = 12.0, 10.0, 8.0, 6.0, 4.0, 3.0, 2.0  # lengths that are tried for the source loop, longest first
TRIMMED = 12  # frames at either end among which the stillest is chosen, so that the loop turns around softly
SILENT_SHARE = 0.02  # of the frames of a silent stretch may be loud
SILENCE_DB = 15.0  # below the speech's level: silence
NOSE_TIP = 30  # landmark


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Frames first .. end - 1 of take number `take`, which become a take of the dataset."""

    take: int
    first: int
    end: int
    held_out: bool = False
    source: bool = False

    @property
    def frames(self) -> int:
        return self.end - self.first


def plan(
    takes: Sequence[Take],
    landmarks: Sequence[Landmarks],
    track: Track,
    model: MorphableModel,
    held_out: Collection[str] = (),
) -> tuple[list[Piece], bool]:
    """The dataset's takes, the source loop first, and whether that is silent.

    Raises MiravoxError for unknown names in `held_out`, or too little footage.
    """
    unknown = set(held_out) - {t.name for t in takes}
    if unknown:
        raise MiravoxError(
            "held-out takes",
            found=f"{', '.join(sorted(unknown))}",
            wanted="names of takes",
            remedy=f"Choose among {', '.join(t.name for t in takes)}.",
        )
    pieces = _with_a_face(landmarks)
    if held_out:
        pieces = [replace(p, held_out=takes[p.take].name in held_out) for p in pieces]
    else:
        pieces = _last_tenth(pieces)
    if not any(not p.held_out for p in pieces) or not any(p.held_out for p in pieces):
        total = sum(p.frames for p in pieces) / FRAME_RATE
        raise MiravoxError(
            "the video",
            found=f"{total:.0f} s with a face, in {len(pieces)} pieces",
            wanted="enough to train on and to hold a tenth out",
            remedy="Film two to three minutes.",
        )
    source, silent = _source(takes, pieces, track, model)
    rest: list[Piece] = []
    for piece in pieces:
        if piece.take == source.take and piece.first <= source.first and source.end <= piece.end:
            sides = replace(piece, end=source.first), replace(piece, first=source.end)
            rest += [p for p in sides if p.frames >= LEAST_TAKE]
        else:
            rest.append(piece)
    return [source, *rest], silent


def take_starts(takes: Sequence[Take]) -> list[int]:
    """Where each take begins among the frames of all takes."""
    return [int(n) for n in np.cumsum([0, *(t.frame_count for t in takes)])[:-1]]


def _with_a_face(landmarks: Sequence[Landmarks]) -> list[Piece]:
    """Takes, cut where no face was found for longer than `LOST` frames."""
    pieces = []
    for number, marks in enumerate(landmarks):
        found = np.flatnonzero(marks.found)
        for run in np.split(found, np.flatnonzero(np.diff(found) > LOST + 1) + 1):
            if len(run) and run[-1] + 1 - run[0] >= LEAST_TAKE:
                pieces.append(Piece(take=number, first=int(run[0]), end=int(run[-1]) + 1))
    return pieces


def _last_tenth(pieces: Sequence[Piece]) -> list[Piece]:
    """The last pieces held out, until they are a tenth; one that is much longer than what is still needed is cut."""
    wanted = HELD_OUT_SHARE * sum(p.frames for p in pieces)
    out: list[Piece] = []
    kept, held = list(pieces), 0
    while kept and held < 0.8 * wanted:
        last = kept.pop()
        need = max(round(wanted - held), LEAST_TAKE)
        if last.frames > 2 * need + GAP:
            kept.append(replace(last, end=last.end - need - GAP))
            last = replace(last, first=last.end - need)
        out.insert(0, replace(last, held_out=True))
        held += last.frames
    return kept + out


def _source(takes: Sequence[Take], pieces: Sequence[Piece], track: Track, model: MorphableModel) -> tuple[Piece, bool]:
    """The longest silent stretch in which the mouth rests, or else the stillest one; its ends where the head rests."""
    head_N3 = head_positions(track, model)
    mouth_N = _opening(track, model)
    rest = float(np.quantile(mouth_N, 0.05))
    starts = take_starts(takes)
    loud_by_take = [_loud(t) for t in takes]
    best: tuple[float, Piece] | None = None
    trained = [p for p in pieces if not p.held_out]
    for seconds in SOURCE_SECONDS:
        length = round(seconds * FRAME_RATE)
        quiet: list[tuple[float, Piece]] = []
        for piece in trained:
            for first in range(piece.first, piece.end - length + 1, 5):
                at = slice(starts[piece.take] + first, starts[piece.take] + first + length)
                motion = float(np.sqrt(head_N3[at].var(0).sum()) + np.abs(mouth_N[at] - rest).mean())  # cm
                found = replace(piece, first=first, end=first + length, source=True)
                if loud_by_take[piece.take][first : first + length].mean() <= SILENT_SHARE:
                    quiet.append((motion, found))
                if best is None or motion < best[0]:
                    best = motion, found
        if quiet:
            return _soft_ends(min(quiet, key=lambda q: q[0])[1], head_N3, starts), True
        if best is not None and seconds <= 4:  # a still one that is spoken in need not be longer
            break
    if best is None:
        longest = max(trained, key=lambda p: p.frames)
        return replace(longest, source=True), False
    return _soft_ends(best[1], head_N3, starts), False


def _soft_ends(piece: Piece, head_N3: Float64Array, starts: Sequence[int]) -> Piece:
    """Ends where the head hardly moves: the loop is played there and back, and turns around at them."""
    at = starts[piece.take]
    speed = np.linalg.norm(np.diff(head_N3[at + piece.first : at + piece.end], axis=0), axis=1)
    reach = min(TRIMMED, len(speed) // 4)
    first = piece.first + int(speed[:reach].argmin()) if reach else piece.first
    end = piece.end - int(speed[::-1][:reach].argmin()) if reach else piece.end
    return replace(piece, first=first, end=end)


def head_positions(track: Track, model: MorphableModel) -> Float64Array:
    """Where the tip of the nose is in camera space [N, 3], cm, as it is seen: motion along the view counts a tenth."""
    tip = model.identity_vertices(track.alpha_I)[model.landmarks_68[NOSE_TIP]]
    seen = track.pose_N44[:, :3, :3] @ tip + track.pose_N44[:, :3, 3]
    return np.asarray(seen * (1, 1, 0.1), np.float64)


def _opening(track: Track, model: MorphableModel) -> Float64Array:
    """Distance of the inner lips [N], cm."""
    upper, lower = model.landmarks_68[INNER_UPPER], model.landmarks_68[INNER_LOWER]
    neutral = model.identity_vertices(track.alpha_I)
    shapes = model.expression_CV3[:, upper] - model.expression_CV3[:, lower]
    return np.asarray(np.linalg.norm(neutral[upper] - neutral[lower] + track.delta_NC @ shapes, axis=1), np.float64)


def _loud(take: Take) -> BoolArray:
    """Whether somebody speaks in each frame [F], by level: within SILENCE_DB of the take's loud tenth."""
    power = (take.speech.reshape(-1, SAMPLES_PER_FRAME).astype(np.float64) ** 2).mean(1)
    level = 10 * np.log10(power + 1e-9)
    loud = np.quantile(level, 0.9)
    return np.asarray(level > max(loud - SILENCE_DB, -60.0), bool)
