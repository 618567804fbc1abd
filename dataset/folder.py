"""The dataset folder that an avatar is trained on: written by studio and capture, read by training and bench.

    dataset.json         takes (frames, speech file, phones, whether held out), camera, provenance, licence
    frames.mkv           lossless frames of all takes, one take after the other, 25 a second
    speech/NAME.wav      16 kHz mono, 640 samples for each frame of the take
    track.safetensors    pose and expression of every frame, expression basis, template (Template.arrays)

Shape letters: N frames of all takes, C expression shapes, V template vertices.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from dataset.template import Template
from realtime.arrays import ByteArray, FloatArray
from realtime.camera import Camera
from realtime.contract import FRAME_RATE
from realtime.errors import MiravoxError

DATASET_VERSION = 1
FRAMES = "frames.mkv"
INNER_UPPER, INNER_LOWER = 62, 66  # landmarks whose distance is the lip aperture


@dataclass(frozen=True, kw_only=True)
class Take:
    """An uninterrupted piece: frames first .. end - 1 and the speech that they show."""

    name: str
    first: int
    end: int
    speech: Path
    held_out: bool
    corpus: str
    phones: tuple[tuple[str, int, int], ...]  # (phone, start, duration), units of 10 ms

    @property
    def frames(self) -> int:
        return self.end - self.first


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Everything but the pixels, which are read from `frames.mkv` when they are needed."""

    folder: Path
    name: str
    camera: Camera
    takes: tuple[Take, ...]
    pose: FloatArray  # [N, 4, 4]
    expression: FloatArray  # [N, C]
    basis: FloatArray  # [C, V, 3], cm at weight 1
    expression_names: tuple[str, ...]  # of the C shapes
    geometry: dict[str, NDArray[np.generic]]  # dataset.template.Template.arrays()
    provenance: dict[str, object]
    licence: object

    @property
    def neutral(self) -> FloatArray:
        """Template vertices [V, 3], cm, lips closed."""
        return np.asarray(self.geometry["template"], np.float32)

    @property
    def canonical(self) -> FloatArray:
        """Template vertices [V, 3], cm, lips parted: the networks' 3D input."""
        return np.asarray(self.geometry["canonical"], np.float32)

    @property
    def regions(self) -> FloatArray:
        """[5, V], contract.REGIONS."""
        return np.asarray(self.geometry["regions"], np.float32)

    def displacement(self, frame: int) -> FloatArray:
        """[V, 3], cm: displaced vertices minus template."""
        return np.asarray(np.tensordot(self.expression[frame], self.basis, 1), np.float32)

    def scale(self, points: FloatArray) -> FloatArray:
        """Object space -> the networks' [-1, 1]."""
        low, high = np.asarray(self.geometry["box"], np.float32)
        return np.asarray((points - low) / (high - low) * 2 - 1, np.float32)

    def landmark(self, vertices: FloatArray, index: int) -> FloatArray:
        """Position [3] of one of the 68 landmarks on displaced vertices [V, 3]."""
        triangle = np.asarray(self.geometry["triangles"])[np.asarray(self.geometry["landmark_triangles"])[index]]
        weights = np.asarray(self.geometry["landmark_barycentrics"])[index]
        return np.asarray(weights @ vertices[triangle], np.float32)

    def take_of_frame(self, frame: int) -> Take:
        """The take that a frame belongs to."""
        return next(t for t in self.takes if t.first <= frame < t.end)

    def frames(self, wanted: set[int] | None = None) -> Iterator[tuple[int, ByteArray]]:
        """(index, uint8 [H, W, 3] sRGB) in order, those in `wanted` only; decoding starts at the first one needed."""
        last = max(wanted) if wanted else None
        with av.open(str(self.folder / FRAMES)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if wanted and stream.time_base is not None:
                container.seek(int(min(wanted) / FRAME_RATE / stream.time_base), stream=stream, backward=True)
            for frame in container.decode(stream):
                if frame.pts is None or stream.time_base is None:
                    continue
                index = round(float(frame.pts * stream.time_base) * FRAME_RATE)
                if wanted is None or index in wanted:
                    yield index, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                if last is not None and index >= last:
                    return


def load_dataset(folder: Path) -> Dataset:
    """Reads a dataset folder. Raises MiravoxError if something is missing, or of another version."""
    path = folder / "dataset.json"
    if not path.is_file():
        raise MiravoxError(
            str(path),
            found="no such file",
            wanted="a dataset folder",
            remedy="Make one with `python -m studio --out DIR`.",
        )
    info = json.loads(path.read_text())
    if info.get("version") != DATASET_VERSION:
        raise MiravoxError(
            str(path),
            found=f"version {info.get('version')}",
            wanted=f"version {DATASET_VERSION}",
            remedy="Make the dataset again.",
        )
    takes = tuple(
        Take(
            name=row["name"],
            first=row["first"],
            end=row["end"],
            speech=folder / row["speech"],
            held_out=row["split"] == "held_out",
            corpus=row["corpus"] or "",
            phones=tuple((phone, start, duration) for phone, start, duration in row["phones"]),
        )
        for row in info["takes"]
    )
    track = load_file(folder / "track.safetensors")
    pose, expression, basis = (track.pop(k) for k in ("pose", "expression", "basis"))
    if len(pose) != takes[-1].end:
        raise MiravoxError(
            str(folder / "track.safetensors"),
            found=f"{len(pose)} poses",
            wanted=f"{takes[-1].end}, one a frame",
            remedy="Make the dataset again.",
        )
    return Dataset(
        folder=folder,
        name=info["name"],
        camera=Camera(**info["camera"], width=info["width"], height=info["height"]),
        takes=takes,
        pose=pose,
        expression=expression,
        basis=basis,
        expression_names=tuple(info["expression_names"]),
        geometry=track,
        provenance=info["provenance"],
        licence=info["licence"],
    )


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Gives a folder with an empty speech/ in it, which is called `out`.part until it is complete: on leaving without
    an exception it becomes `out`. What an interrupted run left under that name is removed.
    """
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "speech").mkdir(parents=True)
    yield part
    part.rename(out)


def describe(
    folder: Path,
    *,
    name: str,
    camera: Camera,
    takes: Sequence[Take],
    template: Template,
    basis: FloatArray,
    expression_names: Sequence[str],
    pose: FloatArray,
    expression: FloatArray,
    provenance: Mapping[str, object],
    licence: Mapping[str, str],
) -> None:
    """Writes track.safetensors and dataset.json into a folder that holds frames and speech already.

    Args as in Dataset; each take's speech is a path within `folder`.
    """
    tensors: dict[str, NDArray[np.generic]] = dict(template.arrays())
    tensors |= {"basis": basis, "pose": pose, "expression": expression}
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "track.safetensors")
    info = {
        "version": DATASET_VERSION,
        "name": name,
        "fps": FRAME_RATE,
        "width": camera.width,
        "height": camera.height,
        "camera": {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy},
        "units": "cm",
        "frames": FRAMES,
        "takes": [
            {
                "name": take.name,
                "first": take.first,
                "end": take.end,
                "speech": take.speech.relative_to(folder).as_posix(),
                "split": "held_out" if take.held_out else "train",
                "corpus": take.corpus,
                "id": take.name,
                "phones": take.phones,
            }
            for take in takes
        ],
        "expression_names": list(expression_names),
        "provenance": provenance,
        "licence": licence,
    }
    (folder / "dataset.json").write_text(json.dumps(info, indent=1))
