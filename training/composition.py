"""Trains the composition network: eroded source frame and rendered face -> frame (thesis 3.6), on inpaint boxes.

    python -m training.composition --dataset DIR --face build/avatar/face/face.safetensors --baked build/avatar/baked \
        --encoder build/encoder/encoder.safetensors --out build/avatar/composition [--resume]

The faces are drawn by the live code from the baked textures, driven by the speech of the take. Half of the pairs lay
the face of time t into the source frame of another time s with the nearest pose, since live the source is a resting
face.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from dataset.folder import Dataset, load_dataset
from networks.composition import COMPOSITIONS, Composition
from realtime.arrays import ByteArray, FloatArray, Int64Array
from realtime.face.baked_face import Baked, BakedFace
from realtime.face.compositor import layers_of, unit
from realtime.face.gl import create_context
from realtime.face.resize import resampling, resize
from realtime.whole_file import replacing
from training.embeddings import embed_dataset
from training.encoders import load_encoder, lookahead_of
from training.face_networks import load_face
from training.inpaint import Inpaint
from training.run import Checkpoint, log_line, open_run, plot_log
from training.vgg import load_vgg, vgg_distance


@dataclass(frozen=True)
class CompositionTraining:
    """Everything that decides the result of a run."""

    network: str = "strided8"
    side: int = 64  # the inpaint box is resampled to a square of this many pixels
    steps: int = 3600
    batch: int = 12
    patch: int = 0  # pixels of the square, random in every pair, that is trained on; 0: the whole
    targets: int = 1600  # frames of the training takes
    held_out_targets: int = 48
    other_source_share: float = 0.5
    largest_shift: float = 2.0  # pixels: how far apart the poses of s and t may put the lips and the chin
    learning_rate: float = 2e-3
    lambda_l1: float = 1.0
    lambda_l2: float = 10.0
    lambda_vgg: float = 0.02
    vgg_every: int = 4
    outside_weight: float = 0.1  # of pixels outside the mask, which are blended away
    seed: int = 0


@dataclass(frozen=True)
class Pairs:
    """Inputs and truth at the network's size: layers [N, 6, s, s], target [N, 3, s, s], mask [N, s, s], uint8."""

    layers: ByteArray
    target: ByteArray
    mask: ByteArray


