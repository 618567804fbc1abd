"""Whether a cost grows in proportion: a straight line through measured points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def line(amounts: Sequence[float], costs: Sequence[float]) -> dict[str, float]:
    """Least squares: cost = base + each * amount; r2 is the share of the costs' variance that the line explains.

    Two different amounts at least; with two of them r2 says nothing.
    """
    each, base = np.polyfit(amounts, costs, 1)
    off = np.asarray(costs) - (base + each * np.asarray(amounts))
    variance = float(np.var(costs))
    return {"base": float(base), "each": float(each), "r2": 1 - float(np.mean(off**2)) / variance if variance else 1.0}
