"""What several tests of capture share: the face model, and an actor that was tracked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import moderngl
import numpy as np
import pytest

from bench.capture import Errors, code_film, compare
from capture.energy import Pose, TrackConfig, View, rotation_of
from capture.job import Job
from capture.landmarks import Landmarks, detect
from capture.morphable_model import MorphableModel, load_morphable_model
from capture.track import Track
from capture.tracker import track
from capture.video import Take, open_take
from dataset.files import write_wav
from dataset.folder import load_dataset
from studio.actor import identity_vertices
from studio.face_model import load_face_model
from studio.film import FilmConfig, Script, film
from tests.films import write_film

VIEW = View(900.0, 250.0, 260.0)
POSE_AT = Pose(rotation_of(np.array([0.1, -0.2, 0.05])), np.array([0.5, -0.3, -60.0]))
IDENTITY = 33
PHONES = (
    (("SIL", 0, 20), ("M", 20, 10), ("AA", 30, 30), ("P", 60, 12), ("IY", 72, 24), ("W", 96, 16), ("SIL", 112, 16)),
    (("SIL", 0, 10), ("F", 10, 12), ("AE", 22, 26), ("B", 48, 10), ("OW", 58, 30), ("SIL", 88, 24)),
)


@pytest.fixture(scope="session")
def model(data_folder: Path) -> MorphableModel:
    return load_morphable_model(data_folder / "face_model" / "ict_facekit_light.npz")


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """What is known of the actor, and how far the track is from the truth after each stage."""

    takes: list[Take]
    landmarks: list[Landmarks]
    track: Track
    errors: dict[str, Errors]


@pytest.fixture(scope="session")
def tracked(tmp_path_factory: pytest.TempPathFactory, gl_context: moderngl.Context, model: MorphableModel) -> Tracked:
    """Two short takes of an actor, filmed, coded and tracked as if they were real."""
    folder = tmp_path_factory.mktemp("capture")
    scripts = []
    rng = np.random.default_rng(0)
    for k, phones in enumerate(PHONES):
        samples = (phones[-1][1] + phones[-1][2]) * 160
        wav = folder / f"speech{k}.wav"
        write_wav(wav, (rng.normal(size=samples) * 0.05).astype(np.float32))
        scripts.append(Script(id=f"take{k}", corpus="ljspeech", audio=wav, phones=phones))
    with gl_context:
        film(folder / "film", FilmConfig(identity=IDENTITY), scripts, gl_context)
    truth = load_dataset(folder / "film")
    takes = [open_take(path) for path in code_film(truth, folder)]
    landmarks = [detect(take.frames) for take in takes]
    actor = identity_vertices(load_face_model(), IDENTITY)
    errors: dict[str, Errors] = {}

    def watch(stage: str, found: Track) -> None:
        errors[stage] = compare(found, model, truth, actor)

    config = TrackConfig(keyframes=14, bundle_points=700, skin_points=1400)
    found = track(takes, landmarks, model, View(600.0, 256.0, 256.0), config, watch)
    return Tracked(takes=takes, landmarks=landmarks, track=found, errors=errors)


@pytest.fixture
def job(tmp_path: Path, ada: Path) -> Job:
    """A job whose files are there, if nothing else."""
    video, model = tmp_path / "a.mp4", tmp_path / "model.npz"
    write_film(video, [np.full((120, 160, 3), 90, np.uint8)] * 5)
    model.write_bytes(b"")
    return Job(
        videos=(video,),
        name="Jane",
        consent="Jane herself, in writing",
        work=tmp_path / "work",
        encoder=ada,
        landmarks=None,
        side=None,
        model=model,
        modes=50,
        steps=None,
        licence="-",
        anyway=False,
    )