def nearest_sources(dataset: Dataset, targets: list[int], sources: list[int], largest_shift: float) -> dict[int, int]:
    """For each target frame the source frame whose pose puts the face at nearly the same pixels; targets without one
    are left out.
    """
    points = dataset.neutral[:: max(1, len(dataset.neutral) // 60)]
    seen = {f: dataset.camera.project(points, dataset.pose[f]).ravel() for f in {*targets, *sources}}
    table = np.stack([seen[f] for f in sources])
    nearest = {}
    for target in targets:
        shift = np.abs(table - seen[target]).max(1)
        shift[np.abs(np.array(sources) - target) < 25] = np.inf  # another moment, not the same frame again
        best = int(shift.argmin())
        if shift[best] <= largest_shift:
            nearest[target] = sources[best]
    return nearest


def make_pairs(
    dataset: Dataset,
    inpaint: Inpaint,
    latents: FloatArray,
    baked: Path,
    targets: list[int],
    source_of: dict[int, int],
    side: int,
    what: str,
) -> Pairs:
    """Draws every pair once, at the network's size.

    Args:
        latents: [N, 64], b of every frame of the dataset.
        baked: folder of the textures that the faces are drawn from.
        targets: frames; their pairs come in this order.
        source_of: the source frame of a target, where it is not the target itself.
        side: of the squares, pixels.
        what: name of the pairs, for the progress bar.
    """
    width, height = inpaint.box_size
    face = BakedFace(create_context(), Baked.load(baked), dataset.camera, (width, height))
    rows, columns = resampling(height, side), resampling(width, side)
    pairs = Pairs(*(np.zeros((len(targets), *s), np.uint8) for s in ((6, side, side), (3, side, side), (side, side))))
    wanted = {*targets, *(source_of.get(t, t) for t in targets)}
    crops: dict[int, ByteArray] = {}
    boxes = {t: inpaint.box(t) for t in targets}
    users: dict[int, list[int]] = {}
    for t in targets:
        users.setdefault(source_of.get(t, t), []).append(t)
    for frame, image in tqdm(dataset.frames(wanted), total=len(wanted), desc=f"{what}: reading frames", unit="frame"):
        for t in users.get(frame, []):  # the source, seen through the target's box
            left, top, right, bottom = boxes[t]
            crops[t] = image[top:bottom, left:right].copy()
        if frame in boxes:
            left, top, right, bottom = boxes[frame]
            target = resize(unit(image[top:bottom, left:right]), rows, columns)
            pairs.target[targets.index(frame)] = np.round(target * 255)
    for row, t in enumerate(tqdm(targets, desc=f"{what}: drawing faces", unit="face")):
        mask = inpaint.mask(t)
        drawn = face.draw(latents[t][None], dataset.pose[t], boxes[t])
        layers = resize(layers_of(unit(crops[t]), drawn, mask), rows, columns)
        pairs.layers[row] = np.clip(np.round(layers * 255), 0, 255)
        pairs.mask[row] = np.round(resize(mask[None], rows, columns)[0] * 255)
    return pairs


def as_tensors(pairs: Pairs, rows: Int64Array) -> tuple[Tensor, Tensor, Tensor]:
    """Layers [B, 6, s, s], target [B, 3, s, s] and mask [B, 1, s, s] of some pairs, float32 in [0, 1]."""
    layers, target, mask = (torch.from_numpy(a[rows]).float() / 255 for a in (pairs.layers, pairs.target, pairs.mask))
    return layers, target, mask[:, None]


@torch.no_grad()
def evaluate(network: Composition, pairs: Pairs) -> dict[str, float]:
    """PSNR inside the mask over held-out frames, with the network and without it (the face laid over the eroded
    source).
    """
    network.eval()
    errors, plain = [], []
    for row in range(len(pairs.layers)):
        layers, target, mask = as_tensors(pairs, np.array([row]))
        inside = mask / mask.sum() / 3
        errors.append(float(((network(layers) - target) ** 2 * inside).sum()))
        plain.append(float(((layers[:, 3:] - target) ** 2 * inside).sum()))
    network.train()
    return {
        "psnr_inpaint": float(-10 * np.log10(np.mean(errors))),
        "psnr_inpaint_without": float(-10 * np.log10(np.mean(plain))),
    }


def contact_sheet(network: Composition, pairs: Pairs, path: Path) -> None:
    """Eroded source, face over it, result, truth: a row each, some held-out frames."""
    rows = np.linspace(0, len(pairs.layers) - 1, 8).astype(int)
    layers, target, _ = as_tensors(pairs, rows)
    with torch.no_grad():
        result = network.eval()(layers)
    strips = [torch.cat(list(x), 2) for x in (layers[:, :3], layers[:, 3:], result, target)]
    sheet = torch.cat(strips, 1).permute(1, 2, 0).numpy()
    Image.fromarray(np.round(sheet * 255).astype(np.uint8)).save(path)


def train(
    config: CompositionTraining,
    *,
    dataset_folder: Path,
    encoder_path: Path,
    face_path: Path,
    baked: Path,
    folder: Path,
    resume: bool = False,
) -> Path:
    """Runs or resumes the training; returns the path of composition.safetensors.

    Args:
        baked: folder of the textures that the faces are drawn from.
        folder: of the run.
    """
    open_run(folder, config, resume)
    rng = np.random.default_rng(config.seed)
    dataset = load_dataset(dataset_folder)
    encoder, encoder_config = load_encoder(encoder_path)
    networks, _, _ = load_face(face_path)
    with torch.no_grad():
        windows = embed_dataset(encoder, dataset, lookahead_of(encoder_config))
        latents = networks.projection(torch.from_numpy(windows)).numpy()
    inpaint = Inpaint(dataset)
    trained = [f for t in dataset.takes if not t.held_out for f in range(t.first, t.end)]
    held_out = [f for t in dataset.takes if t.held_out for f in range(t.first, t.end)]
    targets = sorted(int(f) for f in rng.choice(trained, min(config.targets, len(trained)), replace=False))
    silent = list(range(dataset.takes[0].first, dataset.takes[0].end))
    candidates = sorted({*silent, *(int(f) for f in rng.choice(trained, min(2000, len(trained)), replace=False))})
    source_of = {
        t: s
        for t, s in nearest_sources(dataset, targets, candidates, config.largest_shift).items()
        if rng.random() < config.other_source_share
    }
    print(f"{len(source_of)} of {len(targets)} pairs take their source frame from another moment")
    pairs = make_pairs(dataset, inpaint, latents, baked, targets, source_of, config.side, "training")
    checked = held_out[:: max(1, len(held_out) // config.held_out_targets)]
    test = make_pairs(dataset, inpaint, latents, baked, checked, {}, config.side, "held out")
    vgg = load_vgg(folder.parent / "vgg") if config.lambda_vgg else None

    torch.manual_seed(config.seed)
    network = Composition(COMPOSITIONS[config.network])
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    checkpoint = Checkpoint(folder, {"network": network}, optimizer)
    first = checkpoint.load()
    for step in tqdm(range(first, config.steps), initial=first, total=config.steps, desc="composition", unit="step"):
        rng = np.random.default_rng([config.seed, step])
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (0.02 + 0.98 * (0.5 + 0.5 * np.cos(np.pi * step / config.steps)))
        layers, target, mask = as_tensors(pairs, rng.integers(len(targets), size=config.batch))
        if config.patch:
            row, column = rng.integers(config.side - config.patch + 1, size=2)
            rows, columns = slice(row, row + config.patch), slice(column, column + config.patch)
            layers, target, mask = (x[..., rows, columns] for x in (layers, target, mask))
        if rng.random() < 0.5:
            layers, target, mask = layers.flip(3), target.flip(3), mask.flip(3)
        rgb = network(layers)
        weight = mask + config.outside_weight * (1 - mask)
        error = rgb - target
        l1, l2 = (error.abs() * weight).mean(), (error.square() * weight).mean()
        loss = config.lambda_l1 * l1 + config.lambda_l2 * l2
        if vgg is not None and step % config.vgg_every == 0:
            painted = rgb * mask + target * (1 - mask)
            loss = loss + config.lambda_vgg * config.vgg_every * vgg_distance(vgg, painted[:2], target[:2])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            log_line(folder, step=step, l1=l1.item())
        if step % 300 == 299 or step == config.steps - 1:
            log_line(folder, step=step, **evaluate(network, test))
            plot_log(folder)
        checkpoint.save_if_due(step + 1)
    checkpoint.save(config.steps)
    contact_sheet(network, test, folder / "held_out.png")
    path = folder / "composition.safetensors"
    state = {k: v.half().contiguous() for k, v in network.state_dict().items()}
    metadata = {"config": json.dumps(asdict(config)), "figures": json.dumps(evaluate(network, test))}
    with replacing(path) as partial:
        save_file(state, partial, metadata)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.composition", description="Trains the composition network."
    )
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, default=Path("build/encoder/encoder.safetensors"))
    parser.add_argument("--face", type=Path, default=Path("build/avatar/face/face.safetensors"))
    parser.add_argument("--baked", type=Path, default=Path("build/avatar/baked"))
    parser.add_argument("--out", type=Path, default=Path("build/avatar/composition"))
    parser.add_argument("--network", choices=tuple(COMPOSITIONS), default=CompositionTraining.network)
    parser.add_argument("--side", type=int, default=CompositionTraining.side, help="pixels, a multiple of 16")
    parser.add_argument("--steps", type=int, default=CompositionTraining.steps)
    parser.add_argument("--batch", type=int, default=CompositionTraining.batch)
    parser.add_argument(
        "--patch",
        type=int,
        default=CompositionTraining.patch,
        help="train on squares of so many pixels, a multiple of 16: the dilated network is too slow for whole ones",
    )
    parser.add_argument("--resume", action="store_true")
    o = parser.parse_args()
    config = CompositionTraining(network=o.network, side=o.side, steps=o.steps, batch=o.batch, patch=o.patch)
    path = train(
        config,
        dataset_folder=o.dataset,
        encoder_path=o.encoder,
        face_path=o.face,
        baked=o.baked,
        folder=o.out,
        resume=o.resume,
    )
    print(path)


if __name__ == "__main__":
    main()
