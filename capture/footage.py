"""Looks at recordings and listens to them: where the one face is, which stretches of it can be learnt from, how far
sound and picture are apart. What that means for an avatar is said by verdicts.py.

    survey     every picture of a recording, small: cuts, faces -> shots, and where in them to look
    inspect    every frame of a shot, cropped to the head: landmarks, light, sharpness, lips; its sound
    examine    all recordings -> Footage: shots, their measures, and the takes that are usable

Shape letters: N frames of one shot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from capture import measures
from capture.landmarks import FaceFinder, LandmarkFinder, Landmarks, collect
from capture.video import Crop, Recording, Take, open_take, probe
from capture.voice import Heard, Listener
from networks.contract import FRAME_RATE, SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from training.dataset_files import LosslessVideo, read_wav, write_wav, writing

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

SURVEY_PIXELS = 1280  # longer side at which faces are looked for
LOOK_EVERY = 5  # frames: how often all faces are looked for, and sharpness is measured
LEAST_RIVAL = 0.4  # height of another face over the main one's from which on it counts
FRAMING = 1.6  # side of the crop over the height of the face, forehead to chin
LIKE_FRAMING = 1.25  # shots share one crop if it is no more than so much larger than each one's own
TURNED_DEGREES = 35.0, 28.0  # yaw and pitch beyond which a frame is of no use
COVERED_LEVELS = 12.0  # least strangeness of a lower face that counts as covered
SHORTEST_COVER = 5  # frames
LEAST_TAKE = 1.0  # seconds
MARGIN = 2  # frames beside what is of no use
CORRECTED_SECONDS = 0.04  # sound and picture further apart are moved together
LEAST_AGREEMENT, LEAST_LEAD = 0.3, 0.06  # correlation of lips and sound, and how far it stands out, to believe a lag
ORDINARY_FOCAL = 1.07  # of the picture's longer side: 50 degrees across
SPEAKING = 0.5  # presence


@dataclass(frozen=True)
class Shot:
    """Consecutive frames of one recording without a cut, and what was measured in them."""

    take: Take  # uncropped, its sound as it was recorded
    crop: Crop
    landmarks: Landmarks  # in pixels of the crop
    faces: NDArray[np.int32]  # [N] of comparable size; those of the last look
    change: FloatArray  # [N] levels by which the face differs from the frame before
    light: FloatArray  # [N, 3] median brightness, blown out, black; NaN without a face
    blur: FloatArray  # [N] NaN where it was not measured
    flatness: FloatArray  # [N] likewise
    lower_face: ByteArray  # [N, 24 * 36 * 3]; zeros without a face
    angles: FloatArray  # [N, 3] degrees; NaN without a face
    inside: BoolArray  # [N] whether the whole face is within the picture
    heard: Heard

    @property
    def frames(self) -> int:
        return self.take.frame_count

    @property
    def face_width(self) -> FloatArray:
        """[N] pixels of the recording."""
        across = self.landmarks.points[:, measures.CHEEKS[1]] - self.landmarks.points[:, measures.CHEEKS[0]]
        return np.asarray(np.linalg.norm(across, axis=-1) * (self.crop.side / self.crop.size), np.float32)


@dataclass(frozen=True)
class Footage:
    """All that was seen and heard."""

    shots: list[Shot]
    usable: list[BoolArray]  # of each shot [N]
    covered: list[BoolArray]  # of each shot [N]
    turned: list[BoolArray]  # of each shot [N]
    pieces: list[tuple[int, int, int]]  # shot, first frame, end: the takes
    agreement: FloatArray  # [41] correlation of lips and sound at each lag
    lag: float  # seconds that the sound comes late; NaN: cannot be told
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


@dataclass(frozen=True)
class Survey:
    """A recording at a glance."""

    take: Take
    starts: list[int]  # of its shots
    box: FloatArray  # [N, 4] of the main face: left, top, width, height; NaN where none was seen
    faces: NDArray[np.int32]  # [N]


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
        thumb = measures.thumb(small)
        changes[k] = 0 if before is None else np.abs(thumb - before).mean()
        before = thumb
        if k % LOOK_EVERY == 0:
            found = finder(small)
            main = _main_face(found, main)
            if main is not None:
                boxes[k] = main[:4] / scale
                faces[k] = (found[:, 3] >= LEAST_RIVAL * main[3]).sum()
        else:
            faces[k] = faces[k - 1]
        tick()
    return Survey(take, [0, *measures.cuts(changes)], boxes, faces)


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
    return Crop(at[0], at[1], size)


@contextlib.contextmanager
def _keeping(path: Path | None, size: int) -> Iterator[LosslessVideo | None]:
    if path is None:
        yield None
    else:
        with LosslessVideo(path, size) as video:
            yield video


def inspect(
    take: Take, crop: Crop, faces: NDArray[np.int32], listener: Listener, model: Path | None, kept: Path | None,
    tick: Callable[[], object],
) -> Shot:  # fmt: skip
    """Measures every frame of a shot, and listens to it.

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
            thumb = np.asarray(cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA), np.float32)
            change[k] = np.nan if before is None else np.abs(thumb - before).mean()
            before = thumb
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
        take, crop, landmarks, faces, change, light, blur[:, 0], blur[:, 1], patches,
        measures.angles(landmarks.points, landmarks.depth), inside, listener(take.speech, count),
    )  # fmt: skip


