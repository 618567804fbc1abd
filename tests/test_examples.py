"""Every example, as its user runs it: in a process of its own, outside the clone, with the wheel installed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from bench.layout import imported
from realtime.audio.block import Block
from realtime.audio.sound_file import read_speech
from realtime.stream.recorder import Recorder
from tests.conftest import ROOT
from tests.installation import Environment

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MAX_LINES = 60
SECONDS = 0.8  # of speech


@pytest.fixture(scope="module")
def talk(ada: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The beginning of her sample: a video file, since every kind of recording will do."""
    path = tmp_path_factory.mktemp("speech") / "talk.mp4"
    samples = read_speech(ada / "sample.flac").samples[8_000 : 8_000 + int(SECONDS * 16_000)]
    with Recorder(path, 64, "talk", "a test") as recorder:
        recorder.write_speech(Block(0, samples))
        recorder.write_frame(0, av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="yuv420p"))
    return path


def run(installed: Environment, folder: Path, number: str, *arguments: str | Path) -> str:
    """What the example prints."""
    (example,) = (path for path in EXAMPLES if path.name.startswith(number))
    done = installed.run(installed.python, "-W", "error", example, *arguments, cwd=folder)
    assert done.stderr == ""
    return done.stdout


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def test_each_is_short_numbered_and_tested() -> None:
    numbers = [path.name[:2] for path in EXAMPLES]
    assert numbers == [f"{number:02}" for number in range(1, len(EXAMPLES) + 1)]
    tested = set(re.findall(r'run\(installed, tmp_path, "(\d\d)"', Path(__file__).read_text()))
    assert set(numbers) == tested
    for path in EXAMPLES:
        text = path.read_text()
        assert len(text.splitlines()) < MAX_LINES, path.name
        assert f"python examples/{path.name}" in text
        modules = {name.split(".")[0] for name in imported(path, path.stem)}
        assert modules - set(sys.stdlib_module_names) <= {"av", "miravox", "numpy"}, "what `pip install` brings"


def test_a_file_is_rendered(installed: Environment, tmp_path: Path, talk: Path) -> None:
    out = run(installed, tmp_path, "01", talk, "said.mp4")
    images = pictures(tmp_path / "said.mp4")
    assert out == f"{len(images)} frames: said.mp4\n" and len(images) in (20, 21)
    assert images[0].shape == (512, 512, 3)
    with av.open(str(tmp_path / "said.mp4")) as file:
        assert "Synthetic: Ada" in file.metadata["comment"]
    assert abs(read_speech(tmp_path / "said.mp4").seconds - SECONDS) < 0.15


def test_frames_become_a_sheet(installed: Environment, tmp_path: Path, talk: Path) -> None:
    assert "sheet.png" in run(installed, tmp_path, "02", talk, "sheet.png")
    (image,) = pictures(tmp_path / "sheet.png")
    assert image.shape == (1024, 1024, 3)
    tiles = image.reshape(4, 256, 4, 256, 3).swapaxes(1, 2).reshape(16, -1).astype(int)
    assert all(np.abs(tile - tiles[0]).max() > 20 for tile in tiles[1:]), "sixteen different frames"


def test_an_agent_talks_and_is_interrupted(installed: Environment, tmp_path: Path, talk: Path, ada: Path) -> None:
    out = run(installed, tmp_path, "03", ada / "sample.flac", "0.5")
    assert "the user hears the first word" in out
    (seconds,) = re.findall(r"cut off after (\S+) s", out)
    assert 0.3 < float(seconds) < 5
    assert re.search(r"said after 0\.\d\d s", run(installed, tmp_path, "03", talk))


def test_frames_go_to_another_program(installed: Environment, tmp_path: Path) -> None:
    reader = "import sys; print(len(sys.stdin.buffer.read()) / (512 * 512 * 3), 'frames read')"
    out = run(installed, tmp_path, "04", sys.executable, "-c", reader)
    (read,) = re.findall(r"(\S+) frames read", out)
    assert float(read) == int(float(read)) > 10
    assert re.search(r"\d+ frames, \d+ of them dropped", out)
    assert "bytes came" in run(installed, tmp_path, "04"), "as it stands, without a program named"


def test_several_speak_in_one_process(installed: Environment, tmp_path: Path) -> None:
    out = run(installed, tmp_path, "05", "110", "220")
    assert len(re.findall(r"voice at \d+ Hz: \d+\.\d frames a second, \d+ dropped", out)) == 2


def test_latency_is_measured(installed: Environment, tmp_path: Path) -> None:
    out = run(installed, tmp_path, "06", "3")
    (median,) = re.findall(r"median (\d+) ms", out)
    assert int(median) >= 112 and "lookahead: 112.5 ms" in out
