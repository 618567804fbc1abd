"""What can be measured in a face's frames and in a sound, each a pure function.

Shape letters: N frames, S samples, B values of a patch. Frames are uint8 [H, W, 3] sRGB, points in their pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

from realtime.arrays import BoolArray, ByteArray, FloatArray, Int64Array
from realtime.contract import FRAME_RATE, SAMPLES_PER_FRAME

# MediaPipe's landmarks: the face's outline, clockwise in the image from the top of the forehead; and others.
OVAL = tuple(
    int(index)
    for index in (
        "10 338 297 332 284 251 389 356 454 323 361 288 397 365 379 378 400 377 "
        "152 148 176 149 150 136 172 58 132 93 234 127 162 21 54 103 67 109"
    ).split()
)
CHEEKS = (234, 454)  # at the image's left and right, before the ears
FOREHEAD, CHIN = 10, 152
EYE_CORNERS = (33, 133), (362, 263)
INNER_LIPS = ((81, 178), (13, 14), (311, 402))  # upper and lower landmarks that face each other

SHARPNESS_WIDTH = 250  # pixels: a wider face is judged at this width
THUMBNAIL = 64, 36  # pixels: cuts are looked for in frames of this size
PATCH = 36, 24  # pixels of the lower face
PATCH_LEFT, PATCH_TOP, PATCH_WIDTH = -0.75, 0.5, 1.5  # in distances between the eyes, from the middle between them
APPEARANCES = 8  # principal components of an uncovered lower face
LARGEST_LAG = 20  # frames that sound and picture are looked for apart


def eyes(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The middle of the eye at the image's left and of the other one, [..., 2] each, from points [..., 478, 2]."""
    left, right = (points[..., list(corners), :].mean(-2) for corners in EYE_CORNERS)
    return left, right


def eye_distance(points: FloatArray) -> FloatArray:
    left, right = eyes(points)
    return np.asarray(np.linalg.norm(right - left, axis=-1), np.float32)


def aperture(points: FloatArray) -> FloatArray:
    """Distance of the inner lips over the distance of the eyes, [N]."""
    gaps = [np.linalg.norm(points[:, upper] - points[:, lower], axis=-1) for upper, lower in INNER_LIPS]
    return np.asarray(np.mean(gaps, axis=0) / eye_distance(points), np.float32)


def angles(points: FloatArray, depth: FloatArray) -> FloatArray:
    """[N, 3] degrees by which the head is turned: yaw, pitch and roll."""
    xyz = np.concatenate([points, depth[..., None]], -1).astype(np.float64)
    across = xyz[:, CHEEKS[1]] - xyz[:, CHEEKS[0]]
    down = xyz[:, CHIN] - xyz[:, FOREHEAD]
    yaw = np.arctan2(across[:, 2], np.hypot(across[:, 0], across[:, 1]))
    pitch = np.arctan2(down[:, 2], np.hypot(down[:, 0], down[:, 1]))
    roll = np.arctan2(across[:, 1], across[:, 0])
    return np.asarray(np.degrees(np.stack([yaw, pitch, roll], -1)), np.float32)


def thumbnail(frame: ByteArray) -> FloatArray:
    """The frame at 64 x 36, float32 [36, 64, 3]."""
    return np.asarray(cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA), np.float32)


def cuts(changes: FloatArray) -> Int64Array:
    """Frames that begin another shot, from the mean difference of each frame's thumbnail from the one
    before, in levels."""
    found = []
    for k in range(1, len(changes)):
        around = np.delete(changes[max(1, k - 6) : k + 7], min(k, 7) - 1)
        usual = float(np.median(around)) if len(around) else 0.0
        if changes[k] > 8 and changes[k] > 5 * usual + 4:
            found.append(k)
    return np.array(found, np.int64)


