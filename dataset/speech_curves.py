"""Phone timings -> how the mouth moves: weights of the face model's expression shapes for every frame.

Each phone has a target for each articulator and a dominance that fades before and after it; the curve is their
weighted mean (Cohen and Massaro 1993), so that a rounded vowel shows in the consonant before it and a short vowel is
reached only in part.
Lip closure is not left to that mean: over every P, B and M the lips are brought together by solving for the opening.
Nothing is random: the same speech always gives the same mouth. Pure numpy.

Shape letters: P phones, I instants (100 Hz), A articulators, C expression channels of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from realtime.arrays import Float64Array, FloatArray

Phone = tuple[str, int, int] | Sequence[str | int]  # ARPAbet symbol, start and duration in units of 10 ms

INSTANTS_PER_FRAME = 4  # 100 Hz curves, 25 fps: frame k is instant 4 k
TAIL = 30  # instants computed beyond the last frame, so that the last phones fade as all others do

# Articulator -> inner lip opening (cm, at landmarks 62 and 66) for weight 1, as the face model has it (a test compares
# them). Names without a side stand for both sides.
OPENING: Mapping[str, float] = MappingProxyType(
    {
        "jawOpen": 3.275,
        "mouthClose": -3.894,
        "mouthFunnel": 1.373,
        "mouthPucker": -0.052,
        "mouthLowerDown": 0.676,
        "mouthUpperUp": 0.710,
        "mouthStretch": -0.030,
        "mouthSmile": 0.008,
        "mouthRollLower": -0.375,
        "mouthRollUpper": 0.182,
        "mouthPress": -0.254,
        "mouthShrugUpper": 0.526,
        "jawForward": 0.129,
    }
)
ARTICULATORS = tuple(OPENING)

# Targets of each viseme, weights of the shapes above.
TARGETS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "rest": {},
        "bilabial": {"mouthPress": 0.30, "mouthRollLower": 0.08, "mouthRollUpper": 0.06, "jawOpen": 0.02},
        "labiodental": {"mouthRollLower": 0.42, "mouthUpperUp": 0.20, "jawOpen": 0.035},
        "dental": {"jawOpen": 0.085, "mouthLowerDown": 0.30, "mouthUpperUp": 0.16},
        "alveolar": {"jawOpen": 0.070, "mouthLowerDown": 0.26, "mouthUpperUp": 0.12, "mouthStretch": 0.08},
        "lateral": {"jawOpen": 0.130, "mouthLowerDown": 0.24, "mouthUpperUp": 0.12},
        "sibilant": {
            "jawOpen": 0.012,
            "mouthLowerDown": 0.48,
            "mouthUpperUp": 0.26,
            "mouthStretch": 0.30,
            "mouthSmile": 0.06,
        },
        "postalveolar": {
            "jawOpen": 0.020,
            "mouthFunnel": 0.42,
            "mouthPucker": 0.14,
            "mouthLowerDown": 0.20,
            "mouthUpperUp": 0.14,
        },
        "velar": {"jawOpen": 0.120, "mouthLowerDown": 0.18, "mouthUpperUp": 0.08},
        "rhotic": {"jawOpen": 0.090, "mouthFunnel": 0.22, "mouthPucker": 0.20, "mouthLowerDown": 0.12},
        "rounded": {"jawOpen": 0.055, "mouthFunnel": 0.22, "mouthPucker": 0.68},
        "rounded_open": {"jawOpen": 0.150, "mouthFunnel": 0.24, "mouthPucker": 0.46},
        "open_back": {"jawOpen": 0.340, "mouthFunnel": 0.14, "mouthLowerDown": 0.14, "mouthUpperUp": 0.04},
        "open": {"jawOpen": 0.360, "mouthLowerDown": 0.18, "mouthUpperUp": 0.08},
        "open_front": {
            "jawOpen": 0.310,
            "mouthLowerDown": 0.26,
            "mouthUpperUp": 0.14,
            "mouthStretch": 0.20,
            "mouthSmile": 0.06,
        },
        "mid": {"jawOpen": 0.200, "mouthLowerDown": 0.22, "mouthUpperUp": 0.10, "mouthStretch": 0.10},
        "central": {"jawOpen": 0.170, "mouthLowerDown": 0.18, "mouthUpperUp": 0.08},
        "spread": {
            "jawOpen": 0.085,
            "mouthLowerDown": 0.30,
            "mouthUpperUp": 0.14,
            "mouthStretch": 0.26,
            "mouthSmile": 0.22,
        },
    }
)

# Phone -> viseme at its start and at its end (they differ in diphthongs).
VISEMES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "SIL": ("rest", "rest"),
        **dict.fromkeys(("P", "B", "M"), ("bilabial", "bilabial")),
        **dict.fromkeys(("F", "V"), ("labiodental", "labiodental")),
        **dict.fromkeys(("TH", "DH"), ("dental", "dental")),
        **dict.fromkeys(("T", "D", "N"), ("alveolar", "alveolar")),
        "L": ("lateral", "lateral"),
        **dict.fromkeys(("S", "Z"), ("sibilant", "sibilant")),
        **dict.fromkeys(("SH", "ZH", "CH", "JH"), ("postalveolar", "postalveolar")),
        **dict.fromkeys(("K", "G", "NG", "HH"), ("velar", "velar")),
        **dict.fromkeys(("R", "ER"), ("rhotic", "rhotic")),
        **dict.fromkeys(("W", "UW", "UH"), ("rounded", "rounded")),
        "OW": ("rounded_open", "rounded"),
        "OY": ("rounded_open", "spread"),
        "AA": ("open", "open"),
        "AO": ("open_back", "open_back"),
        "AW": ("open", "rounded_open"),
        "AE": ("open_front", "open_front"),
        "AY": ("open", "spread"),
        "EH": ("mid", "mid"),
        "AH": ("central", "central"),
        "EY": ("mid", "spread"),
        **dict.fromkeys(("IH", "IY", "Y"), ("spread", "spread")),
    }
)

# Viseme -> how firmly it holds (jaw, lip shape): what is made with the tongue lets its neighbours shape the lips.
DOMINANCE: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "rest": (1.0, 0.8),
        "bilabial": (0.8, 1.0),
        "labiodental": (1.2, 2.6),
        "dental": (0.7, 0.5),
        "alveolar": (0.7, 0.35),
        "lateral": (0.5, 0.3),
        "sibilant": (2.2, 1.2),
        "postalveolar": (1.5, 1.7),
        "velar": (0.3, 0.15),
        "rhotic": (0.6, 0.9),
        "rounded": (0.8, 2.2),
        "rounded_open": (1.0, 1.6),
        "open_back": (1.6, 1.1),
        "open": (1.6, 1.0),
        "open_front": (1.6, 1.0),
        "mid": (1.1, 0.8),
        "central": (0.8, 0.5),
        "spread": (0.9, 0.9),
    }
)
JAW = frozenset({"jawOpen", "jawForward"})
ROUNDING = frozenset({"mouthFunnel", "mouthPucker"})
# Instants after which dominance has fallen to 1 / e: (before the phone, after it). Rounding is anticipated.
FADE_JAW, FADE_LIPS, FADE_ROUNDING = (4.0, 4.5), (4.0, 4.0), (8.0, 4.5)
SMOOTHING = 1.5  # instants, standard deviation: muscles are low-pass filters

FULL_VOWEL = 12  # instants a vowel needs to be spoken with its full opening
SHORTEST_CLOSURE = 6  # instants the lips stay together at least: longer than a frame, so that one frame always shows it
CLOSING, OPENING_UP = 6, 5  # instants: the lips approach and part
CLOSED_OPENING = -0.025  # cm against the neutral gap, which is 0.3 to 0.8 mm: lips touch
TIGHTEST_OPENING = -0.045  # cm: never deeper into each other than the neutral gap and half a millimetre allow
CLOSED_JAW = 0.25  # share of the jaw's opening that is left while the lips are closed


def expression_curves(
    phones: Sequence[Phone], frames: int, model_names: tuple[str, ...], instants_per_frame: int = INSTANTS_PER_FRAME
) -> FloatArray:
    """Weights [frames, C] of all `model_names`, mostly in [0, 1]; those that speech doesn't move are 0.

    phones: (ARPAbet symbol with or without stress, start, duration), 10 ms units, in order; gaps and what lies beyond
    the last one count as silence. Frame k is the mouth at 40 k ms, or at 10 k ms if a frame is one instant.
    """
    instants = frames * instants_per_frame + TAIL
    track = _filled(phones, instants)
    weights_IA = _coarticulated(track, instants)
    closure_I = _closure(track, instants)
    weights_IA = _close_lips(weights_IA, closure_I)
    weights_FA = weights_IA[: frames * instants_per_frame : instants_per_frame]
    curves = np.zeros((frames, len(model_names)), np.float32)
    for a, name in enumerate(ARTICULATORS):
        for c, channel in enumerate(model_names):
            if channel in (name, f"{name}_L", f"{name}_R"):
                curves[:, c] = weights_FA[:, a]
    return curves


def _filled(phones: Sequence[Phone], instants: int) -> list[tuple[str, int, int]]:
    """(symbol, start, end) without stress digits, silence in the gaps and around. Unknown symbols are silence."""
    track: list[tuple[str, int, int]] = []
    at = -TAIL
    for symbol, start, duration in phones:
        begin, end = int(start), int(start) + int(duration)
        if begin > at:
            track.append(("SIL", at, begin))
        name = str(symbol).rstrip("012")
        track.append((name if name in VISEMES else "SIL", begin, end))
        at = end
    if at < instants:
        track.append(("SIL", at, instants + TAIL))
    return track


def _coarticulated(track: list[tuple[str, int, int]], instants: int) -> Float64Array:
    """Dominance-weighted mean of the phones' targets [I, A], smoothed."""
    time = np.arange(instants, dtype=np.float64)
    total = np.full((instants, len(ARTICULATORS)), 1e-9)
    mean = np.zeros((instants, len(ARTICULATORS)))
    for symbol, start, end in track:
        first, last = VISEMES[symbol]
        vowel = first.startswith(("open", "mid", "central", "rounded_open"))
        emphasis = min(1.0, 0.66 + 0.34 * (end - start) / FULL_VOWEL) if vowel else 1.0
        # A diphthong passes from its first viseme to its last one; others hold one throughout.
        middle = start + 0.55 * (end - start)
        pieces = [(first, start, end)] if first == last else [(first, start, middle), (last, middle, end)]
        for viseme, begin, stop in pieces:
            lead, lag = max(int(begin) - 48, 0), min(int(stop) + 48, instants)
            if lag <= lead:
                continue
            t = time[lead:lag]
            early, late = np.maximum(begin - t, 0), np.maximum(t - (stop - 1), 0)
            for a, name in enumerate(ARTICULATORS):
                before, after = FADE_JAW if name in JAW else FADE_ROUNDING if name in ROUNDING else FADE_LIPS
                if viseme == "rest" and name in ROUNDING:
                    before, after = FADE_LIPS
                strength = DOMINANCE[viseme][0 if name in JAW else 1]
                dominance = strength * np.exp(-((early / before) ** 1.5) - (late / after) ** 1.5)
                target = TARGETS[viseme].get(name, 0.0) * (emphasis if name in JAW else 1.0)
                total[lead:lag, a] += dominance
                mean[lead:lag, a] += dominance * target
    return _smoothed(mean / total)


