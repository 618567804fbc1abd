"""Pictures and speech are put together: every 40 ms have a frame, none is shown twice, nothing that was cut off is."""

from __future__ import annotations

import av
import numpy as np
import pytest

from realtime import frames
from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.contract import SAMPLES_PER_FRAME
from realtime.stream.spoken_frame import Frame, FrameAssembler

MOST = 4


class Assembly:
    """An assembler with its ring, and what it delivered. Sample i is i / 2^15; picture k is 4 k bright."""

    def __init__(self) -> None:
        self.ring = AudioRing(16_000)
        self.delivered: list[tuple[int, Frame]] = []
        self.assembler = FrameAssembler(lambda epoch, frame: self.delivered.append((epoch, frame)), MOST)

    def speak(self, samples: int, epoch: int = 0) -> None:
        first = self.ring.end_sample
        self.ring.write(Block(first, (np.arange(first, first + samples) / 2**15).astype(np.float32), epoch))
        self.assembler.speech(self.ring)

    def draw(self, index: int) -> None:
        picture = av.VideoFrame(32, 32, "yuv420p")
        for plane, value in zip(picture.planes, (16 + 4 * index, 128, 128), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        self.assembler.picture(self.ring, frames.Frame(index, picture))

    @property
    def shown(self) -> list[tuple[int, int]]:
        """Index of each frame, and of the picture that it shows."""
        return [(frame.index, round(float(frame.rgb.mean()) * 219 / 255 / 4)) for _, frame in self.delivered]


@pytest.fixture
def assembly() -> Assembly:
    return Assembly()


def test_a_frame_has_its_picture_and_its_speech(assembly: Assembly) -> None:
    assembly.speak(5 * SAMPLES_PER_FRAME)
    for k in range(3):
        assembly.draw(k)
    assert assembly.shown == [(0, 0), (1, 1), (2, 2)]
    for _, frame in assembly.delivered:
        assert frame.rgb.shape == (32, 32, 3) and frame.rgb.dtype == np.uint8
        start = SAMPLES_PER_FRAME * frame.index
        assert frame.samples.dtype == np.float32
        assert np.array_equal(frame.samples * 2**15, np.arange(start, start + SAMPLES_PER_FRAME))


def test_a_dropped_frame_shows_the_picture_before_it(assembly: Assembly) -> None:
    assembly.speak(6 * SAMPLES_PER_FRAME)
    assembly.draw(0)
    assembly.delivered[0][1].rgb[:] = 255  # the caller's own
    assembly.draw(3)
    assert assembly.shown[1:] == [(1, 0), (2, 0), (3, 3)]
    assert np.array_equal(assembly.delivered[1][1].samples * 2**15, np.arange(640, 1280))


def test_it_begins_with_the_first_picture(assembly: Assembly) -> None:
    assembly.speak(6 * SAMPLES_PER_FRAME)
    assembly.draw(2)
    assert assembly.shown == [(2, 2)]


def test_only_so_many_are_made_up_for(assembly: Assembly) -> None:
    assembly.speak(12 * SAMPLES_PER_FRAME)
    assembly.draw(0)
    assembly.draw(10)
    assert assembly.shown[1:] == [(7, 0), (8, 0), (9, 0), (10, 10)]


def test_a_picture_waits_for_its_speech(assembly: Assembly) -> None:
    """With a lookahead of 200 samples frame k is drawn when 440 of the 640 that it shows are still to come."""
    assembly.speak(200)
    assembly.draw(0)
    assert assembly.shown == []
    assembly.speak(400)
    assert assembly.shown == []
    assembly.speak(240)
    assembly.draw(1)
    assert assembly.shown == [(0, 0)]
    assembly.speak(640)
    assembly.speak(640)
    assert assembly.shown == [(0, 0), (1, 1)]


def test_what_was_cut_off_is_neither_repeated_nor_heard(assembly: Assembly) -> None:
    assembly.speak(6 * SAMPLES_PER_FRAME)
    assembly.draw(0)
    assembly.speak(320, epoch=1)
    assembly.draw(4)
    assert assembly.shown == [(0, 0), (4, 4)]
    assert [epoch for epoch, _ in assembly.delivered] == [0, 1]
    assert not assembly.delivered[1][1].samples.any()
    assembly.speak(320, epoch=2)  # a picture that was shown is not shown again
    assert len(assembly.delivered) == 2


def test_speech_that_is_gone_has_no_frame(assembly: Assembly) -> None:
    assembly.speak(2 * SAMPLES_PER_FRAME)
    assembly.draw(0)
    assembly.speak(16_000)
    assembly.draw(1)
    assembly.draw(24)
    assert assembly.shown == [(0, 0), (21, 1), (22, 1), (23, 1), (24, 24)]
