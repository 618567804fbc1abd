"""Training: what is held out stays out, windows stay within their take, runs resume to the same result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from networks.contract import EMBEDDINGS, SAMPLES_PER_FRAME
from realtime.errors import MiravoxError

pytestmark = pytest.mark.usefixtures("torch")


def test_split_is_the_designs(data_folder: Path) -> None:
    from training.phones import load_utterances
    from training.splits import HELD_OUT_GRID

    utterances = load_utterances(data_folder)
    files = sorted(p.stem for p in (data_folder / "speech" / "librispeech").glob("*.flac"))
    held = {
        c: {u.id for u in utterances if u.corpus == c and u.held_out} for c in ("librispeech", "ljspeech", "grid_s1")
    }
    assert held["librispeech"] <= set(files[::10]) and len(held["librispeech"]) >= 24
    assert held["ljspeech"] == {f"LJ001-{n:04}" for n in (29, 30, 31, 32)}
    assert held["grid_s1"] == set(HELD_OUT_GRID) and len(HELD_OUT_GRID) == 10
    speakers = [i.split("-")[0] for i in files]
    assert len(set(speakers)) == len(speakers), "one utterance a speaker: held-out ids are held-out speakers"


def test_no_training_run_reads_held_out_speech(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The encoder's run is stopped after one step; what it opened for training holds nothing held out."""
    import training.speech as speech
    from training.phones import load_utterances

    utterances = load_utterances(data_folder)
    few = [u for u in utterances if u.corpus == "librispeech"][:21] + [u for u in utterances if u.corpus == "ljspeech"][
        -6:
    ]
    opened: list[list[str]] = []
    real = speech.load_corpus

    def watched(chosen: list[Any], data: Path) -> Any:
        opened.append([u.id for u in chosen])
        return real(chosen, data)

    monkeypatch.setattr(speech, "load_corpus", watched)
    monkeypatch.setattr(speech, "load_utterances", lambda data: few)
    speech.train(speech.SpeechConfig(steps=1, batch=16, pitches=1), tmp_path, data_folder)
    held_out = {u.id for u in few if u.held_out}
    assert held_out and not held_out & set(opened[0])
    assert len(opened[0]) == len(few) - len(held_out)


def test_studio_and_training_agree_on_the_split(data_folder: Path) -> None:
    from studio.dataset import FilmConfig, choose_scripts
    from training.phones import load_utterances

    held_out = {u.id for u in load_utterances(data_folder) if u.held_out}
    scripts = choose_scripts(FilmConfig())
    assert {s.id for s in scripts if s.split == "held_out"} == {s.id for s in scripts if s.id in held_out}
    assert sum(s.split == "held_out" for s in scripts) >= 6


def test_windows_never_cross_takes(torch: Any, tmp_path: Path) -> None:
    """What is spoken in one take leaves no trace in the windows of the next; frame 0 looks back into silence."""
    from networks.audio_encoder import AudioEncoder
    from training.dataset import Take, embed_dataset

    rng = np.random.default_rng(0)
    frames = 12

    def dataset(first_speech: np.ndarray) -> Any:
        from training.dataset_files import write_wav

        takes = []
        for number, samples in enumerate((first_speech, rng_second)):
            path = tmp_path / f"{number}-{abs(hash(samples.tobytes()))}.wav"
            write_wav(path, samples)
            takes.append(Take(str(number), number * frames, (number + 1) * frames, path, False, "", ()))
        return type("Takes", (), {"takes": tuple(takes)})()

    rng_second = (0.1 * rng.standard_normal(frames * SAMPLES_PER_FRAME)).astype(np.float32)
    torch.manual_seed(0)
    encoder = AudioEncoder()
    loud = embed_dataset(
        encoder, dataset((0.3 * rng.standard_normal(frames * SAMPLES_PER_FRAME)).astype(np.float32)), 1800
    )
    quiet = embed_dataset(encoder, dataset(np.zeros(frames * SAMPLES_PER_FRAME, np.float32)), 1800)
    assert loud.shape == (2 * frames, EMBEDDINGS, 512)
    assert not np.allclose(loud[:frames], quiet[:frames])
    assert np.array_equal(loud[frames:], quiet[frames:])
    silent = quiet[0, 0]  # an embedding of nothing at all
    assert np.allclose(loud[frames, 0], silent, atol=1e-5), "frame -8 of a take hears silence"
    assert np.array_equal(loud[5, 1:], loud[6, :-1]), "windows slide by one embedding"


