"""Phone labels of the speech corpora and of any recordings, viseme classes, and where each utterance's sound lies."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dataset.splits import held_out_ids
from realtime.arrays import Int64Array
from realtime.contract import SAMPLE_RATE
from realtime.errors import MiravoxError

# Thirteen viseme classes; a phone's stress digit is dropped, and what is not a phone counts as silence.
VISEMES: tuple[tuple[str, ...], ...] = tuple(
    tuple(group.split())
    for group in (
        "SIL, P B M, F V, TH DH, T D N L, S Z, SH ZH CH JH, K G NG HH, R ER, "
        "W UW UH OW OY, AO AA AW, IY IH Y EY, EH AE AH AY"
    ).split(", ")
)
PHONES: tuple[str, ...] = tuple(phone for group in VISEMES for phone in group)  # index 0 is SIL
VISEME_OF_PHONE = np.array([v for v, group in enumerate(VISEMES) for _ in group])
PHONE_RATE = 100  # label units a second
UNIT = SAMPLE_RATE // PHONE_RATE  # samples of a label
LIPS_TOGETHER = ("P", "B", "M")


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One labelled recording; `phones` are (ARPAbet phone, start, duration) in units of 10 ms."""

    id: str
    seconds: float
    phones: tuple[tuple[str, int, int], ...]
    corpus: str = ""
    text: str = ""
    held_out: bool = False

    def path(self, data: Path) -> Path:
        """Its recording within the data folder."""
        if self.corpus == "grid_s1":
            return data / "portrait" / "grid_s1" / f"{self.id}.mpg"
        return data / "speech" / self.corpus / f"{self.id}.flac"

    def phone_indices(self) -> Int64Array:
        """Index into PHONES for every 10 ms, shape [ceil(100 seconds)]."""
        indices = np.zeros(int(np.ceil(self.seconds * PHONE_RATE)) + 1, np.int64)
        for phone, start, duration in self.phones:
            indices[max(0, start) : max(0, start + duration)] = phone_index(phone)
        return indices


def data_folder() -> Path:
    """The folder with face model, portrait clips and speech: $MIRAVOX_DATA, else ../shared/data beside the clone."""
    return Path(os.environ.get("MIRAVOX_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def phone_index(phone: str) -> int:
    """Index into PHONES; 0 (silence) for what is not a phone."""
    bare = phone.rstrip("012")
    return PHONES.index(bare) if bare in PHONES else 0


def load_utterances(data: Path) -> list[Utterance]:
    """All labelled utterances, in the order of the label file. Raises MiravoxError if it is missing or malformed."""
    rows = read_labels(data / "speech" / "labels.jsonl")
    held_out = {c: held_out_ids(c, _ids_on_disk(data, c)) for c in {u.corpus for u in rows}}
    return [replace(u, held_out=u.id in held_out[u.corpus]) for u in rows]


def read_labels(path: Path) -> list[Utterance]:
    """The utterances of a label file, none of them held out.

    Raises MiravoxError if it is missing, or names the first line that is not a label.
    """
    if not path.is_file():
        raise MiravoxError(
            str(path),
            found="no such file",
            wanted="phone labels, one JSON object a line",
            remedy="Check the name; for the training speech, set MIRAVOX_DATA to the data folder.",
        )
    utterances = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            label = Utterance(
                corpus=row.get("corpus", ""),
                id=row["id"],
                seconds=float(row["seconds"]),
                text=row.get("text", ""),
                phones=tuple((str(p), int(s), int(d)) for p, s, d in row["phones"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MiravoxError(
                f"{path}, line {number}",
                found=f"{line[:60]!r} ({type(error).__name__}: {error})",
                wanted='{"id": ..., "seconds": ..., "phones": [[phone, start, duration], ...]}, times in 10 ms',
                remedy="Correct the line.",
            ) from error
        utterances.append(label)
    return utterances


def _ids_on_disk(data: Path, corpus: str) -> list[str]:
    """Every id of a corpus, labelled or not: the split is over what exists."""
    folder, ending = (
        (data / "portrait" / corpus, "*.mpg") if corpus == "grid_s1" else (data / "speech" / corpus, "*.flac")
    )
    return [p.stem for p in folder.glob(ending)]
