"""An AudioInput on a clock of the test's own: no test waits."""

from __future__ import annotations

import numpy as np

from realtime.arrays import FloatArray
from realtime.audio.block import BLOCK_SAMPLES, Block
from realtime.audio.input import AudioInput
from realtime.audio.playback import Playback, PlaybackFinished
from realtime.contract import SAMPLE_RATE

BLOCK_SECONDS = BLOCK_SAMPLES / SAMPLE_RATE


class Bench:
    """An AudioInput, what it wrote, and the time."""

    def __init__(self, phase: int = 0, turn: float | None = None) -> None:
        self.now = 100.0
        self.blocks: list[Block] = []
        self.news: list[Playback] = []
        self.input = AudioInput(self.blocks.append, phase, self.news.append, lambda: self.now, turn)
        self.input._samples.restart(self.now)

    @property
    def finished(self) -> list[PlaybackFinished]:
        return [each for each in self.news if isinstance(each, PlaybackFinished)]

    def advance(self, seconds: float = 0.0) -> float:
        self.now += seconds
        return self.input.advance(self.now)

    def run(self, seconds: float, step: float = 0.001) -> None:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.advance(min(step, end - self.now))

    @property
    def speech(self) -> FloatArray:
        """Everything written; fails if there is a gap or an overlap."""
        end = 0
        for block in self.blocks:
            assert block.start == end
            end += len(block.samples)
        return np.concatenate([np.zeros(0, np.float32), *(block.samples for block in self.blocks)])

    def since(self, mark: int) -> FloatArray:
        return self.speech[mark:]


def ramp(samples: int, start: int = 0) -> FloatArray:
    """Samples that tell their own index."""
    return ((start + np.arange(samples) + 1) / 1e6).astype(np.float32)
