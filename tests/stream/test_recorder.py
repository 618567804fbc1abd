"""Recordings read back: colours, flags, time, and what is left behind when something fails."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.audio.block import Block
from realtime.audio.sound_file import blocks, read_speech
from realtime.contract import SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from realtime.face.yuv import FrameConverter
from realtime.stream.recorder import Recorder

GREYS = [(255, 255, 255), (0, 0, 0), (128, 128, 128)]
COLORS = [*GREYS, (200, 150, 120), (30, 60, 90), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
SIZE = 128
MARK = ("Ada", "Synthetic: Ada is an avatar. Consent: nobody is portrayed.")


def solid(color: tuple[int, int, int], size: int = SIZE) -> av.VideoFrame:
    return FrameConverter()(np.broadcast_to(np.array(color, np.uint8), (size, size, 3)).copy())


def noisy(rng: np.random.Generator) -> av.VideoFrame:
    return FrameConverter()(rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8))


def record(path: Path, frames: list[av.VideoFrame], speech: NDArray[np.float32]) -> None:
    with Recorder(path, SIZE, *MARK) as recorder:
        for k, (picture, block) in enumerate(zip(frames, blocks(speech, SAMPLES_PER_FRAME), strict=True)):
            recorder.write_speech(block)
            recorder.write_frame(k, picture)


def bt709_to_rgb(frame: av.VideoFrame) -> NDArray[np.float64]:
    """The slow twin: the middle pixel by BT.709's own formula, limited range."""
    y, cb, cr = (
        float(np.frombuffer(bytes(p), np.uint8).reshape(-1, p.line_size)[p.height // 2, p.width // 2])
        for p in frame.planes
    )
    luma, blue, red = (y - 16) / 219, (cb - 128) / 224 * 1.8556, (cr - 128) / 224 * 1.5748
    return np.array([luma + red, luma - (0.0722 * blue + 0.2126 * red) / 0.7152, luma + blue]) * 255


def test_a_recording_says_that_it_is_synthetic(tmp_path: Path) -> None:
    record(tmp_path / "a.mp4", [solid(GREYS[0])], np.zeros(640, np.float32))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert (container.metadata["title"], container.metadata["comment"]) == MARK


def test_colours_are_bt709_limited_and_say_so(tmp_path: Path) -> None:
    frames = [solid(c) for c in COLORS for _ in range(5)]
    record(tmp_path / "a.mp4", frames, np.zeros(640 * len(frames), np.float32))
    with av.open(str(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert codec.name == "h264" and codec.pix_fmt == "yuv420p"
        assert (codec.color_range, codec.colorspace, codec.color_primaries, codec.color_trc) == (1, 1, 1, 1)
        decoded = list(container.decode(video=0))
    assert len(decoded) == len(frames)
    for index, color in enumerate(COLORS):
        frame = decoded[5 * index + 4]
        assert (frame.color_range, frame.colorspace) == (1, 1)
        np.testing.assert_allclose(bt709_to_rgb(frame), color, atol=2)
        np.testing.assert_allclose(frame.to_ndarray(format="rgb24")[SIZE // 2, SIZE // 2].astype(int), color, atol=2)


def test_frames_and_speech_are_on_the_sample_clock(tmp_path: Path) -> None:
    """A flash and a click at frame 30 are read back at 1.2 s."""
    frames = [solid((255, 255, 255) if k == 30 else (0, 0, 0)) for k in range(50)]
    speech = np.zeros(640 * 50, np.float32)
    speech[640 * 30 : 640 * 30 + 16] = 0.9
    record(tmp_path / "a.mp4", frames, speech)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == 25
        assert container.streams.audio[0].rate == 48_000 and container.streams.audio[0].layout.nb_channels == 1
        decoded = list(container.decode(video=0))
    assert [round(f.time * 25, 6) for f in decoded] == list(range(50))
    assert [k for k, f in enumerate(decoded) if bt709_to_rgb(f)[0] > 128] == [30]
    heard = read_speech(tmp_path / "a.mp4").samples
    assert abs(int(np.abs(heard).argmax()) - (640 * 30 + 8)) <= 8
    assert len(heard) == pytest.approx(640 * 50, abs=1024)


def test_a_frame_left_out_keeps_the_others_in_time(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", SIZE, *MARK) as recorder:
        for k in (0, 1, 5, 6):
            recorder.write_frame(k, solid((k * 30, 0, 0)))
        recorder.write_speech(Block(0, np.zeros(640 * 7, np.float32)))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [round(f.time * 25, 6) for f in container.decode(video=0)] == [0, 1, 5, 6]


def test_a_single_frame_and_the_header_in_front(tmp_path: Path) -> None:
    record(tmp_path / "a.mp4", [solid((9, 9, 9))], np.zeros(640, np.float32))
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "so that a browser can play it while it loads"
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [s.type for s in container.streams] == ["video", "audio"]


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", SIZE, *MARK) as recorder:
        recorder.write_frame(3, solid((0, 0, 0)))
        with pytest.raises(ValueError, match="frame 3 comes after frame 3"):
            recorder.write_frame(3, solid((0, 0, 0)))
        with pytest.raises(ValueError, match="wanted .128, 128, 'yuv420p'."):
            recorder.write_frame(4, solid((0, 0, 0), 64))
        with pytest.raises(ValueError, match="begins at sample 640; wanted 0"):
            recorder.write_speech(Block(640, np.zeros(640, np.float32)))


def test_an_earlier_recording_is_replaced_at_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises(KeyboardInterrupt), Recorder(path, SIZE, *MARK) as recorder:
        recorder.write_frame(0, solid((0, 0, 0)))
        raise KeyboardInterrupt
    assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]
    record(path, [solid((0, 0, 0))], np.zeros(640, np.float32))
    assert path.stat().st_size > 1000 and list(tmp_path.iterdir()) == [path]


def test_a_link_is_kept(tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real.mp4")
    record(tmp_path / "link.mp4", [solid((0, 0, 0))], np.zeros(640, np.float32))
    assert (tmp_path / "link.mp4").is_symlink() and (tmp_path / "real.mp4").stat().st_size > 1000


def missing_folder(tmp_path: Path) -> Path:
    return tmp_path / "none" / "a.mp4"


def file_as_folder(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "a.mp4"


def folder(tmp_path: Path) -> Path:
    return tmp_path


def device(tmp_path: Path) -> Path:
    return Path("/dev/null")


@pytest.mark.parametrize("place", [missing_folder, file_as_folder, folder, device])
def test_a_place_that_cannot_be_written(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    path = place(tmp_path)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(MiravoxError) as caught:
        Recorder(path, SIZE, *MARK)
    assert caught.value.thing == str(path) and "\n" not in str(caught.value)
    assert set(tmp_path.rglob("*")) == before


@contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """A disk that takes no more than this in a file: what the kernel then answers is real."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("missing", ["all", "the second half", "the last bytes"])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, missing: str) -> None:
    rng = np.random.default_rng(0)
    frames, speech = [noisy(rng) for _ in range(60)], np.zeros(640 * 60, np.float32)
    path = tmp_path / "a.mp4"
    record(path, frames, speech)
    size = path.stat().st_size
    path.unlink()
    room = {"all": 10, "the second half": size // 2, "the last bytes": size - 100}[missing]
    with room_for(room), pytest.raises(MiravoxError, match="a disk that takes no more .*Free some space"):
        record(path, frames, speech)
    assert list(tmp_path.iterdir()) == []
