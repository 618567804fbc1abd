"""Tracking against the truth: synthetic actors' films put through capture as if they were real.

    python -m bench capture --json F [--png F] [--identity SEED ...] [--takes N] [--modes N]

Each actor is filmed speaking, the film is coded as any camera would (H.264, AAC), and tracked with camera, light and
identity unknown; identity modes from --modes on are withheld from the fit. Errors are taken in object space over the
narrow face after one rigid and scale alignment for the whole video, and given after landmarks alone and with the
photometric term, coarse and fine:

- vertex: mean distance of the face's vertices, all frames, mm
- lips: mean error of the distance between the inner lips (landmarks 62 and 66), mm
- rotation: mean angle between the head's rotations, degrees
- jitter: root mean square of the second difference over consecutive frames, fit over truth: of the face's vertices as
  they are seen, in pixels, and of the vertices in object space
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from capture.energy import TrackConfig, View, vector_of
from capture.kept_takes import ORDINARY_FOCAL
from capture.landmarks import Landmarks, detect
from capture.morphable_model import MorphableModel, load_morphable_model
from capture.skin import vertex_normals
from capture.track import Track
from capture.tracker import track
from capture.video import Take, open_take
from dataset.folder import INNER_LOWER, INNER_UPPER, Dataset, load_dataset
from dataset.phones import data_folder, load_utterances
from dataset.template import NARROW_FACE
from realtime.arrays import ByteArray, Float64Array, FloatArray
from realtime.audio.sound_file import read_speech
from realtime.camera import Camera
from realtime.contract import FRAME_RATE, SAMPLE_RATE
from realtime.face.gl import create_context
from realtime.face.rasteriser import Rasteriser
from studio.actor import identity_vertices
from studio.face_model import FaceModel, load_face_model
from studio.film import FilmConfig, film, script_of

IDENTITIES = 21, 33, 44
TAKES = 4
FILM_CRF = "18"  # of the coded film: a good camera's
SHOWN = 0.2, 0.5, 0.8  # of the film: frames of the sheet


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Of one track against the truth."""

    vertex_mm: float  # mean over vertices and frames
    vertex_95_mm: float  # 95th percentile
    neutral_mm: float  # of the neutral face
    lips_mm: float  # mean absolute error of the distance between the inner lips
    lips_bias_mm: float  # mean error
    lips_correlation: float
    rotation_degrees: float  # mean
    rotation_most_degrees: float  # greatest
    jitter_seen: float  # fit over truth, in pixels
    jitter_object: float  # fit over truth, in object space
    jitter_rotation: float  # fit over truth, of the head's rotation
    focal_ratio: float  # focal length over the true one
    scale: float  # of the alignment


def code_film(dataset: Dataset, folder: Path) -> list[Path]:
    """The dataset's takes as mp4 files."""
    paths = []
    frames = iter(dataset.frames())
    for take in dataset.takes:
        path = folder / f"{take.name}.mp4"
        with av.open(str(path), "w") as container:
            video = container.add_stream("libx264", rate=FRAME_RATE, options={"crf": FILM_CRF, "threads": "1"})
            video.width, video.height, video.pix_fmt = dataset.camera.width, dataset.camera.height, "yuv420p"
            sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
            samples = read_speech(take.speech).samples
            sound_frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            sound_frame.sample_rate, sound_frame.time_base, sound_frame.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), 0
            for _ in range(take.frames):
                container.mux(video.encode(av.VideoFrame.from_ndarray(next(frames)[1], format="rgb24")))
            container.mux(video.encode(None))
            container.mux(sound.encode(sound_frame))
            container.mux(sound.encode(None))
        paths.append(path)
    return paths


def similarity(
    source_N3: NDArray[np.floating], target_N3: NDArray[np.floating]
) -> tuple[float, Float64Array, Float64Array]:
    """Scale, rotation and shift that take source to target (least squares)."""
    a, b = source_N3 - source_N3.mean(0), target_N3 - target_N3.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    turn = u @ sign @ vt
    scale = float((s * np.diag(sign)).sum() / (a**2).sum())
    return scale, turn, target_N3.mean(0) - scale * turn @ source_N3.mean(0)


