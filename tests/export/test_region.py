"""What is baked of the grid: texels lie on the triangles that are drawn, and not all lines are."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("torch")


def test_texels_lie_on_the_drawn_triangles() -> None:
    """At vertices the vertices' values; within a cell, what the rasteriser interpolates over its two triangles."""
    from export.baked import upsample
    from export.region import Region, texel_points

    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 3)).astype(np.float32)
    region = Region(
        rows=slice(0, 3),
        columns=slice(0, 4),
        vertices=np.arange(12, dtype=np.int32),
        triangles=np.zeros((0, 3), np.int32),
        uv=np.zeros((12, 2), np.float32),
    )
    texels = texel_points(values, region, (3, 4), 4).reshape(9, 13, 3)
    assert np.allclose(texels[::4, ::4], values.reshape(3, 4, 3))
    a, b, d, e = values[0], values[1], values[5], values[4]
    assert np.allclose(texels[2, 2], (a + d) / 2, atol=1e-6)  # on the diagonal
    assert np.allclose(texels[1, 3], a + 0.75 * (b - a) + 0.25 * (d - b), atol=1e-6)
    assert np.allclose(texels[3, 1], a + 0.75 * (e - a) + 0.25 * (d - e), atol=1e-6)
    coarse = texel_points(values, region, (3, 4), 2).reshape(5, 7, 3)
    fine = upsample(coarse)
    assert fine.shape == (9, 13, 3) and np.allclose(fine[::2, ::2], coarse)


def test_drawn_lines_keep_ends_rims_and_distance() -> None:
    from export.region import DRAWN_CM, thinned

    gaps = np.full(40, DRAWN_CM / 3)
    gaps[30:] = 2 * DRAWN_CM
    kept = thinned(3, 36, gaps, [17])
    assert kept[0] == 3 and kept[-1] == 35 and 17 in kept
    assert kept[:5] == [3, 6, 9, 12, 15] and kept[-5:] == [31, 32, 33, 34, 35]
