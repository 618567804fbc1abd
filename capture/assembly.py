"""A tracked video -> the dataset folder that an avatar is trained on, the same as the studio's.

Shape letters: C expression shapes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from capture import video
from capture.landmarks import Landmarks
from capture.morphable_model import MorphableModel
from capture.plan import Piece, head_positions, plan, take_starts
from capture.track import Track
from dataset import folder
from dataset.files import LosslessVideo, write_wav, writing
from dataset.phones import PHONE_RATE, read_labels
from dataset.template import build_template
from realtime.camera import Camera
from realtime.contract import FRAME_RATE
from realtime.errors import MiravoxError

Phones = tuple[tuple[str, int, int], ...]  # (ARPAbet phone, start, duration), units of 10 ms


@dataclass(frozen=True)
class Summary:
    """What was written, for people."""

    frames: int
    held_out_frames: int
    lost_frames: int  # without a face, left out
    source_take: str
    source_seconds: float
    source_silent: bool  # whether nobody speaks in the source loop
    source_motion_mm: float  # how far the head moves in it, standard deviation


def write_dataset(
    out: Path,
    *,
    name: str,
    takes: Sequence[video.Take],
    landmarks: Sequence[Landmarks],
    track: Track,
    model: MorphableModel,
    provenance: Mapping[str, object],
    licence: Mapping[str, str],
    held_out: Collection[str] = (),
    phones: Sequence[Phones] = (),
) -> Summary:
    """Writes the dataset folder `out`; until it is complete it is called `out`.part.

    Args:
        takes, landmarks: one of each a take; all takes have one size.
        track: frames of all takes, one take after the other.
        provenance: where the video comes from.
        held_out: names of the takes that are not trained on; none: the last tenth.
        phones: of each take, if they are known: training then closes the lips on P, B and M with more care.

    Raises MiravoxError if there is too little footage, or the disk takes no more.
    """
    pieces, silent = plan(takes, landmarks, track, model, held_out)
    starts = take_starts(takes)
    chosen = np.concatenate([starts[p.take] + np.arange(p.first, p.end) for p in pieces])
    template = build_template(model, model.identity_vertices(track.alpha_I))
    view = track.view
    with writing(out), folder.new_folder(out) as part:
        folder.describe(
            part,
            name=name,
            camera=Camera(view.focal, view.focal, view.cx, view.cy, takes[0].width, takes[0].height),
            takes=_write_takes(part, takes, pieces, phones),
            template=template,
            basis=template.basis(model.expression_CV3),
            expression_names=model.expression_names,
            pose=track.pose_N44[chosen],
            expression=track.delta_NC[chosen],
            provenance={"generator": "capture", **provenance},
            licence=licence,
        )
    source = pieces[0]
    still = head_positions(track, model)[starts[source.take] + source.first : starts[source.take] + source.end]
    return Summary(
        frames=len(chosen),
        held_out_frames=sum(p.frames for p in pieces if p.held_out),
        lost_frames=int(np.isnan(track.reprojection_N).sum()),
        source_take=takes[source.take].name,
        source_seconds=source.frames / FRAME_RATE,
        source_silent=silent,
        source_motion_mm=float(10 * np.sqrt(still.var(0).sum())),
    )


def _write_takes(
    part: Path, takes: Sequence[video.Take], pieces: Sequence[Piece], phones: Sequence[Phones]
) -> list[folder.Take]:
    """Writes frames and speech of the pieces; returns the takes that they are."""
    written: list[folder.Take] = []
    first = 0
    with (
        LosslessVideo(part / folder.FRAMES, takes[0].width) as frames,
        tqdm(total=sum(p.frames for p in pieces), desc="writing frames", unit="frame") as bar,
    ):
        for piece, name in zip(pieces, _names(takes, pieces), strict=True):
            cut = takes[piece.take].piece(name, piece.first, piece.end)
            for frame in cut.frames:
                frames.write(frame)
                bar.update()
            sound = part / "speech" / f"{name}.wav"
            write_wav(sound, cut.speech)
            written.append(
                folder.Take(
                    name=name,
                    first=first,
                    end=first + piece.frames,
                    speech=sound,
                    held_out=piece.held_out,
                    corpus="capture",
                    phones=within(phones[piece.take], piece.first, piece.end) if phones else (),
                )
            )
            first += piece.frames
    return written


def _names(takes: Sequence[video.Take], pieces: Sequence[Piece]) -> list[str]:
    """A take's name, numbered where it was cut into several."""
    names: list[str] = []
    for piece in pieces:
        name, number = takes[piece.take].name, 2
        while name in names:
            name, number = f"{takes[piece.take].name}-{number}", number + 1
        names.append(name)
    return names


def within(phones: Phones, first: int, end: int) -> Phones:
    """The phones of frames first .. end - 1, in the time of a take that begins at `first`; cut at its ends."""
    begin, stop = (round(f * PHONE_RATE / FRAME_RATE) for f in (first, end))
    cut = ((phone, max(start, begin), min(start + length, stop)) for phone, start, length in phones)
    return tuple((phone, start - begin, until - start) for phone, start, until in cut if until > start)


def labelled(kept: Path, labels: Path) -> list[Phones]:
    """The phones of each take of the folder `kept` (kept_takes.save_takes), in the take's own time.

    Args:
        labels: a file of dataset.phones.read_labels; an id is a recording's name without its ending.

    Raises MiravoxError if it is malformed or knows none of the recordings.
    """
    info = json.loads((kept / "takes.json").read_text())
    known = {u.id: u.phones for u in read_labels(labels)}
    names = [Path(row["recording"]).stem for row in info["takes"]]
    if not known.keys() & set(names):
        raise MiravoxError(
            str(labels),
            found=f"labels of {', '.join(sorted(known)[:3]) or 'nothing'}",
            wanted=f"some of {', '.join(sorted(set(names))[:3])}",
            remedy="Name labels after the recordings.",
        )
    moved = round(info["correction"] * PHONE_RATE)
    found = []
    for row, name in zip(info["takes"], names, strict=True):
        phones = tuple((phone, start + moved, length) for phone, start, length in known.get(name, ()))
        found.append(within(phones, row["begin"], row["begin"] + row["end"] - row["first"]))
    return found
