"""What an audio encoder makes of speech: the embedding of each frame, and the window of nine that the projection sees.

No window crosses from one take into another: before a take there is silence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from dataset.folder import Dataset
from networks.audio_encoder import AudioEncoder
from networks.readout import LOOKAHEADS
from realtime.arrays import FloatArray, Int64Array
from realtime.audio.mel import mel_of_windows, windows_of_take
from realtime.audio.sound_file import read_speech
from realtime.contract import EMBEDDING, EMBEDDINGS, SAMPLES_PER_FRAME

BATCH = 256  # windows that the encoder takes at once


@torch.no_grad()
def embed_speech(
    encoder: AudioEncoder, speech: FloatArray, frames: int, lookahead_samples: int, first_frame: int = 0
) -> FloatArray:
    """Embeddings [frames, 512] of frames first_frame .. of one take, float32 [samples]; before frame 0 is silence."""
    encoder.eval()
    mel = mel_of_windows(windows_of_take(speech, frames, lookahead_samples, first_frame))
    pieces = [encoder(m[:, None])[0] for m in torch.from_numpy(mel).split(BATCH)]
    return np.asarray(torch.cat(pieces).numpy(), np.float32)


def window_embeddings(embeddings: FloatArray, before: FloatArray) -> FloatArray:
    """A_TE of every frame: [frames, 9, 512], oldest first.

    Args:
        embeddings: [frames, 512] of one take.
        before: [8, 512], the embeddings of the eight frames before the take, computed from the take's own speech
            (silence, then whatever their lookahead already sees of it).
    """
    assert before.shape == (EMBEDDINGS - 1, EMBEDDING)
    padded = np.concatenate([before, embeddings])
    return np.stack([padded[k : k + EMBEDDINGS] for k in range(len(embeddings))])


def embed_dataset(encoder: AudioEncoder, dataset: Dataset, lookahead_samples: int) -> FloatArray:
    """A_TE of every frame of a dataset, [N, 9, 512]."""
    windows = []
    for take in tqdm(dataset.takes, desc="embedding speech", unit="take"):
        speech = read_speech(take.speech).samples
        reach = EMBEDDINGS - 1
        all_frames = embed_speech(encoder, speech, take.frames + reach, lookahead_samples, -reach)
        windows.append(window_embeddings(all_frames[reach:], all_frames[:reach]))
    return np.concatenate(windows)


@dataclass(frozen=True, kw_only=True)
class EncodedRecording:
    """What an encoder makes of one recording: a row for every frame whose moment lies within it at some lookahead."""

    windows: FloatArray  # [frames, 9, 512], A_TE
    presence: FloatArray  # [frames], at the encoder's own lookahead
    ends: Int64Array  # [frames]: the sample at which each window ends


@torch.no_grad()
def encode_recording(encoder: AudioEncoder, speech: FloatArray) -> EncodedRecording:
    """Encodes every frame, as the live code does, from the first whose window reaches into the speech to the last."""
    encoder.eval()
    frames = -(-(len(speech) + max(LOOKAHEADS)) // SAMPLES_PER_FRAME)
    reach = EMBEDDINGS - 1
    mel = torch.from_numpy(mel_of_windows(windows_of_take(speech, frames + reach, 0, -reach))[:, None])
    embedding, presence = (torch.cat(x).numpy() for x in zip(*(encoder(m) for m in mel.split(BATCH)), strict=True))
    return EncodedRecording(
        windows=np.stack([embedding[k : k + EMBEDDINGS] for k in range(frames)]),
        presence=presence[reach:, 0],
        ends=SAMPLES_PER_FRAME * np.arange(frames),
    )
