"""How near painted frames come to the true ones, and how steady they are: pure functions (errors: thesis 4.2.1).

Images are 8-bit sRGB. Shape letters: F consecutive frames, V vertices, N points, H and W pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.metrics import structural_similarity

from realtime.arrays import BoolArray, ByteArray, Float64Array

SSIM_WINDOW = 11  # pixels, thesis 4.2.1
LUMA = np.array([0.2126, 0.7152, 0.0722])  # BT.709
SMALLEST_MSE = 1e-12  # added to every MSE, so that equal images get 120 dB


def image_figures(painted: ByteArray, true: ByteArray, regions: dict[str, BoolArray]) -> dict[str, dict[str, float]]:
    """PSNR (dB), SSIM and MSE (of values in [0, 1]) over the whole frame, as `frame`, and over each region.

    SSIM (scikit-image, 11 x 11 windows) of a region is the mean of its full map there. A region without pixels is left
    out.
    """
    squared = (((painted.astype(np.float64) - true) / 255) ** 2).mean(-1)
    _, similarity = structural_similarity(
        true, painted, win_size=SSIM_WINDOW, channel_axis=2, data_range=255, full=True
    )
    similarity = similarity.mean(-1)
    figures = {}
    for name, region in ({"frame": np.ones(squared.shape, bool)} | regions).items():
        if region.any():
            mse = float(squared[region].mean())
            psnr = float(-10 * np.log10(mse + SMALLEST_MSE))
            figures[name] = {"psnr": psnr, "ssim": float(similarity[region].mean()), "mse": mse}
    return figures


def luma(image: ByteArray) -> Float64Array:
    """Brightness [H, W] in [0, 1], of the encoded values."""
    return np.asarray(image @ LUMA / 255, np.float64)


def seam_ratio(painted: ByteArray, true: ByteArray, mask: NDArray[np.floating]) -> float:
    """How much steeper the image is across the border of what is painted than the original is there; 1 is no seam.

    Mean absolute derivative of luma along the mask's gradient, over the feather (where the mask falls), painted over
    true.

    Args:
        mask: [H, W]: 1 where painted, falling to 0 over the feather.
    """
    down, right = np.gradient(ndimage.gaussian_filter(mask, 1.0))
    length = np.hypot(down, right)
    border = length > 0.5 * length.max()

    def steepness(image: ByteArray) -> float:
        rows, columns = np.gradient(luma(image))
        return float(np.abs((rows * down + columns * right)[border] / length[border]).mean())

    return steepness(painted) / max(steepness(true), 1e-9)


def sharpness_ratio(painted: ByteArray, true: ByteArray, region: BoolArray) -> float | None:
    """How much of the original's fine detail a region keeps: RMS of the Laplacian of luma, painted over true; None
    without pixels.
    """
    if not region.any():
        return None
    detail = [float(np.sqrt(np.mean(ndimage.laplace(luma(image))[region] ** 2))) for image in (painted, true)]
    return detail[0] / max(detail[1], 1e-9)


def inner_mouth(inner_lips_N2: NDArray[np.floating], size: tuple[int, int]) -> BoolArray:
    """Pixels [H, W] between the inner lips, whose landmarks are given as x, y in pixels, in order around the mouth."""
    return np.asarray(polygon2mask(size, inner_lips_N2[:, ::-1]), bool)


def sample(image: ByteArray, points_N2: NDArray[np.floating]) -> Float64Array:
    """Luma [N] at x, y in pixels (centres at .5), bilinear."""
    return np.asarray(ndimage.map_coordinates(luma(image), points_N2[:, ::-1].T - 0.5, order=1, mode="nearest"))


def flicker(luma_FN: NDArray[np.floating], steady_FN: BoolArray) -> float | None:
    """How much skin that is not deformed changes in brightness from frame to frame: RMS of the change of luma, sampled
    at points that move with the skin; None without such points.

    Args:
        steady_FN: points that are visible, painted, and not deformed since the frame before. Frame 0 has none before
            it, so its change is not counted.
    """
    steady = steady_FN[1:] & steady_FN[:-1]
    return float(np.sqrt(np.mean(np.diff(luma_FN, axis=0)[steady] ** 2))) if steady.any() else None


def jitter(vertices_FV3: NDArray[np.floating]) -> float:
    """RMS length of the second difference over time of displaced vertices, in their own unit."""
    return float(np.sqrt((np.diff(vertices_FV3, n=2, axis=0) ** 2).sum(-1).mean()))
