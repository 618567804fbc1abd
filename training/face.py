"""Trains projection, deformation and colour together on one actor (thesis 3.4, 3.5, 3.7 and 4.1.4).

    python -m training.face --dataset DIR --encoder build/encoder/encoder.safetensors --out build/avatar/face [--resume]
        [--second DIR] [--init AVATAR]

Random pixels of random frames instead of whole images, so that two cores suffice; every few steps a patch of the mouth
for the perceptual loss. Projection and deformation also learn from every other voice with phone timings, which need not
be filmed (training/voices.py); there, lips that should touch weigh more. The audio encoder stays fixed.
"""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from networks.audio_encoder import AudioEncoder
from networks.color import Color, ColorConfig
from networks.contract import EMBEDDINGS, LATENT, MASKS, REGIONS
from networks.deformation import Deformation
from networks.losses import MASK_WEIGHTS, l1_distance, mask_weight, masked_l1, total_loss
from networks.projection import Projection, ProjectionConfig
from realtime.errors import MiravoxError
from training.dataset import Dataset, FaceMaps, Pixels, embed_dataset, load_dataset, sample_pixels
from training.encoders import load_encoder, lookahead_of
from training.phones import data_folder
from training.run import Checkpoint, log_line, open_run, plot_log
from training.vgg import Vgg, load_vgg, vgg_distance
from training.voices import Voices, load_voices, own_voice

FloatArray = NDArray[np.float32]

CHECKED_FRAMES, CHECKED_PIXELS = 24, 2048  # of held-out takes, for the figures in the log
INNER_UPPER, INNER_LOWER = 62, 66  # landmarks whose distance is the lip aperture


@dataclass(frozen=True)
class FaceConfig:
    """Everything that decides the result of a run.

    Lambdas are those of equation 3.4; the thesis gives no figures for them.
    """

    window: int = EMBEDDINGS  # T of the temporal weighting (Table 4.8); 1: the newest embedding alone
    color_input: str = "canonical"  # the 3D point that the colour network sees: canonical, or deformed as in Figure 3.1
    frequencies: int = 10  # L of the positional encoding
    steps: int = 3200
    frames_per_step: int = 16
    pixels_per_frame: int = 160
    vertices_per_frame: int = 64
    learning_rate: float = 6e-4
    lambda_color: float = 1.0
    lambda_deformation: float = 1.0
    lambda_vgg: float = 4.0
    lambda_latent: float = 0.01
    lambda_lips: float = 1.0  # of the lip aperture in the other voices
    lambda_change: float = 1.0  # of its change from frame to frame
    lambda_own: float = 1.0  # of lips and change of the film's own speech
    voice_frames: int = 128  # a step, of other voices; 0: the film alone
    own_frames: int = 64  # a step, of the film's own speech, beside other voices
    voice_vertices: int = 12  # a frame of them, besides the lips'
    stranger_share: float = 2.0  # how often every recording is heard again, at another pitch, through a bad microphone
    closure_weight: float = 4.0  # of frames that show P, B or M
    embedding_dropout: float = 0.1  # of the other voices' embeddings
    vgg_every: int = 10  # steps
    patch: int = 56  # pixels
    latent_noise: float = 0.2  # thesis 3.4
    ema_decay: float = 0.998
    frame_step: int = 2  # every which frame of the training takes is used: neighbours hardly differ
    pixels_kept_per_frame: int = 6144  # drawn once for each frame, held in memory
    init: str = ""  # avatar whose face the first actor begins with
    seed: int = 0


class FaceNetworks(nn.Module):
    """The three networks that are trained together."""

    def __init__(self, config: FaceConfig) -> None:
        super().__init__()
        self.color_input = config.color_input
        self.projection, self.deformation = Projection(ProjectionConfig(window=config.window)), Deformation()
        self.color = Color(ColorConfig(frequencies=config.frequencies))

    def shade(self, canonical: Tensor, neutral: Tensor, latent: Tensor, box_23: Tensor) -> Tensor:
        """RGB [..., N, 3] at points given by their canonical (scaled) and neutral (cm) positions."""
        if self.color_input == "deformed":
            deformed = neutral + self.deformation(canonical, latent)
            points = (deformed - box_23[0]) / (box_23[1] - box_23[0]) * 2 - 1
        else:
            assert self.color_input == "canonical"
            points = canonical
        rgb: Tensor = self.color(points, latent)
        return rgb


