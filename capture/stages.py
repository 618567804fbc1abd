"""What each stage from video to avatar reads from the work folder, and what it leaves there."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from capture import report
from capture.check import check
from capture.job import Job
from capture.kept_takes import load_camera, load_takes
from dataset.files import read_wav, writing
from realtime.arrays import FloatArray
from realtime.contract import SAMPLE_RATE
from realtime.errors import MiravoxError
from realtime.whole_file import replacing

SAMPLE_SECONDS = 12.0


def _track(job: Job) -> int:
    from capture.energy import TrackConfig, View  # heavy, and the check needs none of it
    from capture.morphable_model import load_morphable_model
    from capture.tracker import track

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
        "frames": len(off),
        "takes": len(takes),
        "focal_length_pixels": round(found.view.focal, 1),
        "landmarks_off_share_of_eye_distance": {
            "mean": float(np.nanmean(off)),
            "95th_percentile": float(np.nanpercentile(off, 95)),
        },
    }
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
    from capture.assembly import labelled, write_dataset
    from capture.morphable_model import load_morphable_model
    from capture.track import load_track

    takes, landmarks = zip(*load_takes(job.work / "check"), strict=True)
    check = json.loads((job.work / "check" / "check.json").read_text())
    provenance = {
        "generator": "capture",
        "recordings": check["recordings"],
        "check": check["items"],
        "sound_moved_seconds": check["correction_seconds"],
        "model": job.model.name,
        "modes": job.modes,
    }
    summary = write_dataset(
        job.work / "dataset",
        name=job.name,
        takes=takes,
        landmarks=landmarks,
        track=load_track(job.work / "track" / "track.safetensors"),
        model=load_morphable_model(job.model),
        provenance=provenance,
        licence={"frames": job.licence},
        held_out=job.held_out,
        phones=labelled(job.work / "check", job.labels) if job.labels else (),
    )
    (job.work / "dataset" / "summary.json").write_text(json.dumps(dataclasses.asdict(summary), indent=1) + "\n")
    return 0


def _train(job: Job) -> int:
    steps = {} if job.steps is None else {"steps": job.steps}
    dataset, face = job.work / "dataset", job.work / "face"
    _command("training.face", "--resume", dataset=dataset, encoder=job.encoder, out=face, **steps)
    return 0


def _export(job: Job) -> int:
    work, baked = job.work, job.work / "baked"
    trained = {"dataset": work / "dataset", "encoder": job.encoder, "face": work / "face" / "face.safetensors"}
    if not (baked / "report.json").is_file():
        _command("export", "bake", **trained, out=baked)
    _command("training.composition", "--resume", **trained, baked=baked, out=work / "composition")
    return 0


def _pack(job: Job) -> int:
    work, avatar, sample, fidelity = (job.work / n for n in ("", "avatar", "sample.flac", "fidelity.json"))
    dataset, composition = work / "dataset", work / "composition" / "composition.safetensors"
    trained = {"encoder": job.encoder, "face": work / "face" / "face.safetensors", "composition": composition}
    told = {"name": job.name, "consent": job.consent}
    _write_sample(dataset, sample)
    _command("export", "pack", dataset=dataset, **trained, baked=work / "baked", **told, sample=sample, out=avatar)
    _command("export.parity", str(avatar))
    _run("run_stream.py", "--offline", avatar=avatar, source=sample, record=work / "sample.mp4")
    _command("bench", "fidelity", avatar=avatar, dataset=dataset, json=fidelity, sheet=work / "fidelity.png")
    _command("export", "card", avatar=avatar, fidelity=fidelity)
    return 0


def _write_sample(dataset: Path, path: Path) -> None:
    """The held-out speech, up to twelve seconds of it, as FLAC."""
    info = json.loads((dataset / "dataset.json").read_text())
    pieces: list[FloatArray] = []
    for take in info["takes"]:
        if take["split"] == "held_out" and sum(map(len, pieces)) < SAMPLE_SECONDS * SAMPLE_RATE:
            pieces.append(read_wav(dataset / take["speech"]))
    samples = np.concatenate(pieces)[: int(SAMPLE_SECONDS * SAMPLE_RATE)]
    with writing(path), replacing(path) as partial, av.open(str(partial), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        stream.format = "s16"
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE, 4096)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def _command(module: str, *arguments: str, **options: str | Path | int) -> None:
    """Runs python -m MODULE with arguments and --options. Raises MiravoxError if it fails."""
    _run("-m", module, *arguments, **options)


def _run(*arguments: str, **options: str | Path | int) -> None:
    named = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, *arguments, *named]
    print("$", " ".join(command[1:]), file=sys.stderr, flush=True)
    code = subprocess.run(command).returncode
    if code:
        raise MiravoxError(
            " ".join(command[1:4]),
            found=f"exit code {code}",
            wanted="0",
            remedy="See what it says above; start again to go on.",
        )


# Each returns an exit code: 0 if the next stage may begin.
RUN: dict[str, Callable[[Job], int]] = {
    "check": check,
    "track": _track,
    "dataset": _dataset,
    "train": _train,
    "export": _export,
    "pack": _pack,
}
