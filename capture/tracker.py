"""Takes and their landmarks -> who is seen, from where, and how the face moves: thesis equation 4.5 by Gauss-Newton.

One identity and one camera for the whole video, a pose and an expression for each frame:

1. start: each frame's pose from its landmarks and the mean face.
2. by landmarks: identity, camera and a choice of keyframes together (bundle), then pose and expression of every frame,
   all frames of a take together, smooth over time (follow); twice.
3. by landmarks and colours: albedo and light from the keyframes as they are tracked by now, then follow, in coarse
   pictures; the same in fine ones, with a bundle before.

Shape letters: N frames, L landmarks, P points of the skin, I identity modes, C expression shapes, D = 6 + C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from tqdm import tqdm

from capture.blendshapes import expressions_of_blendshapes
from capture.energy import (
    POSE,
    Points,
    Pose,
    Rows,
    TrackConfig,
    View,
    blurred,
    color_rows,
    joined,
    landmark_rows,
    project,
    rotation_of,
    sample,
    vector_of,
)
from capture.landmark_table import landmark_table
from capture.landmarks import Landmarks
from capture.morphable_model import MorphableModel, Surface
from capture.skin import Appearance, Skin, choose_skin, explain
from capture.solver import State, bundle_step, expression_prior, smooth_step
from capture.track import Track
from realtime.arrays import BoolArray, ByteArray, FloatArray
from realtime.errors import MiravoxError

BLURS = {"coarse": 0.28, "fine": 0.14}  # cm of the face
APPEARANCES = 3  # how often albedo and light are found anew in a bundle
BUNDLE_STEPS, COLOR_STEPS, FOLLOW_STEPS = 6, 2, 4
CHUNK, AHEAD = 100, 12  # frames that are solved together, and those after them that only help
LEAST_FRAMES = 10
DISTANCE = 75.0  # cm: where a face is thought to be that was not found


class Clip(Protocol):
    """A take as the tracker sees it; capture.video.Take is one."""

    @property
    def frames(self) -> Iterable[ByteArray]: ...
    @property
    def frame_count(self) -> int: ...


def track(
    takes: Sequence[Clip],
    landmarks: Sequence[Landmarks],
    model: MorphableModel,
    view: View,
    config: TrackConfig | None = None,
    watch: Callable[[str, Track], None] | None = None,
) -> Track:
    """Tracks a video of one person, filmed by one camera.

    Args:
        takes, landmarks: one of each a take; frames of all takes have one size.
        view: where the search for the camera starts; its centre is kept.
        watch: is told the name of each stage when it ends, and what is known by then.
    """
    config = config or TrackConfig()
    watch = watch or (lambda stage, found: None)
    tracker = Tracker(takes, landmarks, model, view, config)
    tracker.start(landmarks)
    for _ in range(2):
        tracker.bundle(BUNDLE_STEPS)
        tracker.follow("following landmarks")
    watch("landmarks", tracker.result())
    if config.photometric:
        keys = tracker.keyframes()
        frames = tracker.pictures(keys)
        for stage, blur in BLURS.items():
            sigma = blur * tracker.scale()
            pictures = {n: blurred(frame, sigma) for n, frame in frames.items()}
            if stage == "fine":
                skin = tracker.skin(config.bundle_points)
                for _ in range(APPEARANCES):
                    colors = Colors(skin, tracker.appearance(skin, pictures), max(1.0, sigma))
                    tracker.bundle(COLOR_STEPS, colors, pictures)
            skin = tracker.skin(config.skin_points)
            colors = Colors(skin, tracker.appearance(skin, pictures), max(1.0, sigma))
            tracker.follow(f"following colours, {stage}", colors, sigma)
            watch(stage, tracker.result())
    return tracker.result()


@dataclass(frozen=True)
class Colors:
    """What the photometric term needs."""

    skin: Skin
    appearance: Appearance
    reach: float  # pixels, of the pictures' gradient


class Tracker:
    """The unknowns of a video and the stages that solve for them."""

    def __init__(
        self,
        takes: Sequence[Clip],
        landmarks: Sequence[Landmarks],
        model: MorphableModel,
        view: View,
        config: TrackConfig,
    ) -> None:
        self.takes, self.model, self.config, self.focal_start = takes, model, config, view.focal
        self.table = landmark_table(model)
        self.found_NL2 = np.concatenate([m.points[:, self.table.index_L] for m in landmarks]).astype(np.float32)
        self.found_N: BoolArray = np.asarray(np.isfinite(self.found_NL2).all(axis=(1, 2)), bool)
        frames = sum(take.frame_count for take in takes)
        if self.found_N.sum() < LEAST_FRAMES:
            raise MiravoxError(
                "tracking",
                found=f"a face in {self.found_N.sum()} of {frames} frames",
                wanted=f"one in {LEAST_FRAMES} or more",
                remedy="Film one face, well lit, turned to the camera.",
            )
        assert frames == len(self.found_NL2)
        self.surface = Surface.at(model, self.table.weights_LV, config.modes)
        self.bias_L2 = np.zeros((len(self.table.index_L), 2), np.float32)  # cm: how differently a landmark is meant
        nowhere = Pose(np.eye(3), np.array([0.0, 0.0, -DISTANCE]))
        shapes = len(model.expression_names)
        self.state = State(np.zeros(config.modes), view, [nowhere] * frames, np.zeros((frames, shapes)))

    def scale(self) -> float:
        """Pixels a centimetre, at the face."""
        return float(np.median([-self.state.view.focal / p.shift_3[2] for p in self.state.poses]))

    def start(self, landmarks: Sequence[Landmarks]) -> None:
        """Poses of the mean face from each frame's landmarks (of the nearest frame that has any), and expressions from
        the blendshape scores if there are any.
        """
        view = self.state.view
        camera = np.array([[view.focal, 0, view.cx], [0, view.focal, view.cy], [0, 0, 1.0]])
        stiff = self.table.noise_L < np.quantile(self.table.noise_L, 0.7)
        points = self.surface.neutral_P3[stiff].astype(np.float64)
        flip = np.diag([1.0, -1.0, -1.0])  # OpenCV's axes: y down, z away
        known = np.flatnonzero(self.found_N)
        for n in known:
            pixels = self.found_NL2[n, stiff].astype(np.float64)
            ok, turn, shift = cv2.solvePnP(points, pixels, camera, np.zeros(4), flags=cv2.SOLVEPNP_SQPNP)
            if ok:
                self.state.poses[n] = Pose(flip @ rotation_of(np.asarray(turn, np.float64)), flip @ shift.ravel())
        for n in np.flatnonzero(~self.found_N):
            self.state.poses[n] = self.state.poses[known[np.abs(known - n).argmin()]]
        first = 0
        for take, marks in zip(self.takes, landmarks, strict=True):
            if marks.blendshapes is not None:
                scores = expressions_of_blendshapes(marks.blendshapes, self.model.expression_names)
                self.state.delta_NC[first : first + take.frame_count] = scores
            first += take.frame_count

    def keyframes(self) -> list[int]:
        """Frames that differ most from each other in pose and expression, outliers being cut back."""
        known = np.flatnonzero(self.found_N)
        turns = np.stack([vector_of(self.state.poses[n].turn_33) for n in known])
        features = np.concatenate([turns / 0.1, self.state.delta_NC[known] / 0.25], 1)
        features -= np.median(features, axis=0)
        features = np.clip(features, *np.quantile(features, (0.01, 0.99), axis=0))
        chosen = [int(np.linalg.norm(features, axis=1).argmin())]
        distance = np.full(len(features), np.inf)
        while len(chosen) < min(self.config.keyframes, len(features)):
            distance = np.minimum(distance, np.linalg.norm(features - features[chosen[-1]], axis=1))
            chosen.append(int(distance.argmax()))
        return sorted(int(n) for n in known[chosen])

    def bundle(self, steps: int, colors: Colors | None = None, pictures: dict[int, FloatArray] | None = None) -> None:
        """Identity and camera, with the frames of `pictures`, or else with keyframes of its own choice."""
        state, table, config = self.state, self.table, self.config
        keys = sorted(pictures) if pictures else self.keyframes()
        for _ in range(steps):
            marks = Points.of(self.surface, state.alpha_I)
            skin_points = Points.of(colors.skin.surface, state.alpha_I) if colors else None
            rows_K = []
            for key in keys:
                delta, pose, view = state.delta_NC[key], state.poses[key], state.view
                seen = project(marks, delta, pose, view)
                rows = landmark_rows(marks, seen, view, self.found_NL2[key], self.bias_L2, table, config, True)
                if colors and skin_points and pictures:
                    seen = project(skin_points, delta, pose, view)
                    lit = colors.appearance.lit(colors.skin, delta, pose)
                    rows = joined(
                        rows, color_rows(skin_points, seen, view, pictures[key], colors.reach, lit, config, True)
                    )
                rows_K.append(rows)
            precision = np.zeros(len(rows_K[0].residual_R))
            precision[: 2 * len(table.bias_L)] = np.tile(table.bias_L**-2, 2)
            constants, change = bundle_step(rows_K, precision, state, keys, self.model, config, self.focal_start)
            self.bias_L2 = constants[: 2 * len(table.bias_L)].reshape(2, -1).T.astype(np.float32)
            if change < 0.01:
                break

    def follow(self, name: str, colors: Colors | None = None, sigma: float = 0.0) -> None:
        """Pose and expression of every frame; with colours, of pictures blurred by sigma pixels."""
        first = 0
        with tqdm(total=len(self.state.poses), desc=name, unit="frame") as bar:
            for take in self.takes:
                end = first + take.frame_count
                frames = iter(take.frames) if colors else iter(())
                held: dict[int, FloatArray] = {}
                for at in range(first, end, CHUNK):
                    low, high = max(first, at - 2), min(end, at + CHUNK + AHEAD)
                    if colors:
                        held = {n: picture for n, picture in held.items() if n >= at}
                        for n in range(max(held, default=at - 1) + 1, high):
                            held[n] = blurred(next(frames), sigma)
                    self._follow(low, at, high, colors, held)
                    bar.update(min(CHUNK, end - at))
                first = end

    def _follow(self, low: int, at: int, high: int, colors: Colors | None, pictures: dict[int, FloatArray]) -> None:
        """Frames at .. high - 1 together; low .. at - 1 are solved already."""
        state, config = self.state, self.config
        marks = Points.of(self.surface, state.alpha_I)
        skin_points = Points.of(colors.skin.surface, state.alpha_I) if colors else None
        shapes = state.delta_NC.shape[1]
        change_D = np.array(
            [config.turn_change] * 3
            + [config.shift_change] * 2
            + [config.depth_change]
            + [config.expression_change] * shapes
        )
        hessian = np.zeros((high - low, POSE + shapes, POSE + shapes))
        gradient = np.zeros((high - low, POSE + shapes))
        weight_at = np.arange(POSE, POSE + shapes)
        for _ in range(FOLLOW_STEPS):
            for n in range(at, high):
                delta, pose, view = state.delta_NC[n], state.poses[n], state.view
                seen = project(marks, delta, pose, view)
                blocks: list[Rows] = [
                    landmark_rows(marks, seen, view, self.found_NL2[n], self.bias_L2, self.table, config)
                ]
                if colors and skin_points:
                    seen = project(skin_points, delta, pose, view)
                    lit = colors.appearance.lit(colors.skin, delta, pose)
                    blocks.append(color_rows(skin_points, seen, view, pictures[n], colors.reach, lit, config))
                k = n - low
                hessian[k], gradient[k] = 0, 0
                for rows in blocks:
                    weighted = rows.frame_DR * rows.weight_R
                    hessian[k] += weighted @ rows.frame_DR.T
                    gradient[k] += weighted @ rows.residual_R
                precision, slope = expression_prior(self.model, config, delta)
                hessian[k, weight_at, weight_at] += precision
                gradient[k, POSE:] += slope
            middle = state.poses[at].turn_33
            value = np.stack(
                [
                    np.concatenate([vector_of(p.turn_33 @ middle.T), p.shift_3, d])
                    for p, d in zip(state.poses[low:high], state.delta_NC[low:high], strict=True)
                ]
            )
            step = smooth_step(hessian, gradient, value, change_D, at - low)
            for n in range(at, high):
                state.poses[n] = state.poses[n].moved(step[n - low])
                state.delta_NC[n] += step[n - low, POSE:]

    def skin(self, points: int) -> Skin:
        return choose_skin(self.model, self.state.alpha_I, self.surface.neutral_P3, points, self.config.modes)

    def appearance(self, skin: Skin, pictures: dict[int, FloatArray]) -> Appearance:
        """Albedo and light of these frames."""
        state = self.state
        points = Points.of(skin.surface, state.alpha_I)
        deltas, poses = state.delta_NC[list(pictures)], [state.poses[n] for n in pictures]
        colors = [
            sample(picture, project(points, d, p, state.view).pixels_P2)[0]
            for picture, d, p in zip(pictures.values(), deltas, poses, strict=True)
        ]
        return explain(skin, np.stack(colors), deltas, poses, self.config.color_floor)

    def pictures(self, wanted: Sequence[int]) -> dict[int, ByteArray]:
        """Frames by number."""
        found: dict[int, ByteArray] = {}
        first = 0
        for take in self.takes:
            end = first + take.frame_count
            left = {n for n in wanted if first <= n < end}
            for n, frame in enumerate(take.frames, first):
                if not left:
                    break
                if n in left:
                    found[n] = frame
                    left.remove(n)
            first = end
        return found

    def result(self) -> Track:
        state = self.state
        marks = Points.of(self.surface, state.alpha_I)
        errors = []
        for n, found in enumerate(self.found_NL2):
            seen = project(marks, state.delta_NC[n], state.poses[n], state.view)
            off = seen.pixels_P2 - found - self.bias_L2 * seen.scale
            errors.append(np.sqrt((off**2).sum(1).mean()) if self.found_N[n] else np.nan)
        poses = np.stack([p.matrix() for p in state.poses]).astype(np.float32)
        return Track(
            alpha_I=state.alpha_I.astype(np.float32),
            view=state.view,
            pose_N44=poses,
            delta_NC=state.delta_NC.astype(np.float32),
            reprojection_N=np.array(errors, np.float32),
        )
