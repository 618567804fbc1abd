"""The mouth that is predicted from a recording is the one that the avatar shows when it says it live."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capture.mouth_predictor import LOWER, UPPER, MouthPredictor
from realtime.arrays import FloatArray
from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.face.latent import LatentTrack

FRAMES = 60


@pytest.fixture(scope="module")
def avatar(ada: Path) -> Avatar:
    return load_avatar(ada)


@pytest.fixture(scope="module")
def predictor(avatar: Avatar) -> MouthPredictor:
    return MouthPredictor(avatar)


@pytest.fixture(scope="module")
def speech(avatar: Avatar) -> FloatArray:
    """Half a second of silence, one of speech, then silence again: the mouth wakes and comes to rest."""
    sound = np.zeros(FRAMES * SAMPLES_PER_FRAME, np.float32)
    said = read_speech(avatar.sample).samples[SAMPLE_RATE // 2 : SAMPLE_RATE * 3 // 2]
    sound[SAMPLE_RATE // 2 : SAMPLE_RATE * 3 // 2] = said
    return sound


def test_predicted_lips_are_the_live_ones(avatar: Avatar, predictor: MouthPredictor, speech: FloatArray) -> None:
    ring = AudioRing(4 * SAMPLE_RATE)
    ring.write(Block(0, np.concatenate([speech, np.zeros(SAMPLE_RATE, np.float32)])))
    track = LatentTrack(avatar, ring)
    live = []
    for k in range(FRAMES):
        (displacement,) = predictor.deformation.run(avatar.scale(avatar.canonical), track.advance(k))
        marks = avatar.landmarks(np.asarray(avatar.template + displacement, np.float32))
        live.append(np.linalg.norm(marks[list(UPPER)] - marks[list(LOWER)], axis=1).mean())
    found = predictor.predict(speech, FRAMES).aperture
    assert np.ptp(live) > 0.3, "centimetres: the mouth moves"
    assert np.abs(found - live).max() < 5e-4, "five micrometres: a landmark lies between the vertices of its triangle"


def test_presence_is_that_of_each_frame(predictor: MouthPredictor, speech: FloatArray) -> None:
    """Not smoothed: what comes of it is a measure of the recording."""
    presence = predictor.predict(speech, FRAMES).presence
    assert presence.shape == (FRAMES,)
    assert (presence[18:34] > 0.5).mean() > 0.8
    assert (presence[:8] < 0.5).all() and (presence[46:] < 0.5).all()


def test_a_long_take_is_encoded_in_batches(predictor: MouthPredictor, speech: FloatArray) -> None:
    """What a batch holds makes no difference to a frame."""
    long = np.tile(speech, 6)
    whole = predictor.predict(long, 6 * FRAMES)
    assert whole.aperture.shape == (6 * FRAMES,)
    assert np.abs(whole.aperture[:FRAMES] - predictor.predict(speech, FRAMES).aperture)[: FRAMES - 5].max() < 1e-3
