"""A recording at a glance: every picture of it, small, for cuts and faces; and the square around the head that frames
are cropped to.

Shape letters: N pictures of a recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from capture import measures
from capture.landmarks import FaceFinder
from capture.video import Crop, Recording, Take
from realtime.arrays import FloatArray, IntArray

SURVEY_PIXELS = 1280  # longer side at which faces are looked for
LOOK_EVERY = 5  # frames: how often faces are looked for, and sharpness is measured
LEAST_RIVAL = 0.4  # another face counts if it is at least this share of the main one's height
FRAMING = 1.6  # side of the crop over the height of the face, forehead to chin
LIKE_FRAMING = 1.25  # shots share one crop if it is no more than so much larger than each one's own


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was found in one recording."""

    take: Take
    starts: list[int]  # of its shots
    box: FloatArray  # [N, 4] of the main face: left, top, width, height; NaN where none was seen
    faces: IntArray  # [N]


def survey(take: Take, finder: FaceFinder, tick: Callable[[], object]) -> Survey:
    """Looks at every picture of a recording for cuts, and at every fifth for faces."""
    changes = np.zeros(take.frame_count, np.float32)
    boxes = np.full((take.frame_count, 4), np.nan, np.float32)
    faces = np.zeros(take.frame_count, np.int32)
    before: FloatArray | None = None
    main: FloatArray | None = None
    for k, frame in enumerate(take.frames):
        scale = min(1.0, SURVEY_PIXELS / max(frame.shape))
        small = frame
        if scale < 1:
            small = np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        thumbnail = measures.thumbnail(small)
        changes[k] = 0 if before is None else np.abs(thumbnail - before).mean()
        before = thumbnail
        if k % LOOK_EVERY == 0:
            found = finder(small)
            main = _main_face(found, main)
            if main is not None:
                boxes[k] = main[:4] / scale
                faces[k] = (found[:, 3] >= LEAST_RIVAL * main[3]).sum()
        else:
            faces[k] = faces[k - 1]
        tick()
    return Survey(take=take, starts=[0, *measures.cuts(changes)], box=boxes, faces=faces)


def _main_face(found: FloatArray, before: FloatArray | None) -> FloatArray | None:
    """The face that was the main one before if it is still there, else the largest."""
    if not len(found):
        return None
    if before is not None:
        x, y = before[0] + before[2] / 2, before[1] + before[3] / 2
        away = np.hypot(found[:, 0] + found[:, 2] / 2 - x, found[:, 1] + found[:, 3] / 2 - y)
        if away.min() < before[2]:
            return np.asarray(found[int(away.argmin())], np.float32)
    return np.asarray(found[0], np.float32)


def choose_crops(shots: list[tuple[Recording, FloatArray]], side: int | None = None) -> list[Crop]:
    """The square around the head for each shot, given the boxes [N, 4] of its face: one for all if they are alike.

    Args:
        side: in pixels of the recording, instead of what fits the face.
    """
    own = [_crop_around(recording, boxes, side) for recording, boxes in shots]
    sizes = {(r.width, r.height) for r, _ in shots}
    if len(sizes) == 1:
        together = _crop_around(shots[0][0], np.concatenate([boxes for _, boxes in shots]), side)
        if together.side <= LIKE_FRAMING * min(crop.side for crop in own):
            return [together] * len(shots)
    return own


def _crop_around(recording: Recording, boxes: FloatArray, side: int | None) -> Crop:
    seen = boxes[np.isfinite(boxes[:, 0])]
    x, y = seen[:, 0] + seen[:, 2] / 2, seen[:, 1] + seen[:, 3] / 2
    (left, right), (top, bottom) = np.percentile(x, (2, 98)), np.percentile(y, (2, 98))
    wanted = FRAMING * float(np.median(seen[:, 3])) + max(right - left, bottom - top)
    size = side or min(round(wanted), max(recording.width, recording.height))
    corner = (left + right - size) / 2, (top + bottom - size) / 2
    limits = recording.width - size, recording.height - size  # within the picture where it is large enough
    at = [round(min(max(c, 0), limit)) if limit >= 0 else limit // 2 for c, limit in zip(corner, limits, strict=True)]
    return Crop(left=at[0], top=at[1], side=size)
