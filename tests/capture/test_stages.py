"""What the later stages run: commands that the programs which they name understand."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from capture import stages
from capture.job import Job
from dataset.files import write_wav
from realtime.audio.sound_file import read_speech
from realtime.errors import MiravoxError

pytestmark = pytest.mark.usefixtures("torch")


@pytest.fixture
def job(job: Job) -> Job:
    job.work.mkdir()
    return dataclasses.replace(job, name="Jane Doe", steps=7)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of every program that was run, Python's own left out."""
    ran: list[list[str]] = []

    def run(command: list[str]) -> Any:
        ran.append(command[1:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(stages.subprocess, "run", run)
    return ran


def test_training_and_baking_go_on_where_they_were(job: Job, commands: list[list[str]]) -> None:
    from export.__main__ import parse

    assert stages.RUN["train"](job) == 0 and stages.RUN["export"](job) == 0
    train, bake, composition = commands
    place, encoder = str(job.work), str(job.encoder)
    assert train[:2] == ["-m", "training.face"] and "--resume" in train
    assert train[train.index("--steps") :] == ["--steps", "7"] and train[train.index("--out") + 1] == f"{place}/face"
    assert bake[:2] == ["-m", "export"]
    options = parse(bake[2:])
    assert (options.command, str(options.dataset), str(options.encoder)) == ("bake", f"{place}/dataset", encoder)
    assert composition[:3] == ["-m", "training.composition", "--resume"]
    assert composition[composition.index("--baked") + 1] == f"{place}/baked"
    (job.work / "baked").mkdir()
    (job.work / "baked" / "report.json").write_text("{}")
    commands.clear()
    assert stages.RUN["export"](job) == 0 and [c[1] for c in commands] == ["training.composition"], (
        "it is baked already"
    )


def test_the_avatar_is_packed_checked_and_measured(job: Job, commands: list[list[str]]) -> None:
    from bench.__main__ import parse as parse_bench
    from export.__main__ import parse

    dataset = job.work / "dataset"
    (dataset / "speech").mkdir(parents=True)
    rng = np.random.default_rng(0)
    takes = []
    for name, split, seconds in (("a", "train", 1), ("b", "held_out", 9), ("c", "held_out", 9)):
        write_wav(dataset / "speech" / f"{name}.wav", (0.1 * rng.standard_normal(16_000 * seconds)).astype(np.float32))
        takes.append({"speech": f"speech/{name}.wav", "split": split})
    (dataset / "dataset.json").write_text(json.dumps({"takes": takes}))
    assert stages.RUN["pack"](job) == 0
    assert len(read_speech(job.work / "sample.flac").samples) == 12 * 16_000, "held-out speech, twelve seconds of it"
    pack, parity, record, fidelity, card = commands
    options = parse(pack[2:])
    assert (options.name, options.consent) == ("Jane Doe", "Jane herself, in writing")
    assert options.out == job.work / "avatar" and options.sample == job.work / "sample.flac"
    assert parity == ["-m", "export.parity", str(job.work / "avatar")]
    assert record[:2] == ["run_stream.py", "--offline"] and str(job.work / "sample.mp4") in record
    measured = parse_bench(fidelity[2:])
    assert measured.command == "fidelity" and measured.dataset == dataset and measured.avatar == job.work / "avatar"
    assert parse(card[2:]).fidelity == measured.json


def test_a_program_that_fails_ends_the_stage(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.subprocess, "run", lambda command: SimpleNamespace(returncode=3))
    with pytest.raises(MiravoxError, match="exit code 3"):
        stages.RUN["train"](job)
