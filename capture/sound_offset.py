"""How far the sound is known to come late: an interval, from stretches of the footage that are drawn again and again.

One clip of three seconds tells little: the lips go with the sound at several offsets about as well, and which of them
wins is chance. Stretches of the same footage that disagree show it.

Shape letters: N frames of a take, K stretches, L lags from -20 to 20 frames, B draws.
"""

from __future__ import annotations

import numpy as np

from capture.measures import LARGEST_LAG, peak
from realtime.arrays import FloatArray

STRETCH = 15  # frames: a word or two
DRAWS = 400
OWN_ERROR = 0.02  # seconds by which the predicted lips themselves may be early or late, whoever speaks
# Student's 97.5 % quantile over the normal one: a few stretches understate how different others would be.
STUDENT = {2: 6.48, 3: 2.20, 4: 1.62, 5: 1.42, 6: 1.31, 7: 1.25, 8: 1.21, 9: 1.18, 10: 1.15, 11: 1.14, 12: 1.12}
STUDENT_OF_MORE = 1.1


def offset_interval(seen: list[FloatArray], predicted: list[FloatArray]) -> tuple[float, float]:
    """Seconds between which the sound comes late, with 95 % confidence (negative: early).

    Args:
        seen, predicted: of each take, how far the lips are apart [N] and how far they should be by the sound [N]; NaN
            where they were not seen.

    Two infinities if there are not two stretches.
    """
    takes = [_products(a, b) for a, b in zip(seen, predicted, strict=True)]
    products_KL = np.concatenate(takes) if takes else np.zeros((0, 2 * LARGEST_LAG + 1))
    count = len(products_KL)
    if count < 2:
        return -np.inf, np.inf
    draws_BK = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), DRAWS)
    lags = [peak(np.asarray(curve, np.float32))[0] for curve in draws_BK @ products_KL]
    middle = peak(np.asarray(products_KL.sum(0), np.float32))[0]
    low, high = np.percentile(lags, (2.5, 97.5))
    wider = STUDENT.get(count, STUDENT_OF_MORE)
    return float(middle - wider * (middle - low) - OWN_ERROR), float(middle + wider * (high - middle) + OWN_ERROR)


def _products(seen: FloatArray, predicted: FloatArray) -> FloatArray:
    """What each stretch adds to the correlation at each lag, [K, L]."""
    good = np.isfinite(seen)
    if good.sum() < LARGEST_LAG or seen[good].std() < 1e-6 or predicted.std() < 1e-6:
        return np.zeros((0, 2 * LARGEST_LAG + 1), np.float32)
    lips = np.where(good, (seen - seen[good].mean()) / seen[good].std(), 0)
    wanted = np.pad((predicted - predicted.mean()) / predicted.std(), LARGEST_LAG)
    products_NL = np.stack([lips * wanted[lag : lag + len(lips)] for lag in range(2 * LARGEST_LAG + 1)], 1)
    edges = np.linspace(0, len(lips), max(1, round(len(lips) / STRETCH)) + 1).astype(int)
    return np.asarray(np.add.reduceat(products_NL, edges[:-1]), np.float32)
