"""What one actor's networks are trained on, read into memory once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dataset.folder import Dataset, load_dataset
from dataset.phones import data_folder
from networks.audio_encoder import AudioEncoder
from realtime.arrays import FloatArray, Int64Array
from realtime.contract import REGIONS
from training.embeddings import embed_dataset
from training.face_networks import FaceConfig
from training.patches import Patches
from training.pixels import Pixels, sample_pixels
from training.voice_loss import VoiceLoss
from training.voices import load_voices, own_voice

CHECKED_FRAMES, CHECKED_PIXELS = 24, 2048  # of held-out takes, for the figures in the log
PATCHED_FRAMES = 1500  # frames of the training takes whose mouths are kept for the perceptual loss


@dataclass(frozen=True, kw_only=True)
class Material:
    """What one actor's networks are trained on."""

    dataset: Dataset
    windows: FloatArray  # [N, 9, 512] A_TE of every frame
    pixels: Pixels
    checked: Pixels  # of held-out takes
    patches: Patches | None
    voice_loss: VoiceLoss | None
    own_loss: VoiceLoss | None  # of the film's own speech
    used: Int64Array  # vertices of any triangle
    density: FloatArray  # how often each of them is drawn


def held_out_frames(dataset: Dataset) -> list[int]:
    """Frames of the held-out takes, in order."""
    return [f for t in dataset.takes if t.held_out for f in range(t.first, t.end)]


def load_material(
    config: FaceConfig,
    dataset_folder: Path,
    encoder: AudioEncoder,
    lookahead_samples: int,
    voices_cache: Path,
    with_patches: bool,
) -> Material:
    """Reads an actor's dataset, and embeds its speech and the other voices (kept in `voices_cache`)."""
    dataset = load_dataset(dataset_folder)
    windows = embed_dataset(encoder, dataset, lookahead_samples)
    train_frames = [f for t in dataset.takes if not t.held_out for f in range(t.first, t.end, config.frame_step)]
    held_out = held_out_frames(dataset)
    patches = Patches(dataset, train_frames, config.patch, PATCHED_FRAMES, config.seed) if with_patches else None
    watch = patches.watch if patches else None
    pixels = sample_pixels(dataset, train_frames, config.pixels_kept_per_frame, config.seed, watch)
    checked = sample_pixels(dataset, held_out[:: max(1, len(held_out) // CHECKED_FRAMES)], CHECKED_PIXELS, 1)
    voice_loss = own_loss = None
    if config.voice_frames:
        voices = load_voices(
            voices_cache,
            encoder,
            lookahead_samples,
            dataset.expression_names,
            data_folder(),
            config.stranger_share,
            config.seed + 1,
        )
        voice_loss = VoiceLoss(config, dataset, voices)
        if config.lambda_own:
            own = own_voice(dataset, windows)
            own_loss = VoiceLoss(replace(config, voice_frames=config.own_frames), dataset, own)
    used = np.unique(np.asarray(dataset.geometry["triangles"]))
    density = 0.1 + dataset.regions[REGIONS.index("mouth")][used]
    return Material(
        dataset=dataset,
        windows=windows,
        pixels=pixels,
        checked=checked,
        patches=patches,
        voice_loss=voice_loss,
        own_loss=own_loss,
        used=used,
        density=density / density.sum(),
    )
