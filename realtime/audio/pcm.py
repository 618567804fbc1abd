"""Samples as other programs have them (integers or floats, one channel or several) -> float32 mono in [-1, 1]."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import FloatArray
from ..errors import MiravoxError

MIN_RATE, MAX_RATE = 4_000, 384_000  # Hz
MAX_CHANNELS = 8
KINDS = "float16, float32, float64, int16, int32 or uint8"
FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31, "uint8": 2.0**7}  # the value that stands for 1


def mono_samples(samples: ArrayLike) -> FloatArray:
    """Samples of one or several channels -> the mean of the channels, float32 [n], n >= 0, in [-1, 1], a new array.

    Args:
        samples: [n] or [n, channels] with 1 to 8 channels, in any memory layout: float16, float32 or float64, of which
            1 is full scale and whatever is louder is clipped; int16 or int32, whose range is full scale; uint8, of
            which 128 is silence. NaN and infinity become silence.

    Raises MiravoxError for any other type or shape.
    """
    try:
        values: NDArray[Any] = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of different lengths; a tensor on a GPU
        raise _fault(f"no array ({error})", "Give one NumPy array.") from error
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not 1 <= values.shape[1] <= MAX_CHANNELS:
        shape = f"the shape {list(np.shape(values))}"
        transposed = values.ndim == 2 and 1 <= values.shape[0] <= MAX_CHANNELS
        raise _fault(shape, "Transpose them." if transposed else "Give the samples of one recording.")
    if values.dtype.kind == "f" and values.dtype.itemsize <= 8:
        good = np.isfinite(values)
        scaled = np.clip(np.where(good, values, 0), -1, 1).astype(np.float32)
    elif values.dtype.name in FULL_SCALE:
        full = FULL_SCALE[values.dtype.name]
        middle = full if values.dtype.kind == "u" else 0.0
        scaled = ((values.astype(np.float64) - middle) / full).astype(np.float32)
    else:
        raise _fault(f"values of type {values.dtype}", "Convert them, e.g. to float32 in [-1, 1].")
    return np.asarray(scaled.mean(axis=1), np.float32)


def sample_rate(rate: float) -> int:
    """A sample rate in Hz, checked. Raises MiravoxError unless it is a whole number from 4,000 to 384,000."""
    given: Any = rate  # whatever the caller's type checker did not see
    is_number = isinstance(given, Real) and not isinstance(given, bool)
    if not is_number or not MIN_RATE <= given <= MAX_RATE or given != int(given):
        raise MiravoxError(
            "sample rate",
            found=repr(rate)[:40],
            wanted=f"a whole number of samples a second from {MIN_RATE} to {MAX_RATE}",
            remedy="Give the rate that the samples were recorded or synthesised at.",
        )
    return int(rate)


def _fault(found: str, remedy: str) -> MiravoxError:
    return MiravoxError("samples", found=found, wanted=f"[n] or [n, channels] of {KINDS}", remedy=remedy)
