"""Frames without loss, speech in 16 bits, and whole files or none."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from dataset.files import LosslessVideo, read_wav, write_wav
from tests.conftest import ROOT


def test_frames_are_read_as_they_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(60)]
    with LosslessVideo(tmp_path / "a.mkv", 64) as video:
        for frame in frames:
            video.write(frame)
    with av.open(str(tmp_path / "a.mkv")) as container:
        stream = container.streams.video[0]
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert all(np.array_equal(a, b) for a, b in zip(shown, frames, strict=True))
        container.seek(55 * 40, any_frame=False, backward=True)
        assert next(container.decode(stream)).key_frame, "a key frame a second: seeking decodes few frames"


def test_speech_is_read_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    speech = rng.uniform(-1, 1, 1280).astype(np.float32)
    write_wav(tmp_path / "a.wav", speech)
    assert np.abs(read_wav(tmp_path / "a.wav") - speech).max() < 1 / 32767


def test_a_film_that_was_interrupted_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), LosslessVideo(tmp_path / "a.mkv", 64) as video:
        video.write(np.zeros((64, 64, 3), np.uint8))
        assert not (tmp_path / "a.mkv").exists()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    """One line says so, and no half-written file stays."""
    code = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}]
import resource
import numpy as np
from pathlib import Path
from dataset.files import LosslessVideo
from realtime.errors import MiravoxError
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, {resource.RLIM_INFINITY}))
try:
    with LosslessVideo(Path({str(tmp_path / "a.mkv")!r}), 256) as video:
        for k in range(200):
            video.write(np.random.default_rng(k).integers(0, 256, (256, 256, 3), dtype=np.uint8))
except MiravoxError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "takes no more" in result.stdout, result.stderr
    assert not list(tmp_path.iterdir())
