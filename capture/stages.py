"""The stages from video to avatar: what each reads and leaves in the work folder, which are finished, how long they
will take.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from capture import report
from capture.footage import Footage, examine, load_camera, load_takes, save_takes
from capture.verdicts import Item, judge
from capture.voice import Listener
from networks.contract import FRAME_RATE, SAMPLE_RATE
from realtime.avatar import load_avatar
from realtime.errors import MiravoxError
from training.dataset_files import read_wav, writing

STAGES = ("check", "track", "dataset", "train", "export", "pack")
# What a stage leaves, all of it removed when it is done anew.
LEFT = {
    "check": ("check",), "track": ("track",), "dataset": ("dataset", "dataset.part"), "train": ("face",),
    "export": ("baked", "composition"),
    "pack": ("avatar", "sample.flac", "sample.mp4", "fidelity.json", "fidelity.png"),
}  # fmt: skip
# About how long they take on two cores: seconds, and seconds for each frame of the video.
COST = {
    "check": (5.0, 0.045), "track": (60.0, 0.16), "dataset": (30.0, 0.03), "train": (3000.0, 0.02),
    "export": (900.0, 0.02), "pack": (240.0, 0.0),
}  # fmt: skip
PASSES, PIXEL_SECONDS = 2, 1e-8  # decoding, of each pixel
STAMP_BYTES = 2**20
FRAME_BYTES = 250_000  # of a lossless frame, twice kept
OTHER_BYTES = 500_000_000
SAMPLE_SECONDS = 12.0


@dataclass(frozen=True)
class Job:
    """Everything that is asked for."""

    videos: tuple[Path, ...]
    name: str
    consent: str
    work: Path
    encoder: Path  # an avatar
    landmarks: Path | None
    side: int | None
    model: Path
    modes: int
    steps: int | None
    licence: str
    anyway: bool
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


def run(job: Job, only: str | None) -> int:
    """Runs what is not finished, or one stage alone, and writes the report. Returns the exit code."""
    wanted = STAGES if only is None else (only,)
    if "pack" in wanted and not job.consent.strip():
        raise MiravoxError(
            "--consent", found="nothing", wanted="who consented to being shown, and how that is known",
            remedy='Ask the person, then say for example --consent "Jane Doe, in writing, 2026-05-01".',
        )  # fmt: skip
    keys = _keys(job)
    todo = [s for s in wanted if not _finished(job, s, keys[s])]
    if only is not None:
        _check_earlier(job, only, keys)
        if not todo:
            print(f"{only} is finished; remove {_state(job, only)} to have it done anew", file=sys.stderr)
    elif todo:
        todo = list(STAGES[STAGES.index(todo[0]) :])
        if _state(job, todo[0]).is_file() and json.loads(_state(job, todo[0]).read_text())["key"] != keys[todo[0]]:
            print(f"other input than before: {', '.join(todo)} anew", file=sys.stderr)
    frames, pixels = _extent(job)
    _check_room(job, frames)
    for number, stage in enumerate(todo):
        minutes = sum(_seconds(s, frames, pixels) for s in todo[number:]) / 60
        share = _seconds(stage, frames, pixels) / 60
        place = f"[{STAGES.index(stage) + 1}/{len(STAGES)}] {stage}"
        print(f"{place}: about {share:.0f} minutes, {minutes:.0f} until the end", file=sys.stderr, flush=True)
        _forget(job, stage, keys[stage])
        began = time.monotonic()
        try:
            code = RUN[stage](job)
        finally:
            report.write_report(job.work, job.name)
        if code:
            return code
        _finish(job, stage, keys[stage], time.monotonic() - began)
    print(job.work / "index.html")
    return 0


def _check_earlier(job: Job, only: str, keys: dict[str, str]) -> None:
    """Raises MiravoxError unless all stages before `only` are finished."""
    for earlier in STAGES[: STAGES.index(only)]:
        if not _finished(job, earlier, keys[earlier]):
            raise MiravoxError(
                f"stage {only}", found=f"stage {earlier} not finished, or finished with other options",
                wanted=f"the stages before it in {job.work}", remedy=f"Run it first: --only {earlier}.",
            )  # fmt: skip


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
    job.work.mkdir(parents=True, exist_ok=True)
    kept = sum(p.stat().st_size for p in job.work.rglob("*") if p.is_file())
    needed = 2 * FRAME_BYTES * frames + OTHER_BYTES - kept
    free = shutil.disk_usage(job.work).free
    if free < needed:
        raise MiravoxError(
            str(job.work), found=f"{free / 1e9:.1f} GB free", wanted=f"{needed / 1e9:.1f} GB for lossless frames",
            remedy="Free some space, or choose another --out.",
        )  # fmt: skip


# -- which stages are finished ----------------------------------------------------------------------------------------


def _keys(job: Job) -> dict[str, str]:
    """What went into each stage, and all those before it, as a hash."""
    keys, before = {}, ""
    for stage in STAGES:
        before = hashlib.sha256("\n".join([before, *job.inputs(stage)]).encode()).hexdigest()[:16]
        keys[stage] = before
    return keys


def _state(job: Job, stage: str) -> Path:
    return job.work / f".{stage}.json"


def _finished(job: Job, stage: str, key: str) -> bool:
    path = _state(job, stage)
    if not path.is_file():
        return False
    state = json.loads(path.read_text())
    return bool(state["key"] == key and state["finished"])


def _forget(job: Job, stage: str, key: str) -> None:
    """Removes what this stage and later ones left, but keeps what this one left if it goes on with the same input."""
    for later in STAGES[STAGES.index(stage) :]:
        path = _state(job, later)
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
    _state(job, stage).write_text(json.dumps({"key": key, "finished": False}) + "\n")


def _finish(job: Job, stage: str, key: str, seconds: float) -> None:
    partial = job.work / ".state.partial"
    partial.write_text(json.dumps({"key": key, "finished": True, "seconds": round(seconds, 1)}) + "\n")
    os.replace(partial, _state(job, stage))


# -- the stages -------------------------------------------------------------------------------------------------------


def check_only(
    videos: Sequence[Path], encoder: Path, landmarks: Path | None, side: int | None, page: Path | None,
    verdicts: Path | None,
) -> int:  # fmt: skip
    """Prints the verdict of each item; returns 2 if one says fail, else 0."""
    footage, items = _examined(videos, encoder, landmarks, side, None)
    if verdicts is not None:
        with writing(verdicts):
            verdicts.write_text(json.dumps(_described(footage, items), indent=1) + "\n")
    if page is not None:
        with tempfile.TemporaryDirectory() as folder:
            _draw_check(footage, items, Path(folder) / "check")
            report.write_report(Path(folder), ", ".join(v.name for v in videos[:3]), page)
    return _said(items)


def _examined(
    videos: Sequence[Path], encoder: Path, landmarks: Path | None, side: int | None, kept: Path | None
) -> tuple[Footage, list[Item]]:
    listener = Listener(load_avatar(encoder))
    with tqdm(desc="footage", unit="frame", mininterval=0.5) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        footage = examine(list(videos), listener, landmarks, kept, side, progress)
    return footage, judge(footage)


def _said(items: list[Item]) -> int:
    for item in items:
        print(item.line)
    fails = [i for i in items if i.verdict == "fail"]
    if fails:
        print(f"\nThis footage does not do: {', '.join(i.name for i in fails)}.", file=sys.stderr)
    return 2 if fails else 0


def _described(footage: Footage, items: list[Item]) -> dict[str, object]:
    recordings = {s.take.recording.path: s.take.recording for s in footage.shots}.values()
    lines = [
        f"{r.path.name}: {r.width} x {r.height}, {r.frame_rate:g} frames a second, {r.codec}, {r.bits} bit"
        f"{', HDR' if r.hdr else ''}, {r.seconds:.1f} s, {r.sound or 'no sound'}"
        for r in recordings
    ]
    if len(lines) > 4:
        lines = [lines[0], f"and {len(lines) - 1} more"]
    return {
        "recordings": lines, "items": [dataclasses.asdict(i) for i in items], "takes": len(footage.pieces),
        "lag_seconds": footage.lag if np.isfinite(footage.lag) else None, "correction_seconds": footage.correction,
    }  # fmt: skip


def _draw_check(footage: Footage, items: list[Item], folder: Path) -> None:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "check.json").write_text(json.dumps(_described(footage, items), indent=1) + "\n")
    report.draw_footage(footage, folder)


def _check(job: Job) -> int:
    folder = job.work / "check"
    footage, items = _examined(job.videos, job.encoder, job.landmarks, job.side, folder)
    _draw_check(footage, items, folder)
    code = _said(items)
    if footage.pieces and (job.anyway or not code):
        save_takes(footage, folder)
        return 0
    return 2


def _track(job: Job) -> int:
    from capture.energy import TrackConfig, View  # the check needs none of it
    from capture.morphable_model import load_morphable_model
    from capture.track import track

    model = load_morphable_model(job.model)
    takes, landmarks = zip(*load_takes(job.work / "check"), strict=True)
    view = View(*load_camera(job.work / "check"))
    found = track(takes, landmarks, model, view, TrackConfig(modes=job.modes))
    folder = job.work / "track"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        found.save(folder / "track.safetensors")
    eyes = [np.linalg.norm(m.points_68[:, 36:42].mean(1) - m.points_68[:, 42:48].mean(1), axis=-1) for m in landmarks]
    off = found.reprojection_N / np.concatenate(eyes)
    figures = {
        "frames": len(off), "takes": len(takes), "focal_length_pixels": round(found.view.focal, 1),
        "landmarks_off_share_of_eye_distance": {
            "mean": float(np.nanmean(off)), "95th_percentile": float(np.nanpercentile(off, 95)),
        },
    }  # fmt: skip
    (folder / "track.json").write_text(json.dumps(figures, indent=1) + "\n")
    neutral = model.identity_vertices(found.alpha_I)[model.landmarks_68]
    shapes = model.expression_CV3[:, model.landmarks_68]
    points = neutral + np.einsum("nc,clx->nlx", found.delta_NC, shapes)
    seen = np.einsum("nij,nlj->nli", found.pose_N44[:, :3, :3], points) + found.pose_N44[:, None, :3, 3]
    flat = np.stack([seen[..., 0], -seen[..., 1]], -1) * (found.view.focal / -seen[..., 2:])
    projected = np.asarray(flat + (found.view.cx, found.view.cy), np.float32)
    report.draw_track(takes, [m.points_68 for m in landmarks], projected, found.reprojection_N, folder)
    return 0


def _dataset(job: Job) -> int:
    from capture.dataset import labelled, write_dataset
    from capture.morphable_model import load_morphable_model
    from capture.track import load_track

    takes, landmarks = zip(*load_takes(job.work / "check"), strict=True)
    check = json.loads((job.work / "check" / "check.json").read_text())
    provenance = {
        "generator": "capture", "recordings": check["recordings"], "check": check["items"],
        "sound_moved_seconds": check["correction_seconds"], "model": job.model.name, "modes": job.modes,
    }  # fmt: skip
    summary = write_dataset(
        job.work / "dataset", job.name, takes, landmarks, load_track(job.work / "track" / "track.safetensors"),
        load_morphable_model(job.model), provenance, {"frames": job.licence}, job.held_out,
        labelled(job.work / "check", job.labels) if job.labels else (),
    )  # fmt: skip
    (job.work / "dataset" / "summary.json").write_text(json.dumps(dataclasses.asdict(summary), indent=1) + "\n")
    return 0


def _train(job: Job) -> int:
    steps = [] if job.steps is None else ["--steps", str(job.steps)]
    return _command(
        "training.face", "--dataset", job.work / "dataset", "--encoder", job.encoder, "--out", job.work / "face",
        "--resume", *steps,
    )  # fmt: skip


def _export(job: Job) -> int:
    common = ("--dataset", job.work / "dataset", "--encoder", job.encoder)
    face, baked = job.work / "face" / "face.safetensors", job.work / "baked"
    code = 0
    if not (baked / "report.json").is_file():
        code = _command("export", "bake", *common, "--face", face, "--out", baked)
    return code or _command(
        "training.composition", *common, "--face", face, "--baked", baked, "--out", job.work / "composition", "--resume"
    )


def _pack(job: Job) -> int:
    work, avatar = job.work, job.work / "avatar"
    _write_sample(work / "dataset", work / "sample.flac")
    return (
        _command(
            "export", "pack", "--dataset", work / "dataset", "--encoder", job.encoder, "--face",
            work / "face" / "face.safetensors", "--baked", work / "baked", "--composition",
            work / "composition" / "composition.safetensors", "--name", job.name, "--consent", job.consent,
            "--sample", work / "sample.flac", "--out", avatar,
        )
        or _command("export.parity", avatar)
        or _run(
            "run_stream.py", "--offline", "--avatar", avatar, "--source", work / "sample.flac", "--record",
            work / "sample.mp4",
        )
        or _command(
            "bench", "fidelity", "--avatar", avatar, "--dataset", work / "dataset", "--json", work / "fidelity.json",
            "--sheet", work / "fidelity.png",
        )
        or _command("export", "card", "--avatar", avatar, "--fidelity", work / "fidelity.json")
    )  # fmt: skip


RUN: dict[str, Callable[[Job], int]] = {
    "check": _check, "track": _track, "dataset": _dataset, "train": _train, "export": _export, "pack": _pack,
}  # fmt: skip


def _write_sample(dataset: Path, path: Path) -> None:
    """The held-out speech, up to twelve seconds of it, as FLAC."""
    info = json.loads((dataset / "dataset.json").read_text())
    pieces: list[NDArray[np.float32]] = []
    for take in info["takes"]:
        if take["split"] == "held_out" and sum(map(len, pieces)) < SAMPLE_SECONDS * SAMPLE_RATE:
            pieces.append(read_wav(dataset / take["speech"]))
    samples = np.concatenate(pieces)[: int(SAMPLE_SECONDS * SAMPLE_RATE)]
    with writing(path), av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        stream.format = "s16"
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE, 4096)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def _command(module: str, *arguments: str | Path) -> int:
    """Runs python -m MODULE; returns 0, or raises MiravoxError."""
    return _run("-m", module, *arguments)


def _run(*arguments: str | Path) -> int:
    command = [sys.executable, *map(str, arguments)]
    print("$", " ".join(command[1:]), file=sys.stderr, flush=True)
    code = subprocess.run(command).returncode
    if code:
        raise MiravoxError(
            " ".join(command[1:4]), found=f"exit code {code}", wanted="0",
            remedy="See what it says above; start again to go on.",
        )  # fmt: skip
    return 0
