"""A dataset folder (written by studio or capture) as arrays: takes, frames, geometry, embeddings, sampled pixels.

Shape letters: N frames, V template vertices, C expression shapes, P pixels sampled from a frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tqdm import tqdm

from networks.audio_encoder import AudioEncoder
from networks.contract import EMBEDDING, EMBEDDINGS, FRAME_RATE, MASKS
from networks.losses import MASK_WEIGHTS
from realtime.errors import MiravoxError
from realtime.mel import mel_of_windows, windows_of_take
from realtime.rasteriser import Camera, Rasteriser, create_context
from realtime.sound_file import read_speech
from training.dataset_files import DATASET_VERSION

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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
    geometry: dict[str, NDArray[np.generic]]  # networks.template.Template.arrays()
    provenance: dict[str, object]
    licence: object

    @property
    def neutral(self) -> FloatArray:
        return np.asarray(self.geometry["template"], np.float32)

    @property
    def canonical(self) -> FloatArray:
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

    def take_of_frame(self, frame: int) -> Take:
        return next(t for t in self.takes if t.first <= frame < t.end)

    def frames(self, wanted: set[int] | None = None) -> Iterator[tuple[int, ByteArray]]:
        """(index, uint8 [H, W, 3] sRGB) in order, those in `wanted` only; decoding starts at the first one needed."""
        last = max(wanted) if wanted else None
        with av.open(str(self.folder / "frames.mkv")) as container:
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
            str(path), found="no such file", wanted="a dataset folder",
            remedy="Make one with `python -m studio --out DIR`.",
        )  # fmt: skip
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
            t["name"], t["first"], t["end"], folder / t["speech"], t["split"] == "held_out", t["corpus"] or "",
            tuple((p, s, d) for p, s, d in t["phones"]),
        )
        for t in info["takes"]
    )  # fmt: skip
    track = load_file(folder / "track.safetensors")
    pose, expression, basis = (track.pop(k) for k in ("pose", "expression", "basis"))
    camera = Camera(**info["camera"], width=info["width"], height=info["height"])
    if len(pose) != takes[-1].end:
        raise MiravoxError(
            str(folder / "track.safetensors"), found=f"{len(pose)} poses", wanted=f"{takes[-1].end}, one a frame",
            remedy="Make the dataset again.",
        )  # fmt: skip
    return Dataset(
        folder, info["name"], camera, takes, pose, expression, basis, tuple(info["expression_names"]), track,
        info["provenance"], info["licence"],
    )  # fmt: skip


@torch.no_grad()
def embed_take(encoder: AudioEncoder, take: Take, lookahead_samples: int) -> FloatArray:
    """Embeddings a_E of every frame of a take, [frames, 512]; they depend on nothing outside of the take."""
    return embed_speech(encoder, read_speech(take.speech).samples, take.frames, lookahead_samples)


@torch.no_grad()
def embed_speech(
    encoder: AudioEncoder, speech: FloatArray, frames: int, lookahead_samples: int, first_frame: int = 0
) -> FloatArray:
    """Embeddings [frames, 512] of frames first_frame .. of one take."""
    encoder.eval()
    mel = mel_of_windows(windows_of_take(speech, frames, lookahead_samples, first_frame))
    pieces = [encoder(m[:, None])[0] for m in torch.from_numpy(mel).split(256)]
    return np.asarray(torch.cat(pieces).numpy(), np.float32)


def window_embeddings(embeddings: FloatArray, before: FloatArray) -> FloatArray:
    """A_TE of every frame: [frames, 9, 512], oldest first.

    Args:
        embeddings: [frames, 512] of one take.
        before: [8, 512], the embeddings of the eight frames before the take, computed from the take's own speech
            (silence, then whatever their lookahead already sees of it).
    """
    assert before.shape == (EMBEDDINGS - 1, EMBEDDING)
    padded = np.concatenate([before, embeddings])
    return np.stack([padded[k : k + EMBEDDINGS] for k in range(len(embeddings))])


def embed_dataset(encoder: AudioEncoder, dataset: Dataset, lookahead_samples: int) -> FloatArray:
    """A_TE of every frame of a dataset, [N, 9, 512]. No window crosses from one take into another."""
    windows = []
    for take in tqdm(dataset.takes, desc="embedding speech", unit="take"):
        speech = read_speech(take.speech).samples
        reach = EMBEDDINGS - 1
        all_frames = embed_speech(encoder, speech, take.frames + reach, lookahead_samples, -reach)
        windows.append(window_embeddings(all_frames[reach:], all_frames[:reach]))
    return np.concatenate(windows)


@dataclass(frozen=True)
class Pixels:
    """Random covered pixels of many frames, with what the colour network is asked there."""

    frames: NDArray[np.int64]  # [N'] index of each sampled frame in the dataset
    canonical: FloatArray  # [N', P, 3] scaled to [-1, 1]
    neutral: FloatArray  # [N', P, 3] cm
    color: ByteArray  # [N', P, 3]
    masks: ByteArray  # [N', P, 4] contract.MASKS, 255 is 1
    weight: FloatArray  # [N', P] mask weight over sampling density: makes the mean loss that of equation 3.6


class FaceMaps:
    """Rasterises what training needs of a frame, from ground-truth geometry."""

    def __init__(self, dataset: Dataset, camera: Camera | None = None) -> None:
        self.dataset = dataset
        self.camera = camera or dataset.camera
        self.context = create_context()
        triangles = np.asarray(dataset.geometry["triangles"], np.int32)
        self.rasteriser = Rasteriser(self.context, triangles, len(dataset.neutral), self.camera)

    def draw(self, frame: int, values: FloatArray, vertices: FloatArray | None = None) -> FloatArray:
        """Map [H, W, 4] of per-vertex `values` [V, 3] at the frame's pose, and at its own expression unless
        `vertices` are given.
        """
        dataset = self.dataset
        shown = dataset.neutral + dataset.displacement(frame) if vertices is None else vertices
        return self.rasteriser.draw(shown, dataset.pose[frame], values).copy()

    def masks(self, frame: int, vertices: FloatArray | None = None) -> FloatArray:
        """[H, W, 5]: contract.REGIONS at the frame's pose, 0 where the mesh does not cover."""
        regions = self.dataset.regions
        first = self.draw(frame, np.ascontiguousarray(regions[1:4].T), vertices)
        inpaint = self.draw(frame, np.repeat(regions[4][:, None], 3, 1), vertices)
        return np.concatenate([first[..., 3:], first[..., :3], inpaint[..., :1]], -1)