def load_face(path: Path) -> tuple[FaceNetworks, FaceConfig, FloatArray]:
    """The three networks of a run (face.safetensors) or of an avatar (its folder), their configuration and the rest
    latent [64].

    Raises MiravoxError if the file is not there.
    """
    file = path / "networks.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise MiravoxError(
            str(file), found="no such file", wanted="face.safetensors, or an avatar", remedy="Run training.face first."
        )
    state = {k: v.float() for k, v in load_file(file).items()}
    if path.is_dir():
        config = FaceConfig(**json.loads((path / "avatar.json").read_text())["provenance"]["face"])
        rest = load_file(path / "geometry.safetensors")["rest_latent"].numpy()
        parts = ("projection/", "deformation/", "color/")
        state = {k.replace("/", "."): v for k, v in state.items() if k.startswith(parts)}
    else:
        with safe_open(file, "pt") as f:
            config = FaceConfig(**json.loads((f.metadata() or {})["config"]))
        rest = state.pop("rest_latent").numpy()
    networks = FaceNetworks(config)
    networks.load_state_dict(state)
    return networks.eval(), config, rest


def landmark_points(dataset: Dataset, vertices: FloatArray, landmark: int) -> FloatArray:
    """Position [3] of one of the 68 landmarks on displaced vertices [V, 3]."""
    triangle = np.asarray(dataset.geometry["triangles"])[np.asarray(dataset.geometry["landmark_triangles"])[landmark]]
    weights = np.asarray(dataset.geometry["landmark_barycentrics"])[landmark]
    return np.asarray(weights @ vertices[triangle], np.float32)


def aperture(dataset: Dataset, vertices: FloatArray) -> float:
    """Lip aperture in mm: the distance of the inner-lip landmarks."""
    gap = landmark_points(dataset, vertices, INNER_UPPER) - landmark_points(dataset, vertices, INNER_LOWER)
    return float(10 * np.linalg.norm(gap))


