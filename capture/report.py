"""The report page: one HTML file with everything that is known of an avatar in the making, pictures inside.

draw_footage    pictures of what the footage check found, while it is in memory
draw_track      pictures of a tracked face, and how far its landmarks are off
write_report    index.html of a work folder, of whatever stages are finished
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from capture import measures
from capture.footage import SPEAKING, Footage
from capture.landmarks import POINTS_68, draw
from capture.verdicts import Item
from capture.video import Take
from dataset.files import writing
from realtime.arrays import BoolArray, ByteArray, FloatArray
from realtime.contract import FRAME_RATE
from realtime.whole_file import replacing

SHEET_FRAMES, SHEET_PIXELS = 8, 320
COLORS = {"ok": "#1a7f37", "warn": "#9a6700", "fail": "#cf222e"}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #d1d9e0; }
table { border-collapse: collapse; } td, th { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
tr + tr td { border-top: 1px solid #eaeef2; } img, video { max-width: 100%; } .remedy { color: #59636e; }
.badge { color: white; border-radius: .5rem; padding: 0 .5rem; font-size: .8rem; } figcaption { color: #59636e; }
figure { margin: 1rem 0; }
"""


def draw_footage(footage: Footage, folder: Path) -> None:
    """Writes frames.jpg (takes, with landmarks), left_out.jpg (frames that are of no use, if any) and footage.png."""
    used = [np.zeros(s.frames, bool) for s in footage.shots]
    for index, first, end in footage.pieces:
        used[index][first:end] = True
    for name, wanted in (("frames.jpg", used), ("left_out.jpg", [~u for u in used])):
        picture = _sheet(footage, wanted)
        if picture is not None:
            write_jpeg(folder / name, picture)
    _plot(footage, folder / "footage.png")


def _sheet(footage: Footage, wanted: list[BoolArray]) -> ByteArray | None:
    """Frames spread evenly over those wanted, with the 68 landmarks on them."""
    places = [(i, int(k)) for i, frames in enumerate(wanted) for k in np.flatnonzero(frames)]
    if not places:
        return None
    chosen = {places[int(n)] for n in np.linspace(0, len(places) - 1, SHEET_FRAMES)}
    tiles = []
    for index, shot in enumerate(footage.shots):
        frames = sorted(k for i, k in chosen if i == index)
        for k in frames:
            piece = shot.take.cropped(shot.crop).piece("", k, k + 1)
            tiles.append(_tile(next(iter(piece.frames)), shot.landmarks.points[k, POINTS_68]))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 4)
    return np.asarray(np.vstack([np.hstack(tiles[n : n + 4]) for n in range(0, len(tiles), 4)]), np.uint8)


def _tile(frame: ByteArray, found: FloatArray, tracked: FloatArray | None = None) -> ByteArray:
    """A small picture of a square frame with landmarks on it: found ones green, those of the tracked face red."""
    picture = np.asarray(cv2.resize(frame, (SHEET_PIXELS, SHEET_PIXELS), interpolation=cv2.INTER_AREA), np.uint8)
    scale = SHEET_PIXELS / len(frame)
    picture = draw(picture, found * scale)
    return picture if tracked is None else draw(picture, tracked * scale, (255, 40, 40))


