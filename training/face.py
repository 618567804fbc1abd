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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from networks.losses import masked_l1, total_loss
from realtime.contract import MASKS
from realtime.errors import MiravoxError
from training.encoders import load_encoder, lookahead_of
from training.face_figures import contact_sheet, evaluate
from training.face_networks import FaceConfig, FaceNetworks, load_face, rest_latent, save_face
from training.material import Material, held_out_frames, load_material
from training.run import Checkpoint, log_line, open_run, plot_log
from training.vgg import Vgg, load_vgg, vgg_distance


@dataclass(frozen=True, kw_only=True)
class Actor:
    """One actor's material and networks. Actors that are trained in turns share the projection (thesis 3.4)."""

    folder: Path  # of what is written
    material: Material
    networks: FaceNetworks
    averaged: FaceNetworks  # exponential moving average: what is kept


def train(
    config: FaceConfig,
    *,
    dataset_folder: Path,
    encoder_path: Path,
    folder: Path,
    resume: bool = False,
    second: Path | None = None,
) -> Path:
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
            config,
            dataset,
            encoder,
            lookahead_of(encoder_config),
            folder / "voices.safetensors",
            with_patches=vgg is not None,
        )
        for dataset in (dataset_folder, second)
        if dataset is not None
    ]
    actors = begin_actors(config, folder, materials)
    path = train_actors(config, actors, vgg)
    for actor in actors:
        frames = held_out_frames(actor.material.dataset)
        contact_sheet(
            actor.averaged,
            actor.material.dataset,
            actor.material.windows,
            frames[:: max(1, len(frames) // 6)][:6],
            actor.folder / "held_out.png",
        )
    return path


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
                    config.init,
                    found=f"a colour network of {found}",
                    wanted=f"one of {wanted}",
                    remedy="Give --color-input and --frequencies as they are in the avatar's avatar.json.",
                )
            networks.load_state_dict(before.state_dict())
        if actors:
            networks.projection = actors[0].networks.projection
        averaged = copy.deepcopy(networks).requires_grad_(False)
        actors.append(Actor(folder=place, material=material, networks=networks, averaged=averaged))
    return actors


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
        color_vgg=color_vgg,
        color_l1=color_l1,
        deformation_l1=deformation_l1,
        latent=clean,
        lambda_vgg=config.lambda_vgg,
        lambda_color=config.lambda_color,
        lambda_deformation=config.lambda_deformation,
        lambda_latent=config.lambda_latent,
    )
    losses = {"color_l1": color_l1.item(), "deformation_l1": deformation_l1.item()}
    for name, voice_loss, factor in (("", material.voice_loss, 1.0), ("own_", material.own_loss, config.lambda_own)):
        if voice_loss is not None:
            voices_l1, lips_l1, change_l1 = voice_loss(networks, rng)
            mouth = config.lambda_deformation * voices_l1 + config.lambda_lips * lips_l1
            loss = loss + factor * (mouth + config.lambda_change * change_l1)
            losses |= {f"{name}lips_l1": lips_l1.item(), f"{name}change_l1": change_l1.item()}
    if isinstance(color_vgg, Tensor):
        losses["color_vgg"] = color_vgg.item() / config.vgg_every
    return loss, losses


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
        color_input=o.color_input,
        frequencies=o.frequencies,
        steps=o.steps,
        lambda_vgg=o.lambda_vgg,
        init=o.init,
        seed=o.seed,
    )
    path = train(
        config, dataset_folder=o.dataset, encoder_path=o.encoder, folder=o.out, resume=o.resume, second=o.second
    )
    print(path)


if __name__ == "__main__":
    main()