class Patches:
    """Squares around the mouth, kept in memory for the perceptual loss, with the geometry of their pixels on demand."""

    def __init__(self, dataset: Dataset, frames: list[int], size: int, count: int, seed: int) -> None:
        self.maps, self.dataset, self.size = FaceMaps(dataset), dataset, size
        rng = np.random.default_rng(seed)
        self.wanted = {int(f) for f in rng.choice(frames, min(count, len(frames)), replace=False)}
        self.crops: dict[int, tuple[int, int, NDArray[np.uint8]]] = {}

    def watch(self, frame: int, image: NDArray[np.uint8]) -> None:
        """Keeps the surroundings of the mouth if the frame is one of those drawn from."""
        if frame not in self.wanted:
            return
        dataset, size = self.dataset, self.size
        vertices = dataset.neutral + dataset.displacement(frame)
        lips = np.stack([landmark_points(dataset, vertices, i) for i in (INNER_UPPER, INNER_LOWER)]).mean(
            0, keepdims=True
        )
        centre = dataset.camera.project(lips, dataset.pose[frame])[0]
        x, y = (int(np.clip(v - size, 0, dataset.camera.width - 2 * size)) for v in centre)
        self.crops[frame] = (x, y, image[y : y + 2 * size, x : x + 2 * size].copy())

    def draw(self, rng: np.random.Generator) -> tuple[int, Tensor, Tensor, Tensor]:
        """Frame, then canonical (scaled) and neutral points [s s, 3] and the true colours [s s, 3] of one wholly
        covered patch.
        """
        while True:
            frame = int(rng.choice(sorted(self.crops)))
            x, y, crop = self.crops[frame]
            dx, dy = (int(v) for v in rng.integers(self.size // 4, self.size * 3 // 4, 2))
            rows, columns = slice(y + dy, y + dy + self.size), slice(x + dx, x + dx + self.size)
            canonical = self.maps.draw(frame, self.dataset.canonical)[rows, columns]
            if canonical[..., 3].min() > 0:
                break
        neutral = self.maps.draw(frame, self.dataset.neutral)[rows, columns]
        target = crop[dy : dy + self.size, dx : dx + self.size].reshape(-1, 3)
        return (
            frame, torch.from_numpy(self.dataset.scale(canonical[..., :3]).reshape(-1, 3)),
            torch.from_numpy(neutral[..., :3].reshape(-1, 3).copy()), torch.from_numpy(target).float() / 255,
        )  # fmt: skip


@torch.no_grad()
def evaluate(networks: FaceNetworks, material: Material) -> dict[str, float]:
    """PSNR over sampled pixels of held-out frames (all, and the mouth's), and the error of the lip aperture."""
    dataset, windows, pixels = material.dataset, material.windows, material.checked
    box = torch.from_numpy(np.asarray(dataset.geometry["box"], np.float32))
    canonical_vertices = torch.from_numpy(dataset.scale(dataset.canonical))
    squared, squared_mouth, apertures = [], [], []
    for row, frame in enumerate(pixels.frames):
        latent = networks.projection(torch.from_numpy(windows[frame][None]))
        canonical, neutral = torch.from_numpy(pixels.canonical[row]), torch.from_numpy(pixels.neutral[row])
        rgb = networks.shade(canonical, neutral, latent, box)
        error = (rgb.numpy() - pixels.color[row] / 255.0) ** 2
        mouth = pixels.masks[row, :, MASKS.index("mouth")] > 127
        squared.append(error.mean())
        squared_mouth.append(error[mouth].mean())
        displaced = dataset.neutral + networks.deformation(canonical_vertices, latent).numpy()
        apertures.append(
            (aperture(dataset, displaced), aperture(dataset, dataset.neutral + dataset.displacement(frame)))
        )
    predicted, true = np.array(apertures).T
    return {
        "psnr_sampled": float(-10 * np.log10(np.mean(squared))),
        "psnr_mouth": float(-10 * np.log10(np.mean(squared_mouth))),
        "aperture_error_mm": float(np.abs(predicted - true).mean()),
        "aperture_correlation": float(np.corrcoef(predicted, true)[0, 1]),
    }


@torch.no_grad()
def contact_sheet(networks: FaceNetworks, dataset: Dataset, windows: FloatArray, frames: list[int], path: Path) -> None:
    """Truth above, the networks' face below, for some held-out frames."""
    maps = FaceMaps(dataset)
    box = torch.from_numpy(np.asarray(dataset.geometry["box"], np.float32))
    canonical_vertices = torch.from_numpy(dataset.scale(dataset.canonical))
    columns = []
    for frame, image in dataset.frames(set(frames)):
        latent = networks.projection(torch.from_numpy(windows[frame][None]))
        displaced = dataset.neutral + networks.deformation(canonical_vertices, latent).numpy()
        canonical = maps.draw(frame, dataset.canonical, displaced)
        neutral = maps.draw(frame, dataset.neutral, displaced)
        covered = canonical[..., 3] > 0
        points = torch.from_numpy(dataset.scale(canonical[covered][:, :3]))
        rgb = torch.cat([
            networks.shade(c, n, latent, box)
            for c, n in zip(points.split(8192), torch.from_numpy(neutral[covered][:, :3]).split(8192), strict=True)
        ])  # fmt: skip
        face = np.zeros_like(image)
        face[covered] = np.round(rgb.numpy() * 255)
        columns.append(np.concatenate([image, face]))
    Image.fromarray(np.concatenate(columns, 1)).save(path)


class VoiceLoss:
    """How far the mouth is from the studio's in voices that were not filmed."""

    def __init__(self, config: FaceConfig, dataset: Dataset, voices: Voices) -> None:
        self.config, self.voices, self.dataset = config, voices, dataset
        landmarks = [INNER_UPPER, INNER_LOWER]
        triangles = np.asarray(dataset.geometry["triangles"])
        self.corners = triangles[np.asarray(dataset.geometry["landmark_triangles"])[landmarks]].ravel()  # [6]
        weights = np.asarray(dataset.geometry["landmark_barycentrics"])[landmarks].astype(np.float32)
        # Upper less lower lip, as a sum over the six corners.
        self.gap_6 = torch.from_numpy(np.concatenate([weights[0], -weights[1]]))
        self.points = torch.from_numpy(dataset.scale(dataset.canonical))
        self.masks = torch.from_numpy(dataset.regions[: len(MASKS)].T.copy())
        moved = np.unique(triangles)
        density = dataset.regions[REGIONS.index("mouth")][moved] + 0.3 * dataset.regions[REGIONS.index("jaw")][moved]
        self.moved, self.density = moved, density / density.sum()

    def __call__(self, networks: FaceNetworks, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """L1 of vertices (equation 3.7), of the vector between the inner lips, and of its change from a frame to the
        next, weighted alike.
        """
        config = self.config
        first = rng.integers(len(self.voices.newest) - 1, size=config.voice_frames // 2)
        rows = np.concatenate([first, first + 1])
        vertices = np.concatenate(
            [self.corners, rng.choice(self.moved, config.voice_vertices, p=self.density, replace=False)]
        )
        windows = F.dropout(torch.from_numpy(self.voices.windows(rows)), config.embedding_dropout)
        latent = networks.projection(windows)
        # Of two frames that follow each other the noise is the same: it is not a movement.
        latent = (latent + config.latent_noise * torch.randn_like(latent[: len(first)]).repeat(2, 1))[:, None]
        displacement = networks.deformation(self.points[vertices].expand(len(rows), -1, -1), latent)
        truth = torch.from_numpy(
            np.einsum("fc,cvx->fvx", self.voices.expression[rows], self.dataset.basis[:, vertices]).astype(np.float32)
        )
        weight = torch.from_numpy(np.where(self.voices.together[rows], config.closure_weight, 1.0).astype(np.float32))
        weight = weight / weight.mean()
        error = l1_distance(displacement, truth) * mask_weight(self.masks[vertices])  # [F, 6 + n]
        lips = torch.einsum("fvx,v->fx", (displacement - truth)[:, : len(self.corners)], self.gap_6)
        change = (lips[len(first) :] - lips[: len(first)]).abs().sum(-1)
        scale = sum(MASK_WEIGHTS.values())
        return (weight * error.mean(1)).mean(), (weight * lips.abs().sum(-1)).mean() * scale, change.mean() * scale


@dataclass(frozen=True)
class Material:
    """What one actor's networks are trained on."""

    dataset: Dataset
    windows: FloatArray  # [N, 9, 512]
    pixels: Pixels
    checked: Pixels  # of held-out takes
    patches: Patches | None
    voice_loss: VoiceLoss | None
    own_loss: VoiceLoss | None  # of the film's own speech
    used: NDArray[np.int64]  # vertices of any triangle
    density: NDArray[np.float32]  # how often each of them is drawn


def load_material(
    config: FaceConfig, dataset_folder: Path, encoder: AudioEncoder, lookahead_samples: int, voices_cache: Path,
    with_patches: bool,
) -> Material:  # fmt: skip
    """Reads an actor's dataset, and hears its speech and the other voices."""
    dataset = load_dataset(dataset_folder)
    windows = embed_dataset(encoder, dataset, lookahead_samples)
    train_frames = [f for t in dataset.takes if not t.held_out for f in range(t.first, t.end, config.frame_step)]
    held_out = held_out_frames(dataset)
    patches = Patches(dataset, train_frames, config.patch, 1500, config.seed) if with_patches else None
    watch = patches.watch if patches else None
    pixels = sample_pixels(dataset, train_frames, config.pixels_kept_per_frame, config.seed, watch)
    checked = sample_pixels(dataset, held_out[:: max(1, len(held_out) // CHECKED_FRAMES)], CHECKED_PIXELS, 1)
    voice_loss = own_loss = None
    if config.voice_frames:
        voices = load_voices(
            voices_cache, encoder, lookahead_samples, dataset.expression_names, data_folder(), config.stranger_share,
            config.seed + 1,
        )  # fmt: skip
        voice_loss = VoiceLoss(config, dataset, voices)
        if config.lambda_own:
            own = own_voice(dataset, windows)
            own_loss = VoiceLoss(replace(config, voice_frames=config.own_frames), dataset, own)
    used = np.unique(np.asarray(dataset.geometry["triangles"]))
    density = 0.1 + dataset.regions[REGIONS.index("mouth")][used]
    return Material(dataset, windows, pixels, checked, patches, voice_loss, own_loss, used, density / density.sum())


@dataclass(frozen=True)
class Actor:
    """One actor's material and networks. Actors that are trained in turns share the projection (thesis 3.4)."""

    folder: Path  # of what is written
    material: Material
    networks: FaceNetworks
    averaged: FaceNetworks  # exponential moving average: what is kept


def held_out_frames(dataset: Dataset) -> list[int]:
    return [f for t in dataset.takes if t.held_out for f in range(t.first, t.end)]


def learning_rate(config: FaceConfig, turn: int) -> float:
    """Rises over 100 steps, then falls by a cosine to a fiftieth."""
    fall = 0.02 + 0.98 * (0.5 + 0.5 * np.cos(np.pi * turn / config.steps))
    return float(config.learning_rate * min(1.0, (turn + 1) / 100) * fall)


def losses_of(config: FaceConfig, actor: Actor, vgg: Vgg | None, turn: int) -> tuple[Tensor, dict[str, float]]:
    """The loss of an actor's `turn`-th step (equation 3.4, and that of the other voices), and its parts."""
    networks, material = actor.networks, actor.material
    dataset, pixels = material.dataset, material.pixels
    rng = np.random.default_rng([config.seed, turn])
    torch.manual_seed(config.seed * 1_000_003 + turn)
    box = torch.from_numpy(np.asarray(dataset.geometry["box"], np.float32))

    # A random set of frames; b with noise, so that colour and deformation learn the neighbourhood of each latent.
    rows = rng.integers(len(pixels.frames), size=config.frames_per_step)
    frames = pixels.frames[rows]
    clean = networks.projection(torch.from_numpy(material.windows[frames]))
    latent = (clean + config.latent_noise * torch.randn_like(clean))[:, None]

    # Colour of random pixels.
    drawn = rng.integers(pixels.color.shape[1], size=(config.frames_per_step, config.pixels_per_frame))
    at = (rows[:, None], drawn)
    canonical, neutral, color, weight = (
        torch.from_numpy(a[at]) for a in (pixels.canonical, pixels.neutral, pixels.color, pixels.weight)
    )
    rgb = networks.shade(canonical, neutral, latent, box)
    color_l1 = (weight * (rgb - color.float() / 255).abs().sum(-1)).mean()

    # Displacement of random vertices.
    chosen = material.used[rng.choice(len(material.used), config.vertices_per_frame, p=material.density)]
    truth = torch.from_numpy(
        np.einsum("fc,cvx->fvx", dataset.expression[frames], dataset.basis[:, chosen]).astype(np.float32)
    )
    points = torch.from_numpy(dataset.scale(dataset.canonical[chosen])).expand(len(rows), -1, -1)
    masks = torch.from_numpy(dataset.regions[: len(MASKS), chosen].T.copy()).expand(len(rows), -1, -1)
    deformation_l1 = masked_l1(networks.deformation(points, latent), truth, masks)

    # Perceptual loss on a patch of the mouth.
    color_vgg: Tensor | float = 0.0
    if vgg is not None and material.patches is not None and turn % config.vgg_every == 0:
        frame, patch_canonical, patch_neutral, target = material.patches.draw(rng)
        patch_latent = networks.projection(torch.from_numpy(material.windows[frame][None]))
        patch = networks.shade(patch_canonical, patch_neutral, patch_latent, box)
        images = (x.T.reshape(1, 3, config.patch, config.patch) for x in (patch, target))
        color_vgg = vgg_distance(vgg, *images) * config.vgg_every

    # The same mouth in other voices, and once more in the film's own: geometry alone.
    loss = total_loss(
        color_vgg, color_l1, deformation_l1, clean,
        config.lambda_vgg, config.lambda_color, config.lambda_deformation, config.lambda_latent,
    )  # fmt: skip
    losses = {"color_l1": color_l1.item(), "deformation_l1": deformation_l1.item()}
    for name, heard, factor in (("", material.voice_loss, 1.0), ("own_", material.own_loss, config.lambda_own)):
        if heard is not None:
            voices_l1, lips_l1, change_l1 = heard(networks, rng)
            mouth = config.lambda_deformation * voices_l1 + config.lambda_lips * lips_l1
            loss = loss + factor * (mouth + config.lambda_change * change_l1)
            losses |= {f"{name}lips_l1": lips_l1.item(), f"{name}change_l1": change_l1.item()}
    if isinstance(color_vgg, Tensor):
        losses["color_vgg"] = color_vgg.item() / config.vgg_every
    return loss, losses


def begin_actors(config: FaceConfig, folder: Path, materials: list[Material]) -> list[Actor]:
    """Networks for each material, with one projection between them; the first's from the avatar config.init if named.

    Raises MiravoxError if that avatar is not there, or its networks have another input.
    """
    torch.manual_seed(config.seed)
    actors: list[Actor] = []
    for index, material in enumerate(materials):
        place = folder / "second" if index else folder
        place.mkdir(parents=True, exist_ok=True)
        networks = FaceNetworks(config)
        if config.init and not index:
            before, other, _ = load_face(Path(config.init))
            found, wanted = ((c.color_input, c.frequencies) for c in (other, config))
            if found != wanted:
                raise MiravoxError(
                    config.init, found=f"a colour network of {found}", wanted=f"one of {wanted}",
                    remedy="Give --color-input and --frequencies as they are in the avatar's avatar.json.",
                )  # fmt: skip
            networks.load_state_dict(before.state_dict())
        if actors:
            networks.projection = actors[0].networks.projection
        actors.append(Actor(place, material, networks, copy.deepcopy(networks).requires_grad_(False)))
    return actors


def train(
    config: FaceConfig, dataset_folder: Path, encoder_path: Path, folder: Path, resume: bool = False,
    second: Path | None = None,
) -> Path:  # fmt: skip
    """Runs or resumes the training; returns the path of face.safetensors.

    Args:
        second: the dataset of another actor, who is trained in turns with the first and shares the projection, which
            keeps it from overfitting (thesis 3.4, Table 4.8 w); written to `folder`/second.
    """
    open_run(folder, config, resume)
    encoder, encoder_config = load_encoder(encoder_path)
    vgg = load_vgg(folder.parent / "vgg") if config.lambda_vgg else None
    if vgg is not None:
        print(f"perceptual loss: {vgg.source}")
    materials = [
        load_material(
            config, dataset, encoder, lookahead_of(encoder_config), folder / "voices.safetensors",
            with_patches=vgg is not None,
        )
        for dataset in (dataset_folder, second) if dataset is not None
    ]  # fmt: skip
    actors = begin_actors(config, folder, materials)
    path = train_actors(config, actors, vgg)
    for actor in actors:
        frames = held_out_frames(actor.material.dataset)
        contact_sheet(
            actor.averaged, actor.material.dataset, actor.material.windows, frames[:: max(1, len(frames) // 6)][:6],
            actor.folder / "held_out.png",
        )  # fmt: skip
    return path


def train_actors(config: FaceConfig, actors: list[Actor], vgg: Vgg | None) -> Path:
    """Trains actors in turns, `config.steps` for each, from the checkpoint if there is one; returns the path of the
    first one's face.safetensors.
    """
    modules: dict[str, nn.Module] = {}
    for index, actor in enumerate(actors):
        modules |= {f"networks{index or ''}": actor.networks, f"averaged{index or ''}": actor.averaged}
    trained = dict.fromkeys(p for actor in actors for p in actor.networks.parameters())  # the projection's once
    optimizer = torch.optim.Adam(list(trained), config.learning_rate)  # thesis 4.1.4: default betas
    checkpoint = Checkpoint(actors[0].folder, modules, optimizer)
    first, steps = checkpoint.load(), config.steps * len(actors)
    for step in (bar := tqdm(range(first, steps), initial=first, total=steps, desc="face", unit="step")):
        actor, turn = actors[step % len(actors)], step // len(actors)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, turn)
        loss, losses = losses_of(config, actor, vgg, turn)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay = min(config.ema_decay, (turn + 1) / (turn + 10))
        for kept, now in zip(actor.averaged.parameters(), actor.networks.parameters(), strict=True):
            kept.lerp_(now, 1 - decay)
        if turn % 50 == 0:
            log_line(actor.folder, step=turn, **losses)
        if turn % 800 == 799 or turn == config.steps - 1:
            figures = evaluate(actor.averaged, actor.material)
            log_line(actor.folder, step=turn, **figures)
            bar.set_postfix({k: round(v, 2) for k, v in figures.items()})
            plot_log(actor.folder)
        checkpoint.save_if_due(step + 1)
    checkpoint.save(steps)
    paths = [
        save_face(config, a.folder, a.averaged, rest_latent(a.averaged, a.material.dataset, a.material.windows))
        for a in actors
    ]
    return paths[0]


@torch.no_grad()
def rest_latent(networks: FaceNetworks, dataset: Dataset, windows: FloatArray) -> Tensor:
    """Mean b [64] of the silent first take, normalised."""
    silent = dataset.takes[0]
    rest: Tensor = networks.projection(torch.from_numpy(windows[silent.first + EMBEDDINGS : silent.end])).mean(0)
    rest = (rest - rest.mean()) / rest.std(unbiased=False)
    assert rest.shape == (LATENT,)
    return rest


def save_face(
    config: FaceConfig, folder: Path, networks: FaceNetworks, rest: Tensor, **more: dict[str, object]
) -> Path:
    """Writes face.safetensors, float16: the three networks and the rest latent, with the configuration, and whatever
    `more` says about later training, in its metadata.
    """
    state = {k: v.half().contiguous() for k, v in networks.state_dict().items()} | {"rest_latent": rest.contiguous()}
    path = folder / "face.safetensors"
    save_file(state, path, {"config": json.dumps(asdict(config))} | {k: json.dumps(v) for k, v in more.items()})
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.face", description="Trains projection, deformation and colour."
    )
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, default=Path("build/encoder/encoder.safetensors"))
    parser.add_argument("--second", type=Path, metavar="DATASET", help="another actor, trained in turns with the first")
    parser.add_argument("--out", type=Path, default=Path("build/avatar/face"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--steps", type=int, default=FaceConfig.steps)
    parser.add_argument("--color-input", choices=("canonical", "deformed"), default=FaceConfig.color_input)
    parser.add_argument("--frequencies", type=int, default=FaceConfig.frequencies)
    parser.add_argument("--lambda-vgg", type=float, default=FaceConfig.lambda_vgg)
    parser.add_argument("--init", default=FaceConfig.init, metavar="AVATAR", help="begin with the face of an avatar")
    parser.add_argument("--seed", type=int, default=FaceConfig.seed)
    o = parser.parse_args()
    config = FaceConfig(
        color_input=o.color_input, frequencies=o.frequencies, steps=o.steps, lambda_vgg=o.lambda_vgg, init=o.init,
        seed=o.seed,
    )  # fmt: skip
    print(train(config, o.dataset, o.encoder, o.out, o.resume, o.second))


if __name__ == "__main__":
    main()
