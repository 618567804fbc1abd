"""Self-reenactment of held-out takes: the speech of a take is painted into its own frames, after the inpaint region
was set to zero.

    python -m bench fidelity --avatar avatars/ada --json F [--dataset DIR] [--frames N] [--targets baked onnx]

8-bit sRGB; PSNR and MSE of each frame, then the mean; SSIM (scikit-image, 11 x 11) over a region is the mean of its
full map. The lower face is the inpaint region of the ground-truth mesh at the frame's own expression. Source frames
are the lossless ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity
from tqdm import tqdm

from networks.contract import FRAME_RATE, REGIONS, SAMPLES_PER_FRAME
from realtime.audio_input import Block
from realtime.audio_ring import AudioRing
from realtime.avatar import Avatar
from realtime.errors import MiravoxError
from realtime.pipeline import Pipeline
from realtime.sound_file import read_speech
from studio.dataset import SOURCE, FilmConfig, film, script_of
from studio.face_model import load_face_model
from studio.speech_curves import expression_curves
from training.dataset import Dataset, load_dataset
from training.inpaint import Inpaint, chin_heights
from training.phones import data_folder, load_utterances

ByteArray = NDArray[np.uint8]
Figures = dict[str, dict[str, dict[str, float]]]


def held_out_dataset(avatar: Avatar, folder: Path | None) -> Dataset:
    """The given dataset, or the held-out takes filmed again from the avatar's provenance (kept under build/)."""
    if folder is None:
        provenance = avatar.info["provenance"]
        assert isinstance(provenance, dict)
        recipe = provenance["dataset"]
        if recipe.get("generator") != "studio":
            raise MiravoxError(
                str(avatar.folder), found=f"provenance by {recipe.get('generator')!r}", wanted="a synthetic actor",
                remedy="Name the dataset of held-out takes with --dataset.",
            )  # fmt: skip
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


def widest_expression(avatar: Avatar, dataset: Dataset) -> NDArray[np.float32] | None:
    """The expression with the lowest chin in the avatar's training speech, for a dataset of held-out takes alone.

    None if the dataset has training takes that speak: those tell themselves.
    """
    if any(not take.held_out and take.phones for take in dataset.takes):
        return None
    speech = avatar.info["provenance"]["dataset"]["speech"]
    names = load_face_model().expression_names
    curves = np.concatenate([
        expression_curves(u.phones, int(u.seconds * FRAME_RATE), names)
        for u in load_utterances(data_folder())
        if not u.held_out and f"{u.corpus}/{u.id}" in speech
    ])  # fmt: skip
    return np.asarray(curves[chin_heights(dataset, curves).argmin()], np.float32)


def evenly(frames: list[int], count: int) -> list[int]:
    """`count` of the frames, evenly spaced; all of them if there are not more."""
    if count >= len(frames):
        return frames
    return [frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)]


