"""Recordings read back: colours, flags, time, and what is left behind when something fails."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

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
from tests.conftest import ROOT

GREYS = [(255, 255, 255), (0, 0, 0), (128, 128, 128)]
COLORS = [*GREYS, (200, 150, 120), (30, 60, 90), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
SIZE = 128
MARK = ("Ada", "Synthetic: Ada is an avatar. Consent: nobody is portrayed.")


def solid(color: tuple[int, int, int], size: int = SIZE) -> av.VideoFrame:
    return FrameConverter()(np.broadcast_to(np.array(color, np.uint8), (size, size, 3)).copy())


def noisy(rng: np.random.Generator) -> av.VideoFrame:
    return FrameConverter()(rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8))


def record(path: Path, frames: list[av.VideoFrame], speech: NDArray[np.float32], force: bool = False) -> None:
    with Recorder(path, SIZE, *MARK, force) as recorder:
        for k, (picture, block) in enumerate(zip(frames, blocks(speech, SAMPLES_PER_FRAME), strict=True)):
            recorder.write_speech(block)
            recorder.write_frame(k, picture)


def frames_in(path: Path) -> int:
    """How many can be decoded."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def whole_boxes(path: Path) -> bool:
    """Whether the file ends where an MP4 box does."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        at += int.from_bytes(data[at : at + 4], "big")
    return at == len(data)


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


def test_an_earlier_recording_is_never_overwritten(tmp_path: Path) -> None:
    """A second start with the same --record replaced the first one's file."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises(MiravoxError, match="there already.*--force"):
        Recorder(path, SIZE, *MARK)
    assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_comes_meanwhile_is_not_overwritten_either(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(MiravoxError, match="there already"), Recorder(path, SIZE, *MARK) as recorder:
        path.write_bytes(b"of another program")
        recorder.write_frame(0, solid((0, 0, 0)))
    assert path.read_bytes() == b"of another program"


def test_with_force_an_earlier_recording_is_replaced_by_the_first_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises(KeyboardInterrupt), Recorder(path, SIZE, *MARK, force=True):
        raise KeyboardInterrupt
    assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path], "there is nothing better"
    with room_for(100), pytest.raises(MiravoxError, match="takes no more"):
        record(path, [solid((0, 0, 0))], np.zeros(640, np.float32), force=True)
    assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path], "nor is there on a full disk"
    record(path, [solid((0, 0, 0))] * 40, np.zeros(640 * 40, np.float32), force=True)
    assert frames_in(path) == 40 and list(tmp_path.iterdir()) == [path]


def test_what_was_recorded_before_an_interruption_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(KeyboardInterrupt), Recorder(path, SIZE, *MARK) as recorder:
        for k in range(40):
            recorder.write(k, solid((0, 0, 0)), Block(640 * k, np.zeros(640, np.float32)))
        raise KeyboardInterrupt
    assert frames_in(path) == 40 and recorder.is_kept and recorder.seconds == 1.6
    assert len(read_speech(path).samples) == pytest.approx(640 * 40, abs=1024)


