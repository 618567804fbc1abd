"""What is asked of capture, and the state of its stages in the work folder: which are finished, with which input.

A stage is done anew if what went into it has changed; then all later ones are, too.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from realtime.errors import MiravoxError
from realtime.whole_file import replacing

STAGES = ("check", "track", "dataset", "train", "export", "pack")
# What a stage leaves, all of it removed when it is done anew.
LEFT = {
    "check": ("check",),
    "track": ("track",),
    "dataset": ("dataset", "dataset.part"),
    "train": ("face",),
    "export": ("baked", "composition"),
    "pack": ("avatar", "sample.flac", "sample.mp4", "fidelity.json", "fidelity.png"),
}
STAMP_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that is asked for; what the command's options say."""

    videos: tuple[Path, ...]
    name: str  # of the avatar
    consent: str  # who consented to being shown, and how that is known
    work: Path  # folder
    encoder: Path  # avatar whose audio encoder is used
    landmarks: Path | None  # MediaPipe's face_landmarker.task
    side: int | None  # of the crop, pixels of the recording; None: what fits the face
    model: Path  # 3D morphable model
    modes: int  # identity modes that are fitted
    steps: int | None  # of training the face; None: training.face's own
    licence: str  # of the footage
    anyway: bool  # go on although the footage check says fail
    held_out: tuple[str, ...] = ()  # names of takes; none: the last tenth
    labels: Path | None = None  # phone timings

    def inputs(self, stage: str) -> list[str]:
        """What a stage's result depends on, besides the stage before it."""
        if stage == "check":
            return [
                *map(_stamp, self.videos),
                _stamp(self.encoder / "avatar.json"),
                str(self.side),
                str(self.landmarks),
            ]
        if stage == "track":
            return [_stamp(self.model), str(self.modes)]
        if stage == "dataset":
            return [self.name, self.licence, *self.held_out, *([] if self.labels is None else [_stamp(self.labels)])]
        if stage == "train":
            return [str(self.steps)]
        return [self.name, self.consent] if stage == "pack" else []


def _stamp(path: Path) -> str:
    """What tells a file from another, wherever it lies and whenever it was written: its size, beginning and end."""
    if not path.is_file():
        raise MiravoxError(str(path), found="no such file", wanted="a file", remedy="Check the path.")
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(STAMP_BYTES)
        file.seek(max(0, size - STAMP_BYTES))
        return f"{size} {hashlib.sha256(begin + file.read()).hexdigest()}"


def keys_of(job: Job) -> dict[str, str]:
    """What went into each stage, and all those before it, as a hash."""
    keys, before = {}, ""
    for stage in STAGES:
        before = hashlib.sha256("\n".join([before, *job.inputs(stage)]).encode()).hexdigest()[:16]
        keys[stage] = before
    return keys


def state_file(job: Job, stage: str) -> Path:
    """Where the state of a stage is noted."""
    return job.work / f".{stage}.json"


def is_finished(job: Job, stage: str, key: str) -> bool:
    """Whether a stage was finished with the input that `key` stands for."""
    path = state_file(job, stage)
    if not path.is_file():
        return False
    state = json.loads(path.read_text())
    return bool(state["key"] == key and state["finished"])


def forget(job: Job, stage: str, key: str) -> None:
    """Removes what this stage and later ones left, but keeps what this one left if it goes on with the same input."""
    for later in STAGES[STAGES.index(stage) :]:
        path = state_file(job, later)
        begun = path.is_file() and json.loads(path.read_text())
        if later == stage and begun and begun["key"] == key and not begun["finished"]:
            continue
        for name in LEFT[later]:
            left = job.work / name
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    with replacing(state_file(job, stage)) as partial:
        partial.write_text(json.dumps({"key": key, "finished": False}) + "\n")


def finish(job: Job, stage: str, key: str, seconds: float) -> None:
    """Notes that a stage is finished, with the input that its key stands for."""
    with replacing(state_file(job, stage)) as partial:
        partial.write_text(json.dumps({"key": key, "finished": True, "seconds": round(seconds, 1)}) + "\n")
