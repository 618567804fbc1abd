"""The ear's bench: right and wrong answers give their figures, noise is what it says, other speech is measured, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.errors import MiravoxError

pytestmark = pytest.mark.usefixtures("torch", "gl_context")


def test_music_is_loud_throughout_and_never_trained_with() -> None:
    from bench.speech import music
    from training.augment import NOISES, rms

    sound = music(np.random.default_rng(0), 32_000)
    assert rms(sound) == pytest.approx(1, rel=1e-3) and "music" not in NOISES
    quarters = [rms(q) for q in np.split(sound, 4)]
    assert min(quarters[1:]) > 0.3
    spectrum = np.abs(np.fft.rfft(sound[8000:24000]))
    assert spectrum.max() > 30 * np.median(spectrum), "tones"


def test_noise_is_ten_decibels_down() -> None:
    from bench.speech import with_noise
    from training.augment import rms

    rng = np.random.default_rng(0)
    speech = np.asarray(0.05 * rng.standard_normal(16_000), np.float32)
    noise = np.asarray(rng.standard_normal(16_000), np.float32)
    added = with_noise(speech, noise / np.float32(rms(noise))) - speech
    assert 20 * np.log10(rms(speech) / rms(added)) == pytest.approx(10, abs=0.01)


def test_answers_are_counted_at_every_lookahead(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that know the truth at one lookahead are right there, and only there."""
    import bench.speech as bench
    from bench.articulation import Labelled
    from networks.readout import LOOKAHEADS
    from training.phones import PHONES, UNIT, Utterance, phone_index
    from training.speech import Heard

    phones = (("SIL", 0, 50), ("M", 50, 10), ("AA", 60, 40), ("P", 100, 8), ("S", 108, 42), ("SIL", 150, 50))
    utterance = Utterance("test", "test", 2.0, "", phones, True)
    samples, known = 32_000, LOOKAHEADS.index(1800)
    ends = np.arange(0, 640 * 60, 640)
    probability = np.zeros((60, len(LOOKAHEADS), len(PHONES)), np.float32)
    labels = utterance.phone_indices()
    for k, end in enumerate(ends):
        unit = min(max(0, (int(end) - 1800) // UNIT), len(labels) - 1)
        probability[k, :, labels[unit]] = 1
    frames_of_p = [k for k, end in enumerate(ends) if 100 <= (end - 1800) // UNIT < 108]
    probability[frames_of_p, known] = np.eye(len(PHONES))[phone_index("T")]  # P is misheard
    heard = Heard(np.zeros((60, 9, 512), np.float32), (probability[:, known, 0] < 0.5).astype(np.float32), ends)
    monkeypatch.setattr(bench, "hear", lambda *a: heard)
    monkeypatch.setattr(bench, "recognise", lambda *a: probability)
    tallies = {x: bench.Tally([], [], [], [], [], []) for x in LOOKAHEADS}
    sound = np.zeros(samples, np.float32)
    nothing: Any = None
    bench.tally_recording(tallies, nothing, nothing, 1800, Labelled(utterance, Path()), sound)
    figures = {x: tallies[x].figures() for x in LOOKAHEADS}
    own = figures[1800]
    wrong = len(frames_of_p) / len(tallies[1800].phone[0])
    assert wrong > 0 and own["phone"] == pytest.approx(1 - wrong) and own["viseme"] == own["phone"]
    assert own["closure_interval_recall"] == 0.5 and 0 < own["closure_recall"] < 1
    assert own["closure_precision"] == 1 and own["presence"] == 1
    assert figures[600]["phone"] < own["phone"] and figures[6000]["phone"] < own["phone"]


def test_other_speech_is_measured_with_its_own_labels(tmp_path: Path) -> None:
    from bench.speech import other_speech

    (tmp_path / "sound").mkdir()
    (tmp_path / "sound" / "me.wav").write_bytes(b"")
    labels = tmp_path / "labels.jsonl"
    rows = [{"id": name, "seconds": 1.0, "phones": [["M", 0, 50], ["SIL", 50, 50]]} for name in ("me", "absent")]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = other_speech(tmp_path / "sound", labels)
    assert found.path.name == "me.wav" and found.utterance.phones == (("M", 0, 50), ("SIL", 50, 50))
    (tmp_path / "sound" / "me.wav").rename(tmp_path / "sound" / "you.wav")
    with pytest.raises(MiravoxError, match="none with a label"):
        other_speech(tmp_path / "sound", labels)


MALFORMED = ("no json", "[1, 2]", '{"id": "a", "seconds": 1}', '{"id": "a", "seconds": 1, "phones": [["M", 1]]}')


@pytest.mark.parametrize("line", MALFORMED)
def test_a_malformed_label_is_named(tmp_path: Path, line: str) -> None:
    from training.phones import read_labels

    path = tmp_path / "labels.jsonl"
    path.write_text('{"id": "good", "seconds": 1, "phones": []}\n' + line + "\n")
    with pytest.raises(MiravoxError, match=r"labels\.jsonl, line 2"):
        read_labels(path)


def test_the_readout_of_another_encoder_is_refused(torch: Any, ada: Path, tmp_path: Path) -> None:
    from networks.audio_encoder import AudioEncoder
    from networks.readout import Readout
    from training.encoders import load_encoder
    from training.readout import ReadoutTraining, load_readout, save_readout

    encoder, _ = load_encoder(ada)
    with pytest.raises(MiravoxError, match="no such file"):
        load_readout(tmp_path / "absent.safetensors", encoder)
    save_readout(Readout(), AudioEncoder(), ReadoutTraining(), tmp_path / "readout.safetensors")
    with pytest.raises(MiravoxError, match="another encoder"):
        load_readout(tmp_path / "readout.safetensors", encoder)


def test_the_shipped_readout_belongs_to_the_shipped_encoder(torch: Any, ada: Path) -> None:
    from bench.speech import READOUT
    from training.encoders import load_encoder
    from training.readout import load_readout

    load_readout(ada.parents[1] / READOUT, load_encoder(ada)[0])


def test_the_readout_learns_what_embeddings_tell(torch: Any) -> None:
    """Embeddings that spell out the phone of their own moment: the readout finds it at every lookahead that the window
    reaches.
    """
    from networks.contract import EMBEDDING, EMBEDDINGS
    from training.readout import ReadoutTraining, fit
    from training.voices import Voices

    rng = np.random.default_rng(0)
    frames, phones = 4000, np.repeat(rng.integers(0, 40, 800), 5)
    embeddings = np.zeros((frames + EMBEDDINGS - 1, EMBEDDING), np.float16)
    embeddings[np.arange(frames) + EMBEDDINGS - 1, phones] = 2
    labels = np.stack([np.roll(phones, back) for back in range(6)], 1)  # a frame further back at each lookahead
    voices = Voices(
        embeddings, np.arange(frames) + EMBEDDINGS - 1, np.zeros((frames, 0), np.float32), np.zeros(frames, bool),
        np.repeat(labels[..., None], 3, -1).astype(np.int8),
    )  # fmt: skip
    readout = fit(voices, ReadoutTraining(epochs=12, batch=128, learning_rate=3e-3))
    rows = np.arange(10, frames)
    found = readout(torch.from_numpy(voices.windows(rows))).argmax(-1).numpy()
    assert (found == labels[rows]).mean() > 0.9
