"""LSE-D and LSE-C: how well the mouth of a video fits its sound, by SyncNet (thesis 4.2.2; Prajwal et al. 2020).

The published weights (syncnet_v2.model) are the user's to fetch; without them there is no figure. They were made for
faces cropped by a detector's box; here the box is put around the projected face model, so figures are comparable among
themselves and only nearly with published ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.fft import dct, rfft
from torch import Tensor

from networks.syncnet import FACE_FRAMES, FACE_SIDE, MFCC_COEFFICIENTS, MFCC_FRAMES, SyncNet
from realtime.arrays import ByteArray, FloatArray
from realtime.contract import SAMPLE_RATE
from realtime.errors import MiravoxError
from training.foreign import read_state_dict

SHIFTS = 15  # frames that the sound is moved to either side: 0.6 s
MFCC_PER_FRAME = 4
WINDOW, HOP, FFT, BANDS, LIFTER = 400, 160, 512, 26, 22
PRE_EMPHASIS = 0.97
CROP_MARGIN = 0.4  # of half the face's side


@dataclass(frozen=True, kw_only=True)
class LipSync:
    """Lip-sync errors of a clip."""

    distance: float  # LSE-D: mean distance of the embeddings at the best offset
    confidence: float  # LSE-C: the median over all offsets, less that
    offset: int  # frames by which the sound is ahead of the mouth where they fit best


def mfcc(speech_S: FloatArray) -> FloatArray:
    """Mel-frequency cepstra [13, frames], 100 a second, as SyncNet's weights expect: of 16-bit sample values, 25 ms
    without a window function, 26 HTK bands up to 8 kHz, sinusoidal lifter, the first one the log energy (Davis and
    Mermelstein 1980).
    """
    samples = np.round(np.clip(speech_S, -1, 1) * 32767).astype(np.float64)
    emphasised = np.append(samples[:1], samples[1:] - PRE_EMPHASIS * samples[:-1])
    count = 1 + max(0, -(-(len(emphasised) - WINDOW) // HOP))
    padded = np.pad(emphasised, (0, max(0, (count - 1) * HOP + WINDOW - len(emphasised))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:count]
    power = np.abs(rfft(frames, FFT)) ** 2 / FFT
    tiny = np.finfo(np.float64).eps
    energy = np.maximum(power.sum(1), tiny)
    edges_mel = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), BANDS + 2)
    edges = np.floor((FFT + 1) * 700 * (10 ** (edges_mel / 2595) - 1) / SAMPLE_RATE)
    bins = np.arange(FFT // 2 + 1)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    filters = np.where(
        bins < centre,
        (bins - low) / np.maximum(centre - low, 1) * (bins >= low),
        (high - bins) / np.maximum(high - centre, 1) * (bins < high),
    )
    cepstra = dct(np.log(np.maximum(power @ filters, tiny)), norm="ortho")[:, :MFCC_COEFFICIENTS]
    cepstra *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(MFCC_COEFFICIENTS) / LIFTER)
    cepstra[:, 0] = np.log(energy)
    return np.asarray(cepstra.T, np.float32)


def face_box(points_N2: FloatArray) -> tuple[int, int, int]:
    """Left, top and side of the square, in pixels, that SyncNet sees: the points' own box, 1.4 times as large, the chin
    kept within.
    """
    low, high = points_N2.min(0), points_N2.max(0)
    half = float((high - low).max()) / 2
    x, y = (low + high) / 2
    side = 2 * half * (1 + CROP_MARGIN)
    return round(float(x) - side / 2), round(float(y) - half), round(side)


def crop_face(image: ByteArray, box: tuple[int, int, int]) -> ByteArray:
    """The square uint8 [224, 224, 3] of a frame, grey (110) where it lies outside."""
    left, top, side = box
    square = np.full((side, side, 3), 110, np.uint8)
    height, width = image.shape[:2]
    first, end = (max(0, left), max(0, top)), (min(width, left + side), min(height, top + side))
    square[first[1] - top : end[1] - top, first[0] - left : end[0] - left] = image[first[1] : end[1], first[0] : end[0]]
    return np.asarray(Image.fromarray(square).resize((FACE_SIDE, FACE_SIDE), Image.Resampling.BILINEAR))


def load_syncnet(path: Path) -> SyncNet:
    """The published network from its state dict; nothing in the file is executed.

    Raises MiravoxError if the file is missing, or is something else.
    """
    remedy = "Fetch syncnet_v2.model from its authors (robots.ox.ac.uk/~vgg/software/lipsync)."
    state = read_state_dict(path, "SyncNet's weights", remedy)
    network = SyncNet()
    wanted = {k: v.shape for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    odd = sorted(k for k, shape in wanted.items() if k not in state or state[k].shape != shape)
    if odd:
        found = f"{odd[0]} of shape {tuple(state[odd[0]].shape)}" if odd[0] in state else f"no {odd[0]}"
        raise MiravoxError(str(path), found=found, wanted=f"SyncNet's, {tuple(wanted[odd[0]])}", remedy=remedy)
    network.load_state_dict({k: state[k] for k in wanted}, strict=False)
    return network.eval()


@torch.no_grad()
def embed_clip(
    network: SyncNet, faces_N: list[ByteArray], speech_S: FloatArray, batch: int = 16
) -> tuple[Tensor, Tensor]:
    """Embeddings of the mouth and of the sound, each [N - 4, 1024]: row k is that of frames k .. k + 4.

    Args:
        faces_N: crop_face of every frame, RGB.
        speech_S: the sound, its first sample at the first frame.
    """
    cepstra = mfcc(speech_S)
    rows = min(len(faces_N) - FACE_FRAMES + 1, (cepstra.shape[1] - MFCC_FRAMES) // MFCC_PER_FRAME + 1)
    if rows < 1:
        raise MiravoxError(
            "the clip", found=f"{len(faces_N)} frames", wanted="more than 0.2 s", remedy="Measure a longer one."
        )
    mouths, sounds = [], []
    for first in range(0, rows, batch):
        at = range(first, min(rows, first + batch))
        video = np.stack([np.stack(faces_N[k : k + FACE_FRAMES])[..., ::-1].transpose(3, 0, 1, 2) for k in at])
        sound = np.stack([cepstra[:, k * MFCC_PER_FRAME :][:, :MFCC_FRAMES] for k in at])
        mouths.append(network.face(torch.from_numpy(video.astype(np.float32))))
        sounds.append(network.sound(torch.from_numpy(sound[:, None])))
    return torch.cat(mouths), torch.cat(sounds)


def lip_sync(mouth_NE: Tensor, sound_NE: Tensor, shifts: int = SHIFTS) -> LipSync:
    """LSE-D and LSE-C from the embeddings of both, row by row at the same time; outside of the clip the sound is zero.

    The mean distance over all rows is taken for every shift of the sound; the least of them decides.
    """
    padded = F.pad(sound_NE, (0, 0, shifts, shifts))
    means = torch.stack(
        [F.pairwise_distance(mouth_NE, padded[k : k + len(mouth_NE)]).mean() for k in range(2 * shifts + 1)]
    )
    best = int(means.argmin())
    return LipSync(distance=float(means[best]), confidence=float(means.median() - means[best]), offset=shifts - best)
