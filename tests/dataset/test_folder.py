"""A dataset folder is read as it was written, and one that is not whole is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dataset.files import LosslessVideo, write_wav
from dataset.folder import FRAMES, Dataset, Take, describe, load_dataset, new_folder
from dataset.template import build_template
from realtime.camera import Camera
from realtime.contract import SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from studio.face_model import load_face_model

COUNT, SIDE = 30, 64  # frames, pixels
NAMES = ("jawOpen", "mouthClose")
PHONES = (("M", 0, 10), ("AA", 10, 30))


@pytest.fixture(scope="module")
def folder(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two takes of noise, the second one held out."""
    out = tmp_path_factory.mktemp("dataset") / "dataset"
    rng = np.random.default_rng(0)
    model = load_face_model()
    template = build_template(model, model.neutral_V3)
    shapes = model.expression_CV3[[model.expression_names.index(name) for name in NAMES]]
    with new_folder(out) as part:
        with LosslessVideo(part / FRAMES, SIDE) as video:
            for frame in frames():
                video.write(frame)
        takes = []
        for name, first, end in (("a", 0, 20), ("b", 20, COUNT)):
            sound = part / "speech" / f"{name}.wav"
            write_wav(sound, np.zeros((end - first) * SAMPLES_PER_FRAME, np.float32))
            takes.append(
                Take(name=name, first=first, end=end, speech=sound, held_out=name == "b", corpus="test", phones=PHONES)
            )
        describe(
            part,
            name="Somebody",
            camera=Camera(100.0, 110.0, 32.0, 33.0, SIDE, SIDE),
            takes=takes,
            template=template,
            basis=template.basis(shapes),
            expression_names=NAMES,
            pose=np.tile(np.eye(4, dtype=np.float32), (COUNT, 1, 1)),
            expression=rng.random((COUNT, 2)).astype(np.float32),
            provenance={"generator": "test"},
            licence={"frames": "none"},
        )
    return out


def frames() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(COUNT)]


@pytest.fixture
def dataset(folder: Path) -> Dataset:
    return load_dataset(folder)


def test_what_is_written_is_read(folder: Path, dataset: Dataset) -> None:
    assert dataset.name == "Somebody" and dataset.camera == Camera(100.0, 110.0, 32.0, 33.0, SIDE, SIDE)
    assert [(t.name, t.first, t.end, t.frames, t.held_out) for t in dataset.takes] == [
        ("a", 0, 20, 20, False),
        ("b", 20, 30, 10, True),
    ]
    assert dataset.takes[1].phones == PHONES and dataset.takes[1].speech == folder / "speech" / "b.wav"
    assert dataset.take_of_frame(20).name == "b"
    assert dataset.provenance == {"generator": "test"} and dataset.expression_names == NAMES
    wanted = np.tensordot(dataset.expression[3], dataset.basis, 1)
    assert np.allclose(dataset.displacement(3), wanted) and wanted.any()
    low, high = dataset.scale(dataset.canonical).min(0), dataset.scale(dataset.canonical).max(0)
    assert low.min() >= -1.6 and high.max() <= 1.6, "a box over the vertices that are drawn"


def test_landmarks_lie_on_displaced_triangles(dataset: Dataset) -> None:
    moved = dataset.neutral + np.float32(1)
    for index in (30, 62):
        assert np.allclose(dataset.landmark(moved, index), dataset.landmark(dataset.neutral, index) + 1, atol=1e-4)


def test_seeking_gives_the_frames_that_reading_gives(dataset: Dataset) -> None:
    everything = dict(dataset.frames())
    assert sorted(everything) == list(range(COUNT))
    assert all(np.array_equal(everything[k], frame) for k, frame in enumerate(frames()))
    some = dict(dataset.frames({26, 29}))
    assert sorted(some) == [26, 29] and all(np.array_equal(some[i], everything[i]) for i in some)


def test_a_folder_appears_when_all_of_it_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), new_folder(out) as part:
        (part / "half").touch()
        raise KeyboardInterrupt
    assert not out.exists() and (tmp_path / "out.part" / "half").exists()
    with new_folder(out) as part:
        assert not (part / "half").exists(), "what was interrupted is begun anew"
        assert not out.exists()
    assert (out / "speech").is_dir() and not (tmp_path / "out.part").exists()


def test_what_is_no_dataset_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MiravoxError, match="no such file; wanted a dataset folder"):
        load_dataset(tmp_path)
    info = json.loads((folder / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**info, "version": 0}))
    with pytest.raises(MiravoxError, match="found version 0; wanted version 1"):
        load_dataset(tmp_path)
    info["takes"][1]["end"] += 1
    (tmp_path / "dataset.json").write_text(json.dumps(info))
    (tmp_path / "track.safetensors").write_bytes((folder / "track.safetensors").read_bytes())
    with pytest.raises(MiravoxError, match="found 30 poses; wanted 31"):
        load_dataset(tmp_path)