def _plot(footage: Footage, path: Path) -> None:
    """Over the time of all shots: lips and what the sound says of them, brightness, head turns; and lips against sound
    at each lag.
    """
    shots = footage.shots
    seconds = np.arange(sum(s.frames for s in shots)) / FRAME_RATE

    def joined(parts: list[FloatArray]) -> FloatArray:
        return np.concatenate(parts)

    figure = Figure(figsize=(11, 9.5))
    axes = figure.subplots(4, 1)
    lips = joined([measures.aperture(s.landmarks.points) for s in shots])
    predicted = joined([s.predicted.aperture for s in shots])
    axes[0].plot(seconds, lips / max(float(np.nanpercentile(lips, 99)), 1e-3), lw=0.7, label="lips, as seen")
    scale = max(float(np.percentile(predicted, 99)), 1e-3)
    axes[0].plot(seconds, -predicted / scale, lw=0.7, label="lips, as the sound predicts (downwards)")
    speaking = joined([(s.predicted.presence > SPEAKING).astype(np.float32) for s in shots])
    axes[0].fill_between(seconds, -1.1 * speaking, 1.1 * speaking, color="0.9", lw=0, label="speech")
    axes[0].set(ylim=(-1.3, 1.3))
    axes[0].legend(loc="upper right", fontsize=7, ncols=3)
    axes[1].plot(seconds, joined([s.light[:, 0] for s in shots]), lw=0.7)
    axes[1].set(ylabel="face's brightness")
    turns = np.concatenate([s.angles for s in shots])
    for k, name in enumerate(("yaw", "pitch", "roll")):
        axes[2].plot(seconds, turns[:, k], lw=0.7, label=name)
    axes[2].set(ylabel="degrees", xlabel="seconds")
    axes[2].legend(loc="upper right", fontsize=7, ncols=3)
    for usable, first in zip(footage.usable, np.cumsum([0, *(s.frames for s in shots)]), strict=False):
        for begin, end in measures.stretches(~usable):
            for axis in axes[:3]:
                axis.axvspan((first + begin) / FRAME_RATE, (first + end) / FRAME_RATE, color="#cf222e22", lw=0)
    lags = (np.arange(len(footage.agreement)) - measures.LARGEST_LAG) / FRAME_RATE
    axes[3].plot(1000 * lags, footage.agreement)
    if np.isfinite(footage.lag):
        axes[3].axvline(1000 * footage.lag, color="0.6", lw=0.8)
    axes[3].set(xlabel="milliseconds that the sound comes late", ylabel="lips and sound agree")
    figure.tight_layout()
    with writing(path):
        figure.savefig(path, dpi=80)


def draw_track(
    takes: Sequence[Take], found: Sequence[FloatArray], projected: FloatArray, reprojection: FloatArray, folder: Path
) -> None:
    """Writes track.jpg (landmarks as found, green, and as the tracked face has them, red) and track.png.

    Args:
        found: of each take [N, 68, 2], pixels.
        projected: of the frames of all takes [N, 68, 2].
        reprojection: of the frames of all takes [N], pixels.
    """
    starts = np.cumsum([0, *(t.frame_count for t in takes)])
    tiles = []
    for n in np.linspace(0, starts[-1] - 1, SHEET_FRAMES).astype(int):
        index = int(np.searchsorted(starts, n, "right")) - 1
        k = int(n - starts[index])
        frame = next(iter(takes[index].piece("", k, k + 1).frames))
        tiles.append(_tile(frame, found[index][k], projected[n]))
    write_jpeg(folder / "track.jpg", np.asarray(np.vstack([np.hstack(tiles[:4]), np.hstack(tiles[4:])]), np.uint8))
    figure = Figure(figsize=(11, 2.6))
    axis = figure.subplots()
    axis.plot(np.arange(len(reprojection)) / FRAME_RATE, reprojection, lw=0.7)
    axis.set(xlabel="seconds", ylabel="landmarks off, pixels", ylim=(0, None))
    figure.tight_layout()
    with writing(folder):
        figure.savefig(folder / "track.png", dpi=80)


def write_jpeg(path: Path, picture: ByteArray) -> None:
    """uint8 [H, W, 3] RGB."""
    good, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert good
    with writing(path), replacing(path) as partial:
        partial.write_bytes(data.tobytes())


