"""What is filmed is in the dataset folder, without loss, and the same when filmed again."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import av
import moderngl
import numpy as np
import pytest
from safetensors.numpy import load_file

from dataset.files import write_wav
from realtime.contract import SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from studio.actor import ADA_SEED
from studio.film import FilmConfig, Script, choose_scripts, film, take_seed, whole_frames
from studio.performance import loudness, perform
from studio.renderer import Studio


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory, context: moderngl.Context) -> Path:
    """A dataset of a very short silent take and a short spoken one."""
    folder = tmp_path_factory.mktemp("studio")
    sound = folder / "noise.wav"
    samples = (np.random.default_rng(0).normal(size=9000) * 0.1).astype(np.float32)
    write_wav(sound, samples)
    silence = folder / "silence.wav"
    write_wav(silence, np.zeros(3 * SAMPLES_PER_FRAME, np.float32))
    scripts = [
        Script(id="quiet", corpus="silence", audio=silence),
        Script(id="noise", corpus="ljspeech", held_out=True, audio=sound, phones=(("M", 0, 10), ("AA", 10, 30))),
    ]
    film(folder / "actor", FilmConfig(), scripts, context)
    return folder / "actor"


def test_the_dataset_folder_holds_what_was_filmed(filmed: Path) -> None:
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
    assert [t["split"] for t in takes] == ["train", "held_out"] and [t["id"] for t in takes] == ["quiet", "noise"]


def test_frames_are_lossless_and_filmed_again_they_are_the_same(filmed: Path, studio: Studio) -> None:
    track = load_file(filmed / "track.safetensors")
    with av.open(str(filmed / "frames.mkv")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    speech = whole_frames(filmed / "speech" / "noise.wav")
    script = Script(id="noise", corpus="ljspeech", held_out=True)
    act = perform(loudness(speech), take_seed(ADA_SEED, script), studio.actor.model.expression_names)
    gaze = float(act.gaze_F2[10, 0]), float(act.gaze_F2[10, 1])
    assert np.array_equal(studio.draw(track["expression"][13], track["pose"][13], gaze), frames[13])


def test_half_a_dataset_does_not_look_complete(tmp_path: Path, context: moderngl.Context) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not a sound")
    with pytest.raises(MiravoxError, match=r"broken\.wav"):
        film(tmp_path / "out", FilmConfig(), [Script(id="x", corpus="ljspeech", audio=broken)], context)
    assert not (tmp_path / "out").exists()


def test_default_takes(data_folder: Path) -> None:
    scripts = choose_scripts(FilmConfig())
    assert [s.corpus for s in scripts] == ["silence"] + ["ljspeech"] * 32 + ["librispeech"] * 12
    assert [s.held_out for s in scripts[1:33]] == [False] * 28 + [True] * 4
    assert [s.held_out for s in scripts[33:]] == [False] * 10 + [True] * 2
    assert len({s.id for s in scripts}) == 45
    held_out = choose_scripts(FilmConfig(held_out_only=True))
    assert held_out == [scripts[0], *(s for s in scripts[1:] if s.held_out)]


def test_speech_without_phone_timings_is_refused(tmp_path: Path, data_folder: Path) -> None:
    unknown = tmp_path / "hello.wav"
    write_wav(unknown, np.zeros(640, np.float32))
    with pytest.raises(MiravoxError, match="phone timings"):
        choose_scripts(FilmConfig(speech=(unknown,)))
