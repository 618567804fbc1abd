"""What a frame costs against its size.

    python -m bench pixels --json F [--png F] [--sizes 256 384 512 640 768 1024] [--seconds 8] [--target baked]

The same speech is painted at each size, from the window of speech to the finished picture, and encoded, one frame
after the other on one thread; a straight line through the medians says what a frame costs at all, and what each
million pixels adds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.linear import line
from bench.picture import drawing
from bench.stages import stages
from realtime.avatar import Avatar, load_avatar
from realtime.errors import MiravoxError

Figures = dict[str, Any]


def pixels(avatar: Avatar, source: Path, seconds: float, target: str, sizes: list[int]) -> Figures:
    """Milliseconds of frame and encoding by side of the frame, and the lines through their medians."""
    if len(set(sizes)) < 2:
        raise MiravoxError("--sizes", found=f"{sizes}", wanted="two different ones at least", remedy="Name another.")
    by_size: Figures = {}
    for size in sizes:
        found = stages(avatar, source, seconds, target, size, reference=False)
        by_size[str(size)] = {
            "megapixels": size * size / 1e6,
            "frame_ms": found["frame_ms"],
            "encoding_ms": found["stages_ms"]["encoding"],
        }
    megapixels = [f["megapixels"] for f in by_size.values()]
    lines = {
        name: line(megapixels, [f[name]["median"] for f in by_size.values()]) for name in ("frame_ms", "encoding_ms")
    }
    return {"target": target, "frames": found["frames"], "pixels": by_size, "lines": lines}


def print_table(result: Figures) -> None:
    print(f"target {result['target']}, {result['frames']} frames each, milliseconds")
    print(f"{'':12} {'frame':>8} {'p95':>8} {'encoding':>9} {'p95':>8}")
    for size, f in result["pixels"].items():
        frame, encoding = f["frame_ms"], f["encoding_ms"]
        print(
            f"{size + ' x ' + size:12} {frame['median']:8.2f} {frame['p95']:8.2f} "
            f"{encoding['median']:9.2f} {encoding['p95']:8.2f}"
        )
    for name, fit in result["lines"].items():
        print(
            f"{name.removesuffix('_ms')}: {fit['base']:.2f} ms, and {fit['each']:.2f} ms for each million pixels "
            f"(R2 {fit['r2']:.3f})"
        )


def plot(result: Figures, path: Path) -> None:
    """Medians against pixels, 95th percentiles as bars, the lines through the medians."""
    with drawing(path, (6, 3.6)) as ax:
        found = list(result["pixels"].values())
        megapixels = [f["megapixels"] for f in found]
        for name, color in (("frame_ms", "#3b6ea5"), ("encoding_ms", "#b5651d")):
            medians, fit = [f[name]["median"] for f in found], result["lines"][name]
            above = [f[name]["p95"] - f[name]["median"] for f in found]
            label = f"{name.removesuffix('_ms')}: {fit['base']:.1f} + {fit['each']:.1f} ms a million pixels"
            ax.errorbar(megapixels, medians, [[0] * len(found), above], fmt="o", color=color, label=label)
            ends = [0, megapixels[-1]]
            ax.plot(ends, [fit["base"] + fit["each"] * m for m in ends], "-", color=color, linewidth=1)
        ax.set_xlabel("million pixels of a frame")
        ax.set_ylabel("ms: median, bar to the 95th percentile")
        ax.set_ylim(bottom=0)
        ax.set_xlim(left=0)
        ax.legend()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, help="the avatar's sample recording by default")
    parser.add_argument("--seconds", type=float, default=8.0, help="of speech at each size, 20 at most")
    parser.add_argument("--target", choices=("baked", "onnx", "tensorrt"), default="baked")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[256, 384, 512, 640, 768, 1024], help="sides of the frame, two at least"
    )
    parser.add_argument("--png", type=Path, help="picture of the figures")


def run(o: argparse.Namespace) -> Figures:
    avatar = load_avatar(o.avatar)
    result = pixels(avatar, o.source or avatar.sample, o.seconds, o.target, o.sizes)
    print_table(result)
    if o.png:
        plot(result, o.png)
    return result