def examine(
    paths: list[Path], listener: Listener, model: Path | None = None, kept: Path | None = None, side: int | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Footage:  # fmt: skip
    """Looks at recordings and listens to them, each two times through.

    Args:
        listener: whose lips say how the sound should look.
        model: MediaPipe's face_landmarker.task, for blendshape scores; None: without them.
        kept: folder for the cropped frames and the sound of every shot, which `load_takes` reads.
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
            ", ".join(str(p) for p in paths), found="no face", wanted="one person's face, seen from the front",
            remedy="Film a real face in good light, at least 100 pixels wide, and nothing in front of it.",
        )  # fmt: skip
    crops = choose_crops([(seen.take.recording, seen.box[first:end]) for seen, first, end in pieces], side)
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
    shots = []
    for (seen, first, end), crop in zip(pieces, crops, strict=True):
        number = seen.starts.index(first)
        name = seen.take.name if len(seen.starts) == 1 else f"{seen.take.name}-{number + 1}"
        take, file = seen.take.piece(name, first, end), None if kept is None else kept / f"{name}.mkv"
        shots.append(inspect(take, crop, seen.faces[first:end], listener, model, file, tick))
        if kept is not None:
            write_wav(kept / f"{name}.wav", take.speech)
    return _judge(shots, sum(len(seen.starts) - 1 for seen in surveys))


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


def _judge(shots: list[Shot], cuts: int) -> Footage:
    """Which frames are of use, how far sound and picture are apart, and the takes."""
    strange = _split(measures.strangeness(np.concatenate([s.lower_face[s.landmarks.found] for s in shots])), shots)
    seen = np.concatenate(strange)
    seen = seen[np.isfinite(seen)]
    usual = float(np.median(seen)) if len(seen) else 0.0
    spread = float(np.median(np.abs(seen - usual))) if len(seen) else 0.0
    covered = [_lasting(np.asarray(s > max(COVERED_LEVELS, usual + 8 * spread))) for s in strange]
    turned = [np.asarray((np.abs(s.angles[:, :2]) > TURNED_DEGREES).any(1)) for s in shots]
    usable = [
        s.landmarks.found & s.inside & ~_grown(c) & ~_grown(t) for s, c, t in zip(shots, covered, turned, strict=True)
    ]
    agreement = measures.agreement(
        [_lips(s, u) for s, u in zip(shots, usable, strict=True)], [s.heard.aperture for s in shots]
    )
    lag, height, lead = measures.peak(agreement)
    believed = height >= LEAST_AGREEMENT and lead >= LEAST_LEAD
    correction = -lag if believed and abs(lag) > CORRECTED_SECONDS else 0.0
    jumps = [np.union1d(measures.jumps(s.landmarks.points), measures.cuts(s.change)) for s in shots]
    pieces = [
        (index, first, end)
        for index, (fit, apart) in enumerate(zip(usable, jumps, strict=True))
        for first, end in _runs(fit, apart)
        if end - first >= LEAST_TAKE * FRAME_RATE
    ]
    return Footage(
        shots, usable, covered, turned, pieces, agreement, lag if believed else float("nan"), correction,
        cuts + sum(len(j) for j in jumps),
    )  # fmt: skip


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
    for first, end in _runs(frames, np.zeros(0, np.int64)):
        lasting[first:end] = end - first >= SHORTEST_COVER
    return lasting


def _grown(frames: BoolArray) -> BoolArray:
    """True two frames before and after, too."""
    return np.convolve(frames, np.ones(2 * MARGIN + 1), "same") > 0


def _lips(shot: Shot, usable: BoolArray) -> FloatArray:
    """How far the lips are apart [N], NaN where that cannot be seen."""
    return np.where(usable, measures.aperture(shot.landmarks.points), np.nan).astype(np.float32)


def _runs(fit: BoolArray, apart: IntArray) -> list[tuple[int, int]]:
    """First frame and end of each stretch of frames that fit and begin no other shot."""
    edges = np.diff(np.concatenate([[0], fit.astype(np.int8), [0]]))
    runs = []
    for first, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        limits = [int(first), *(int(k) for k in apart if first < k < end), int(end)]
        runs += list(zip(limits[:-1], limits[1:], strict=True))
    return runs


def save_takes(footage: Footage, kept: Path) -> None:
    """Adds to the folder of `examine` what `load_takes` needs."""
    tensors: dict[str, NDArray[np.generic]] = {}
    for shot in footage.shots:
        marks, name = shot.landmarks, shot.take.name
        tensors |= {f"{name}/points": marks.points, f"{name}/depth": marks.depth, f"{name}/found": marks.found}
        if marks.blendshapes is not None:
            tensors[f"{name}/blendshapes"] = marks.blendshapes
    takes = []
    for (take, _), (index, first, end) in zip(footage.takes(), footage.pieces, strict=True):
        shot, recording = footage.shots[index], take.recording
        takes.append({
            "name": take.name, "shot": shot.take.name, "first": first, "end": end, "recording": str(recording.path),
            "begin": int(take.first), "picture": [recording.width, recording.height],
            "crop": dataclasses.asdict(shot.crop),
        })  # fmt: skip
    with writing(kept):
        save_file(tensors, kept / "landmarks.safetensors")
        (kept / "takes.json").write_text(
            json.dumps({"correction": footage.correction, "takes": takes}, indent=1) + "\n"
        )


def load_takes(kept: Path) -> list[tuple[Take, Landmarks]]:
    """Takes as they were kept: cropped frames without loss, the sound in place; and the landmarks of their frames."""
    info = json.loads((kept / "takes.json").read_text())
    tensors = load_file(kept / "landmarks.safetensors")
    found = []
    shots: dict[str, Take] = {}
    for row in info["takes"]:
        shot, first, end = row["shot"], row["first"], row["end"]
        if shot not in shots:
            recording, speech = probe(kept / f"{shot}.mkv"), read_wav(kept / f"{shot}.wav")
            frames = len(speech) // SAMPLES_PER_FRAME
            shots[shot] = Take(shot, recording, 0, frames, speech).shifted(info["correction"])
        marks = Landmarks(
            tensors[f"{shot}/points"], tensors[f"{shot}/found"], tensors[f"{shot}/depth"],
            tensors.get(f"{shot}/blendshapes"),
        )  # fmt: skip
        found.append((shots[shot].piece(row["name"], first, end), marks.piece(first, end)))
    return found


def load_camera(kept: Path) -> tuple[float, float, float]:
    """What is known of the camera before anything is fitted, in pixels of the cropped frames: a focal length as of an
    ordinary lens, and where the optical axis meets the frame (of most frames, if crops differ).
    """
    rows = json.loads((kept / "takes.json").read_text())["takes"]
    lengths: dict[tuple[float, float, float], int] = {}
    for row in rows:
        width, height = row["picture"]
        crop = Crop(**row["crop"])
        cx, cy = crop.to_crop(np.array([width / 2, height / 2], np.float32))
        view = ORDINARY_FOCAL * max(width, height) * crop.size / crop.side, float(cx), float(cy)
        lengths[view] = lengths.get(view, 0) + row["end"] - row["first"]
    return max(lengths, key=lambda view: lengths[view])
