"""Runs the stages that are not finished, in order, after telling how long they will take; writes the report."""

from __future__ import annotations

import json
import shutil
import sys
import time

import av

from capture import report, stages
from capture.job import STAGES, Job, finish, forget, is_finished, keys_of, state_file
from realtime.contract import FRAME_RATE
from realtime.errors import MiravoxError

# About how long they take on two cores: seconds, and seconds for each frame of the video.
COST = {
    "check": (5.0, 0.045),
    "track": (60.0, 0.16),
    "dataset": (30.0, 0.03),
    "train": (3000.0, 0.02),
    "export": (900.0, 0.02),
    "pack": (240.0, 0.0),
}
PASSES, PIXEL_SECONDS = 2, 1e-8  # how often the check decodes all pictures, and what a pixel takes
FRAME_BYTES = 250_000  # of a lossless frame, which is kept twice: in check/ and in dataset/
OTHER_BYTES = 500_000_000  # of everything else in the work folder


def run(job: Job, only: str | None) -> int:
    """Runs what is not finished, or one stage alone, and writes the report. Returns the exit code."""
    wanted = STAGES if only is None else (only,)
    if "pack" in wanted and not job.consent.strip():
        raise MiravoxError(
            "--consent",
            found="nothing",
            wanted="who consented to being shown, and how that is known",
            remedy='Ask the person, then say for example --consent "Jane Doe, in writing, 2026-05-01".',
        )
    keys = keys_of(job)
    todo = [s for s in wanted if not is_finished(job, s, keys[s])]
    if only is not None:
        _check_earlier(job, only, keys)
        if not todo:
            print(f"{only} is finished; remove {state_file(job, only)} to have it done anew", file=sys.stderr)
    elif todo:
        todo = list(STAGES[STAGES.index(todo[0]) :])
        state = state_file(job, todo[0])
        if state.is_file() and json.loads(state.read_text())["key"] != keys[todo[0]]:
            print(f"other input than before: {', '.join(todo)} anew", file=sys.stderr)
    frames, pixels = _extent(job)
    _check_room(job, frames)
    for number, stage in enumerate(todo):
        minutes = sum(_seconds(s, frames, pixels) for s in todo[number:]) / 60
        share = _seconds(stage, frames, pixels) / 60
        place = f"[{STAGES.index(stage) + 1}/{len(STAGES)}] {stage}"
        print(f"{place}: about {share:.0f} minutes, {minutes:.0f} until the end", file=sys.stderr, flush=True)
        forget(job, stage, keys[stage])
        began = time.monotonic()
        try:
            code = stages.RUN[stage](job)
        finally:
            report.write_report(job.work, job.name)
        if code:
            return code
        finish(job, stage, keys[stage], time.monotonic() - began)
    print(job.work / "index.html")
    return 0


def _check_earlier(job: Job, only: str, keys: dict[str, str]) -> None:
    """Raises MiravoxError unless all stages before `only` are finished."""
    for earlier in STAGES[: STAGES.index(only)]:
        if not is_finished(job, earlier, keys[earlier]):
            raise MiravoxError(
                f"stage {only}",
                found=f"stage {earlier} not finished, or finished with other options",
                wanted=f"the stages before it in {job.work}",
                remedy=f"Run it first: --only {earlier}.",
            )


def _seconds(stage: str, frames: int, pixels: float) -> float:
    """About how long a stage takes, given frames at 25 a second and pixels of all pictures of the recordings."""
    constant, each = COST[stage]
    return constant + each * frames + (PASSES * PIXEL_SECONDS * pixels if stage == "check" else 0)


def _extent(job: Job) -> tuple[int, float]:
    """About how many frames the videos have, at 25 a second, and how many pixels have to be decoded."""
    seconds, pixels = 0.0, 0.0
    for path in job.videos:
        try:
            with av.open(str(path)) as container:
                length = (container.duration or 0) / av.time_base
                for stream in container.streams.video[:1]:
                    pixels += length * float(stream.average_rate or FRAME_RATE) * stream.width * stream.height
                seconds += length
        except av.error.FFmpegError:
            continue  # the check says what is wrong with it
    return round(seconds * FRAME_RATE), pixels


def _check_room(job: Job, frames: int) -> None:
    """Raises MiravoxError unless the disk has room for what is still to be written."""
    job.work.mkdir(parents=True, exist_ok=True)
    kept = sum(p.stat().st_size for p in job.work.rglob("*") if p.is_file())
    needed = 2 * FRAME_BYTES * frames + OTHER_BYTES - kept
    free = shutil.disk_usage(job.work).free
    if free < needed:
        raise MiravoxError(
            str(job.work),
            found=f"{free / 1e9:.1f} GB free",
            wanted=f"{needed / 1e9:.1f} GB for lossless frames",
            remedy="Free some space, or choose another --out.",
        )
