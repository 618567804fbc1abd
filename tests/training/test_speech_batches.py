"""Every window carries the labels of its own moment, whatever was done to its sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("torch")


UNTOUCHED: dict[str, Any] = {
    "noise_share": 0,
    "room_share": 0,
    "band_share": 0,
    "opus_share": 0,
    "clip_share": 0,
    "gain_db": (0, 0),
}


def test_augmentation_is_labelled_rightly(data_folder: Path) -> None:
    """The label of a window is the phone at its moment, and noise alone is silence without presence."""
    import training.speech_batches as batches
    from dataset.phones import PHONES, load_utterances
    from training.augment import AugmentConfig
    from training.speech_corpus import load_corpus

    utterance = next(u for u in load_utterances(data_folder) if u.corpus == "ljspeech")
    corpus = load_corpus([utterance], data_folder)
    phone, start, duration = max(utterance.phones, key=lambda p: p[2] if p[0] != "SIL" else 0)
    assert PHONES[corpus.phones[0][start + duration // 2]] == phone.rstrip("012")

    noisy = batches.SpeechConfig(batch=8, noise_only_share=0.75)
    degraded = batches.degrade_corpus(noisy, corpus, 0)
    assert degraded.source == [0, -1, -1, -1]
    alone = batches.Degraded(sound=degraded.sound[1:], speed=degraded.speed[1:], source=degraded.source[1:])
    batch = batches.training_batch(noisy, corpus, alone, 0)
    assert not batch.phones.any() and not batch.presence.any() and batch.judged.all()
    assert batch.articulation[..., 2].all(), "at rest"

    config = AugmentConfig(**UNTOUCHED, speed_share=0)
    clean = batches.SpeechConfig(batch=64, noise_only_share=0, masked_share=0, tract_share=0, augment=config)
    degraded = batches.degrade_corpus(clean, corpus, 0)
    batch = batches.training_batch(clean, corpus, degraded, 0)
    assert batch.mel.shape == (64, 1, 80, 16) and batch.phones.shape == (64, 7, 3)
    assert (batch.presence == (batch.phones[:, 0, 1] > 0)).all()
    # The second label is the encoder's own lookahead, which is among the others, too.
    assert (batch.phones[:, 0] == batch.phones[:, 1 + batches.LOOKAHEADS.index(1800)]).all()
    again = batches.training_batch(clean, corpus, batches.degrade_corpus(clean, corpus, 0), 0)
    assert (batch.mel == again.mel).all()
    other = batches.degrade_corpus(noisy, corpus, 1).sound[0]
    assert len(other) != len(degraded.sound[0]) or not np.array_equal(other, degraded.sound[0]), "anew in every epoch"


@pytest.mark.parametrize("speed", [1.0, 1.25])
def test_a_window_is_labelled_at_the_lookahead_before_its_end(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, speed: float
) -> None:
    """One click in silence, labelled as the only phone: windows in which it lies at the lookahead get that phone."""
    import training.speech_batches as batches
    from dataset.phones import UNIT
    from training.augment import AugmentConfig
    from training.speech_corpus import Corpus, near_border

    at = 20_000
    sound = np.zeros(40_000, np.float32)
    sound[at - 2 : at + 3] = [0.2, 0.5, 0.9, 0.5, 0.2]
    phones = np.zeros(250, np.int64)
    phones[at // UNIT] = 7
    corpus = Corpus(
        versions=[[sound]],
        phones=[phones],
        articulation=[np.zeros((250, 3), np.float32)],
        near_border=[near_border(phones)],
    )
    windows: list[np.ndarray] = []
    real = batches.mel_of_windows

    def watched(windows_BS: np.ndarray) -> np.ndarray:
        windows.append(windows_BS.copy())
        return real(windows_BS)

    monkeypatch.setattr(batches, "mel_of_windows", watched)
    augment = AugmentConfig(**UNTOUCHED, speed_share=1, speed=(speed, speed + 1e-9))
    config = batches.SpeechConfig(batch=3000, noise_only_share=0, masked_share=0, tract_share=0, augment=augment)
    batch = batches.training_batch(config, corpus, batches.degrade_corpus(config, corpus, 0), 3)
    labels = batch.phones[:, 0, 1].numpy()
    clicks = [int(w.argmax()) if w.max() > 0.3 else -1 for w in windows[0]]
    before_end = np.array([len(windows[0][0]) - at if at >= 0 else -1 for at in clicks])
    assert (labels == 7).sum() > 5
    assert (np.abs(before_end[labels == 7] - config.lookahead_samples) <= UNIT).all()
    assert (labels[np.abs(before_end - config.lookahead_samples) > UNIT] == 0).all()
