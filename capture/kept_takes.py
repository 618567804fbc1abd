"""The takes that the footage check found usable, on disk: cropped frames without loss, sound, landmarks.

check/SHOT.mkv, check/SHOT.wav      of each shot, written while it is examined
check/landmarks.safetensors         of each shot
check/takes.json                    which frames of which shot are a take; crop; where they lie in the recording
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from capture.footage import Footage
from capture.landmarks import Landmarks
from capture.video import Crop, Take, probe
from dataset.files import read_wav, writing
from realtime.contract import SAMPLES_PER_FRAME
from realtime.whole_file import replacing

ORDINARY_FOCAL = 1.07  # focal length of an ordinary lens over the picture's longer side: 50 degrees across


def save_takes(footage: Footage, kept: Path) -> None:
    """Adds to the folder that was given to examine what `load_takes` needs. Raises MiravoxError if the disk is full."""
    tensors: dict[str, NDArray[np.generic]] = {}
    for shot in footage.shots:
        marks, name = shot.landmarks, shot.take.name
        tensors |= {f"{name}/points": marks.points, f"{name}/depth": marks.depth, f"{name}/found": marks.found}
        if marks.blendshapes is not None:
            tensors[f"{name}/blendshapes"] = marks.blendshapes
    takes = []
    for (take, _), (index, first, end) in zip(footage.takes(), footage.pieces, strict=True):
        shot, recording = footage.shots[index], take.recording
        takes.append(
            {
                "name": take.name,
                "shot": shot.take.name,
                "first": first,
                "end": end,
                "recording": str(recording.path),
                "begin": int(take.first),
                "picture": [recording.width, recording.height],
                "crop": dataclasses.asdict(shot.crop),
            }
        )
    with writing(kept):
        with replacing(kept / "landmarks.safetensors") as partial:
            save_file(tensors, partial)
        with replacing(kept / "takes.json") as partial:
            partial.write_text(json.dumps({"correction": footage.correction, "takes": takes}, indent=1) + "\n")


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
            shots[shot] = Take(name=shot, recording=recording, first=0, end=frames, speech=speech).shifted(
                info["correction"]
            )
        marks = Landmarks(
            points=tensors[f"{shot}/points"],
            found=tensors[f"{shot}/found"],
            depth=tensors[f"{shot}/depth"],
            blendshapes=tensors.get(f"{shot}/blendshapes"),
        )
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