def jumps(points: FloatArray) -> Int64Array:
    """Frames in which the head is suddenly elsewhere, as where seconds were cut out of one shot."""
    middle = points[:, [c for pair in EYE_CORNERS for c in pair]].mean(1)
    moved = np.linalg.norm(np.diff(middle, axis=0), axis=-1) / np.maximum(eye_distance(points)[1:], 1e-3)
    grown = np.abs(np.diff(np.log(np.maximum(eye_distance(points), 1e-3))))
    found = []
    for k in range(len(moved)):
        around = np.delete(moved[max(0, k - 4) : k + 5], min(k, 4))
        around = around[np.isfinite(around)]
        usual = float(np.median(around)) if len(around) else 0.0
        if (moved[k] > 0.2 and moved[k] > 5 * usual) or grown[k] > 0.2:
            found.append(k + 1)
    return np.array(found, np.int64)


def stretches(frames: BoolArray) -> list[tuple[int, int]]:
    """First frame and end of each stretch of consecutive frames that are true."""
    edges = np.diff(np.concatenate([[0], frames.astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


def skin(frame: ByteArray, points: FloatArray) -> tuple[ByteArray, BoolArray]:
    """The frame at a quarter of its size, and where in it the face is."""
    small = np.asarray(cv2.resize(frame, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), np.uint8)
    mask = np.zeros(small.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.round(points[list(OVAL)] / 4).astype(np.int32), (1,))
    return small, mask.astype(bool)


def exposure(frame: ByteArray, points: FloatArray) -> tuple[float, float, float]:
    """Of the face: median brightness in levels of 255, share of pixels that are blown out, and that are black."""
    small, mask = skin(frame, points)
    pixels = small[mask].astype(np.float32)
    if not len(pixels):
        return 0.0, 0.0, 0.0
    luma = pixels @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    return float(np.median(luma)), float((pixels.max(-1) >= 252).mean()), float((luma <= 12).mean())


def blur(frame: ByteArray, points: FloatArray, scale: float) -> float:
    """How blurred the face is, 0 to 1 (Crete et al. 2007): how little another blur of it changes.

    Args:
        scale: pixels of the recording for each pixel of the frame.
    """
    face = native_face(frame, points, scale)
    if min(face.shape) < 16:
        return 1.0
    worst = 0.0
    for axis in (0, 1):
        size = (1, 9) if axis == 0 else (9, 1)
        again = cv2.blur(face, size)
        sharp = np.abs(np.diff(face, axis=axis))
        lost = np.maximum(0, sharp - np.abs(np.diff(again, axis=axis)))
        worst = max(worst, float((sharp.sum() - lost.sum()) / max(sharp.sum(), 1e-6)))
    return worst


def native_face(frame: ByteArray, points: FloatArray, scale: float) -> FloatArray:
    """The face's brightness at the recording's own size, or 250 pixels wide if that is smaller."""
    left, top = np.maximum(0, np.floor(points[list(OVAL)].min(0))).astype(int)
    right, bottom = np.ceil(points[list(OVAL)].max(0)).astype(int)
    face = frame[top:bottom, left:right]
    if not face.size:
        return np.zeros((0, 0), np.float32)
    gray = np.asarray(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), np.float32)
    width = min(SHARPNESS_WIDTH, round(gray.shape[1] * scale))
    height = round(gray.shape[0] * width / gray.shape[1])
    if min(width, height) < 1:
        return np.zeros((0, 0), np.float32)
    return np.asarray(cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def flatness(frame: ByteArray, points: FloatArray, scale: float) -> float:
    """Share of the face without any texture, as in a drawing: pixels that equal all their neighbours within a level."""
    face = native_face(frame, points, scale)
    if min(face.shape) < 16:
        return 0.0
    kernel = np.ones((3, 3), np.uint8)
    return float((cv2.dilate(face, kernel) - cv2.erode(face, kernel) <= 1).mean())


def lower_face(frame: ByteArray, points: FloatArray) -> ByteArray:
    """The lower face [24 * 36 * 3], placed by the eyes alone, so that what covers the mouth does not move it."""
    left, right = eyes(points)
    across = (right - left) / PATCH[0] * PATCH_WIDTH
    down = np.array([-across[1], across[0]])
    corner = (
        (left + right) / 2 + (right - left) * PATCH_LEFT + np.array([-(right - left)[1], (right - left)[0]]) * PATCH_TOP
    )
    to_frame = np.stack([across, down, corner], -1).astype(np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    smooth = cv2.blur(frame, (max(1, round(float(np.hypot(*across)))),) * 2)
    patch = cv2.warpAffine(smooth, to_frame, PATCH, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(patch, np.uint8).reshape(-1)


def appearance_error(patches: ByteArray) -> FloatArray:
    """[N] levels by which each lower face [N, B] differs from what the principal components of most of them can show:
    large where a hand covers it. Brightness as a whole may change.
    """
    usual = float(patches.mean())

    def leveled(some: ByteArray) -> FloatArray:
        values = some.astype(np.float32)
        return np.asarray(values * (usual / np.maximum(values.mean(1, keepdims=True), 1)), np.float32)

    def errors_of(levels: FloatArray) -> FloatArray:
        centred = levels - mean
        residual = centred - centred @ basis.T @ basis
        return np.asarray(np.sqrt((residual**2).mean(1)), np.float32)

    some = leveled(patches[:: max(1, len(patches) // 600)])
    mean, basis = np.median(some, axis=0), np.zeros((0, some.shape[1]), np.float32)
    for share in (0.7, 0.8, 0.85):  # what is like most of them says what else is like them
        errors = errors_of(some)
        alike = some[errors <= np.quantile(errors, share)]
        mean = np.median(alike, axis=0)
        basis = np.linalg.svd(alike - mean, full_matrices=False)[2][: min(APPEARANCES, len(alike) // 8)]
    chunks = (leveled(patches[k : k + 1000]) for k in range(0, len(patches), 1000))
    return np.concatenate([errors_of(levels) for levels in chunks])


def levels_db(speech: FloatArray) -> FloatArray:
    """[N] loudness of each frame's 640 samples, dB of full scale."""
    frames = speech[: len(speech) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME)
    return np.asarray(10 * np.log10((frames.astype(np.float64) ** 2).mean(1) + 1e-10), np.float32)


def clipped_share(speech: FloatArray) -> float:
    """Share of the samples that lie in a row of three or more at the loudest level, if that is near full scale."""
    peak = float(np.abs(speech).max(initial=0))
    if peak < 0.5:
        return 0.0
    at_peak = np.abs(speech) >= 0.98 * peak
    row = at_peak[2:] & at_peak[1:-1] & at_peak[:-2]
    return float(row.mean()) if len(row) else 0.0


def agreement(seen: list[FloatArray], predicted: list[FloatArray]) -> FloatArray:
    """Mean correlation [41] of the lips' aperture as seen and as predicted from the sound, at each lag from -20 to 20
    frames (positive: the sound comes late). Each pair is one take, both [N]; NaN where the lips were not seen.
    """
    rows = []
    for a, b in zip(seen, predicted, strict=True):
        if len(a) >= 2 * LARGEST_LAG:
            rows.append([_correlation(a, b, lag) * len(a) for lag in range(-LARGEST_LAG, LARGEST_LAG + 1)])
    total = sum(len(a) for a in seen if len(a) >= 2 * LARGEST_LAG)
    return np.array(rows, np.float32).sum(0) / total if rows else np.zeros(2 * LARGEST_LAG + 1, np.float32)


def _correlation(seen: FloatArray, predicted: FloatArray, lag: int) -> float:
    a, b = (seen[: len(seen) - lag], predicted[lag:]) if lag >= 0 else (seen[-lag:], predicted[: len(predicted) + lag])
    good = np.isfinite(a)
    if good.sum() < LARGEST_LAG or a[good].std() < 1e-6 or b[good].std() < 1e-6:
        return 0.0
    return float(np.corrcoef(a[good], b[good])[0, 1])


def peak(correlations: FloatArray) -> tuple[float, float, float]:
    """Lag in seconds at which correlations are highest, how high, and by how much higher than beyond 0.2 s of it."""
    top = int(np.argmax(correlations))
    lag = float(top)
    if 0 < top < len(correlations) - 1:
        before, at, after = (float(c) for c in correlations[top - 1 : top + 2])
        lag += 0.5 * (before - after) / min(before - 2 * at + after, -1e-9)
    elsewhere = np.abs(np.arange(len(correlations)) - top) > 0.2 * FRAME_RATE
    gap = float(correlations[top] - correlations[elsewhere].max(initial=-1))
    return (lag - LARGEST_LAG) / FRAME_RATE, float(correlations[top]), gap