def sample_pixels(
    dataset: Dataset,
    frames: list[int],
    per_frame: int,
    seed: int,
    watch: Callable[[int, ByteArray], None] | None = None,
) -> Pixels:
    """Draws `per_frame` covered pixels of each frame, the more the higher its mask weight (density ~ square root of
    it).

    `watch` sees each decoded frame, so that whoever needs whole pieces of it does not decode them again.
    """
    maps = FaceMaps(dataset)
    rng = np.random.default_rng(seed)
    count = len(frames)
    pixels = Pixels(
        np.array(frames), np.zeros((count, per_frame, 3), np.float32), np.zeros((count, per_frame, 3), np.float32),
        np.zeros((count, per_frame, 3), np.uint8), np.zeros((count, per_frame, 4), np.uint8),
        np.zeros((count, per_frame), np.float32),
    )  # fmt: skip
    weights = np.array([MASK_WEIGHTS[m] for m in MASKS], np.float32)
    row_of_frame = {frame: row for row, frame in enumerate(frames)}
    for frame, image in tqdm(dataset.frames(set(frames)), total=count, desc="sampling pixels", unit="frame"):
        row = row_of_frame[frame]
        if watch is not None:
            watch(frame, image)
        canonical = maps.draw(frame, dataset.canonical)
        neutral = maps.draw(frame, dataset.neutral)
        masks = maps.masks(frame)[..., :4]
        y, x = np.nonzero(canonical[..., 3] > 0)
        masks_P4 = masks[y, x]
        weight = masks_P4 @ weights
        density = np.sqrt(weight)
        cumulative = np.cumsum(density, dtype=np.float64)
        drawn = np.searchsorted(cumulative, rng.random(per_frame) * cumulative[-1])
        y, x = y[drawn], x[drawn]
        pixels.canonical[row] = dataset.scale(canonical[y, x, :3])
        pixels.neutral[row] = neutral[y, x, :3]
        pixels.color[row] = image[y, x]
        pixels.masks[row] = np.round(masks_P4[drawn] * 255)
        pixels.weight[row] = weight[drawn] * density.mean() / density[drawn]
    return pixels
