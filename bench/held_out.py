"""Held-out takes to measure an avatar with: where they come from, and which of their frames are measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataset.folder import Dataset, Take, load_dataset
from dataset.phones import data_folder, load_utterances
from dataset.speech_curves import expression_curves
from realtime.arrays import FloatArray
from realtime.avatar import Avatar
from realtime.contract import FRAME_RATE
from realtime.errors import MiravoxError
from studio.face_model import load_face_model
from studio.film import SOURCE, FilmConfig, film, script_of
from training.inpaint import chin_heights

RUN = 5  # consecutive frames


def held_out_dataset(avatar: Avatar, folder: Path | None) -> Dataset:
    """The given dataset, or the held-out takes filmed again from the avatar's provenance (kept under build/)."""
    if folder is None:
        provenance = avatar.info["provenance"]
        assert isinstance(provenance, dict)
        recipe = provenance["dataset"]
        if recipe.get("generator") != "studio":
            raise MiravoxError(
                str(avatar.folder),
                found=f"provenance by {recipe.get('generator')!r}",
                wanted="a synthetic actor",
                remedy="Name the dataset of held-out takes with --dataset.",
            )
        folder = Path("build") / f"held-out-{avatar.name.lower()}-{recipe['identity']}"
        if not (folder / "dataset.json").is_file():
            film_again(recipe, folder)
    return load_dataset(folder)


def film_again(recipe: dict[str, object], folder: Path) -> None:
    """Films the source take and the held-out takes of a studio's provenance."""
    speech, identity = recipe["speech"], recipe["identity"]
    assert isinstance(speech, list) and isinstance(identity, int)
    wanted = [u for u in load_utterances(data_folder()) if u.held_out and f"{u.corpus}/{u.id}" in speech]
    film(folder, FilmConfig(identity, held_out_only=True), [SOURCE, *(script_of(u) for u in wanted)])


def widest_expression(avatar: Avatar, dataset: Dataset) -> FloatArray | None:
    """The expression with the lowest chin in the avatar's training speech, for a dataset of held-out takes alone.

    None if the dataset has training takes that speak, as that of a captured person always has: those tell themselves.
    """
    recipe = avatar.info["provenance"]["dataset"]
    if recipe.get("generator") != "studio" or any(not take.held_out and take.phones for take in dataset.takes):
        return None
    speech = recipe["speech"]
    names = load_face_model().expression_names
    curves = np.concatenate(
        [
            expression_curves(u.phones, int(u.seconds * FRAME_RATE), names)
            for u in load_utterances(data_folder())
            if not u.held_out and f"{u.corpus}/{u.id}" in speech
        ]
    )
    return np.asarray(curves[chin_heights(dataset, curves).argmin()], np.float32)


def evenly(frames: list[int], count: int) -> list[int]:
    """`count` of the frames, evenly spaced; all of them if there are not more."""
    if count >= len(frames):
        return frames
    return [frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)]


def runs(takes: list[Take], count: int) -> list[list[int]]:
    """About `count` frames of the takes in evenly spaced runs of RUN consecutive ones."""
    starts = [f for take in takes for f in range(take.first, take.end - RUN + 1, RUN)]
    return [list(range(f, f + RUN)) for f in evenly(starts, max(1, count // RUN))]
