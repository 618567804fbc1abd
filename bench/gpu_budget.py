"""What a frame of the target tensorrt costs on paper: its networks' arithmetic and memory traffic, and GPUs' rates."""

from __future__ import annotations

from collections.abc import Sequence

from realtime.avatar import Avatar
from realtime.contract import encoded_width
from realtime.face.inpaint_boxes import InpaintBoxes
from realtime.gpu.profiles import frame_buckets

# Dense float16 with float32 sums, TFLOP/s, and memory GB/s, of the data sheets.
PEAKS = {
    "RTX 3060": (25.5, 360),
    "L4": (121, 300),
    "RTX 4090": (165, 1008),
    "H100": (989, 3350),
    "H200": (989, 4800),
}


def budget(avatar: Avatar, size: int) -> dict[str, tuple[float, float]]:
    """GFLOP and MB of memory traffic of a frame's networks: every layer reads and writes its activations once, in
    float16, and its weights.
    """
    points = max(frame_buckets(InpaintBoxes(avatar, size)))
    width = encoded_width(avatar.info["frequencies"])
    color = [(width, 512), *[(512, 512)] * 3, (512 + width, 512), *[(512, 512)] * 3, (512, 3)]
    deformation = [(3, 512), *[(512, 512)] * 3, (512, 3)]
    return {
        "deformation": _layers(deformation, len(avatar.template)),
        "color": _layers(color, points),
        "composition": _convolutions(avatar.composition, avatar.composition_size),
    }


def _layers(layers: Sequence[tuple[int, int]], points: int) -> tuple[float, float]:
    flop = sum(2 * points * a * b for a, b in layers)
    traffic = sum(2 * (points * (a + b) + a * b) for a, b in layers)
    return flop / 1e9, traffic / 1e6


def _convolutions(name: str, side: int) -> tuple[float, float]:
    """Of the composition network, thesis 3.6: five convolutions, then five that take the encoder's levels again."""
    strided = name != "dilated"
    base = int(name.removeprefix("strided") or 32) if strided else 32
    widths = [base * m for m in (1, 2, 4, 8, 8)]
    pixels = [(side >> level if strided else side) ** 2 for level in range(5)]
    layers = [(a, b, pixels[k]) for k, (a, b) in enumerate(zip([6, *widths[:-1]], widths, strict=True))]
    layers.append((widths[4], widths[4], pixels[4]))
    before = widths[4]
    for level, after in zip((3, 2, 1, 0), (widths[2], widths[1], widths[0], 3), strict=True):
        layers.append((before + widths[level], after, pixels[level]))
        before = after
    flop = sum(2 * 9 * a * b * p for a, b, p in layers)
    return flop / 1e9, sum(2 * ((a + b) * p + 9 * a * b) for a, b, p in layers) / 1e6


def roofline_ms(cost: tuple[float, float], peak: tuple[float, float]) -> float:
    """The least time that a part can take: arithmetic or memory, whichever is longer."""
    (gflop, megabytes), (tflops, gigabytes) = cost, peak
    return max(gflop / tflops, megabytes / gigabytes)


def budget_table(avatar: Avatar, size: int) -> str:
    """The budget and the rooflines of some GPUs as a Markdown table."""
    costs = budget(avatar, size)
    lines = [
        f"{avatar.name}, {size} x {size}",
        "",
        f"| network | GFLOP | MB | {' | '.join(f'{gpu}, ms' for gpu in PEAKS)} |",
        "|---" * (3 + len(PEAKS)) + "|",
    ]
    for name, cost in costs.items():
        times = [f"{roofline_ms(cost, peak):.2f}" for peak in PEAKS.values()]
        lines.append(f"| {name} | {cost[0]:.1f} | {cost[1]:.0f} | {' | '.join(times)} |")
    total = [f"{sum(roofline_ms(cost, peak) for cost in costs.values()):.2f}" for peak in PEAKS.values()]
    lines.append(f"| together | | | {' | '.join(total)} |")
    return "\n".join(lines)
