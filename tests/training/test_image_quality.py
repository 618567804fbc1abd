"""Figures of painted frames: right where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from training import image_quality


def noise_image(seed: int = 0, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(40, 200, (size, size, 3)).astype(np.uint8)


def test_image_figures_are_those_of_their_formulas() -> None:
    true = noise_image()
    left = np.zeros((64, 64), bool)
    left[:, :32] = True
    painted = true.copy()
    painted[:, :32] += 10
    figures = image_quality.image_figures(painted, true, {"left": left, "right": ~left, "nothing": np.zeros_like(left)})
    assert figures["left"]["mse"] == pytest.approx((10 / 255) ** 2)
    assert figures["left"]["psnr"] == pytest.approx(20 * np.log10(25.5), abs=1e-3)
    assert figures["frame"]["mse"] == pytest.approx((10 / 255) ** 2 / 2)
    assert figures["right"]["psnr"] > 100 and "nothing" not in figures
    assert figures["right"]["ssim"] > figures["left"]["ssim"]
    same = image_quality.image_figures(true, true, {})
    assert same["frame"]["ssim"] == pytest.approx(1) and same["frame"]["mse"] == 0


def test_a_seam_is_seen_and_a_blend_is_not() -> None:
    rows, columns = np.mgrid[:96, :96]
    smooth = np.repeat((90 + 0.5 * columns + 0.3 * rows)[..., None], 3, -1)
    distance = np.hypot(rows - 48, columns - 48)
    mask = np.clip((34 - distance) / 7, 0, 1)
    true = smooth.astype(np.uint8)
    seam = (smooth + 25 * (distance < 30)[..., None]).astype(np.uint8)
    blend = (smooth + 4 * mask[..., None]).astype(np.uint8)
    assert image_quality.seam_ratio(true, true, mask) == 1
    assert image_quality.seam_ratio(seam, true, mask) > 3
    assert image_quality.seam_ratio(blend, true, mask) < 1.8


def test_blur_takes_sharpness() -> None:
    from scipy import ndimage

    true = noise_image()
    blurred = ndimage.gaussian_filter(true, (1, 1, 0))
    mouth = image_quality.inner_mouth(np.array([[20.0, 20.0], [40.0, 20.0], [40.0, 30.0], [20.0, 30.0]]), (64, 64))
    assert 150 < mouth.sum() < 240 and mouth[25, 30] and not mouth[35, 30] and not mouth[30, 15]
    assert image_quality.sharpness_ratio(true, true, mouth) == 1
    blurry = image_quality.sharpness_ratio(blurred, true, mouth)
    assert blurry is not None and blurry < 0.5
    assert image_quality.sharpness_ratio(true, true, np.zeros((64, 64), bool)) is None


def test_flicker_counts_steady_points_alone() -> None:
    rng = np.random.default_rng(0)
    luma = 0.5 + 0.02 * rng.standard_normal((200, 50))
    steady = np.ones((200, 50), bool)
    luma[:, :10] += rng.standard_normal((200, 10))  # the lips, which move
    steady[:, :10] = False
    assert image_quality.flicker(luma, steady) == pytest.approx(0.02 * np.sqrt(2), rel=0.05)
    assert image_quality.flicker(luma, np.zeros_like(steady)) is None


def test_samples_are_taken_at_pixel_centres() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[3, 5] = 255
    assert image_quality.sample(image, np.array([[5.5, 3.5], [5.0, 3.5], [2.5, 3.5]])) == pytest.approx([1, 0.5, 0])


def test_jitter_is_zero_for_steady_motion_and_the_acceleration_otherwise() -> None:
    time = np.arange(10.0)[:, None, None]
    velocity = np.array([[[1.0, 2.0, 0.5]]])
    assert image_quality.jitter(time * velocity) == pytest.approx(0, abs=1e-9)
    assert image_quality.jitter(np.array([[[0.0, 0, 0]], [[3.0, 4, 0]], [[0.0, 0, 0]]])) == pytest.approx(10)
