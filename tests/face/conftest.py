"""Ada through the live code: pipelines that the tests of this room share, and how they compare pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import SAMPLE_RATE
from realtime.face.pipeline import FacePipeline


def ring_of(speech: np.ndarray) -> AudioRing:
    """A ring that holds the whole recording and two silent seconds after it."""
    padded = np.concatenate([speech, np.zeros(2 * SAMPLE_RATE, np.float32)])
    ring = AudioRing(len(padded) + SAMPLE_RATE)
    ring.write(Block(0, padded))
    return ring


@pytest.fixture(scope="module")
def avatar(ada: Path) -> Avatar:
    return load_avatar(ada)


@pytest.fixture(scope="module")
def sample(avatar: Avatar) -> np.ndarray:
    return read_speech(avatar.sample).samples


@pytest.fixture(scope="module")
def baked(avatar: Avatar, sample: np.ndarray) -> Iterator[FacePipeline]:
    with FacePipeline(avatar, ring_of(sample), "baked") as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def networks(avatar: Avatar, sample: np.ndarray) -> Iterator[FacePipeline]:
    with FacePipeline(avatar, ring_of(sample), "onnx") as pipeline:
        yield pipeline


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean(((a.astype(float) - b.astype(float)) / 255) ** 2) + 1e-12))
