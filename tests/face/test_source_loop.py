"""The endless video that the mouth is painted into."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from realtime.avatar import load_avatar
from realtime.contract import FRAME_RATE
from realtime.errors import MiravoxError
from realtime.face.pipeline import FacePipeline
from realtime.face.source_loop import SourceLoop
from realtime.face.yuv import RgbConverter
from tests.face.conftest import psnr


def test_frames_read_ahead_are_the_right_ones(ada: Path) -> None:
    """In order, after a jump, and from the loop's last frame to its first."""
    count = len(load_avatar(ada).source_pose)
    ahead, plain = (SourceLoop(ada / "source.mp4", count, 512, 512) for _ in range(2))
    for index in (5, 6, 20, 21, 3, count - 1, 0, 1):
        found, wanted = ahead.frame(index), plain.frame(index)
        assert np.array_equal(found.to_ndarray(), wanted.to_ndarray()), index
        ahead.read_ahead()
        assert ahead.ahead is not None and ahead.ahead[0] == (index + 1) % count
        ahead.read_ahead()  # once more is not one frame further
    ahead.close()
    plain.close()


def test_the_source_loop_has_no_jump(baked: FacePipeline) -> None:
    """Frame 0 follows the last one as smoothly as frame 1 follows frame 0."""
    count, to_rgb = len(baked.inpaint.boxes), RgbConverter()
    first, second, last = (
        to_rgb(baked.source.frame(0)),
        to_rgb(baked.source.frame(1)),
        to_rgb(baked.source.frame(count - 1)),
    )
    assert psnr(first, last) > psnr(first, second) - 3
    assert count >= 10 * FRAME_RATE
    with pytest.raises(MiravoxError, match="source.mp4"):
        baked.source.frame(count)


# Files of strangers


def video(path: Path, codec: str = "libx264", size: int = 128, pixels: str = "yuv420p", container: str = "mp4") -> None:
    """Three black frames."""
    black = av.VideoFrame.from_ndarray(np.zeros((size, size, 3), np.uint8)).reformat(format=pixels)
    with av.open(str(path), "w", format=container) as file:
        stream = cast(VideoStream, file.add_stream(codec, rate=FRAME_RATE, options={"g": "1"}))
        stream.width = stream.height = size
        stream.pix_fmt = pixels
        for index in range(3):
            black.pts, black.time_base = index, Fraction(1, FRAME_RATE)
            file.mux(stream.encode(black))
        file.mux(stream.encode(None))


def list_of_files(path: Path) -> None:
    video(path.with_name("secret.mp4"))
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")


def playlist(path: Path) -> None:
    video(path.with_name("secret.mp4"))
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n")


def list_behind_a_header(path: Path) -> None:
    """It begins as MP4 does."""
    path.write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0ffconcat version 1.0\nfile secret.mp4\n")


def with_sound(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as file:
        stream, sound = file.add_stream("libx264", rate=FRAME_RATE), file.add_stream("aac", rate=48_000)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        file.mux(stream.encode(av.VideoFrame(128, 128, "yuv420p")))
        file.mux(stream.encode(None))
        file.mux(sound.encode(None))


def cut_off(path: Path) -> None:
    video(path)
    path.write_bytes(path.read_bytes()[:1500])


STRANGE: list[Callable[[Path], None]] = [
    list_of_files,
    playlist,
    list_behind_a_header,
    with_sound,
    cut_off,
    lambda path: video(path, codec="mpeg4"),
    lambda path: video(path, codec="png", pixels="rgb24"),
    lambda path: video(path, container="matroska"),
    lambda path: video(path, size=256),
    lambda path: video(path, pixels="yuv444p"),
    Path.touch,
]


@pytest.mark.parametrize("make", STRANGE)
def test_what_is_no_source_loop_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A list of other files under the name source.mp4 was played."""
    path = tmp_path / "source.mp4"
    make(path)
    with pytest.raises(MiravoxError) as caught:
        SourceLoop(path, 3, 128, 128)
    assert caught.value.thing == str(path) and "\n" not in str(caught.value)


def test_a_source_loop_has_a_frame_for_each_pose(tmp_path: Path) -> None:
    path = tmp_path / "source.mp4"
    video(path)
    loop = SourceLoop(path, 3, 128, 128)
    assert loop.frame(2).width == 128
    loop.close()
    with pytest.raises(MiravoxError, match="found 3 frames, 25 a second; wanted 4 frames"):
        SourceLoop(path, 4, 128, 128)


def test_a_picture_larger_than_it_says_is_not_decoded(tmp_path: Path) -> None:
    """The header says 128 x 128, the video within it 4096 x 4096: no memory is taken for that."""
    path = tmp_path / "source.mp4"
    video(path, size=4096)
    data = path.read_bytes()
    at = data.index(b"avc1", data.index(b"stsd")) + 28  # width and height
    assert data[at : at + 4] == (4096).to_bytes(2, "big") * 2
    path.write_bytes(data[:at] + (128).to_bytes(2, "big") * 2 + data[at + 4 :])
    with pytest.raises(MiravoxError):
        SourceLoop(path, 3, 128, 128).frame(0)