def compare(found: Track, model: MorphableModel, truth: Dataset, actor_V3: FloatArray) -> Errors:
    """Errors of a track of the film that `truth` describes; actor_V3: its neutral vertices."""
    face = slice(0, NARROW_FACE)
    shapes = model.expression_CV3[:, face]
    mine_V3, true_V3 = (
        model.identity_vertices(found.alpha_I)[face].astype(np.float64),
        actor_V3[face].astype(np.float64),
    )
    mine = mine_V3 + np.tensordot(found.delta_NC, shapes, 1)
    true = true_V3 + np.tensordot(truth.expression, shapes, 1)
    scale, turn, shift = similarity(mine[::5].reshape(-1, 3), true[::5].reshape(-1, 3))
    distance = 10 * np.linalg.norm(scale * mine @ turn.T + shift - true, axis=-1)
    rest = 10 * np.linalg.norm(scale * mine_V3 @ turn.T + shift - true_V3, axis=-1)

    def gaps(vertices: Float64Array) -> Float64Array:
        upper, lower = model.landmarks_68[[INNER_UPPER, INNER_LOWER]]
        return np.asarray(10 * np.linalg.norm(vertices[:, upper] - vertices[:, lower], axis=1), np.float64)

    lips, true_lips = scale * gaps(mine), gaps(true)
    rotations = found.pose_N44[:, :3, :3].astype(np.float64) @ turn.T
    true_rotations = truth.pose[:, :3, :3].astype(np.float64)
    cosine = (np.einsum("nij,nij->n", rotations, true_rotations) - 1) / 2
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    some = slice(0, NARROW_FACE, 37)
    size = truth.camera
    view = found.view
    camera = Camera(view.focal, view.focal, view.cx, view.cy, size.width, size.height)
    seen = np.stack([camera.project(v[some].astype(np.float32), p) for v, p in zip(mine, found.pose_N44, strict=True)])
    true_seen = np.stack([size.project(v[some].astype(np.float32), p) for v, p in zip(true, truth.pose, strict=True)])

    def change(values: NDArray[np.floating]) -> float:
        bends = [np.diff(values[t.first : t.end].astype(np.float64), 2, axis=0).ravel() for t in truth.takes]
        return float(np.sqrt((np.concatenate(bends) ** 2).mean()))

    def vectors(turns: Float64Array) -> Float64Array:
        return np.stack([vector_of(t) for t in turns])

    return Errors(
        vertex_mm=float(distance.mean()),
        vertex_95_mm=float(np.quantile(distance, 0.95)),
        neutral_mm=float(rest.mean()),
        lips_mm=float(np.abs(lips - true_lips).mean()),
        lips_bias_mm=float((lips - true_lips).mean()),
        lips_correlation=float(np.corrcoef(lips, true_lips)[0, 1]),
        rotation_degrees=float(angle.mean()),
        rotation_most_degrees=float(angle.max()),
        jitter_seen=change(seen) / change(true_seen),
        jitter_object=scale * change(mine[:, some]) / change(true[:, some]),
        jitter_rotation=change(vectors(rotations)) / change(vectors(true_rotations)),
        focal_ratio=view.focal / size.fx,
        scale=scale,
    )


def track_actor(
    identity: int, takes: int, config: TrackConfig, folder: Path, studio_model: FaceModel, model: MorphableModel
) -> tuple[dict[str, object], ByteArray]:
    """Films and tracks one actor. Returns the figures, and frames beside the fitted shape and the true one."""
    utterances = sorted((u for u in load_utterances(data_folder()) if u.corpus == "ljspeech"), key=lambda u: u.seconds)
    film(folder / "film", FilmConfig(identity=identity), [script_of(u) for u in utterances[:takes]])
    truth = load_dataset(folder / "film")
    filmed = [open_take(path) for path in code_film(truth, folder)]
    began = time.monotonic()
    landmarks = [detect(take.frames) for take in filmed]
    stages: dict[str, object] = {"landmark_seconds": time.monotonic() - began}
    actor_V3 = identity_vertices(studio_model, identity)

    def watch(stage: str, found: Track) -> None:
        stages[stage] = {**asdict(compare(found, model, truth, actor_V3)), "seconds": time.monotonic() - began}

    size = truth.camera
    start = View(ORDINARY_FOCAL * size.width, size.width / 2, size.height / 2)
    found = track(filmed, landmarks, model, start, config, watch)
    frames = len(truth.pose)
    stages["frames"], stages["seconds_a_frame"] = frames, (time.monotonic() - began) / frames
    return stages, sheet(filmed, landmarks, found, truth, model, actor_V3)


