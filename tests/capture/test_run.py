"""Stages: what is finished is kept, what has changed is done anew, and nothing is begun that cannot end well."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from capture import run as runner
from capture import stages
from capture.job import LEFT, STAGES, Job
from capture.run import run
from realtime.errors import MiravoxError


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that ran; each leaves a file in its place."""
    ran: list[str] = []

    def stage(name: str) -> Callable[[Job], int]:
        def leave(job: Job) -> int:
            ran.append(name)
            folder = job.work / LEFT[name][0]
            folder.mkdir(exist_ok=True)
            (folder / "result").write_text(name)
            return 0

        return leave

    monkeypatch.setattr(stages, "RUN", {name: stage(name) for name in STAGES})
    return ran


def test_finished_stages_are_kept(job: Job, log: list[str]) -> None:
    assert run(job, None) == 0 and log == list(STAGES)
    assert run(job, None) == 0 and log == list(STAGES), "nothing is done twice"
    log.clear()
    assert run(dataclasses.replace(job, modes=40), None) == 0
    assert log == ["track", "dataset", "train", "export", "pack"], "what went into it has changed"
    log.clear()
    labels = job.work.with_name("labels.jsonl")
    labels.write_text('{"id": "a", "seconds": 1, "phones": []}')
    assert run(dataclasses.replace(job, modes=40, labels=labels), None) == 0
    assert log == ["dataset", "train", "export", "pack"], "labels do not move the track"
    log.clear()
    moved = job.videos[0].with_name("elsewhere")
    moved.mkdir()
    video = job.videos[0].rename(moved / job.videos[0].name)
    job = dataclasses.replace(job, videos=(video,), modes=40, labels=labels)
    assert run(job, None) == 0 and not log, "the same file at another place"
    video.write_bytes(video.read_bytes() + b"\0")
    assert run(job, None) == 0 and log == list(STAGES)


def test_a_stage_that_fails_is_taken_up_again(job: Job, log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(job: Job) -> int:
        (job.work / "face").mkdir(exist_ok=True)
        (job.work / "face" / "checkpoint").write_text("half of it")
        raise MiravoxError("disk", found="a full disk", wanted="room", remedy="Free some.")

    works = stages.RUN["train"]
    monkeypatch.setitem(stages.RUN, "train", full)
    with pytest.raises(MiravoxError, match="full disk"):
        run(job, None)
    assert log == ["check", "track", "dataset"]
    monkeypatch.setitem(stages.RUN, "train", works)
    assert run(job, None) == 0 and log == list(STAGES)
    assert (job.work / "face" / "checkpoint").is_file(), "what was half done is gone on with"


def test_one_stage_alone(job: Job, log: list[str]) -> None:
    with pytest.raises(MiravoxError, match="--only check"):
        run(job, "track")
    assert run(job, "check") == 0 and run(job, "track") == 0 and log == ["check", "track"]


def test_a_check_that_fails_ends_the_run(job: Job, log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stages.RUN, "check", lambda job: 2)
    assert run(job, None) == 2 and log == []


def test_no_avatar_without_consent(job: Job, log: list[str]) -> None:
    for consent in ("", "  "):
        with pytest.raises(MiravoxError, match="--consent"):
            run(dataclasses.replace(job, consent=consent), None)
    assert log == []
    assert run(dataclasses.replace(job, consent=""), "check") == 0, "looking at footage needs none"


def test_too_little_room(job: Job, log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = runner.shutil.disk_usage(job.videos[0])
    monkeypatch.setattr(runner.shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(MiravoxError, match="GB free"):
        run(job, None)
    assert log == []
