"""The footage check: what is wrong with bad footage is said, found sound offsets are corrected, takes are kept."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from capture import measures
from capture.__main__ import main
from capture.check import draw_check
from capture.examination import examine
from capture.footage import Footage, assess
from capture.kept_takes import load_camera, load_takes, save_takes
from capture.landmarks import FaceFinder, Landmarks, detect
from capture.mouth_predictor import MouthPredictor
from capture.report import draw_footage, write_report
from capture.verdicts import Item, judge
from realtime.avatar import load_avatar
from tests.conftest import lacking
from tests.films import RATE, ByteArray, FloatArray, cartoon, clips, covered, music, write_film


@pytest.fixture(scope="module", autouse=True)
def mediapipe() -> None:
    if importlib.util.find_spec("mediapipe") is None:
        lacking("mediapipe (pip install -e .[capture])")


@pytest.fixture(scope="module")
def predictor(ada: Path) -> MouthPredictor:
    return MouthPredictor(load_avatar(ada))


@pytest.fixture(scope="module")
def film(data_folder: Path) -> tuple[list[ByteArray], FloatArray]:
    """Two clips of one speaker, 150 frames, joined."""
    return clips(data_folder, 2)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def good(film: tuple[list[ByteArray], FloatArray], predictor: MouthPredictor, kept: Path) -> Footage:
    """What the check finds in the clips; cropped frames are kept."""
    footage = examine([write_film(kept / "good.mp4", *film)], predictor, kept=kept / "check")
    save_takes(footage, kept / "check")
    return footage


def verdicts(footage: Footage) -> dict[str, Item]:
    return {item.name: item for item in judge(footage)}


def said_again(footage: Footage, predictor: MouthPredictor, sound: FloatArray) -> Footage:
    """The same pictures with another sound."""
    shots, first = [], 0
    for shot in footage.shots:
        speech = sound[first * 640 : (first + shot.frames) * 640]
        take = dataclasses.replace(shot.take, speech=speech)
        shots.append(dataclasses.replace(shot, take=take, predicted=predictor.predict(speech, shot.frames)))
        first += shot.frames
    return assess(shots, 0)


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
    tmp_path: Path, film: tuple[list[ByteArray], FloatArray], predictor: MouthPredictor, good: Footage
) -> None:
    frames, speech = film
    late = np.concatenate([np.zeros(round(0.3 * RATE), np.float32), speech])[: len(speech)]
    footage = examine([write_film(tmp_path / "late.mp4", frames, late)], predictor)
    assert footage.lag == pytest.approx(0.3, abs=0.04) and footage.correction == -footage.lag
    item = verdicts(footage)["sound and picture"]
    assert item.verdict == "warn" and "late, corrected" in item.found and footage.lag_interval[0] > 0.1
    take, _ = footage.takes()[0]
    sound, wanted = (np.abs(x[:48_000]).reshape(-1, 80).mean(1) for x in (take.speech, speech))
    offsets = np.correlate(sound - sound.mean(), wanted - wanted.mean(), "full")
    assert abs(int(offsets.argmax()) - len(wanted) + 1) * 80 / RATE <= 0.04
    early = np.concatenate([speech[round(0.2 * RATE) :], np.zeros(round(0.2 * RATE), np.float32)])
    assert said_again(good, predictor, early).lag == pytest.approx(-0.2, abs=0.04)


def test_a_single_clip_is_not_moved_by_chance(data_folder: Path, predictor: MouthPredictor) -> None:
    """Three seconds by themselves seem to be 97 ms late, where all clips of the speaker have the same small offset."""
    footage = examine([data_folder / "portrait" / "grid_s1" / "bbie9s.mpg"], predictor)
    low, high = footage.lag_interval
    assert footage.lag > 0.06 and low < 0.02 < high and footage.correction == 0
    item = verdicts(footage)["sound and picture"]
    assert item.verdict == "warn" and "late, not corrected (" in item.found and "ms with 95 % confidence)" in item.found


def test_no_sound(tmp_path: Path, film: tuple[list[ByteArray], FloatArray], predictor: MouthPredictor) -> None:
    item = verdicts(examine([write_film(tmp_path / "a.mp4", film[0][:30])], predictor))["sound"]
    assert (item.verdict, item.found) == ("fail", "no sound") and item.remedy


def test_music_only(good: Footage, predictor: MouthPredictor) -> None:
    footage = said_again(good, predictor, music(6))
    items = verdicts(footage)
    assert items["sound"].verdict == "fail" and "nobody speaks" in items["sound"].found
    assert np.isnan(footage.lag) and not {"noise", "usable speech"} & items.keys()


def test_a_stranger_s_voice(good: Footage, predictor: MouthPredictor) -> None:
    """Lips that have nothing to do with 24 seconds of speech: said so."""
    rng = np.random.default_rng(0)
    shot = good.shots[0]
    shots = []
    for _ in range(8):
        aperture = np.asarray(rng.permutation(measures.aperture(shot.landmarks.points)), np.float32)
        other = dataclasses.replace(shot.predicted, aperture=aperture, presence=np.ones_like(aperture))
        shots.append(dataclasses.replace(shot, predicted=other))
    footage = assess(shots, 0)
    item = verdicts(footage)["sound and picture"]
    assert item.verdict == "fail" and "voice-over" in item.remedy and footage.correction == 0


def test_sound_that_is_too_loud_or_drowned(good: Footage, predictor: MouthPredictor) -> None:
    sound = np.concatenate([s.take.speech for s in good.shots])
    rng = np.random.default_rng(0)
    clipped = verdicts(said_again(good, predictor, np.clip(np.float32(12) * sound, -1, 1)))
    assert clipped["clipping"].verdict == "warn"
    noise = np.asarray(0.03 * rng.standard_normal(len(sound)), np.float32)
    noisy = verdicts(said_again(good, predictor, np.asarray(sound + noise, np.float32)))
    assert noisy["noise"].verdict == "warn"
    quiet = verdicts(said_again(good, predictor, np.float32(0.02) * sound))
    assert quiet["sound"].verdict == "warn" and "closer" in quiet["sound"].remedy


def test_a_still_picture(tmp_path: Path, film: tuple[list[ByteArray], FloatArray], predictor: MouthPredictor) -> None:
    path = write_film(tmp_path / "a.mp4", film[0][:1] * 50, film[1][: 50 * 640])
    item = verdicts(examine([path], predictor))["moving picture"]
    assert item.verdict == "fail" and "the lips part by up to 0 %" in item.found


def test_two_faces(tmp_path: Path, film: tuple[list[ByteArray], FloatArray], predictor: MouthPredictor) -> None:
    pairs = [np.hstack([a, b]) for a, b in zip(film[0][:40], film[0][100:140], strict=True)]
    item = verdicts(examine([write_film(tmp_path / "a.mp4", pairs)], predictor))["one face"]
    assert item.verdict == "fail" and "more than one face in 100 %" in item.found


def test_a_cartoon(tmp_path: Path, predictor: MouthPredictor) -> None:
    item = verdicts(examine([write_film(tmp_path / "a.mp4", cartoon(40))], predictor))["real face"]
    assert item.verdict == "fail" and "drawn" in item.remedy


def test_no_face(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = [np.full((120, 160, 3), 90 + k, np.uint8) for k in range(10)]
    assert main(["check", str(write_film(tmp_path / "a.mp4", bare))]) == 2
    assert "no face" in capsys.readouterr().err


def test_a_cut_in_the_middle(
    tmp_path: Path, film: tuple[list[ByteArray], FloatArray], predictor: MouthPredictor
) -> None:
    """Each piece has its own crop where the framing differs, and no take crosses the cut."""
    near = [np.asarray(cv2.resize(f[70:, 40:310], (360, 288))[:, ::-1], np.uint8) for f in film[0][100:140]]
    footage = examine([write_film(tmp_path / "a.mp4", [*film[0][:40], *near])], predictor)
    assert [(s.take.first, s.take.end) for s in footage.shots] == [(0, 40), (40, 80)]
    assert footage.shots[0].crop != footage.shots[1].crop
    assert verdicts(footage)["cuts"].found == "1 cut"
    assert [t.frame_count for t, _ in footage.takes()] == [40, 40]


def test_a_hand_before_the_mouth(
    tmp_path: Path, film: tuple[list[ByteArray], FloatArray], predictor: MouthPredictor
) -> None:
    """The frames are found, and left out."""
    footage = examine([write_film(tmp_path / "a.mp4", covered(film[0][:130], 90, 110))], predictor)
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
    footage = assess([dataclasses.replace(shot, landmarks=marks, angles=angles)], 0)
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


def test_phone_video(tmp_path: Path, film: tuple[list[ByteArray], FloatArray], predictor: MouthPredictor) -> None:
    """On its side, 10 bit, uneven: every frame is tracked."""
    times = np.round(np.arange(40) / 30 + np.random.default_rng(0).uniform(0, 0.02, 40), 3)
    times -= times[0]
    lying = [np.ascontiguousarray(np.rot90(f)) for f in film[0][:40]]
    options = {"preset": "ultrafast", "x265-params": "log-level=none"}
    path = write_film(
        tmp_path / "a.mp4",
        lying,
        film[1][:20_000],
        times=times.tolist(),
        codec="libx265",
        pixels="yuv420p10le",
        rotation=-90,
        options=options,
    )
    footage = examine([path], predictor)
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
    assert verdicts(assess([dim], 0))["exposure"].verdict == "warn"
    ramp = dataclasses.replace(shot, light=shot.light * np.linspace(0.8, 1.2, shot.frames, dtype=np.float32)[:, None])
    assert verdicts(assess([ramp], 0))["steady light"].verdict == "warn"


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
    draw_check(good, judge(good), tmp_path / "check")
    draw_footage(good, tmp_path / "check")
    page = write_report(tmp_path, "Jane & Co").read_text()
    assert "Jane &amp; Co" in page and "102 pixels wide" in page and page.count("data:image/") == 2
    assert "Avatar" not in page


def test_bad_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["check", str(tmp_path / "none.mp4")], ["check", str(tmp_path)]):
        assert main(arguments) == 2
        assert "Check the path" in capsys.readouterr().err
    (tmp_path / "a.mp4").write_bytes(b"noise")
    assert main([str(tmp_path / "a.mp4"), "--name", "x", "--out", str(tmp_path / "w"), "--only", "check"]) == 2
    assert "no video" in capsys.readouterr().err