def sheet(
    filmed: list[Take],
    landmarks: list[Landmarks],
    found: Track,
    truth: Dataset,
    model: MorphableModel,
    actor_V3: FloatArray,
) -> ByteArray:
    """Frames, the fitted shape over them, the true one."""
    size, view = truth.camera, found.view
    chosen = [int(share * len(truth.pose)) for share in SHOWN]
    frames = dict(truth.frames(set(chosen)))
    triangles = model.triangles_T3[(model.triangles_T3 < NARROW_FACE).all(1)]
    context = create_context()
    mine_camera = Camera(view.focal, view.focal, view.cx, view.cy, size.width, size.height)
    mine, true = (Rasteriser(context, triangles, NARROW_FACE, c) for c in (mine_camera, size))
    rows = []
    points = np.concatenate([m.points for m in landmarks])
    left, top = np.floor(np.nanmin(points, axis=(0, 1)) - 30).astype(int).clip(0)
    right, bottom = np.ceil(np.nanmax(points, axis=(0, 1)) + 30).astype(int)
    for n in chosen:
        pictures = [frames[n]]
        for raster, neutral, weights, pose in (
            (mine, model.identity_vertices(found.alpha_I), found.delta_NC[n], found.pose_N44[n]),
            (true, actor_V3, truth.expression[n], truth.pose[n]),
        ):
            vertices = (neutral + np.tensordot(weights, model.expression_CV3, 1))[:NARROW_FACE].astype(np.float32)
            normals = vertex_normals(vertices, triangles) @ pose[:3, :3].T
            drawn = raster.draw(vertices, pose, normals.astype(np.float32))
            grey = np.clip(drawn[..., 2:3], 0, 1) * (210, 225, 245)
            pictures.append(np.where(drawn[..., 3:] > 0, grey, frames[n]).astype(np.uint8))
        rows.append(np.concatenate([p[top:bottom, left:right] for p in pictures], 1))
    mine.release()
    true.release()
    context.release()
    return np.concatenate(rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--identity", type=int, nargs="+", default=list(IDENTITIES), help="seeds of the actors")
    parser.add_argument("--takes", type=int, default=TAKES, help="the shortest LJ Speech utterances, so many")
    parser.add_argument("--modes", type=int, default=TrackConfig.modes, help="identity modes that are fitted")
    parser.add_argument("--png", type=Path, help="frames beside the fitted shape and the true one, of the first actor")


def run(o: argparse.Namespace) -> dict[str, object]:
    studio_model = load_face_model()
    model = load_morphable_model(data_folder() / "face_model" / "ict_facekit_light.npz")
    result: dict[str, object] = {}
    for number, identity in enumerate(o.identity):
        with tempfile.TemporaryDirectory() as folder:
            figures, picture = track_actor(
                identity, o.takes, TrackConfig(modes=o.modes), Path(folder), studio_model, model
            )
        result[str(identity)] = figures
        if number == 0 and o.png:
            Image.fromarray(picture).save(o.png, optimize=True)
        print(f"actor {identity}, {figures['frames']} frames, {figures['seconds_a_frame']:.3f} s a frame")
        for stage in ("landmarks", "coarse", "fine"):
            row = figures[stage]
            assert isinstance(row, dict)
            print(
                f"  {stage:9s} vertex {row['vertex_mm']:.2f} mm, lips {row['lips_mm']:.2f} mm, "
                f"rotation {row['rotation_degrees']:.2f} deg, jitter {row['jitter_seen']:.2f} seen, "
                f"{row['jitter_object']:.2f} object, focal length x {row['focal_ratio']:.2f}"
            )
    return {"actors": result}
