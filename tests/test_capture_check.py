"""The footage check: what is wrong with bad footage is said, found sound offsets are corrected, stages are resumed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from capture import footage as examination
from capture import measures, stages
from capture.__main__ import main
from capture.footage import Footage, examine, load_camera, load_takes, save_takes
from capture.landmarks import FaceFinder, Landmarks, detect
from capture.report import draw_footage, write_report
from capture.stages import Job, run
from capture.verdicts import Item, judge
from capture.voice import Listener
from conftest import lacking
from films import RATE, ByteArray, FloatArray, cartoon, clips, covered, music, write_film
from realtime.avatar import load_avatar
from realtime.errors import MiravoxError


@pytest.fixture(scope="module", autouse=True)
def mediapipe() -> None:
    if importlib.util.find_spec("mediapipe") is None:
        lacking("mediapipe (pip install -e .[capture])")


@pytest.fixture(scope="module")
def listener(ada: Path) -> Listener:
    return Listener(load_avatar(ada))


@pytest.fixture(scope="module")
def film(data_folder: Path) -> tuple[list[ByteArray], FloatArray]:
    """Two clips of one speaker, 150 frames, joined."""
    return clips(data_folder, 2)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def good(film: tuple[list[ByteArray], FloatArray], listener: Listener, kept: Path) -> Footage:
    """What the check finds in the clips; cropped frames are kept."""
    footage = examine([write_film(kept / "good.mp4", *film)], listener, kept=kept / "check")
    save_takes(footage, kept / "check")
    return footage


def verdicts(footage: Footage) -> dict[str, Item]:
    return {item.name: item for item in judge(footage)}


def said_again(footage: Footage, listener: Listener, sound: FloatArray) -> Footage:
    """The same pictures with another sound."""
    shots, first = [], 0
    for shot in footage.shots:
        speech = sound[first * 640 : (first + shot.frames) * 640]
        take = dataclasses.replace(shot.take, speech=speech)
        shots.append(dataclasses.replace(shot, take=take, heard=listener(speech, shot.frames)))
        first += shot.frames
    return examination._judge(shots, 0)


def test_a_good_film(good: Footage) -> None:
    items = verdicts(good)
    wrong = {name: item.verdict for name, item in items.items() if item.verdict != "ok"}
    assert wrong == {"face size": "warn", "cuts": "warn", "silence": "warn", "usable speech": "fail"}
    assert "102 pixels wide; 250 or more look sharp" in items["face size"].found
    assert "closer" in items["face size"].remedy
    assert sum(s.frames for s in good.shots) == 150 and all(s.landmarks.found.all() for s in good.shots)
    assert good.cuts == 1, "where the clips were joined"
    assert sum(end - first for _, first, end in good.pieces) == 150
    assert abs(good.lag) <= 0.04 and good.correction == 0


def test_landmarks_lie_on_the_face(good: Footage) -> None:
    """Eyes are dark, lips are red, the two halves of the face are alike, whichever way the frame is turned."""
    shot = good.shots[0]
    frame = next(iter(shot.take.cropped(shot.crop).frames))
    points = shot.landmarks.points[0]
    assert points.shape == (478, 2) and shot.landmarks.points_68.shape[1:] == (68, 2)

    def color(index: int) -> FloatArray:
        x, y = points[index].astype(int)
        return np.asarray(frame[y - 2 : y + 3, x - 2 : x + 3].mean((0, 1)), np.float32)

    cheek = color(50)
    assert color(468).mean() < 0.75 * cheek.mean() and color(473).mean() < 0.75 * cheek.mean()
    assert color(17)[0] / color(17)[1] > 1.08 * cheek[0] / cheek[1]
    turned = detect([np.ascontiguousarray(frame[:, ::-1])])
    mirrored = turned.points[0] * (-1, 1) + (frame.shape[1], 0)
    assert np.abs(mirrored[[33, 263, 61, 291, 1]] - points[[263, 33, 291, 61, 1]]).max() < 8


def test_sound_that_lags_is_found_and_corrected(
    tmp_path: Path, film: tuple[list[ByteArray], FloatArray], listener: Listener, good: Footage
) -> None:
    frames, speech = film
    late = np.concatenate([np.zeros(round(0.3 * RATE), np.float32), speech])[: len(speech)]
    footage = examine([write_film(tmp_path / "late.mp4", frames, late)], listener)
    assert footage.lag == pytest.approx(0.3, abs=0.04) and footage.correction == -footage.lag
    item = verdicts(footage)["sound and picture"]
    assert item.verdict == "warn" and "late, corrected" in item.found
    take, _ = footage.takes()[0]
    sound, wanted = (np.abs(x[:48_000]).reshape(-1, 80).mean(1) for x in (take.speech, speech))
    offsets = np.correlate(sound - sound.mean(), wanted - wanted.mean(), "full")
    assert abs(int(offsets.argmax()) - len(wanted) + 1) * 80 / RATE <= 0.04
    early = np.concatenate([speech[round(0.2 * RATE) :], np.zeros(round(0.2 * RATE), np.float32)])
    assert said_again(good, listener, early).lag == pytest.approx(-0.2, abs=0.04)


def test_no_sound(tmp_path: Path, film: tuple[list[ByteArray], FloatArray], listener: Listener) -> None:
    item = verdicts(examine([write_film(tmp_path / "a.mp4", film[0][:30])], listener))["sound"]
    assert (item.verdict, item.found) == ("fail", "no sound") and item.remedy


def test_music_only(good: Footage, listener: Listener) -> None:
    footage = said_again(good, listener, music(6))
    items = verdicts(footage)
    assert items["sound"].verdict == "fail" and "nobody speaks" in items["sound"].found
    assert np.isnan(footage.lag) and not {"noise", "usable speech"} & items.keys()


def test_a_stranger_s_voice(good: Footage, listener: Listener) -> None:
    """Lips that have nothing to do with 24 seconds of speech: said so."""
    rng = np.random.default_rng(0)
    shot = good.shots[0]
    shots = []
    for _ in range(8):
        heard = np.asarray(rng.permutation(measures.aperture(shot.landmarks.points)), np.float32)
        other = dataclasses.replace(shot.heard, aperture=heard, presence=np.ones_like(heard))
        shots.append(dataclasses.replace(shot, heard=other))
    footage = examination._judge(shots, 0)
    item = verdicts(footage)["sound and picture"]
    assert item.verdict == "fail" and "voice-over" in item.remedy and footage.correction == 0


def test_sound_that_is_too_loud_or_drowned(good: Footage, listener: Listener) -> None:
    sound = np.concatenate([s.take.speech for s in good.shots])
    rng = np.random.default_rng(0)
    clipped = verdicts(said_again(good, listener, np.clip(np.float32(12) * sound, -1, 1)))
    assert clipped["clipping"].verdict == "warn"
    noise = np.asarray(0.03 * rng.standard_normal(len(sound)), np.float32)
    noisy = verdicts(said_again(good, listener, np.asarray(sound + noise, np.float32)))
    assert noisy["noise"].verdict == "warn"
    quiet = verdicts(said_again(good, listener, np.float32(0.02) * sound))
    assert quiet["sound"].verdict == "warn" and "closer" in quiet["sound"].remedy


def test_a_still_picture(tmp_path: Path, film: tuple[list[ByteArray], FloatArray], listener: Listener) -> None:
    path = write_film(tmp_path / "a.mp4", film[0][:1] * 50, film[1][: 50 * 640])
    item = verdicts(examine([path], listener))["moving picture"]
    assert item.verdict == "fail" and "the lips part by up to 0 %" in item.found


def test_two_faces(tmp_path: Path, film: tuple[list[ByteArray], FloatArray], listener: Listener) -> None:
    pairs = [np.hstack([a, b]) for a, b in zip(film[0][:40], film[0][100:140], strict=True)]
    item = verdicts(examine([write_film(tmp_path / "a.mp4", pairs)], listener))["one face"]
    assert item.verdict == "fail" and "more than one face in 100 %" in item.found


def test_a_cartoon(tmp_path: Path, listener: Listener) -> None:
    item = verdicts(examine([write_film(tmp_path / "a.mp4", cartoon(40))], listener))["real face"]
    assert item.verdict == "fail" and "drawn" in item.remedy


def test_no_face(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = [np.full((120, 160, 3), 90 + k, np.uint8) for k in range(10)]
    assert main(["check", str(write_film(tmp_path / "a.mp4", bare))]) == 2
    assert "no face" in capsys.readouterr().err


def test_a_cut_in_the_middle(tmp_path: Path, film: tuple[list[ByteArray], FloatArray], listener: Listener) -> None:
    """Each piece has its own crop where the framing differs, and no take crosses the cut."""
    near = [np.asarray(cv2.resize(f[70:, 40:310], (360, 288))[:, ::-1], np.uint8) for f in film[0][100:140]]
    footage = examine([write_film(tmp_path / "a.mp4", [*film[0][:40], *near])], listener)
    assert [(s.take.first, s.take.end) for s in footage.shots] == [(0, 40), (40, 80)]
    assert footage.shots[0].crop != footage.shots[1].crop
    assert verdicts(footage)["cuts"].found == "1 cut"
    assert [t.frame_count for t, _ in footage.takes()] == [40, 40]


def test_a_hand_before_the_mouth(tmp_path: Path, film: tuple[list[ByteArray], FloatArray], listener: Listener) -> None:
    """The frames are found, and left out."""
    footage = examine([write_film(tmp_path / "a.mp4", covered(film[0][:130], 90, 110))], listener)
    hidden = np.concatenate(footage.covered)
    assert hidden[90:110].all() and not hidden[:90].any() and not hidden[110:].any()
    first = [s.take.first for s in footage.shots]
    used = {first[i] + k for i, begin, end in footage.pieces for k in range(begin, end)}
    assert not used & set(range(90, 110)) and {0, 70} <= used
    assert verdicts(footage)["nothing before the face"].verdict == "warn"


def test_a_turned_head(good: Footage) -> None:
    """The points of the face, turned in space by known angles: the angles come back, the frames are left out."""
    shot = good.shots[0]
    points = np.concatenate([shot.landmarks.points, shot.landmarks.depth[..., None]], -1)
    middle = points.mean(1, keepdims=True)
    before = shot.angles

    def turned(degrees: float, frames: slice) -> Landmarks:
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        moved = points.copy()
        moved[frames] = (points - middle)[frames] @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) + middle[frames]
        return dataclasses.replace(shot.landmarks, points=moved[..., :2], depth=moved[..., 2])

    marks = turned(40, slice(30, 60))
    angles = measures.angles(marks.points, marks.depth)
    assert np.abs(angles[30:60, 0] - before[30:60, 0] - 40).max() < 2
    footage = examination._judge([dataclasses.replace(shot, landmarks=marks, angles=angles)], 0)
    assert footage.turned[0][30:60].all() and footage.turned[0].sum() == 30
    assert [(a, b) for _, a, b in footage.pieces][0] == (0, 28)
    assert verdicts(footage)["head turns"].verdict == "warn"


def test_three_seconds(
    tmp_path: Path, film: tuple[list[ByteArray], FloatArray], capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says what is wrong, writes page and figures, and exits with 2."""
    path = write_film(tmp_path / "a.mp4", film[0][:75], film[1][: 75 * 640])
    page, figures = tmp_path / "a.html", tmp_path / "a.json"
    assert main(["check", str(path), "--report", str(page), "--json", str(figures)]) == 2
    shown = capsys.readouterr().out
    assert "fail  usable speech: 1 s in 1 takes" in shown and "two to three minutes" in shown
    assert page.read_text().count("data:image/") == 2 and "two to three minutes" in page.read_text()
    assert json.loads(figures.read_text())["takes"] == 1


