"""What a sound says about the mouth that made it: whether somebody speaks, and how far the lips should be apart.

An avatar's audio encoder and its lips, which have heard many voices, listen to the recording.

Shape letters: N frames, L landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from networks.contract import DEFORMATION, EMBEDDINGS
from realtime.avatar import Avatar
from realtime.engine import Engine
from realtime.latent import speech_networks
from realtime.mel import mel_of_windows, windows_of_take

FloatArray = NDArray[np.float32]

UPPER, LOWER = (61, 62, 63), (67, 66, 65)  # landmarks of the inner lips that face each other
BATCH = 256  # frames


@dataclass(frozen=True)
class Heard:
    """Of each frame's moment in a take."""

    presence: FloatArray  # [N] probability that somebody speaks
    aperture: FloatArray  # [N] cm between the inner lips, as the avatar would say it


class Listener:
    """An avatar's ear and lips."""

    def __init__(self, avatar: Avatar) -> None:
        self.avatar = avatar
        self.encoder, self.projection = speech_networks(avatar)
        self.deformation = Engine(avatar.folder / "targets" / "onnx" / "deformation.onnx", DEFORMATION)
        lips = [*UPPER, *LOWER]
        self._points = avatar.scale(avatar.landmarks(avatar.canonical)[lips])
        self._neutral = avatar.landmarks(avatar.template)[lips]

    def __call__(self, speech: FloatArray, frames: int) -> Heard:
        """Listens to a whole take, float32 [samples at 16 kHz]."""
        reach = EMBEDDINGS - 1
        windows = windows_of_take(speech, frames + reach, self.avatar.lookahead_samples, -reach)
        heard = [
            self.encoder.run(mel_of_windows(w)[:, None]) for w in np.split(windows, range(BATCH, len(windows), BATCH))
        ]
        embeddings = np.concatenate([embedding for embedding, _ in heard])
        presence = np.concatenate([p[:, 0] for _, p in heard])[reach:]
        windows_NTE = sliding_window_view(embeddings, EMBEDDINGS, axis=0).transpose(0, 2, 1)
        aperture = np.zeros(frames, np.float32)
        for k, window in enumerate(windows_NTE):
            (latent,) = self.projection.run(np.ascontiguousarray(window[None]))
            latent = presence[k] * latent + (1 - presence[k]) * self.avatar.rest_latent
            (displacement,) = self.deformation.run(self._points, np.asarray(latent, np.float32))
            lips = (self._neutral + displacement).reshape(2, len(UPPER), 3)
            aperture[k] = np.linalg.norm(lips[0] - lips[1], axis=-1).mean()
        return Heard(presence, aperture)
