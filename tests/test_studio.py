"""The synthetic actor: the mouth does what the phones say, frames show it, and a filmed dataset can be read back."""

from __future__ import annotations

import json
import wave
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import moderngl
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from networks.contract import SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from realtime.rasteriser import create_context
from studio import dataset, speech_curves
from studio.actor import ADA_SEED, Actor, head_pose, rigid_weight
from studio.dataset import FilmConfig, Script, choose_scripts, film
from studio.face_model import load_face_model
from studio.film import Studio
from studio.performance import loudness, perform
from studio.speech_curves import expression_curves
from training.phones import data_folder as data_folder_path
from training.phones import load_utterances

UPPER, LOWER = 62, 66  # landmarks on the inner lip rims


@pytest.fixture(scope="module")
def actor() -> Actor:
    return Actor(load_face_model(), ADA_SEED)


@pytest.fixture(scope="module")
def context() -> moderngl.Context:
    return create_context()


@pytest.fixture(scope="module")
def studio(context: moderngl.Context) -> Studio:
    return Studio(ADA_SEED, context)


def lip_distance(actor: Actor, weights_FC: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Distance (cm) between the inner lips in every frame, and in the neutral face."""
    a, b = actor.landmarks_68[[UPPER, LOWER]]
    neutral = actor.neutral_V3[a] - actor.neutral_V3[b]
    moved = neutral + weights_FC @ (actor.model.expression_CV3[:, a] - actor.model.expression_CV3[:, b])
    return np.linalg.norm(moved, axis=1), float(np.linalg.norm(neutral))


def spoken(actor: Actor, count: int = 8) -> list[tuple[dict[str, Any], NDArray[np.float32], float]]:
    """Label rows of LJ Speech and LibriSpeech, each with its lip distance in every frame; and the neutral distance."""
    rows = []
    for corpus in ("ljspeech", "librispeech"):
        labels = [asdict(u) for u in load_utterances(data_folder_path()) if u.corpus == corpus]
        rows += labels[:: len(labels) // count][:count]
    result = []
    for row in rows:
        frames = int(np.ceil(row["seconds"] * 25))
        distance, neutral = lip_distance(actor, expression_curves(row["phones"], frames, actor.model.expression_names))
        result.append((row, distance, neutral))
    return result


def frames_near(start: int, duration: int, frames: int) -> NDArray[np.int64]:
    """Frames within 20 ms of a phone."""
    at = np.arange(frames) * 4
    return np.flatnonzero((at >= start - 2) & (at <= start + duration + 2))


def test_lips_close_on_bilabials(actor: Actor, data_folder: Path) -> None:
    closed = total = 0
    for row, distance, neutral in spoken(actor):
        for phone, start, duration in row["phones"]:
            near = frames_near(start, duration, len(distance))
            if phone in ("P", "B", "M") and len(near):
                closed += distance[near].min() < neutral + 0.15
                total += 1
    assert total > 80
    assert closed / total >= 0.95


def test_a_30_ms_closure_between_open_vowels_is_seen_at_every_phase(actor: Actor, data_folder: Path) -> None:
    for shift in range(4):
        phones = [("SIL", 0, 20 + shift), ("AA", 20 + shift, 15), ("B", 35 + shift, 3), ("AA", 38 + shift, 15)]
        distance, neutral = lip_distance(actor, expression_curves(phones, 30, actor.model.expression_names))
        assert distance[frames_near(35 + shift, 3, 30)].min() < neutral + 0.05
        assert distance[frames_near(24 + shift, 8, 30)].max() > neutral + 0.8


def test_open_vowels_are_open(actor: Actor, data_folder: Path) -> None:
    widest = [
        distance[frames_near(start, duration, len(distance))].max()
        for row, distance, _ in spoken(actor)
        for phone, start, duration in row["phones"]
        if phone in ("AA", "AO", "AE") and duration >= 8 and start / 4 < len(distance)
    ]
    assert len(widest) > 20
    assert 1.0 < np.median(widest) < 1.8
    assert max(widest) < 2.0


def test_the_mouth_is_at_rest_in_silence(actor: Actor) -> None:
    phones = [("AA", 0, 30), ("SIL", 30, 60), ("UW", 90, 20)]
    curves = expression_curves(phones, 50, actor.model.expression_names)
    assert np.abs(curves[12:18]).max() < 0.03
    assert np.abs(expression_curves([], 20, actor.model.expression_names)).max() == 0


def test_lips_never_pass_through_each_other(actor: Actor, data_folder: Path) -> None:
    a, b = actor.landmarks_68[[UPPER, LOWER]]
    opening = actor.model.expression_CV3[:, a, 1] - actor.model.expression_CV3[:, b, 1]
    for row, distance, _ in spoken(actor):
        curves = expression_curves(row["phones"], len(distance), actor.model.expression_names)
        assert (curves @ opening).min() > -0.05


def test_opening_coefficients_are_the_models(actor: Actor) -> None:
    a, b = actor.landmarks_68[[UPPER, LOWER]]
    names = actor.model.expression_names
    for name, wanted in speech_curves.OPENING.items():
        channels = [c for c, n in enumerate(names) if n in (name, f"{name}_L", f"{name}_R")]
        shape = actor.model.expression_CV3[channels]
        assert (shape[:, a, 1] - shape[:, b, 1]).sum() == pytest.approx(wanted, abs=0.002), name


def test_rounding_is_anticipated(actor: Actor) -> None:
    names = actor.model.expression_names
    pucker = expression_curves([("T", 0, 20), ("UW", 20, 20), ("T", 40, 20)], 15, names)[:, names.index("mouthPucker")]
    before, after = pucker[3], pucker[12]  # 80 ms before the vowel, 80 ms after it
    assert before > 2 * after
    assert pucker.max() > 0.5


def test_speech_and_performance_are_deterministic(actor: Actor) -> None:
    names = actor.model.expression_names
    phones = [("HH", 0, 8), ("AH", 8, 7), ("L", 15, 8), ("OW", 23, 20)]
    assert np.array_equal(expression_curves(phones, 14, names), expression_curves(phones, 14, names))
    quiet = np.zeros(200)
    first, again, other = perform(quiet, 1, names), perform(quiet, 1, names), perform(quiet, 2, names)
    assert np.array_equal(first.pose_F44, again.pose_F44) and np.array_equal(first.expression_FC, again.expression_FC)
    assert not np.array_equal(first.pose_F44, other.pose_F44)


def test_performance_stays_within_its_limits(actor: Actor) -> None:
    names = actor.model.expression_names
    for still, limit in ((True, 3.01), (False, 8.01)):
        act = perform(np.zeros(1500), 5, names, still=still)
        yaw = np.degrees(np.arctan2(act.pose_F44[:, 0, 2], act.pose_F44[:, 2, 2]))
        assert np.abs(yaw).max() < limit and yaw.std() > 0.3
        blink = act.expression_FC[:, names.index("eyeBlink_L")]
        blinks = np.count_nonzero((blink[1:] > 0.5) & (blink[:-1] <= 0.5))
        assert 9 <= blinks <= 31  # a minute, one every 2 to 6 s
        mouth = [c for c, name in enumerate(names) if name.startswith(("mouth", "jaw"))]
        assert not act.expression_FC[:, mouth].any()


def test_face_moves_rigidly_with_the_head(actor: Actor) -> None:
    assert rigid_weight(actor.neutral_V3[:6706]).min() == 1


def test_a_frame_shows_the_face_and_the_mouth_moves(studio: Studio) -> None:
    names = studio.actor.model.expression_names
    weights = np.zeros(len(names), np.float32)
    rest = studio.draw(weights, head_pose())
    weights[names.index("jawOpen")] = 0.36
    open_mouth = studio.draw(weights, head_pose())
    assert studio.context.error == "GL_NO_ERROR"
    assert rest.shape == (512, 512, 3) and rest.dtype == np.uint8
    assert 40 < rest.mean() < 200 and rest.std() > 25
    change = np.abs(rest.astype(int) - open_mouth).max(2)
    mouth = change[270:400, 190:320]
    assert (mouth > 30).mean() > 0.1
    assert (change[:150] > 8).mean() < 0.002  # forehead and hair hardly know about the jaw


def test_drawing_is_deterministic(studio: Studio) -> None:
    weights = np.zeros(57, np.float32)
    assert np.array_equal(studio.draw(weights, head_pose(0.05)), studio.draw(weights, head_pose(0.05)))


def test_the_pose_and_camera_of_the_track_say_where_the_mouth_is(studio: Studio) -> None:
    names = studio.actor.model.expression_names
    weights = np.zeros(len(names), np.float32)
    pose = head_pose(0.1, 0.03, 0.02, (0.4, 0.2, 0.0))
    closed = studio.draw(weights, pose).astype(int)
    weights[names.index("jawOpen")] = 0.15
    changed = np.abs(studio.draw(weights, pose) - closed).max(2)
    camera = dataset.camera()
    lips = studio.actor.landmark(UPPER) * 0.5 + studio.actor.landmark(LOWER) * 0.5
    x, y, z = pose[:3, :3] @ lips + pose[:3, 3]
    column, row = camera["cx"] - camera["fx"] * x / z, camera["cy"] + camera["fy"] * y / z
    near = changed[int(row) - 4 : int(row) + 8, int(column) - 6 : int(column) + 7]
    assert near.max() > 60


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory, context: moderngl.Context) -> Path:
    """A dataset of a very short silent take and a short spoken one."""
    folder = tmp_path_factory.mktemp("studio")
    sound = folder / "noise.wav"
    samples = (np.random.default_rng(0).normal(size=9000) * 0.1).astype(np.float32)
    dataset.write_wav(sound, samples)
    silence = folder / "silence.wav"
    dataset.write_wav(silence, np.zeros(3 * SAMPLES_PER_FRAME, np.float32))
    scripts = [
        Script("quiet", "silence", "quiet", "train", silence, ()),
        Script("noise", "ljspeech", "noise", "held_out", sound, (("M", 0, 10), ("AA", 10, 30))),
    ]
    film(folder / "actor", FilmConfig(), scripts, context)
    return folder / "actor"


def test_dataset_folder_round_trips(filmed: Path) -> None:
    description = json.loads((filmed / "dataset.json").read_text())
    track = load_file(filmed / "track.safetensors")
    takes = description["takes"]
    assert [(t["first"], t["end"]) for t in takes] == [(0, 3), (3, 18)]  # 9000 samples are 14.06 frames: padded to 15
    with av.open(str(filmed / description["frames"])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 18
    for take in takes:
        with wave.open(str(filmed / take["speech"])) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (16000, 1, 2)
            assert sound.getnframes() == (take["end"] - take["first"]) * SAMPLES_PER_FRAME
    rotation = track["pose"][:, :3, :3].astype(np.float64)
    assert np.allclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3), atol=1e-5)
    assert np.allclose(np.linalg.det(rotation), 1, atol=1e-5)
    assert track["expression"].shape == (18, 57)
    assert track["basis"].shape == (57, *track["template"].shape)
    assert takes[1]["phones"] == [["M", 0, 10], ["AA", 10, 30]]


def test_frames_are_lossless_and_filmed_again_they_are_the_same(filmed: Path, studio: Studio) -> None:
    track = load_file(filmed / "track.safetensors")
    with av.open(str(filmed / "frames.mkv")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    speech = dataset.whole_frames(filmed / "speech" / "noise.wav")
    script = Script("noise", "ljspeech", "noise", "held_out", None, ())
    act = perform(loudness(speech), dataset.take_seed(ADA_SEED, script), studio.actor.model.expression_names)
    gaze = float(act.gaze_F2[10, 0]), float(act.gaze_F2[10, 1])
    assert np.array_equal(studio.draw(track["expression"][13], track["pose"][13], gaze), frames[13])


def test_half_a_dataset_does_not_look_complete(tmp_path: Path, context: moderngl.Context) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not a sound")
    with pytest.raises(MiravoxError, match=r"broken\.wav"):
        film(tmp_path / "out", FilmConfig(), [Script("x", "ljspeech", "x", "train", broken, ())], context)
    assert not (tmp_path / "out").exists()


def test_default_takes(data_folder: Path) -> None:
    scripts = choose_scripts(FilmConfig())
    assert [s.corpus for s in scripts] == ["silence"] + ["ljspeech"] * 32 + ["librispeech"] * 12
    assert [s.split for s in scripts[1:33]] == ["train"] * 28 + ["held_out"] * 4
    assert [s.split for s in scripts[33:]] == ["train"] * 10 + ["held_out"] * 2
    assert len({s.name for s in scripts}) == 45
    held_out = choose_scripts(FilmConfig(held_out_only=True))
    assert held_out == [scripts[0], *(s for s in scripts[1:] if s.split == "held_out")]


def test_speech_without_phone_timings_is_refused(tmp_path: Path, data_folder: Path) -> None:
    unknown = tmp_path / "hello.wav"
    dataset.write_wav(unknown, np.zeros(640, np.float32))
    with pytest.raises(MiravoxError, match="phone timings"):
        choose_scripts(FilmConfig(speech=(unknown,)))