def test_a_face_far_away(film: tuple[list[ByteArray], FloatArray]) -> None:
    """Seventy pixels in a picture of 1920 x 1080."""
    small = cv2.resize(film[0][0], (240, 192), interpolation=cv2.INTER_AREA)
    frame = np.asarray(cv2.copyMakeBorder(small, 400, 488, 900, 780, cv2.BORDER_REPLICATE), np.uint8)
    with FaceFinder() as finder:
        (face,) = finder(frame)
    x, y = face[0] + face[2] / 2, face[1] + face[3] / 2
    assert abs(x - 900 - 105) < 15 and abs(y - 400 - 125) < 20 and 60 < face[2] < 130


def test_phone_video(tmp_path: Path, film: tuple[list[ByteArray], FloatArray], listener: Listener) -> None:
    """On its side, 10 bit, uneven: every frame is tracked."""
    times = np.round(np.arange(40) / 30 + np.random.default_rng(0).uniform(0, 0.02, 40), 3)
    times -= times[0]
    lying = [np.ascontiguousarray(np.rot90(f)) for f in film[0][:40]]
    options = {"preset": "ultrafast", "x265-params": "log-level=none"}
    path = write_film(
        tmp_path / "a.mp4", lying, film[1][:20_000], times=times.tolist(), codec="libx265", pixels="yuv420p10le",
        rotation=-90, options=options,
    )  # fmt: skip
    footage = examine([path], listener)
    shot = footage.shots[0]
    assert (shot.take.width, shot.take.height) == (360, 288) and shot.landmarks.found.all()
    assert np.abs(shot.angles[:, 2]).max() < 8, "the head is upright"
    assert verdicts(footage)["frame rate"].verdict == "ok"


