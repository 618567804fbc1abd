"""The baked target: the networks' displacement and colour, factored over the template's grid.

    displacement(v, b) = D0(v) + sum_k d_k(b) D_k(v)          colour(u, v, b) = C0(u, v) + sum_k c_k(b) C_k(u, v)

Colour and displacement are functions of a point on a fixed surface and of b alone, so over the latents of the training
speech they span few dimensions. The factors come from a principal component analysis over a subset of points and many
latents; the components of all points then follow by least squares from fewer latents; d and c are one small network.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor
from tqdm import tqdm

from export.coefficients import Coefficients
from export.onnx import export_onnx
from export.weights import save_networks
from networks import contract
from networks.contract import REGIONS
from training.dataset import Dataset
from training.face import FaceNetworks

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]
Evaluate = Callable[[Tensor], FloatArray]  # latent [1, 64] -> values, flat

CHANGE_TEXELS = 2  # texels a grid cell of the textures that change
MEAN_TEXELS = 4  # texels a grid cell of the sharp mean
OCCLUDER_ROWS = 20  # grid rows above the region: the nose
DRAWN_CM = 0.16  # least distance of the grid lines that are drawn: triangles cost a software renderer more than pixels
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


@dataclass(frozen=True)
class Factors:
    """values(b) = mean + coefficients(b) @ components, and the coefficients of every sampled latent."""

    mean: FloatArray  # [P]
    components: FloatArray  # [R, P], scaled so that coefficients have unit variance
    coefficients: FloatArray  # [N, R]


def psnr(error: FloatArray) -> float:
    return float(-10 * np.log10(np.mean(np.square(error, dtype=np.float64)) + 1e-20))


def factor(
    subset: Evaluate, full: Evaluate, latents: Tensor, rank: int, full_rows: NDArray[np.int64], what: str
) -> Factors:
    """Principal components from `subset` at all latents, extended to `full` by least squares over the latents
    `full_rows`.
    """
    values = np.stack([subset(b[None]) for b in tqdm(latents, desc=f"{what}: latents", unit="latent")])
    centred = values - values.mean(0)
    gram = centred.astype(np.float64) @ centred.T.astype(np.float64)
    eigenvalues, vectors = np.linalg.eigh(gram)
    coefficients = vectors[:, ::-1][:, :rank] * np.sqrt(len(values))  # unit variance, largest first
    everything = np.stack([full(latents[r][None]) for r in tqdm(full_rows, desc=f"{what}: all points", unit="latent")])
    design = np.concatenate([np.ones((len(full_rows), 1)), coefficients[full_rows]], 1)
    ridge = 1e-3 * np.eye(rank + 1)
    solved = np.linalg.solve(design.T @ design + ridge, design.T @ everything.astype(np.float64))
    return Factors(solved[0].astype(np.float32), solved[1:].astype(np.float32), coefficients.astype(np.float32))


def train_coefficients(latents: Tensor, displacement: Factors, color: Factors, config: BakeConfig) -> Coefficients:
    """Fits the network of the factors; each factor counts as much as its component moves the output."""
    torch.manual_seed(config.seed)
    network = Coefficients(displacement.components.shape[0], color.components.shape[0])
    targets = [torch.from_numpy(f.coefficients) for f in (displacement, color)]
    weights = [torch.from_numpy(np.linalg.norm(f.components, axis=1)) for f in (displacement, color)]
    weights = [w / w.norm() for w in weights]
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-3)
    for step in tqdm(range(config.network_steps), desc="coefficients", unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (0.01 + 0.5 + 0.5 * np.cos(np.pi * step / config.network_steps))
        rows = torch.randint(len(latents), (512,))
        outputs = network(latents[rows])
        loss = sum((((o - t[rows]) * w) ** 2).sum(1).mean() for o, t, w in zip(outputs, targets, weights, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@dataclass(frozen=True)
class Region:
    """The part of the template's grid that the inpaint region needs."""

    rows: slice
    columns: slice
    vertices: IntArray  # [V'] indices into the template
    triangles: IntArray  # [F', 3] indices into `vertices`
    uv: FloatArray  # [V', 2] in [0, 1] over the rectangle

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def find_region(dataset: Dataset) -> Region:
    """The rectangle of grid rows and columns around the inpaint region, one cell of margin."""
    rows, columns = (int(v) for v in np.asarray(dataset.geometry["grid"]))
    painted = dataset.regions[REGIONS.index("inpaint")].reshape(rows, columns) > 0
    r, c = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
    r0, r1 = max(0, int(r[0]) - 1), min(rows, int(r[-1]) + 2)
    c0, c1 = max(0, int(c[0]) - 1), min(columns, int(c[-1]) + 2)
    index = np.full((rows, columns), -1, np.int32)
    index[r0:r1, c0:c1] = np.arange((r1 - r0) * (c1 - c0)).reshape(r1 - r0, c1 - c0)
    everything = np.asarray(dataset.geometry["triangles"], np.int32)
    drawn_rows, drawn_columns = drawn_lines(dataset, r0, r1, c0, c1)
    kept = np.zeros(rows * columns, bool)
    kept[everything] = True
    a, b, d, e = (
        np.array([[i * columns + j for j in js] for i in is_])
        for is_, js in (
            (drawn_rows[:-1], drawn_columns[:-1]), (drawn_rows[:-1], drawn_columns[1:]),
            (drawn_rows[1:], drawn_columns[1:]), (drawn_rows[1:], drawn_columns[:-1]),
        )
    )  # fmt: skip
    whole = kept[a] & kept[b] & kept[d] & kept[e]
    coarse = np.concatenate([np.stack([a, b, d], -1)[whole], np.stack([a, d, e], -1)[whole]])
    triangles = index.ravel()[coarse]
    x, y = np.meshgrid(np.linspace(0, 1, c1 - c0), np.linspace(0, 1, r1 - r0))
    return Region(
        slice(r0, r1), slice(c0, c1), np.flatnonzero(index.ravel() >= 0).astype(np.int32),
        triangles[(triangles >= 0).all(1)], np.stack([x.ravel(), y.ravel()], 1).astype(np.float32),
    )  # fmt: skip


