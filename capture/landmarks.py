"""Faces and their landmarks in frames, by MediaPipe's networks (in its wheel; the extra `capture`).

Shape letters: N frames, F faces of one frame, H x W pixels. Points are in pixels of the frame that was given, x to the
right, y downwards, pixel centres at .5, as everywhere.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from realtime.arrays import BoolArray, ByteArray, FloatArray
from realtime.errors import MiravoxError

POINTS = 478  # 468 of the face, then 5 of each iris
BLENDSHAPES = 52  # ARKit's, in the order of the model's output: "_neutral" first
# MediaPipe's index of each of the 68 Multi-PIE landmarks (0-based), each row from the image's left to its right, or
# around an eye or the lips.
POINTS_68 = np.array(
    (
        "127 234 93 132 58 172 150 176 152 400 379 397 288 361 323 454 356 "  # jaw line
        "70 63 105 66 107 336 296 334 293 300 "  # brows
        "168 197 5 4 98 97 2 326 327 "  # nose
        "33 160 158 133 153 144 362 385 387 263 373 380 "  # eyes
        "61 40 37 0 267 270 291 321 314 17 84 91 "  # outer lips
        "78 81 13 311 308 402 14 178"  # inner lips
    ).split(),
    np.int32,
)
IRISES = slice(468, 473), slice(473, 478)  # of the eye at the image's left (the person's right), then the other one
BLANK = np.zeros((64, 64, 3), np.uint8)  # a first frame, for what a network does once
TILE = 2.0  # where no face is found in the whole frame, squares of 1 / TILE of its height are searched


@dataclass(frozen=True, kw_only=True)
class Landmarks:
    """Landmarks of the most prominent face in each of N frames."""

    points: FloatArray  # [N, 478, 2] pixels; NaN where no face was found
    found: BoolArray  # [N]
    depth: FloatArray  # [N, 478] relative, in pixels, negative towards the camera; NaN where no face was found
    blendshapes: FloatArray | None  # [N, 52] in [0, 1]; None without the model file; NaN where no face was found

    @property
    def points_68(self) -> FloatArray:
        """[N, 68, 2], Multi-PIE's landmarks."""
        return self.points[:, POINTS_68]

    def piece(self, first: int, end: int) -> Landmarks:
        """Those of frames first .. end - 1."""
        scores = None if self.blendshapes is None else self.blendshapes[first:end]
        return Landmarks(
            points=self.points[first:end],
            found=self.found[first:end],
            depth=self.depth[first:end],
            blendshapes=scores,
        )


class LandmarkFinder:
    """Finds the landmarks of consecutive frames of one size, one by one. A context manager."""

    def __init__(self, model: Path | None = None) -> None:
        self._model = model
        self._stack = contextlib.ExitStack()
        self._seen = False

    def __enter__(self) -> LandmarkFinder:
        with _quiet_stderr():
            self._mesh = self._stack.enter_context(_solutions().face_mesh.FaceMesh(refine_landmarks=True))
            self._scorer = self._stack.enter_context(_scorer(self._model)) if self._model is not None else None
            self._mesh.process(BLANK)
            if self._scorer is not None:
                _scores(self._scorer, BLANK)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, frame: ByteArray) -> tuple[FloatArray | None, FloatArray | None]:
        """Points [478, 3] of a frame (uint8 [H, W, 3] RGB): x, y and relative depth in pixels, None if there is no
        face; blendshape scores [52], None without a model or a face.
        """
        square, left, top = _squared(frame)
        with contextlib.nullcontext() if self._seen else _quiet_stderr():  # it remarks on the first face
            faces = self._mesh.process(square).multi_face_landmarks
        scores = None if self._scorer is None else _scores(self._scorer, square)
        if not faces:
            return None, scores
        self._seen = True
        points = np.array([(p.x, p.y, p.z) for p in faces[0].landmark], np.float32) * len(square)
        return points - np.array((left, top, 0), np.float32), scores


def detect(frames: Iterable[ByteArray], model: Path | None = None) -> Landmarks:
    """Landmarks in consecutive frames (uint8 [H, W, 3] RGB, one size), the face being at least a fifth of the frame.

    No smoothing over time: a point lags behind nothing.

    Args:
        model: MediaPipe's face_landmarker.task, whose blendshape scores are wanted, too.
    """
    with LandmarkFinder(model) as finder:
        return collect([finder(frame) for frame in frames], with_scores=model is not None)


def collect(found: list[tuple[FloatArray | None, FloatArray | None]], with_scores: bool) -> Landmarks:
    """What a LandmarkFinder said of N frames, as arrays."""
    nowhere, unknown = np.full((POINTS, 3), np.nan, np.float32), np.full(BLENDSHAPES, np.nan, np.float32)
    points = np.array([nowhere if p is None else p for p, _ in found], np.float32).reshape(-1, POINTS, 3)
    scores = np.array([unknown if s is None else s for _, s in found], np.float32).reshape(-1, BLENDSHAPES)
    return Landmarks(
        points=np.ascontiguousarray(points[..., :2]),
        found=np.array([p is not None for p, _ in found], bool),
        depth=np.ascontiguousarray(points[..., 2]),
        blendshapes=scores if with_scores else None,
    )


