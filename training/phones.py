"""Phone labels of the speech corpora, their viseme classes, and where each utterance's sound lies."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from realtime.errors import MiravoxError
from training.splits import held_out_ids

# Thirteen viseme classes; a phone's stress digit is dropped, and what is not a phone counts as silence.
VISEMES: tuple[tuple[str, ...], ...] = tuple(
    tuple(group.split())
    for group in (
        "SIL", "P B M", "F V", "TH DH", "T D N L", "S Z", "SH ZH CH JH", "K G NG HH", "R ER", "W UW UH OW OY",
        "AO AA AW", "IY IH Y EY", "EH AE AH AY",
    )
)  # fmt: skip
PHONES: tuple[str, ...] = tuple(phone for group in VISEMES for phone in group)  # index 0 is SIL
VISEME_OF_PHONE = np.array([v for v, group in enumerate(VISEMES) for _ in group])
PHONE_RATE = 100  # label units a second


@dataclass(frozen=True)
class Utterance:
    """One labelled recording; `phones` are (ARPAbet phone, start, duration) in units of 10 ms."""

    corpus: str
    id: str
    seconds: float
    text: str
    phones: tuple[tuple[str, int, int], ...]
    held_out: bool

    def path(self, data: Path) -> Path:
        if self.corpus == "grid_s1":
            return data / "portrait" / "grid_s1" / f"{self.id}.mpg"
        return data / "speech" / self.corpus / f"{self.id}.flac"

    def phone_indices(self) -> NDArray[np.int64]:
        """Index into PHONES for every 10 ms, shape [ceil(100 seconds)]."""
        indices = np.zeros(int(np.ceil(self.seconds * PHONE_RATE)) + 1, np.int64)
        for phone, start, duration in self.phones:
            indices[start : start + duration] = phone_index(phone)
        return indices


def data_folder() -> Path:
    """The folder with face model, portrait clips and speech: $MIRAVOX_DATA, else ../shared/data beside the clone."""
    return Path(os.environ.get("MIRAVOX_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def phone_index(phone: str) -> int:
    """Index into PHONES; 0 (silence) for what is not a phone."""
    bare = phone.rstrip("012")
    return PHONES.index(bare) if bare in PHONES else 0


def load_utterances(data: Path) -> list[Utterance]:
    """All labelled utterances, in the order of the label file. Raises MiravoxError if it is missing."""
    path = data / "speech" / "labels.jsonl"
    if not path.is_file():
        raise MiravoxError(
            str(path), found="no such file", wanted="phone labels", remedy="Set MIRAVOX_DATA to the data folder."
        )
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    corpora = {row["corpus"] for row in rows}
    held_out = {c: held_out_ids(c, _ids_on_disk(data, c)) for c in corpora}
    return [
        Utterance(
            row["corpus"], row["id"], row["seconds"], row["text"],
            tuple((p, s, d) for p, s, d in row["phones"]), row["id"] in held_out[row["corpus"]],
        )
        for row in rows
    ]  # fmt: skip


def _ids_on_disk(data: Path, corpus: str) -> list[str]:
    """Every id of a corpus, labelled or not: the split is over what exists."""
    folder, ending = (
        (data / "portrait" / corpus, "*.mpg") if corpus == "grid_s1" else (data / "speech" / corpus, "*.flac")
    )
    return [p.stem for p in folder.glob(ending)]
