"""A function of the latent b as a sum of few components: values(b) = mean + sum_k factor_k(b) component_k."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from export.coefficients import Coefficients
from realtime.arrays import FloatArray, Int64Array

Evaluate = Callable[[Tensor], FloatArray]  # latent [1, 64] -> values, flat


@dataclass(frozen=True, kw_only=True)
class Factors:
    """values(b) = mean + coefficients(b) @ components, and the coefficients of every sampled latent."""

    mean: FloatArray  # [P]
    components: FloatArray  # [R, P], scaled so that coefficients have unit variance
    coefficients: FloatArray  # [N, R]


def factor(subset: Evaluate, full: Evaluate, latents: Tensor, rank: int, full_rows: Int64Array, what: str) -> Factors:
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
    return Factors(
        mean=solved[0].astype(np.float32),
        components=solved[1:].astype(np.float32),
        coefficients=coefficients.astype(np.float32),
    )


def train_coefficients(latents: Tensor, displacement: Factors, color: Factors, steps: int, seed: int) -> Coefficients:
    """Fits the network b -> factors; each factor counts as much as its component moves the output."""
    torch.manual_seed(seed)
    network = Coefficients(displacement.components.shape[0], color.components.shape[0])
    targets = [torch.from_numpy(f.coefficients) for f in (displacement, color)]
    weights = [torch.from_numpy(np.linalg.norm(f.components, axis=1)) for f in (displacement, color)]
    weights = [w / w.norm() for w in weights]
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-3)
    for step in tqdm(range(steps), desc="coefficients", unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (0.01 + 0.5 + 0.5 * np.cos(np.pi * step / steps))
        rows = torch.randint(len(latents), (512,))
        outputs = network(latents[rows])
        loss = sum((((o - t[rows]) * w) ** 2).sum(1).mean() for o, t, w in zip(outputs, targets, weights, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()
