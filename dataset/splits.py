"""Which recordings are held out: never trained on, in any stage, the audio encoder's included. Whole recordings, never
parts of one.
"""

from __future__ import annotations

from collections.abc import Iterable

HELD_OUT_GRID = tuple("bbaf2n bgau1a bwba4n lbaq6p lgbm3s lwaz3a pbav4p prii6n sbat6n swai2p".split())  # ten clips
LJSPEECH_HELD_OUT = 4  # the last four of the sorted utterances
LIBRISPEECH_EVERY = 10  # every tenth of the sorted utterances (one utterance a speaker)


def held_out_ids(corpus: str, ids: Iterable[str]) -> frozenset[str]:
    """The held-out ids of one corpus ("librispeech", "ljspeech" or "grid_s1"), given all of its ids.

    Raises ValueError for another corpus.
    """
    ordered = sorted(ids)
    if corpus == "librispeech":
        return frozenset(ordered[::LIBRISPEECH_EVERY])
    if corpus == "ljspeech":
        return frozenset(ordered[-LJSPEECH_HELD_OUT:])
    if corpus == "grid_s1":
        return frozenset(HELD_OUT_GRID)
    raise ValueError(f"corpus {corpus!r}: wanted librispeech, ljspeech or grid_s1")