def test_a_run_resumes_to_the_same_result(
    torch: Any, tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps at once, and two then one: the same weights, bit for bit."""
    from safetensors.numpy import load_file

    import training.speech as speech
    from training.phones import load_utterances

    few = [u for u in load_utterances(data_folder) if u.corpus == "librispeech"][:4]
    monkeypatch.setattr(speech, "load_utterances", lambda data: few)
    monkeypatch.setattr(speech, "evaluate", lambda *a, **k: {})
    config = speech.SpeechConfig(steps=3, batch=16, epoch=2, pitches=1)
    torch.use_deterministic_algorithms(True)
    whole = load_file(speech.train(config, tmp_path / "whole", data_folder))

    class Stopped(Exception):
        pass

    real = speech.Checkpoint.save_if_due

    def stop_after_two(self: Any, step: int) -> None:
        real(self, step)
        if step == 2:
            self.save(step)
            raise Stopped

    monkeypatch.setattr(speech.Checkpoint, "save_if_due", stop_after_two)
    with pytest.raises(Stopped):
        speech.train(config, tmp_path / "parts", data_folder)
    monkeypatch.setattr(speech.Checkpoint, "save_if_due", real)
    resumed = load_file(speech.train(config, tmp_path / "parts", data_folder, resume=True))
    torch.use_deterministic_algorithms(False)
    assert resumed.keys() == whole.keys() and all(np.array_equal(resumed[k], whole[k]) for k in whole)


def test_a_run_is_not_overwritten_or_mixed(tmp_path: Path) -> None:
    from training.run import CHECKPOINT, open_run
    from training.speech import SpeechConfig

    open_run(tmp_path, SpeechConfig(), resume=False)
    assert json.loads((tmp_path / "config.json").read_text())["batch"] == SpeechConfig().batch
    (tmp_path / CHECKPOINT).write_bytes(b"")
    with pytest.raises(MiravoxError, match="--resume"):
        open_run(tmp_path, SpeechConfig(), resume=False)
    with pytest.raises(MiravoxError, match="another configuration"):
        open_run(tmp_path, SpeechConfig(steps=7), resume=True)
    open_run(tmp_path, SpeechConfig(), resume=True)


UNTOUCHED: dict[str, Any] = {
    "noise_share": 0, "room_share": 0, "band_share": 0, "opus_share": 0, "clip_share": 0, "gain_db": (0, 0),
}  # fmt: skip


def test_augmentation_is_labelled_rightly(data_folder: Path) -> None:
    """The label of a window is the phone at its moment, and noise alone is silence without presence."""
    import training.speech as speech
    from training.augment import AugmentConfig
    from training.phones import PHONES, load_utterances

    utterance = next(u for u in load_utterances(data_folder) if u.corpus == "ljspeech")
    corpus = speech.load_corpus([utterance], data_folder)
    phone, start, duration = max(utterance.phones, key=lambda p: p[2] if p[0] != "SIL" else 0)
    assert PHONES[corpus.phones[0][start + duration // 2]] == phone.rstrip("012")

    noisy = speech.SpeechConfig(batch=8, noise_only_share=0.75)
    degraded = speech.degrade_corpus(noisy, corpus, 0)
    assert degraded.source == [0, -1, -1, -1]
    alone = speech.Degraded(degraded.sound[1:], degraded.speed[1:], degraded.source[1:])
    batch = speech.training_batch(noisy, corpus, alone, 0)
    assert not batch.phones.any() and not batch.presence.any() and batch.judged.all()
    assert batch.articulation[..., 2].all(), "at rest"

    config = AugmentConfig(**UNTOUCHED, speed_share=0)
    clean = speech.SpeechConfig(batch=64, noise_only_share=0, masked_share=0, tract_share=0, augment=config)
    degraded = speech.degrade_corpus(clean, corpus, 0)
    batch = speech.training_batch(clean, corpus, degraded, 0)
    assert batch.mel.shape == (64, 1, 80, 16) and batch.phones.shape == (64, 7, 3)
    assert (batch.presence == (batch.phones[:, 0, 1] > 0)).all()
    # The second label is the encoder's own lookahead, which is among the others, too.
    assert (batch.phones[:, 0] == batch.phones[:, 1 + speech.LOOKAHEADS.index(1800)]).all()
    again = speech.training_batch(clean, corpus, speech.degrade_corpus(clean, corpus, 0), 0)
    assert (batch.mel == again.mel).all()
    other = speech.degrade_corpus(noisy, corpus, 1).sound[0]
    assert len(other) != len(degraded.sound[0]) or not np.array_equal(other, degraded.sound[0]), "anew in every epoch"


@pytest.mark.parametrize("speed", [1.0, 1.25])
def test_a_window_is_labelled_at_the_lookahead_before_its_end(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, speed: float
) -> None:
    """A single loud click in silence, labelled as the only phone: whoever hears it at the lookahead gets the phone."""
    import training.speech as speech
    from training.augment import AugmentConfig
    from training.phones import UNIT

    at = 20_000
    sound = np.zeros(40_000, np.float32)
    sound[at - 2 : at + 3] = [0.2, 0.5, 0.9, 0.5, 0.2]
    phones = np.zeros(250, np.int64)
    phones[at // UNIT] = 7
    corpus = speech.Corpus([[sound]], [phones], [np.zeros((250, 3), np.float32)], [speech.near_border(phones)])
    windows: list[np.ndarray] = []
    real = speech.mel_of_windows

    def watched(windows_BS: np.ndarray) -> np.ndarray:
        windows.append(windows_BS.copy())
        return real(windows_BS)

    monkeypatch.setattr(speech, "mel_of_windows", watched)
    augment = AugmentConfig(**UNTOUCHED, speed_share=1, speed=(speed, speed + 1e-9))
    config = speech.SpeechConfig(batch=3000, noise_only_share=0, masked_share=0, tract_share=0, augment=augment)
    batch = speech.training_batch(config, corpus, speech.degrade_corpus(config, corpus, 0), 3)
    labels = batch.phones[:, 0, 1].numpy()
    heard = [int(w.argmax()) if w.max() > 0.3 else -1 for w in windows[0]]
    before_end = np.array([len(windows[0][0]) - h if h >= 0 else -1 for h in heard])
    assert (labels == 7).sum() > 5
    assert (np.abs(before_end[labels == 7] - config.lookahead_samples) <= UNIT).all()
    assert (labels[np.abs(before_end - config.lookahead_samples) > UNIT] == 0).all()


def test_presence_is_not_judged_at_borders() -> None:
    from training.speech import near_border

    phones = np.zeros(40, np.int64)
    phones[10:20] = 5
    assert np.flatnonzero(near_border(phones)).tolist() == [*range(6, 14), *range(16, 24)]


def test_the_mouth_shape_closes_on_lips(data_folder: Path) -> None:
    from training.phones import Utterance
    from training.speech import mouth_shape

    phones = (("SIL", 0, 20), ("AA", 20, 20), ("B", 40, 10), ("AA", 50, 20), ("SIL", 70, 30))
    shape = mouth_shape(Utterance("", "", 1.0, "", phones, False), 100)
    assert shape[30, 0] > 0.5 and not shape[30, 2], "centimetres, open"
    assert shape[45, 2] and shape[95, 2]


def test_what_neither_face_nor_source_knows_is_filled_from_around() -> None:
    """A seam of the mean of both sides, and a gap wider than a cell from its border inwards; known pixels stay."""
    from realtime.compositor import fill_unknown

    over = np.zeros((3, 60, 44), np.float32)
    over[:, :, :22], over[:, :, 22:] = 0.2, 0.6
    known = np.ones((60, 44), bool)
    known[10:50, 21:23] = False  # between both
    known[20:50, 2:18] = False  # in the dark half
    before = over.copy()
    over[:, ~known] = 0
    fill_unknown(over, known)
    assert np.array_equal(over[:, known], before[:, known])
    assert np.abs(over[:, 25:45, 4:14] - 0.2).max() < 1e-4
    assert 0.25 < over[:, 15:45, 21:23].mean() < 0.55
    nothing = np.zeros((3, 8, 8), np.float32)
    fill_unknown(nothing, np.zeros((8, 8), bool))
    assert not nothing.any(), "nothing to fill from"


def test_resize_matrices_and_positional_weights() -> None:
    from realtime.resize import resampling, resize

    image = np.random.default_rng(0).random((3, 12, 20)).astype(np.float32)
    same = resize(image, resampling(12, 12), resampling(20, 20))
    assert np.allclose(same, image, atol=1e-6)
    ramp = np.repeat(np.linspace(0, 1, 20, dtype=np.float32)[None, None], 12, 1)
    grown = resize(ramp, resampling(12, 24), resampling(20, 40))
    assert np.all(np.diff(grown[0, 0]) >= -1e-6) and grown.mean() == pytest.approx(ramp.mean(), abs=1e-5)
    shrunk = resize(image, resampling(12, 6), resampling(20, 10))
    assert shrunk.mean() == pytest.approx(image.mean(), abs=0.02) and shrunk.std() < image.std()
