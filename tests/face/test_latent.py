"""From samples to b: streaming equals offline, the mouth rests by what the network hears, not by how loud it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import EMBEDDINGS, FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.face.latent import ATTACK_MS, RELEASE_MS, LatentTrack

FRAMES = 50


@pytest.fixture(scope="module")
def avatar(ada: Path) -> Avatar:
    return load_avatar(ada)


@pytest.fixture(scope="module")
def speech(avatar: Avatar) -> np.ndarray:
    return read_speech(avatar.sample).samples[: (FRAMES + 10) * SAMPLES_PER_FRAME]


@pytest.mark.parametrize("block", [1, 37, 160, 641, 4096])
def test_streaming_embeddings_equal_offline_ones(torch: Any, avatar: Avatar, speech: np.ndarray, block: int) -> None:
    """Samples written in blocks of any size, each frame embedded as soon as it can be, against whole-file torch."""
    from training.embeddings import embed_speech
    from training.encoders import load_encoder

    frames = FRAMES if block > 1 else 6  # one sample at a time takes its time
    ring = AudioRing(4 * SAMPLE_RATE)
    track = LatentTrack(avatar, ring)
    streamed: list[np.ndarray] = []
    for start in range(0, len(speech), block):
        ring.write(Block(start, speech[start : start + block]))
        while (
            len(streamed) < frames and ring.end_sample >= SAMPLES_PER_FRAME * len(streamed) + avatar.lookahead_samples
        ):
            track.embed(len(streamed))
            streamed.append(track.embeddings_TE[-1].copy())
        if len(streamed) == frames:
            break
    offline = embed_speech(load_encoder(avatar.folder)[0], speech, frames, avatar.lookahead_samples)
    assert np.abs(np.stack(streamed) - offline).max() < 1e-4


def test_presence_rises_within_the_attack_and_falls_within_the_release(
    avatar: Avatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network's answer jumps; presence follows as a first-order low-pass filter with times in milliseconds."""
    ring = AudioRing(8 * SAMPLE_RATE)
    ring.write(Block(0, np.zeros(8 * SAMPLE_RATE, np.float32)))
    track = LatentTrack(avatar, ring)
    embedding = track.embeddings_TE[-1:].copy()
    said = {"presence": 0.0}
    monkeypatch.setattr(
        track.encoder, "run", lambda mel: [embedding, np.array([[said["presence"]]], np.float32)], raising=False
    )
    track.embed(EMBEDDINGS)
    for presence, time_ms in ((1.0, ATTACK_MS), (0.0, RELEASE_MS)):
        before, said["presence"] = track.presence, presence
        assert track.next_frame is not None
        track.embed(track.next_frame)
        left = np.exp(-1000 / FRAME_RATE / time_ms)
        assert track.presence == pytest.approx(presence + (before - presence) * left, abs=1e-6)


@pytest.mark.parametrize("level_db", [-45, -30, -15])
@pytest.mark.parametrize("kind", ["white", "hum", "clicks"])
def test_presence_stays_low_in_noise_of_any_loudness(torch: Any, avatar: Avatar, kind: str, level_db: int) -> None:
    """Loud or faint: nobody speaks."""
    from training.noises import clicks, hum, rms

    rng = np.random.default_rng(5)
    seconds = 4
    makers = {
        "white": lambda n: np.asarray(rng.standard_normal(n), np.float32),
        "hum": lambda n: hum(rng, n),
        "clicks": lambda n: clicks(rng, n),
    }
    noise = makers[kind](seconds * SAMPLE_RATE)
    noise = np.clip(noise / np.float32(rms(noise)) * np.float32(10 ** (level_db / 20)), -1, 1).astype(np.float32)
    ring = AudioRing((seconds + 2) * SAMPLE_RATE)
    ring.write(Block(0, noise))
    track = LatentTrack(avatar, ring)
    presences = []
    for k in range(10, (seconds - 1) * FRAME_RATE):
        track.embed(k)
        presences.append(track.presence)
    assert np.mean(np.array(presences) < 0.5) > 0.97
