"""Recognition of speech, measured: right and wrong answers give their figures, noise is what it says."""

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
    from training.noises import NOISES, rms

    sound = music(np.random.default_rng(0), 32_000)
    assert rms(sound) == pytest.approx(1, rel=1e-3) and "music" not in NOISES
    quarters = [rms(q) for q in np.split(sound, 4)]
    assert min(quarters[1:]) > 0.3
    spectrum = np.abs(np.fft.rfft(sound[8000:24000]))
    assert spectrum.max() > 30 * np.median(spectrum), "tones"


def test_noise_is_ten_decibels_down() -> None:
    from bench.speech import with_noise
    from training.noises import rms

    rng = np.random.default_rng(0)
    speech = np.asarray(0.05 * rng.standard_normal(16_000), np.float32)
    noise = np.asarray(rng.standard_normal(16_000), np.float32)
    added = with_noise(speech, noise / np.float32(rms(noise))) - speech
    assert 20 * np.log10(rms(speech) / rms(added)) == pytest.approx(10, abs=0.01)


def test_answers_are_counted_at_every_lookahead(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that know the truth at one lookahead are right there, and only there."""
    import bench.speech as bench
    from bench.articulation import Labelled
    from dataset.phones import PHONES, UNIT, Utterance, phone_index
    from networks.readout import LOOKAHEADS
    from training.embeddings import EncodedRecording

    phones = (("SIL", 0, 50), ("M", 50, 10), ("AA", 60, 40), ("P", 100, 8), ("S", 108, 42), ("SIL", 150, 50))
    utterance = Utterance(id="test", seconds=2.0, phones=phones)
    samples, known = 32_000, LOOKAHEADS.index(1800)
    ends = np.arange(0, 640 * 60, 640)
    probability = np.zeros((60, len(LOOKAHEADS), len(PHONES)), np.float32)
    labels = utterance.phone_indices()
    for k, end in enumerate(ends):
        unit = min(max(0, (int(end) - 1800) // UNIT), len(labels) - 1)
        probability[k, :, labels[unit]] = 1
    frames_of_p = [k for k, end in enumerate(ends) if 100 <= (end - 1800) // UNIT < 108]
    probability[frames_of_p, known] = np.eye(len(PHONES))[phone_index("T")]  # P is mistaken for T
    presence = (probability[:, known, 0] < 0.5).astype(np.float32)
    encoded = EncodedRecording(windows=np.zeros((60, 9, 512), np.float32), presence=presence, ends=ends)
    monkeypatch.setattr(bench, "encode_recording", lambda *a: encoded)
    monkeypatch.setattr(bench, "recognise", lambda *a: probability)
    tallies = {x: bench.Tally() for x in LOOKAHEADS}
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


def test_the_shipped_readout_belongs_to_the_shipped_encoder(torch: Any, ada: Path) -> None:
    from bench.speech import READOUT
    from training.encoders import load_encoder
    from training.readout import load_readout

    load_readout(ada.parents[1] / READOUT, load_encoder(ada)[0])
