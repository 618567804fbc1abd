"""Training the audio encoder: nothing held out is read, and a run resumes to the same result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("torch")


def test_no_training_run_reads_held_out_speech(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The encoder's run is stopped after one step; what it opened for training holds nothing held out."""
    import training.speech as speech
    from dataset.phones import load_utterances
    from training.speech_batches import SpeechConfig

    utterances = load_utterances(data_folder)
    few = [u for u in utterances if u.corpus == "librispeech"][:21]
    few += [u for u in utterances if u.corpus == "ljspeech"][-6:]
    opened: list[list[str]] = []
    real = speech.load_corpus

    def watched(chosen: list[Any], data: Path) -> Any:
        opened.append([u.id for u in chosen])
        return real(chosen, data)

    monkeypatch.setattr(speech, "load_corpus", watched)
    monkeypatch.setattr(speech, "load_utterances", lambda data: few)
    speech.train(SpeechConfig(steps=1, batch=16, pitches=1), tmp_path, data_folder)
    held_out = {u.id for u in few if u.held_out}
    assert held_out and not held_out & set(opened[0])
    assert len(opened[0]) == len(few) - len(held_out)


def test_a_run_resumes_to_the_same_result(
    torch: Any, tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps at once, and two then one: the same weights, bit for bit."""
    from safetensors.numpy import load_file

    import training.speech as speech
    from dataset.phones import load_utterances
    from training.speech_batches import SpeechConfig

    few = [u for u in load_utterances(data_folder) if u.corpus == "librispeech"][:4]
    monkeypatch.setattr(speech, "load_utterances", lambda data: few)
    monkeypatch.setattr(speech, "evaluate", lambda *a, **k: {})
    config = SpeechConfig(steps=3, batch=16, epoch=2, pitches=1)
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
