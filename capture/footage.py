"""What was measured in recordings, and what of it an avatar can learn from: usable frames, takes, and how far sound and
picture are apart. What that means for an avatar is said by verdicts.py.

Shape letters: N frames of one shot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capture import measures
from capture.landmarks import Landmarks
from capture.mouth_predictor import PredictedMouth
from capture.sound_offset import offset_interval
from capture.video import Crop, Take
from realtime.arrays import BoolArray, ByteArray, FloatArray, Int64Array, IntArray
from realtime.contract import FRAME_RATE

TURNED_DEGREES = 35.0, 28.0  # yaw and pitch beyond which a frame is of no use
COVERED_LEVELS = 12.0  # least appearance error of a lower face that counts as covered
SHORTEST_COVER = 5  # frames
LEAST_TAKE = 1.0  # seconds
MARGIN = 2  # frames beside what is of no use, which are left out, too
CORRECTED_SECONDS = 0.04  # sound and picture further apart are moved together ...
SURE_SECONDS = 0.02  # ... if the whole interval lies on one side, further from zero than this
LEAST_AGREEMENT, LEAST_LEAD = 0.3, 0.06  # correlation of lips and sound, and how far it stands out, to believe a lag
SPEAKING = 0.5  # presence above which somebody speaks


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Consecutive frames of one recording without a cut, and what was measured in them."""

    take: Take  # uncropped, its sound as it was recorded
    crop: Crop
    landmarks: Landmarks  # in pixels of the crop
    faces: IntArray  # [N] of comparable size; those of the last look
    change: FloatArray  # [N] levels by which the face differs from the frame before
    light: FloatArray  # [N, 3] median brightness, blown out, black; NaN without a face
    blur: FloatArray  # [N] NaN where it was not measured
    flatness: FloatArray  # [N] likewise
    lower_face: ByteArray  # [N, 24 * 36 * 3]; zeros without a face
    angles: FloatArray  # [N, 3] degrees; NaN without a face
    inside: BoolArray  # [N] whether the whole face is within the picture
    predicted: PredictedMouth  # from its sound

    @property
    def frames(self) -> int:
        return self.take.frame_count

    @property
    def face_width(self) -> FloatArray:
        """[N] pixels of the recording."""
        across = self.landmarks.points[:, measures.CHEEKS[1]] - self.landmarks.points[:, measures.CHEEKS[0]]
        return np.asarray(np.linalg.norm(across, axis=-1) * (self.crop.side / self.crop.size), np.float32)


@dataclass(frozen=True, kw_only=True)
class Footage:
    """All shots, which of their frames are of use, and how far sound and picture are apart."""

    shots: list[Shot]
    usable: list[BoolArray]  # of each shot [N]
    covered: list[BoolArray]  # of each shot [N]
    turned: list[BoolArray]  # of each shot [N]
    pieces: list[tuple[int, int, int]]  # shot, first frame, end: the takes
    agreement: FloatArray  # [41] correlation of lips and sound at each lag
    lag: float  # seconds that the sound comes late; NaN: cannot be told
    lag_interval: tuple[float, float]  # seconds between which it lies, with 95 % confidence
    correction: float  # seconds by which the sound of the takes was moved
    cuts: int

    def takes(self) -> list[tuple[Take, Landmarks]]:
        """Cropped, with the sound in place."""
        names: dict[str, int] = {}
        found = []
        for index, first, end in self.pieces:
            shot = self.shots[index]
            names[shot.take.name] = number = names.get(shot.take.name, 0) + 1
            name = shot.take.name if number == 1 else f"{shot.take.name}-{number}"
            whole = shot.take.cropped(shot.crop).shifted(self.correction)
            found.append((whole.piece(name, first, end), shot.landmarks.piece(first, end)))
        return found


def assess(shots: list[Shot], cuts: int) -> Footage:
    """Which frames are of use, how far sound and picture are apart, and the takes.

    Args:
        cuts: how many there are between the shots; those within are added.
    """
    errors = _split(measures.appearance_error(np.concatenate([s.lower_face[s.landmarks.found] for s in shots])), shots)
    seen = np.concatenate(errors)
    seen = seen[np.isfinite(seen)]
    usual = float(np.median(seen)) if len(seen) else 0.0
    spread = float(np.median(np.abs(seen - usual))) if len(seen) else 0.0
    covered = [_lasting(np.asarray(s > max(COVERED_LEVELS, usual + 8 * spread))) for s in errors]
    turned = [np.asarray((np.abs(s.angles[:, :2]) > TURNED_DEGREES).any(1)) for s in shots]
    usable = [
        s.landmarks.found & s.inside & ~_grown(c) & ~_grown(t) for s, c, t in zip(shots, covered, turned, strict=True)
    ]
    lips, predicted = [_lips(s, u) for s, u in zip(shots, usable, strict=True)], [s.predicted.aperture for s in shots]
    agreement = measures.agreement(lips, predicted)
    lag, height, lead = measures.peak(agreement)
    believed = height >= LEAST_AGREEMENT and lead >= LEAST_LEAD
    interval = offset_interval(lips, predicted)
    sure = interval[0] > SURE_SECONDS or interval[1] < -SURE_SECONDS
    correction = -lag if believed and sure and abs(lag) > CORRECTED_SECONDS else 0.0
    jumps = [np.union1d(measures.jumps(s.landmarks.points), measures.cuts(s.change)) for s in shots]
    pieces = [
        (index, first, end)
        for index, (fit, apart) in enumerate(zip(usable, jumps, strict=True))
        for first, end in _runs(fit, apart)
        if end - first >= LEAST_TAKE * FRAME_RATE
    ]
    return Footage(
        shots=shots,
        usable=usable,
        covered=covered,
        turned=turned,
        pieces=pieces,
        agreement=agreement,
        lag=lag if believed else float("nan"),
        lag_interval=interval,
        correction=correction,
        cuts=cuts + sum(len(j) for j in jumps),
    )


def _split(values: FloatArray, shots: list[Shot]) -> list[FloatArray]:
    """Values of all frames with a face -> of each shot [N], NaN without one."""
    parts, first = [], 0
    for shot in shots:
        part = np.full(shot.frames, np.nan, np.float32)
        count = int(shot.landmarks.found.sum())
        part[shot.landmarks.found] = values[first : first + count]
        parts.append(part)
        first += count
    return parts


def _lasting(frames: BoolArray) -> BoolArray:
    """Without what lasts less than five frames: a wide open mouth, not a hand."""
    lasting = np.zeros_like(frames)
    for first, end in measures.stretches(frames):
        lasting[first:end] = end - first >= SHORTEST_COVER
    return lasting


def _grown(frames: BoolArray) -> BoolArray:
    """True two frames before and after, too."""
    return np.convolve(frames, np.ones(2 * MARGIN + 1), "same") > 0


def _lips(shot: Shot, usable: BoolArray) -> FloatArray:
    """How far the lips are apart [N], NaN where that cannot be seen."""
    return np.where(usable, measures.aperture(shot.landmarks.points), np.nan).astype(np.float32)


def _runs(fit: BoolArray, apart: Int64Array) -> list[tuple[int, int]]:
    """First frame and end of each stretch of frames that fit and begin no other shot."""
    runs = []
    for first, end in measures.stretches(fit):
        limits = [first, *(int(k) for k in apart if first < k < end), end]
        runs += list(zip(limits[:-1], limits[1:], strict=True))
    return runs