def write_report(work: Path, name: str, path: Path | None = None) -> Path:
    """Writes the page (`work`/index.html, or `path`) from what the finished stages left in the work folder."""
    parts = [f"<h1>{html.escape(name)}: from video to avatar</h1>"]
    parts += _footage_part(work / "check") + _track_part(work / "track")
    if (work / "dataset" / "summary.json").is_file():
        parts += ["<h2>Dataset</h2>", _table(work / "dataset" / "summary.json")]
    for title, folder in (("Training: the face", work / "face"), ("Training: composition", work / "composition")):
        pictures = [_figure(folder / "log.png", "losses and figures against the step")]
        pictures += [_figure(folder / "held_out.png", "held-out frames: what goes in, what comes out, the truth")]
        if any(pictures):
            parts += [f"<h2>{title}</h2>", *pictures]
    parts += _avatar_part(work)
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(name)}</title><style>{STYLE}</style>"
    path = path or work / "index.html"
    with writing(path), replacing(path) as partial:
        partial.write_text(page + "\n".join(p for p in parts if p) + "\n")
    return path


def _figure(path: Path, caption: str) -> str:
    if not path.is_file():
        return ""
    kind = "png" if path.suffix == ".png" else "jpeg"
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/{kind};base64,{data}"><figcaption>{text}</figcaption></figure>'


def _footage_part(folder: Path) -> list[str]:
    if not (folder / "check.json").is_file():
        return []
    check = json.loads((folder / "check.json").read_text())
    rows = []
    for item in (Item(**i) for i in check["items"]):
        badge = f'<span class=badge style="background:{COLORS[item.verdict]}">{item.verdict}</span>'
        remedy = f"<br><span class=remedy>{html.escape(item.remedy)}</span>" if item.remedy else ""
        rows.append(f"<tr><td>{badge}<td>{html.escape(item.name)}<td>{html.escape(item.found)}{remedy}")
    files = "; ".join(html.escape(f) for f in check["recordings"])
    return [
        "<h2>Footage</h2>",
        f"<p>{files}</p>",
        "<table>",
        *rows,
        "</table>",
        _figure(folder / "frames.jpg", "frames that are learnt from, with the landmarks found"),
        _figure(folder / "left_out.jpg", "frames that are left out"),
        _figure(
            folder / "footage.png",
            "lips as seen and as predicted from the sound; light; head turns (red: left out); lips against sound",
        ),
    ]


def _track_part(folder: Path) -> list[str]:
    pictures = [
        _figure(folder / "track.jpg", "landmarks as found (green) and of the tracked face (red)"),
        _figure(folder / "track.png", "how far the tracked face's landmarks are from those found"),
    ]
    return ["<h2>Tracking</h2>", _table(folder / "track.json"), *pictures] if any(pictures) else []


def _avatar_part(work: Path) -> list[str]:
    described = work / "avatar" / "avatar.json"
    if not described.is_file():
        return []
    info = json.loads(described.read_text())
    parts = ["<h2>Avatar</h2>", f"<p>Consent: {html.escape(info['consent'])}. What the avatar says is synthetic.</p>"]
    if (work / "sample.mp4").is_file():
        data = base64.b64encode((work / "sample.mp4").read_bytes()).decode()
        parts.append(f'<video controls src="data:video/mp4;base64,{data}"></video>')
        parts.append("<p>A recording that was held out of training, said by the avatar.</p>")
    if info["fidelity"]:
        parts += ["<h2>Fidelity</h2>", _mapping(info["fidelity"])]
    return [*parts, _figure(work / "fidelity.png", "held-out frames, painted again, and their errors")]


def _table(path: Path) -> str:
    return _mapping(json.loads(path.read_text())) if path.is_file() else ""


def _mapping(values: dict[str, Any], prefix: str = "") -> str:
    """Nested figures as one table, a row each."""
    rows = []
    for key, value in _leaves(values, prefix):
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        rows.append(f"<tr><td>{html.escape(key)}<td>{html.escape(text)}")
    return f"<table>{''.join(rows)}</table>"


def _leaves(values: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _leaves(value, f"{prefix}{key}, ")
        else:
            found.append((f"{prefix}{key}".replace("_", " "), value))
    return found