def test_without_a_frame_there_is_no_file(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", SIZE, *MARK) as recorder:
        pass
    assert list(tmp_path.iterdir()) == [] and not recorder.is_kept


def test_a_player_finds_its_length_and_any_second(tmp_path: Path) -> None:
    frames = [solid((k, k, k)) for k in range(100)]
    record(tmp_path / "a.mp4", frames, np.zeros(640 * 100, np.float32))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.duration is not None and container.duration / av.time_base == pytest.approx(4.0, abs=0.05)
        container.seek(2 * av.time_base)
        assert next(container.decode(video=0)).time == pytest.approx(2.0, abs=1.0)
        container.seek(0)
        keyframes = [
            float(p.pts * p.time_base) for p in container.demux(video=0) if p.is_keyframe and p.pts is not None
        ]
    assert keyframes == pytest.approx([0.0, 1.0, 2.0, 3.0])


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
def test_a_full_disk_keeps_what_it_took(tmp_path: Path, missing: str) -> None:
    """All that was recorded was deleted when the disk was full."""
    rng = np.random.default_rng(0)
    frames, speech = [noisy(rng) for _ in range(60)], np.zeros(640 * 60, np.float32)
    path = tmp_path / "a.mp4"
    record(path, frames, speech)
    size = path.stat().st_size
    path.unlink()
    room = {"all": 10, "the second half": size // 2, "the last bytes": size - 100}[missing]
    with room_for(room), pytest.raises(MiravoxError, match="a disk that takes no more .*Free some space") as caught:
        record(path, frames, speech)
    if missing == "all":
        assert list(tmp_path.iterdir()) == []
        return
    assert "What was recorded until then is in it." in str(caught.value) and list(tmp_path.iterdir()) == [path]
    assert whole_boxes(path), "no half piece at the end"
    assert frames_in(path) >= {"the second half": 12, "the last bytes": 40}[missing]
    assert len(read_speech(path).samples) > 640 * 10


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENODEV, errno.EPIPE])
def test_a_disk_that_vanishes_leaves_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    """From the third piece on nothing can be written, cut off or closed in order."""
    write, pieces = os.write, [0]

    def gone(*_: object) -> NoReturn:
        raise OSError(fault, os.strerror(fault))

    def failing(descriptor: int, data: bytes) -> int:
        pieces[0] += 1
        if pieces[0] > 2:
            monkeypatch.setattr(os, "ftruncate", gone)
            gone()
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", failing)
    with pytest.raises(MiravoxError, match="a disk that takes no more .*What was recorded until then"):
        record(tmp_path / "a.mp4", [solid((0, 0, 0))] * 100, np.zeros(640 * 100, np.float32))
    assert frames_in(tmp_path / "a.mp4") >= 20


def test_a_place_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(MiravoxError, match="cannot be written .Read-only file system.*choose another"):
        Recorder(tmp_path / "a.mp4", SIZE, *MARK)


def test_a_folder_that_changes_while_it_is_recorded_into(tmp_path: Path) -> None:
    """It is renamed and made read-only: the file, which was put in its place at the end only, was lost."""
    (tmp_path / "before").mkdir()
    with Recorder(tmp_path / "before" / "a.mp4", SIZE, *MARK) as recorder:
        for k in range(60):
            recorder.write(k, solid((0, 0, 0)), Block(640 * k, np.zeros(640, np.float32)))
            if k == 40:
                (tmp_path / "before").rename(tmp_path / "after")
                (tmp_path / "after").chmod(0o500)
    (tmp_path / "after").chmod(0o700)
    assert frames_in(tmp_path / "after" / "a.mp4") == 60


def test_a_process_that_is_killed_leaves_all_but_the_last_second(tmp_path: Path) -> None:
    """It left 48 bytes that no player opened."""
    code = """
import sys
from pathlib import Path
import numpy as np
from realtime.audio.block import Block
from realtime.stream.recorder import Recorder
from tests.conftest import ROOT
from tests.stream.test_recorder import MARK, SIZE, solid
with Recorder(Path(sys.argv[1]), SIZE, *MARK) as recorder:
    for k in range(100):
        recorder.write(k, solid((k, k, k)), Block(640 * k, np.zeros(640, np.float32)))
    print("written", flush=True)
    sys.stdin.read()
"""
    path = tmp_path / "a.mp4"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "written\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL and list(tmp_path.iterdir()) == [path] and whole_boxes(path)
    with av.open(str(path)) as container:
        assert container.metadata["comment"] == MARK[1]
        times = [float(f.time) for f in container.decode(video=0) if f.time is not None]
    assert times == pytest.approx([k / 25 for k in range(len(times))]) and len(times) >= 75
    assert len(read_speech(path).samples) >= 640 * 75
