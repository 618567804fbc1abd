"""What is held out is what it is said to be, in every room."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset.phones import load_utterances
from dataset.splits import HELD_OUT_GRID, held_out_ids
from studio.film import FilmConfig, choose_scripts


def test_the_split_is_fixed(data_folder: Path) -> None:
    utterances = load_utterances(data_folder)
    files = sorted(p.stem for p in (data_folder / "speech" / "librispeech").glob("*.flac"))
    corpora = ("librispeech", "ljspeech", "grid_s1")
    held = {c: {u.id for u in utterances if u.corpus == c and u.held_out} for c in corpora}
    assert held["librispeech"] <= set(files[::10]) and len(held["librispeech"]) >= 24
    assert held["ljspeech"] == {f"LJ001-{n:04}" for n in (29, 30, 31, 32)}
    assert held["grid_s1"] == set(HELD_OUT_GRID) and len(HELD_OUT_GRID) == 10
    speakers = [i.split("-")[0] for i in files]
    assert len(set(speakers)) == len(speakers), "one utterance a speaker: held-out ids are held-out speakers"


def test_studio_and_training_agree_on_the_split(data_folder: Path) -> None:
    held_out = {u.id for u in load_utterances(data_folder) if u.held_out}
    scripts = choose_scripts(FilmConfig())
    assert {s.id for s in scripts if s.held_out} == {s.id for s in scripts if s.id in held_out}
    assert sum(s.held_out for s in scripts) >= 6


def test_another_corpus_is_refused() -> None:
    with pytest.raises(ValueError, match="corpus 'other'"):
        held_out_ids("other", ["a"])
