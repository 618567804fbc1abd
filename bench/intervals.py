"""95 % intervals of what was measured in samples."""

from __future__ import annotations

import numpy as np

Z = 1.96  # standard deviations of a normal distribution within which 95 % of it lie


def share_interval(successes: int, count: int) -> tuple[float, float]:
    """Wilson's interval of a share, `successes` of `count`; (0, 1) of nothing."""
    if count == 0:
        return 0.0, 1.0
    p = successes / count
    centre, reach = p + Z * Z / (2 * count), Z * np.sqrt(p * (1 - p) / count + Z * Z / (4 * count * count))
    return float((centre - reach) / (1 + Z * Z / count)), float((centre + reach) / (1 + Z * Z / count))


def mean_interval(values: list[float]) -> tuple[float, float]:
    """Interval of a mean by the normal distribution. Values are of clips: frames of one clip are not independent."""
    reach = Z * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("inf")
    return float(np.mean(values)) - reach, float(np.mean(values)) + reach