class Reenactment:
    """Paints frames of a dataset with an avatar's target."""

    def __init__(self, avatar: Avatar, dataset: Dataset, inpaint: Inpaint, target: str) -> None:
        self.dataset, self.inpaint = dataset, inpaint
        longest = max(t.frames for t in dataset.takes)
        self.capacity = (longest + 2 * FRAME_RATE) * SAMPLES_PER_FRAME
        self.avatar, self.target = avatar, target
        self.take_first: int | None = None
        self.pipeline: Pipeline | None = None

    def paint(self, frame: int, image: ByteArray) -> ByteArray:
        """The painted frame uint8 [H, W, 3], from the true frame with the inpaint region set to zero."""
        take = self.dataset.take_of_frame(frame)
        if take.first != self.take_first:  # nothing may cross from one take into another
            self.close()
            ring = AudioRing(self.capacity)
            speech = read_speech(take.speech).samples
            ring.write(Block(0, np.concatenate([speech, np.zeros(SAMPLES_PER_FRAME * FRAME_RATE, np.float32)])))
            self.pipeline, self.take_first = Pipeline(self.avatar, ring, self.target), take.first
        assert self.pipeline is not None
        box, mask = self._fit(self.inpaint.box(frame), self.inpaint.mask(frame))
        left, top, right, bottom = box
        latent = self.pipeline.latents.advance(frame - take.first)
        face = self.pipeline.face.draw(latent, self.dataset.pose[frame], box)
        crop = image[top:bottom, left:right] * (mask < 1)[..., None].astype(np.uint8)
        painted = image.copy()
        painted[top:bottom, left:right] = self.pipeline.compositor.compose(crop, face, mask)
        return painted

    def _fit(self, box: NDArray[np.int32], mask: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The dataset's box and mask at the size of the avatar's own box, around the same centre; the mask must fit."""
        assert self.pipeline is not None
        size = np.array(self.pipeline.box_size)
        limit = np.array([self.dataset.camera.width, self.dataset.camera.height])
        corner = np.clip(np.round((box[:2] + box[2:] - size) / 2), 0, limit - size).astype(np.int32)
        whole = np.zeros(limit[::-1], np.float32)
        whole[box[1] : box[3], box[0] : box[2]] = mask
        fitted = whole[corner[1] : corner[1] + size[1], corner[0] : corner[0] + size[0]]
        if (fitted == 1).sum() < (mask == 1).sum():
            raise MiravoxError(
                str(self.dataset.folder), found=f"an inpaint region of {mask.shape[::-1]} pixels",
                wanted=f"one within the avatar's {self.pipeline.box_size}", remedy="Pack the avatar with this dataset.",
            )  # fmt: skip
        return np.concatenate([corner, corner + size.astype(np.int32)]), fitted

    def close(self) -> None:
        if self.pipeline is not None:
            self.pipeline.close()
            self.pipeline = None


def measure_frame(painted: ByteArray, true: ByteArray, region: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """MSE (of values in [0, 1]), PSNR and SSIM over the frame and over a region."""
    squared = ((painted.astype(np.float64) - true) / 255) ** 2
    ssim, ssim_map = structural_similarity(true, painted, win_size=11, channel_axis=2, data_range=255, full=True)
    figures = {}
    for name, mse, similarity in (
        ("frame", squared.mean(), ssim),
        ("lower_face", squared[region].mean(), ssim_map[region].mean()),
    ):
        figures[name] = {"psnr": float(-10 * np.log10(mse + 1e-12)), "ssim": float(similarity), "mse": float(mse)}
    return figures


def fidelity(
    avatar: Avatar, dataset: Dataset, targets: tuple[str, ...], count: int, sheet: Path | None = None
) -> tuple[Figures, float]:
    """The mean figures of each target over `count` held-out frames, and the inpaint region's share of the frame."""
    inpaint = Inpaint(dataset, widest_expression(avatar, dataset))
    frames = evenly([f for t in dataset.takes if t.held_out for f in range(t.first, t.end)], count)
    images = dict(dataset.frames(set(frames)))
    shares = [float((inpaint.mask(f) == 1).sum()) / images[f][..., 0].size for f in frames]
    figures: Figures = {}
    painted_of: dict[str, dict[int, ByteArray]] = {}
    for target in targets:
        reenactment = Reenactment(avatar, dataset, inpaint, target)
        rows, painted_of[target] = [], {}
        for frame in tqdm(frames, desc=f"target {target}", unit="frame"):
            painted = reenactment.paint(frame, images[frame])
            region = inpaint.maps.masks(frame)[..., REGIONS.index("inpaint")] > 0.5
            rows.append(measure_frame(painted, images[frame], region))
            painted_of[target][frame] = painted
        reenactment.close()
        figures[target] = {
            part: {key: float(np.mean([r[part][key] for r in rows])) for key in ("psnr", "ssim", "mse")}
            for part in ("frame", "lower_face")
        }
    if sheet is not None:
        save_sheet(images, painted_of, evenly(frames, 6), sheet)
    return figures, float(np.mean(shares))


def save_sheet(
    images: dict[int, ByteArray], painted_of: dict[str, dict[int, ByteArray]], frames: list[int], path: Path
) -> None:
    """Truth above, each target below, and five times the error of the last one."""
    rows = [np.concatenate([images[f] for f in frames], 1)]
    rows += [np.concatenate([painted[f] for f in frames], 1) for painted in painted_of.values()]
    last = list(painted_of.values())[-1]
    error = [np.clip(5 * np.abs(last[f].astype(int) - images[f]), 0, 255).astype(np.uint8) for f in frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([*rows, np.concatenate(error, 1)])).save(path)
    print(f"saved {path}")


def print_table(figures: Figures, share: float) -> None:
    print(f"{'target':10}{'region':14}{'PSNR dB':>10}{'SSIM':>10}{'MSE':>12}")
    for target, parts in figures.items():
        for part, f in parts.items():
            print(f"{target:10}{part:14}{f['psnr']:10.2f}{f['ssim']:10.4f}{f['mse']:12.6f}")
    print(f"the inpaint region is {100 * share:.1f} % of the frame")
