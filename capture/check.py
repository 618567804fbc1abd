"""The footage check, the first stage and a command of its own: recordings are examined, and each thing that matters
gets a verdict.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from capture import report
from capture.examination import examine
from capture.footage import Footage
from capture.job import Job
from capture.kept_takes import save_takes
from capture.mouth_predictor import MouthPredictor
from capture.verdicts import Item, judge
from dataset.files import writing
from realtime.avatar import load_avatar
from realtime.whole_file import replacing


def check_only(
    videos: Sequence[Path],
    *,
    encoder: Path,
    landmarks: Path | None,
    side: int | None,
    page: Path | None,
    verdicts: Path | None,
) -> int:
    """Prints the verdict of each item; returns 2 if one says fail, else 0.

    Args:
        encoder: an avatar, whose networks say how the lips should move to the sound.
        landmarks: MediaPipe's face_landmarker.task.
        side: of the crop, in pixels of the recordings; None: what fits the face.
        page, verdicts: files to write, HTML and JSON.
    """
    footage, items = _examined(videos, encoder, landmarks, side, None)
    if verdicts is not None:
        with writing(verdicts), replacing(verdicts) as partial:
            partial.write_text(json.dumps(_description(footage, items), indent=1) + "\n")
    if page is not None:
        with tempfile.TemporaryDirectory() as folder:
            draw_check(footage, items, Path(folder) / "check")
            report.write_report(Path(folder), ", ".join(v.name for v in videos[:3]), page)
    return _print_verdicts(items)


def check(job: Job) -> int:
    """Leaves check/: cropped frames, sound, landmarks, takes and the verdicts. Returns 2 if the footage will not do."""
    folder = job.work / "check"
    footage, items = _examined(job.videos, job.encoder, job.landmarks, job.side, folder)
    draw_check(footage, items, folder)
    code = _print_verdicts(items)
    if footage.pieces and (job.anyway or not code):
        save_takes(footage, folder)
        return 0
    return 2


def _examined(
    videos: Sequence[Path], encoder: Path, landmarks: Path | None, side: int | None, kept: Path | None
) -> tuple[Footage, list[Item]]:
    predictor = MouthPredictor(load_avatar(encoder))
    with tqdm(desc="footage", unit="frame", mininterval=0.5) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        footage = examine(list(videos), predictor, model=landmarks, kept=kept, side=side, progress=progress)
    return footage, judge(footage)


def _print_verdicts(items: list[Item]) -> int:
    """Returns the exit code: 2 if an item says fail."""
    for item in items:
        print(item.line)
    fails = [i for i in items if i.verdict == "fail"]
    if fails:
        print(f"\nThis footage does not do: {', '.join(i.name for i in fails)}.", file=sys.stderr)
    return 2 if fails else 0


def _description(footage: Footage, items: list[Item]) -> dict[str, object]:
    """The verdicts and what they are about, as JSON."""
    recordings = {s.take.recording.path: s.take.recording for s in footage.shots}.values()
    lines = [
        f"{r.path.name}: {r.width} x {r.height}, {r.frame_rate:g} frames a second, {r.codec}, {r.bits} bit"
        f"{', HDR' if r.hdr else ''}, {r.seconds:.1f} s, {r.sound or 'no sound'}"
        for r in recordings
    ]
    if len(lines) > 4:
        lines = [lines[0], f"and {len(lines) - 1} more"]
    return {
        "recordings": lines,
        "items": [dataclasses.asdict(i) for i in items],
        "takes": len(footage.pieces),
        "lag_seconds": footage.lag if np.isfinite(footage.lag) else None,
        "lag_interval_seconds": footage.lag_interval if np.isfinite(footage.lag_interval).all() else None,
        "correction_seconds": footage.correction,
    }


def draw_check(footage: Footage, items: list[Item], folder: Path) -> None:
    """Writes what the report shows of the footage: check.json and pictures."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "check.json") as partial:
            partial.write_text(json.dumps(_description(footage, items), indent=1) + "\n")
    report.draw_footage(footage, folder)
