"""Recordings -> Footage: every frame is cropped to the head and measured, and the sound is encoded.

examine looks at all recordings twice: a survey finds shots and faces, then inspect measures every frame of a shot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from capture import measures
from capture.footage import Footage, Shot, assess
from capture.landmarks import FaceFinder, LandmarkFinder, collect
from capture.mouth_predictor import MouthPredictor
from capture.survey import LOOK_EVERY, choose_crops, survey
from capture.video import Crop, Take, open_take
from dataset.files import LosslessVideo, write_wav
from realtime.arrays import FloatArray, IntArray
from realtime.errors import MiravoxError


def examine(
    paths: list[Path],
    predictor: MouthPredictor,
    *,
    model: Path | None = None,
    kept: Path | None = None,
    side: int | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Footage:
    """Examines recordings, each two times through.

    Args:
        predictor: says how the lips should move to the sound.
        model: MediaPipe's face_landmarker.task, for blendshape scores; None: without them.
        kept: folder for the cropped frames and the sound of every shot, which kept_takes.load_takes reads.
        side: of the crop, in pixels of the recordings.
        progress: is told how many frames of how many are done.

    Raises MiravoxError if a file cannot be read, or shows no face.
    """
    takes = [open_take(path, name) for path, name in zip(paths, _names(paths), strict=True)]
    total, done = 2 * sum(t.frame_count for t in takes), 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    with FaceFinder() as finder:
        surveys = [survey(take, finder, tick) for take in takes]
    pieces = []
    for seen in surveys:
        for first, end in zip(seen.starts, [*seen.starts[1:], seen.take.frame_count], strict=True):
            if np.isfinite(seen.box[first:end]).any():
                pieces.append((seen, first, end))
    if not pieces:
        raise MiravoxError(
            ", ".join(str(p) for p in paths),
            found="no face",
            wanted="one person's face, seen from the front",
            remedy="Film a real face in good light, at least 100 pixels wide, and nothing in front of it.",
        )
    crops = choose_crops([(seen.take.recording, seen.box[first:end]) for seen, first, end in pieces], side)
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
    shots = []
    for (seen, first, end), crop in zip(pieces, crops, strict=True):
        number = seen.starts.index(first)
        name = seen.take.name if len(seen.starts) == 1 else f"{seen.take.name}-{number + 1}"
        take, file = seen.take.piece(name, first, end), None if kept is None else kept / f"{name}.mkv"
        shots.append(inspect(take, crop, seen.faces[first:end], predictor, model, file, tick))
        if kept is not None:
            write_wav(kept / f"{name}.wav", take.speech)
    return assess(shots, sum(len(seen.starts) - 1 for seen in surveys))


def _names(paths: list[Path]) -> list[str]:
    """A name for each file, none twice."""
    names: list[str] = []
    for path in paths:
        stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in path.stem)
        name, number = stem, 1
        while name in names:
            number += 1
            name = f"{stem}_{number}"
        names.append(name)
    return names


def inspect(
    take: Take,
    crop: Crop,
    faces: IntArray,
    predictor: MouthPredictor,
    model: Path | None,
    kept: Path | None,
    tick: Callable[[], object],
) -> Shot:
    """Measures every frame of a shot, and predicts the mouth from its sound.

    Args:
        model: MediaPipe's face_landmarker.task or None.
        kept: file that the cropped frames are written to, without loss; None: nowhere.
    """
    count, scale = take.frame_count, crop.side / crop.size
    found = []
    light, blur = np.full((count, 3), np.nan, np.float32), np.full((count, 2), np.nan, np.float32)
    change, inside = np.zeros(count, np.float32), np.zeros(count, bool)
    patches = np.zeros((count, 3 * measures.PATCH[0] * measures.PATCH[1]), np.uint8)
    before: FloatArray | None = None
    with LandmarkFinder(model) as finder, _keeping(kept, crop.size) as video:
        for k, frame in enumerate(take.cropped(crop).frames):
            found.append(finder(frame))
            points = found[-1][0]
            small = np.asarray(cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA), np.float32)
            change[k] = np.nan if before is None else np.abs(small - before).mean()
            before = small
            if points is not None:
                flat = points[:, :2]
                light[k] = measures.exposure(frame, flat)
                oval = crop.from_crop(flat[list(measures.OVAL)])
                inside[k] = bool((oval >= 0).all() and (oval < (take.width, take.height)).all())
                patches[k] = measures.lower_face(frame, flat)
                if k % LOOK_EVERY == 0:
                    blur[k] = measures.blur(frame, flat, scale), measures.flatness(frame, flat, scale)
            if video is not None:
                video.write(frame)
            tick()
    landmarks = collect(found, with_scores=model is not None)
    return Shot(
        take=take,
        crop=crop,
        landmarks=landmarks,
        faces=faces,
        change=change,
        light=light,
        blur=blur[:, 0],
        flatness=blur[:, 1],
        lower_face=patches,
        angles=measures.angles(landmarks.points, landmarks.depth),
        inside=inside,
        predicted=predictor.predict(take.speech, count),
    )


@contextlib.contextmanager
def _keeping(path: Path | None, size: int) -> Iterator[LosslessVideo | None]:
    if path is None:
        yield None
    else:
        with LosslessVideo(path, size) as video:
            yield video