def _squared(frame: ByteArray) -> tuple[ByteArray, int, int]:
    """The frame in the middle of a black square, and where its corner came to lie: the mesh wants square pictures."""
    height, width = frame.shape[:2]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    if height == width:
        return np.ascontiguousarray(frame), 0, 0
    square = np.zeros((side, side, 3), np.uint8)
    square[top : top + height, left : left + width] = frame
    return square, left, top


def _scores(scorer: Any, square: ByteArray) -> FloatArray | None:
    import mediapipe

    result = scorer.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=square)).face_blendshapes
    if not result:
        return None
    return np.array([b.score for b in result[0]], np.float32)


class FaceFinder:
    """Finds every face of a frame, small ones, too. A context manager."""

    def __init__(self, least_score: float = 0.6) -> None:
        self._stack = contextlib.ExitStack()
        self._least_score = least_score

    def __enter__(self) -> FaceFinder:
        with _quiet_stderr():
            detection = _solutions().face_detection
            self._detector = self._stack.enter_context(
                detection.FaceDetection(model_selection=1, min_detection_confidence=self._least_score)
            )
            self._detector.process(BLANK)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, frame: ByteArray) -> FloatArray:
        """Boxes [F, 5] of the faces in a frame (uint8 [H, W, 3] RGB), largest first: left, top, width, height, score.

        Overlapping squares of the frame are searched one by one if the whole of it shows none.
        """
        boxes = self._find(frame, 0, 0)
        if not boxes:
            height, width = frame.shape[:2]
            side = int(max(height, width) / TILE)
            for top in _steps(height, side):
                for left in _steps(width, side):
                    boxes += self._find(frame[top : top + side, left : left + side], left, top)
        return _distinct(np.array(sorted(boxes, key=lambda b: -b[2]), np.float32).reshape(-1, 5))

    def _find(self, frame: ByteArray, left: int, top: int) -> list[tuple[float, ...]]:
        square, right, down = _squared(frame)
        side = len(square)
        boxes: list[tuple[float, ...]] = []
        for face in self._detector.process(square).detections or ():
            b = face.location_data.relative_bounding_box
            x, y = b.xmin * side - right + left, b.ymin * side - down + top
            boxes.append((x, y, b.width * side, b.height * side, face.score[0]))
        return boxes


def _steps(length: int, side: int) -> list[int]:
    """Where squares begin that cover `length` and overlap by about half."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side / 2))) + 1
    return [round(k * (length - side) / (count - 1)) for k in range(count)]


def _distinct(boxes: FloatArray) -> FloatArray:
    """Leaves out boxes whose middle lies within a larger one."""
    kept: list[FloatArray] = []
    for box in boxes:
        x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
        if not any(k[0] < x < k[0] + k[2] and k[1] < y < k[1] + k[3] for k in kept):
            kept.append(box)
    return np.array(kept, np.float32).reshape(-1, 5)


def draw(frame: ByteArray, points: FloatArray, color: tuple[int, int, int] = (0, 255, 0)) -> ByteArray:
    """The frame with landmarks [P, 2] on it, for people to look at."""
    picture = frame.copy()
    for x, y in points[np.isfinite(points).all(-1)]:
        cv2.circle(picture, (round(float(x) * 16 - 8), round(float(y) * 16 - 8)), 16, color, -1, cv2.LINE_AA, 4)
    return picture


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keeps back what MediaPipe's libraries write to the standard error output as they start, unless they fail."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:  # said again below, whatever it was
            os.dup2(kept, 2)
            said.seek(0)
            os.write(2, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _solutions() -> Any:
    blocked = "sounddevice" not in sys.modules
    if blocked:  # MediaPipe would import it, and it opens PortAudio for good: the microphones as they are now
        sys.modules["sounddevice"] = None  # type: ignore[assignment]
    try:
        import mediapipe
    except ImportError as error:
        raise MiravoxError(
            "mediapipe",
            found="no such package",
            wanted="the optional extra `capture`",
            remedy="pip install -e .[capture], with Python 3.11 or 3.12 (on Linux on x86-64, macOS or Windows).",
        ) from error
    finally:
        if blocked:
            del sys.modules["sounddevice"]
    return mediapipe.solutions


def _scorer(model: Path) -> Any:
    _solutions()
    from mediapipe.tasks.python import BaseOptions, vision

    try:
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)), output_face_blendshapes=True
        )
        return vision.FaceLandmarker.create_from_options(options)
    except (RuntimeError, ValueError, OSError) as error:
        raise MiravoxError(
            str(model),
            found=f"no such model ({error})",
            wanted="MediaPipe's face_landmarker.task",
            remedy="Check the path, or leave the option out.",
        ) from error
