"""What a face in training is worth: figures and pictures of held-out frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dataset.folder import INNER_LOWER, INNER_UPPER, Dataset
from realtime.arrays import FloatArray
from realtime.contract import MASKS
from training.face_maps import FaceMaps
from training.face_networks import FaceNetworks
from training.material import Material


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


def aperture(dataset: Dataset, vertices: FloatArray) -> float:
    """Lip aperture in mm: the distance of the inner-lip landmarks."""
    gap = dataset.landmark(vertices, INNER_UPPER) - dataset.landmark(vertices, INNER_LOWER)
    return float(10 * np.linalg.norm(gap))


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
        rgb = torch.cat(
            [
                networks.shade(c, n, latent, box)
                for c, n in zip(points.split(8192), torch.from_numpy(neutral[covered][:, :3]).split(8192), strict=True)
            ]
        )
        face = np.zeros_like(image)
        face[covered] = np.round(rgb.numpy() * 255)
        columns.append(np.concatenate([image, face]))
    Image.fromarray(np.concatenate(columns, 1)).save(path)