def lip_rows(dataset: Dataset) -> list[int]:
    """Grid rows of the lip rims: those of the vertices nearest to the inner-lip landmarks."""
    columns = int(np.asarray(dataset.geometry["grid"])[1])
    corners = np.asarray(dataset.geometry["triangles"])[np.asarray(dataset.geometry["landmark_triangles"])]
    heaviest = np.asarray(dataset.geometry["landmark_barycentrics"]).argmax(1)
    vertices = corners[np.arange(68), heaviest]
    return sorted({int(vertices[landmark]) // columns for landmark in (62, 66)})


def drawn_lines(dataset: Dataset, r0: int, r1: int, c0: int, c1: int) -> tuple[list[int], list[int]]:
    """Grid rows and columns that are drawn: both ends, the lip rims, and between them no two nearer than DRAWN_CM.

    Colour comes from textures and displacement is smooth, so the dense cells at the mouth need not all be drawn.
    """
    rows, columns = (int(v) for v in np.asarray(dataset.geometry["grid"]))
    grid = dataset.canonical.reshape(rows, columns, 3)
    middle = slice(c0 + (c1 - c0) // 3, c1 - (c1 - c0) // 3)
    down = np.linalg.norm(np.diff(grid[:, middle], axis=0), axis=2).mean(1)
    across = np.linalg.norm(np.diff(grid[r0:r1], axis=1), axis=2).mean(0)
    return thinned(r0, r1, down, lip_rows(dataset)), thinned(c0, c1, across, [])


def thinned(first: int, end: int, gaps: NDArray[np.floating], needed: list[int]) -> list[int]:
    """Indices first .. end - 1 that are at least DRAWN_CM apart, or needed; gaps[i] lies between i and i + 1, cm."""
    kept, reach = [first], 0.0
    for index in range(first + 1, end):
        reach += float(gaps[index - 1])
        if reach >= DRAWN_CM or index in needed or index == end - 1:
            kept.append(index)
            reach = 0.0
    return kept


def with_occluder(
    dataset: Dataset, region: Region, positions: FloatArray, components: FloatArray
) -> dict[str, NDArray[np.generic]]:
    """The drawn mesh, and above the region a strip of face: the nose hides what lies behind its tip.

    Args:
        positions: [V', 3], the region's mean positions, cm.
        components: [D, V', 3].

    Returns:
        positions, displacement_components, uv and triangles; the strip's uv lies above 1, where textures end.
    """
    rows, columns = (int(v) for v in np.asarray(dataset.geometry["grid"]))
    c0, c1 = region.columns.start, region.columns.stop
    strip = [region.rows.stop - 1, *range(region.rows.stop, min(rows, region.rows.stop + OCCLUDER_ROWS), 2)]
    _, across = drawn_lines(dataset, region.rows.start, region.rows.stop, c0, c1)
    used = np.zeros(rows * columns, bool)
    used[np.unique(np.asarray(dataset.geometry["triangles"]))] = True
    added = np.array([[i * columns + j for j in across] for i in strip[1:]])
    first = np.array([(region.shape[0] - 1) * region.shape[1] + j - c0 for j in across])
    index = np.concatenate([first[None], len(positions) + np.arange(added.size).reshape(added.shape)])
    valid = np.concatenate([used[[strip[0] * columns + j for j in across]][None], used[added]])
    whole = valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, 1:] & valid[1:, :-1]
    a, b, d, e = (corner[whole] for corner in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    height = 1 + 0.1 * np.repeat(np.arange(1, len(strip)), len(across))
    side = np.tile((np.array(across) - c0) / (c1 - 1 - c0), len(strip) - 1)
    return {
        "positions": np.concatenate([positions, dataset.neutral[added.ravel()]]).astype(np.float32),
        "displacement_components": np.pad(components, ((0, 0), (0, added.size), (0, 0))).astype(np.float16),
        "uv": np.concatenate([region.uv, np.stack([side, height], 1)]).astype(np.float32),
        "triangles": np.concatenate([region.triangles, np.stack([a, b, d], 1), np.stack([a, d, e], 1)]).astype(
            np.int32
        ),
    }


def texel_points(values_V3: FloatArray, region: Region, grid: tuple[int, int], per_cell: int) -> FloatArray:
    """Per-vertex values on `per_cell` texels a cell, [h w, 3], interpolated over the same triangles that are drawn."""
    values = values_V3.reshape(*grid, 3)[region.rows, region.columns]
    rows, columns = region.shape
    r, c = np.meshgrid(
        np.arange((rows - 1) * per_cell + 1) / per_cell,
        np.arange((columns - 1) * per_cell + 1) / per_cell,
        indexing="ij",
    )
    i, j = np.minimum(r.astype(int), rows - 2), np.minimum(c.astype(int), columns - 2)
    y, x = (r - i)[..., None], (c - j)[..., None]
    a, b, d, e = values[i, j], values[i, j + 1], values[i + 1, j + 1], values[i + 1, j]
    lower = a + x * (b - a) + y * (d - b)  # triangle a b d, where x >= y
    upper = a + y * (e - a) + x * (d - e)  # triangle a d e
    return np.asarray(np.where(x >= y, lower, upper).reshape(-1, 3), np.float32)


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
        lambda b: baker.displacement(b, vertex_subset), lambda b: baker.displacement(b, baker.vertex_points),
        latents, config.displacement_rank, full_rows, "displacement",
    )  # fmt: skip
    color = factor(
        lambda b: baker.color(b, subset_points), lambda b: baker.color(b, baker.change_points),  # type: ignore[arg-type]
        latents, config.color_rank, full_rows, "colour",
    )  # fmt: skip
    network = train_coefficients(latents, displacement, color, config)

    # The mean, sharper than what changes: the networks' own average at more texels, moved to the factors' mean.
    rows = rng.choice(full_rows, min(config.mean_latents, len(full_rows)), replace=False)
    sharp = np.mean([baker.color(latents[r][None], baker.mean_points) for r in tqdm(rows, desc="sharp mean")], 0)
    part = color.coefficients[rows].mean(0) @ color.components
    shape = tuple((n - 1) * CHANGE_TEXELS + 1 for n in baker.region.shape)
    sharp_shape = tuple((n - 1) * MEAN_TEXELS + 1 for n in baker.region.shape)
    mean = sharp.reshape(*sharp_shape, 3) - upsample(part.reshape(*shape, 3))

    test = rng.choice(np.flatnonzero(held_out), min(config.held_out_latents, int(held_out.sum())), replace=False)
    report = {
        "config": asdict(config), "texels": list(shape), "vertices": len(baker.region.vertices),
        **measure(baker, all_latents[torch.from_numpy(test)], network, displacement, color, chosen),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            **with_occluder(
                dataset,
                baker.region,
                dataset.neutral[baker.region.vertices] + displacement.mean.reshape(-1, 3),
                displacement.components.reshape(config.displacement_rank, -1, 3),
            ),
            "color_mean": mean.astype(np.float16),
            "color_components": color.components.reshape(config.color_rank, *shape, 3).astype(np.float16),
        },
        folder / "baked.safetensors",
    )
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    save_networks({"coefficients": network}, folder / "coefficients.safetensors")
    export_onnx(network, contract.COEFFICIENTS, folder / "coefficients.onnx")
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
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
    chosen: NDArray[np.int64],
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
