"""Block: a piece of speech on the sample clock."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..arrays import FloatArray

BLOCK_SAMPLES = 320  # 20 ms: what is released at once of queued speech, and what an Opus packet holds


@dataclass(frozen=True)
class Block:
    """Consecutive samples of 16 kHz mono speech."""

    start: int  # index of the first sample
    samples: FloatArray  # [n], in [-1, 1]
    epoch: int = 0  # goes up when speech is cut off; whatever belongs to an older epoch is discarded


def in_epoch(block: Block, epoch: int) -> Block:
    """The block itself, or as much silence if it belongs to an older epoch."""
    return block if block.epoch >= epoch else replace(block, samples=np.zeros_like(block.samples), epoch=epoch)
