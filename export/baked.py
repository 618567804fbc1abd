"""The baked target: the networks' displacement and colour, factored over the template's grid.

    displacement(v, b) = D0(v) + sum_k d_k(b) D_k(v)          colour(u, v, b) = C0(u, v) + sum_k c_k(b) C_k(u, v)

Colour and displacement are functions of a point on a fixed surface and of b alone, so over the latents of the training
speech they span few dimensions. The factors come from a principal component analysis over a subset of points and many
latents; the components of all points then follow by least squares from fewer latents; d and c are one small network.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor
from tqdm import tqdm

from dataset.folder import Dataset
from export.coefficients import Coefficients
from export.factors import Factors, factor, train_coefficients
from export.onnx import export_onnx
from export.region import find_region, texel_points, with_occluder
from export.weights import save_networks
from realtime import contract
from realtime.arrays import FloatArray, Int64Array
from realtime.whole_file import replacing
from training.face_networks import FaceNetworks

CHANGE_TEXELS = 2  # texels a grid cell of the textures that change
MEAN_TEXELS = 4  # texels a grid cell of the sharp mean
RANKS_REPORTED = (4, 8, 16, 24, 32, 48)


@dataclass(frozen=True)
class BakeConfig:
    """Ranks and how much is sampled to find them."""

    displacement_rank: int = 20
    color_rank: int = 16
    latents: int = 2400  # half of them with the noise of training
    full_latents: int = 110  # evaluated at every texel
    subset: int = 1200  # texels of the principal component analysis
    mean_latents: int = 8  # averaged for the sharp mean
    held_out_latents: int = 24
    network_steps: int = 4000
    latent_noise: float = 0.2
    seed: int = 0


class Baker:
    """Evaluates the networks at texels and vertices of the region."""

    def __init__(self, dataset: Dataset, networks: FaceNetworks, config: BakeConfig) -> None:
        self.dataset, self.networks, self.config = dataset, networks.eval(), config
        self.region = find_region(dataset)
        self.grid = tuple(int(v) for v in np.asarray(dataset.geometry["grid"]))
        self.box = torch.from_numpy(np.asarray(dataset.geometry["box"], np.float32))
        self.change_points = self._points(CHANGE_TEXELS)
        self.mean_points = self._points(MEAN_TEXELS)
        self.vertex_points = torch.from_numpy(dataset.scale(dataset.canonical)[self.region.vertices])

    def _points(self, per_cell: int) -> tuple[Tensor, Tensor]:
        canonical = texel_points(self.dataset.canonical, self.region, self.grid, per_cell)  # type: ignore[arg-type]
        neutral = texel_points(self.dataset.neutral, self.region, self.grid, per_cell)  # type: ignore[arg-type]
        return torch.from_numpy(self.dataset.scale(canonical)), torch.from_numpy(neutral)

    @torch.no_grad()
    def color(self, latent: Tensor, points: tuple[Tensor, Tensor]) -> FloatArray:
        """RGB at texels, flat [3 P]."""
        pieces = [
            self.networks.shade(c, n, latent, self.box)
            for c, n in zip(points[0].split(8192), points[1].split(8192), strict=True)
        ]
        return np.asarray(torch.cat(pieces).numpy().ravel(), np.float32)

    @torch.no_grad()
    def displacement(self, latent: Tensor, points: Tensor) -> FloatArray:
        """Displacement at vertices, flat [3 P], cm."""
        return np.asarray(self.networks.deformation(points, latent).numpy().ravel(), np.float32)


def bake(
    dataset: Dataset, networks: FaceNetworks, windows: FloatArray, folder: Path, config: BakeConfig
) -> dict[str, object]:
    """Writes baked.safetensors, coefficients.onnx, coefficients.safetensors and report.json; returns the report."""
    rng = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    baker = Baker(dataset, networks, config)
    with torch.no_grad():
        all_latents = networks.projection(torch.from_numpy(windows))
    held_out = np.concatenate([np.full(t.frames, t.held_out) for t in dataset.takes])
    drawn = rng.choice(np.flatnonzero(~held_out), min(config.latents, int((~held_out).sum())), replace=False)
    latents = all_latents[drawn].clone()
    noisy = len(latents) // 2
    latents[:noisy] += config.latent_noise * torch.randn(noisy, latents.shape[1])
    full_rows = rng.choice(len(latents), config.full_latents, replace=False)

    chosen = rng.choice(len(baker.change_points[0]), min(config.subset, len(baker.change_points[0])), replace=False)
    subset_points = tuple(p[chosen] for p in baker.change_points)
    vertex_subset = baker.vertex_points[
        rng.choice(len(baker.vertex_points), min(400, len(baker.vertex_points)), replace=False)
    ]
    displacement = factor(
        lambda b: baker.displacement(b, vertex_subset),
        lambda b: baker.displacement(b, baker.vertex_points),
        latents,
        config.displacement_rank,
        full_rows,
        "displacement",
    )
    color = factor(
        lambda b: baker.color(b, subset_points),  # type: ignore[arg-type]
        lambda b: baker.color(b, baker.change_points),
        latents,
        config.color_rank,
        full_rows,
        "colour",
    )
    network = train_coefficients(latents, displacement, color, config.network_steps, config.seed)

    # The mean, sharper than what changes: the networks' own average at more texels, moved to the factors' mean.
    rows = rng.choice(full_rows, min(config.mean_latents, len(full_rows)), replace=False)
    sharp = np.mean([baker.color(latents[r][None], baker.mean_points) for r in tqdm(rows, desc="sharp mean")], 0)
    part = color.coefficients[rows].mean(0) @ color.components
    shape = tuple((n - 1) * CHANGE_TEXELS + 1 for n in baker.region.shape)
    sharp_shape = tuple((n - 1) * MEAN_TEXELS + 1 for n in baker.region.shape)
    mean = sharp.reshape(*sharp_shape, 3) - upsample(part.reshape(*shape, 3))

    test = rng.choice(np.flatnonzero(held_out), min(config.held_out_latents, int(held_out.sum())), replace=False)
    report = {
        "config": asdict(config),
        "texels": list(shape),
        "vertices": len(baker.region.vertices),
        **measure(baker, all_latents[torch.from_numpy(test)], network, displacement, color, chosen),
    }
    folder.mkdir(parents=True, exist_ok=True)
    mesh = with_occluder(
        dataset,
        baker.region,
        dataset.neutral[baker.region.vertices] + displacement.mean.reshape(-1, 3),
        displacement.components.reshape(config.displacement_rank, -1, 3),
    )
    textures = {
        "color_mean": mean.astype(np.float16),
        "color_components": color.components.reshape(config.color_rank, *shape, 3).astype(np.float16),
    }
    with replacing(folder / "baked.safetensors") as partial:
        save_file({**mesh, **textures}, partial)
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    save_networks({"coefficients": network}, folder / "coefficients.safetensors")
    export_onnx(network, contract.COEFFICIENTS, folder / "coefficients.onnx")
    with replacing(folder / "report.json") as partial:
        partial.write_text(json.dumps(report, indent=2) + "\n")
    return report


def upsample(texels: FloatArray) -> FloatArray:
    """From CHANGE_TEXELS to MEAN_TEXELS a cell, linearly, as the shader's texture filter does: [h, w, 3] -> [2 h - 1,
    2 w - 1, 3].
    """
    assert MEAN_TEXELS == 2 * CHANGE_TEXELS
    tall = np.zeros((2 * texels.shape[0] - 1, texels.shape[1], 3), np.float32)
    tall[::2], tall[1::2] = texels, (texels[1:] + texels[:-1]) / 2
    wide = np.zeros((tall.shape[0], 2 * texels.shape[1] - 1, 3), np.float32)
    wide[:, ::2], wide[:, 1::2] = tall, (tall[:, 1:] + tall[:, :-1]) / 2
    return wide


@torch.no_grad()
def measure(
    baker: Baker,
    latents: Tensor,
    network: Coefficients,
    displacement: Factors,
    color: Factors,
    chosen: Int64Array,
) -> dict[str, object]:
    """How far the factors are from the networks over latents of held-out speech: best possible at each rank, and as
    shipped.
    """
    truth = np.stack([baker.color(b[None], baker.change_points) for b in latents])
    moved = np.stack([baker.displacement(b[None], baker.vertex_points) for b in latents])
    d, c = (x.numpy() for x in network(latents))
    by_rank = {}
    at = (3 * chosen[:, None] + np.arange(3)).ravel()  # the subset's values within the flat texels
    for rank in (r for r in RANKS_REPORTED if r <= len(color.components)):
        components = color.components[:rank]
        best, *_ = np.linalg.lstsq(components[:, at].T, (truth[:, at] - color.mean[at]).T, rcond=None)
        by_rank[rank] = psnr(truth - (color.mean + best.T @ components))
    return {
        "color_psnr_by_rank": by_rank,
        "color_psnr": psnr(truth - (color.mean + c @ color.components)),
        "color_psnr_mean_only": psnr(truth - color.mean),
        "displacement_error_mm": float(
            10 * np.linalg.norm((moved - displacement.mean - d @ displacement.components).reshape(-1, 3), axis=1).mean()
        ),
        "displacement_mm": float(10 * np.linalg.norm(moved.reshape(-1, 3), axis=1).mean()),
    }


def psnr(error: FloatArray) -> float:
    """dB, of errors of values in [0, 1]."""
    return float(-10 * np.log10(np.mean(np.square(error, dtype=np.float64)) + 1e-20))
