"""What speech tells of the mouth that says it: whether somebody speaks, and how far the lips should be apart.

An avatar's networks, which were trained on many voices, predict it, as they do live.

Shape letters: N frames of a take, T embeddings of a window, E embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from realtime.arrays import FloatArray
from realtime.audio.mel import mel_of_windows, windows_of_take
from realtime.avatar import Avatar
from realtime.contract import DEFORMATION, EMBEDDINGS
from realtime.face.engine import Engine
from realtime.face.latent import mix_with_rest, smooth_presence, speech_networks

UPPER, LOWER = (61, 62, 63), (67, 66, 65)  # landmarks of the inner lips that face each other
BATCH = 256  # windows that the encoder takes at once


@dataclass(frozen=True)
class PredictedMouth:
    """Of each frame of a take."""

    presence: FloatArray  # [N] probability that somebody speaks
    aperture: FloatArray  # [N] cm between the inner lips, as the avatar would part them


class MouthPredictor:
    """An avatar's audio encoder, projection and deformation network, the latter at the lips alone."""

    def __init__(self, avatar: Avatar) -> None:
        self.avatar = avatar
        self.encoder, self.projection = speech_networks(avatar)
        self.deformation = Engine(avatar.folder / "targets" / "onnx" / "deformation.onnx", DEFORMATION)
        lips = [*UPPER, *LOWER]
        self._points = avatar.scale(avatar.landmarks(avatar.canonical)[lips])
        self._neutral = avatar.landmarks(avatar.template)[lips]

    def predict(self, speech: FloatArray, frames: int) -> PredictedMouth:
        """The mouth in the first `frames` frames of a whole take, float32 [samples at 16 kHz]; as live, where the take
        begins after silence.
        """
        reach = EMBEDDINGS - 1  # frames before the take that the first window holds
        windows = windows_of_take(speech, frames + reach, self.avatar.lookahead_samples, -reach)
        batches = np.split(windows, range(BATCH, len(windows), BATCH))
        encoded = [self.encoder.run(mel_of_windows(w)[:, None]) for w in batches]
        embeddings = np.concatenate([embedding for embedding, _ in encoded])
        speaking = np.concatenate([presence[:, 0] for _, presence in encoded])
        windows_NTE = sliding_window_view(embeddings, EMBEDDINGS, axis=0).transpose(0, 2, 1)
        aperture, presence = np.zeros(frames, np.float32), 0.0
        for before_take in speaking[:reach]:
            presence = smooth_presence(presence, float(before_take))
        for k, window in enumerate(windows_NTE):
            presence = smooth_presence(presence, float(speaking[reach + k]))
            (latent,) = self.projection.run(np.ascontiguousarray(window[None]))
            (displacement,) = self.deformation.run(
                self._points, mix_with_rest(latent, self.avatar.rest_latent, presence)
            )
            lips = (self._neutral + displacement).reshape(2, len(UPPER), 3)
            aperture[k] = np.linalg.norm(lips[0] - lips[1], axis=-1).mean()
        return PredictedMouth(speaking[reach:], aperture)