def _smoothed(curves_IA: Float64Array) -> Float64Array:
    """Convolution over instants with a Gaussian, ends held."""
    reach = int(4 * SMOOTHING)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SMOOTHING) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(curves_IA, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, mode="valid") for column in padded.T], axis=1)


def _closure(track: list[tuple[str, int, int]], instants: int) -> Float64Array:
    """How firmly the lips are held together [I]: 1 over each P, B, M, with smooth flanks."""
    time = np.arange(instants, dtype=np.float64)
    closure = np.zeros(instants)
    for symbol, start, end in track:
        if VISEMES[symbol][0] != "bilabial":
            continue
        middle, half = (start + end) / 2, max(end - start, SHORTEST_CLOSURE) / 2
        away = np.where(time < middle, (middle - half - time) / CLOSING, (time - middle - half) / OPENING_UP)
        closure = np.maximum(closure, 0.5 + 0.5 * np.cos(np.pi * np.clip(away, 0, 1)))
    return closure


def _close_lips(weights_IA: Float64Array, closure_I: Float64Array) -> Float64Array:
    """Takes back what opens the mouth where the lips close, then lets mouthClose make up for the opening that is left.

    Without closure, only openings tighter than TIGHTEST_OPENING are widened, by the jaw.
    """
    index = {name: a for a, name in enumerate(ARTICULATORS)}
    weights = weights_IA.copy()
    per_weight = np.array(list(OPENING.values()))
    before = weights @ per_weight
    weights[:, index["jawOpen"]] *= 1 - (1 - CLOSED_JAW) * closure_I
    for name in ("mouthLowerDown", "mouthUpperUp", "mouthShrugUpper"):
        weights[:, index[name]] *= 1 - closure_I
    weights[:, index["mouthFunnel"]] *= 1 - 0.75 * closure_I
    for name in ("mouthPress", "mouthRollLower", "mouthRollUpper"):
        a = index[name]
        weights[:, a] += closure_I * (TARGETS["bilabial"][name] - weights[:, a])
    opening = weights @ per_weight
    narrowed = (1 - closure_I) * np.maximum(before, CLOSED_OPENING) + closure_I * CLOSED_OPENING
    wanted = np.where(closure_I > 0, narrowed, opening)
    weights[:, index["mouthClose"]] = np.maximum((opening - wanted) / -OPENING["mouthClose"], 0)
    opening = weights @ per_weight
    weights[:, index["jawOpen"]] += np.maximum(TIGHTEST_OPENING - opening, 0) / OPENING["jawOpen"]
    short = np.where(closure_I > 0, np.maximum(wanted - weights @ per_weight, 0), 0)
    weights[:, index["jawOpen"]] += short / OPENING["jawOpen"]
    return weights
