"""Speech window -> latent b, kept across frames; at rest in silence (thesis 3.3 and 3.4)."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..arrays import FloatArray
from ..audio.mel import mel_of_windows
from ..audio.ring import AudioRing
from ..avatar import Avatar
from ..contract import AUDIO_ENCODER, EMBEDDING, EMBEDDINGS, FRAME_RATE, PROJECTION, SAMPLES_PER_FRAME, WINDOW_SAMPLES
from .engine import Engine

ATTACK_MS, RELEASE_MS = 20.0, 120.0  # how fast the mouth wakes, and how fast it comes to rest
CUT_OFF_REST = 0.3  # of presence is left in the first frame after speech was cut off


class SpeechNetwork(Protocol):
    """The audio encoder or the projection, wherever it runs: arrays in and out as the contract has them. What comes out
    may be written over by the next call.
    """

    def run(self, *inputs: FloatArray) -> tuple[FloatArray, ...]: ...


def speech_networks(avatar: Avatar) -> tuple[Engine, Engine]:
    """The avatar's audio encoder and projection in ONNX Runtime."""
    folder = avatar.folder / "targets" / "onnx"
    return Engine(folder / "audio_encoder.onnx", AUDIO_ENCODER), Engine(folder / "projection.onnx", PROJECTION)


def smooth_presence(before: float, speaking: float) -> float:
    """Presence one frame later: a first-order low-pass filter, quick to rise (ATTACK_MS) and slow to fall (RELEASE_MS).

    Args:
        before: presence in the frame before, [0, 1].
        speaking: the audio encoder's probability that somebody speaks in this frame.
    """
    time_ms = ATTACK_MS if speaking > before else RELEASE_MS
    return before + (speaking - before) * (1 - float(np.exp(-1000 / FRAME_RATE / time_ms)))


def mix_with_rest(latent_1K: FloatArray, rest_K: FloatArray, presence: float) -> FloatArray:
    """b float32 [1, 64] for the face: the projection's own at presence 1, the avatar's rest latent at 0, between them a
    mixture; normalised again to zero mean and unit variance over its 64 values, as every b that the networks were
    trained on.
    """
    mixed = presence * latent_1K + (1 - presence) * rest_K
    mixed -= mixed.mean()
    return np.asarray(mixed / np.sqrt((mixed * mixed).mean() + 1e-6), np.float32)


class LatentTrack:
    """Embeds each frame's window once, keeps the last nine embeddings, and projects them.

    b is mixed with the avatar's rest latent by smoothed presence, so the mouth rests in silence and in noise.
    """

    def __init__(
        self, avatar: Avatar, ring: AudioRing, networks: tuple[SpeechNetwork, SpeechNetwork] | None = None
    ) -> None:
        """`networks`: audio encoder and projection; by default the avatar's own, on the CPU."""
        self.avatar, self.ring = avatar, ring
        self.encoder, self.projection = networks or speech_networks(avatar)
        self.embeddings_TE = np.zeros((EMBEDDINGS, EMBEDDING), np.float32)
        self.presence = 0.0
        self.next_frame: int | None = None
        self.epoch = ring.epoch
        silence = mel_of_windows(np.zeros((1, WINDOW_SAMPLES), np.float32))
        self.silent_embedding = self.encoder.run(silence[:, None])[0][0].copy()

    def advance(self, frame_index: int) -> FloatArray:
        """b of a frame, float32 [1, 64]. The ring must hold the speech up to 640 k + lookahead.

        Frames in order cost one embedding each; after a jump the eight before it are embedded again.
        """
        self.embed(frame_index)
        (latent,) = self.projection.run(self.embeddings_TE[None])
        return mix_with_rest(latent, self.avatar.rest_latent, self.presence)

    def embed(self, frame_index: int) -> None:
        """What `advance` does for the frames after this one; enough for a frame that is not drawn."""
        first = frame_index if frame_index == self.next_frame else frame_index - EMBEDDINGS + 1
        if first != frame_index:
            self.presence = 0.0
        if self.ring.epoch != self.epoch:
            self._cut_off()
        for k in range(first, frame_index + 1):
            self._embed(k)
        self.next_frame = frame_index + 1

    def _cut_off(self) -> None:
        """Speech was cut off: as if silence had been before. The mouth rests within two frames."""
        self.epoch = self.ring.epoch
        self.embeddings_TE[:] = self.silent_embedding
        self.presence *= CUT_OFF_REST

    def _embed(self, frame_index: int) -> None:
        end = SAMPLES_PER_FRAME * frame_index + self.avatar.lookahead_samples
        mel = mel_of_windows(self.ring.window(end)[None])
        embedding, presence = self.encoder.run(mel[:, None])
        self.embeddings_TE[:-1] = self.embeddings_TE[1:]
        self.embeddings_TE[-1] = embedding[0]
        self.presence = smooth_presence(self.presence, float(presence[0, 0]))