def test_light_and_sharpness(good: Footage) -> None:
    shot = good.shots[0]
    frame: ByteArray = next(iter(shot.take.cropped(shot.crop).frames))
    points, scale = shot.landmarks.points[0], shot.crop.side / shot.crop.size
    pictures: list[ByteArray] = [frame]
    for sigma in (3, 6, 12):
        pictures.append(np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma), np.uint8))
    blurs = [measures.blur(picture, points, scale) for picture in pictures]
    assert blurs == sorted(blurs) and blurs[0] < 0.55 and blurs[-1] > 0.7
    level = measures.exposure(frame, points)[0]
    assert measures.exposure((frame * 0.5).astype(np.uint8), points)[0] == pytest.approx(level / 2, rel=0.03)
    assert measures.exposure(np.clip(frame * 2.0, 0, 255).astype(np.uint8), points)[1] > 0.5
    dim = dataclasses.replace(shot, light=shot.light * np.float32(0.15))
    assert verdicts(examination._judge([dim], 0))["exposure"].verdict == "warn"
    ramp = dataclasses.replace(shot, light=shot.light * np.linspace(0.8, 1.2, shot.frames, dtype=np.float32)[:, None])
    assert verdicts(examination._judge([ramp], 0))["steady light"].verdict == "warn"


def test_takes_are_kept(good: Footage, kept: Path) -> None:
    loaded, fresh = load_takes(kept / "check"), good.takes()
    assert [t.name for t, _ in loaded] == [t.name for t, _ in fresh] and len(loaded) >= 2
    rows = json.loads((kept / "check" / "takes.json").read_text())["takes"]
    assert [row["begin"] for row in rows] == [t.first for t, _ in fresh]
    (take, marks), (wanted, found) = loaded[-1], fresh[-1]
    assert (take.width, take.height, take.frame_count) == (512, 512, wanted.frame_count)
    assert all(np.array_equal(a, b) for a, b in zip(take.frames, wanted.frames, strict=True))
    assert np.abs(take.speech - wanted.speech).max() < 1e-4
    assert np.array_equal(marks.points, found.points) and np.array_equal(marks.depth, found.depth)
    focal, cx, cy = load_camera(kept / "check")
    crop = good.shots[0].crop
    assert (cx, cy) == pytest.approx(((180 - crop.left) * 512 / crop.side, (144 - crop.top) * 512 / crop.side), abs=0.1)
    assert focal == pytest.approx(1.07 * 360 * 512 / crop.side, rel=0.01)


def test_the_report_of_a_finished_check(good: Footage, tmp_path: Path) -> None:
    stages._draw_check(good, judge(good), tmp_path / "check")
    draw_footage(good, tmp_path / "check")
    page = write_report(tmp_path, "Jane & Co").read_text()
    assert "Jane &amp; Co" in page and "102 pixels wide" in page and page.count("data:image/") == 2
    assert "Avatar" not in page


# -- stages -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path: Path, ada: Path) -> Job:
    video, model = tmp_path / "a.mp4", tmp_path / "model.npz"
    write_film(video, [np.full((120, 160, 3), 90, np.uint8)] * 5)
    model.write_bytes(b"")
    return Job(
        (video,), "Jane", "Jane herself, in writing", tmp_path / "work", ada, None, None, model, 50, None, "-", False
    )


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that ran; each leaves a file in its place."""
    ran: list[str] = []

    def stage(name: str) -> Callable[[Job], int]:
        def leave(job: Job) -> int:
            ran.append(name)
            folder = job.work / stages.LEFT[name][0]
            folder.mkdir(exist_ok=True)
            (folder / "result").write_text(name)
            return 0

        return leave

    monkeypatch.setattr(stages, "RUN", {name: stage(name) for name in stages.STAGES})
    return ran


def test_finished_stages_are_kept(job: Job, log: list[str]) -> None:
    assert run(job, None) == 0 and log == list(stages.STAGES)
    assert run(job, None) == 0 and log == list(stages.STAGES), "nothing is done twice"
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
    assert run(job, None) == 0 and log == list(stages.STAGES)


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
    assert run(job, None) == 0 and log == list(stages.STAGES)
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
    usage = stages.shutil.disk_usage(job.videos[0])
    monkeypatch.setattr(stages.shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(MiravoxError, match="GB free"):
        run(job, None)
    assert log == []


def test_bad_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["check", str(tmp_path / "none.mp4")], ["check", str(tmp_path)]):
        assert main(arguments) == 2
        assert "Check the path" in capsys.readouterr().err
    (tmp_path / "a.mp4").write_bytes(b"noise")
    assert main([str(tmp_path / "a.mp4"), "--name", "x", "--out", str(tmp_path / "w"), "--only", "check"]) == 2
    assert "no video" in capsys.readouterr().err
