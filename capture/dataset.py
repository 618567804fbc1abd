"""A tracked video -> the dataset folder that an avatar is trained on, the same as the studio's.

The first take is the source loop: the stillest stretch there is, silent if there is one. What is held out are whole
takes: those that are named, or the last tenth.

Shape letters: N frames of all takes, F frames of one, C expression shapes, V template vertices, S samples.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tqdm import tqdm

from capture.landmarks import Landmarks
from capture.morphable_model import Float64Array, MorphableModel
from capture.track import Track
from capture.video import Take
from networks.contract import FRAME_RATE, SAMPLES_PER_FRAME
from networks.template import build_template
from realtime.errors import MiravoxError
from training.dataset_files import DATASET_VERSION, LosslessVideo, write_wav, writing
from training.phones import PHONE_RATE, read_labels

Phones = tuple[tuple[str, int, int], ...]  # (ARPAbet phone, start, duration), units of 10 ms

HELD_OUT_SHARE = 0.1
LEAST_TAKE = 25  # frames: shorter pieces are left out
LOST = 5  # frames in a row without a face end a take; fewer are tracked by their neighbours
GAP = 25  # frames between what is trained on and what is held out, where one take has to be cut
SOURCE_SECONDS = 12.0, 10.0, 8.0, 6.0, 4.0, 3.0, 2.0  # lengths that are tried for the source loop, longest first
TRIMMED = 12  # frames at either end among which the stillest is chosen, so that the loop turns around softly
SILENT_SHARE = 0.02  # of the frames of a silent stretch may be loud
SILENCE_DB = 15.0  # below the speech's level: silence
MOUTH, HEAD = 62, 30  # landmarks: inner upper lip, tip of the nose
LOWER_LIP = 66


@dataclass(frozen=True)
class Piece:
    """Frames first .. end - 1 of take number `take`, which become a take of the dataset."""

    take: int
    first: int
    end: int
    held_out: bool = False
    source: bool = False

    @property
    def frames(self) -> int:
        return self.end - self.first


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
    out: Path, name: str, takes: Sequence[Take], landmarks: Sequence[Landmarks], track: Track, model: MorphableModel,
    provenance: dict[str, Any], licence: dict[str, str], held_out: Collection[str] = (),
    phones: Sequence[Phones] = (),
) -> Summary:  # fmt: skip
    """Writes the dataset folder `out`; until it is complete it is called `out`.part.

    Args:
        takes, landmarks: one of each a take; all takes have one size.
        track: frames of all takes, one take after the other.
        provenance: where the video comes from.
        held_out: names of the takes that are not trained on; none: the last tenth.
        phones: of each take, if they are known: training then closes the lips on P, B and M with more care.
    """
    pieces, silent = plan(takes, landmarks, track, model, held_out)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    with writing(out):
        summary = _write(part, name, takes, pieces, silent, track, model, provenance, licence, phones)
        part.rename(out)
    return summary


def _write(
    part: Path, name: str, takes: Sequence[Take], pieces: Sequence[Piece], silent: bool, track: Track,
    model: MorphableModel, provenance: dict[str, Any], licence: dict[str, str], phones: Sequence[Phones],
) -> Summary:  # fmt: skip
    (part / "speech").mkdir(parents=True)
    starts = _starts(takes)
    rows, order, first = [], [], 0
    names = _names(takes, pieces)
    with (
        LosslessVideo(part / "frames.mkv", takes[0].width) as video,
        tqdm(total=sum(p.frames for p in pieces), desc="writing frames", unit="frame") as bar,
    ):
        for piece, piece_name in zip(pieces, names, strict=True):
            cut = takes[piece.take].piece(piece_name, piece.first, piece.end)
            for frame in cut.frames:
                video.write(frame)
                bar.update()
            write_wav(part / "speech" / f"{piece_name}.wav", cut.speech)
            rows.append({
                "name": piece_name, "first": first, "end": first + piece.frames, "speech": f"speech/{piece_name}.wav",
                "split": "held_out" if piece.held_out else "train", "corpus": "capture", "id": piece_name,
                "phones": within(phones[piece.take], piece.first, piece.end) if phones else [],
            })  # fmt: skip
            order.append(starts[piece.take] + np.arange(piece.first, piece.end))
            first += piece.frames
    chosen = np.concatenate(order)
    template = build_template(model, model.identity_vertices(track.alpha_I))
    tensors: dict[str, NDArray[Any]] = dict(template.arrays())
    tensors["basis"] = template.basis(model.expression_CV3)
    tensors["pose"], tensors["expression"] = track.pose_N44[chosen], track.delta_NC[chosen]
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, part / "track.safetensors")
    view, source = track.view, pieces[0]
    still = _head(takes, track, model)[starts[source.take] + source.first : starts[source.take] + source.end]
    summary = Summary(
        frames=len(chosen), held_out_frames=sum(p.frames for p in pieces if p.held_out),
        lost_frames=int(np.isnan(track.reprojection_N).sum()), source_take=takes[source.take].name,
        source_seconds=source.frames / FRAME_RATE, source_silent=silent,
        source_motion_mm=float(10 * np.sqrt(still.var(0).sum())),
    )  # fmt: skip
    dataset = {
        "version": DATASET_VERSION, "name": name, "fps": FRAME_RATE, "width": takes[0].width, "height": takes[0].height,
        "camera": {"fx": view.focal, "fy": view.focal, "cx": view.cx, "cy": view.cy}, "units": "cm",
        "frames": "frames.mkv", "takes": rows, "expression_names": list(model.expression_names),
        "provenance": {"generator": "capture", **provenance}, "licence": licence,
    }  # fmt: skip
    (part / "dataset.json").write_text(json.dumps(dataset, indent=1))
    return summary


def _names(takes: Sequence[Take], pieces: Sequence[Piece]) -> list[str]:
    """A take's name, numbered where it was cut into several."""
    names: list[str] = []
    for piece in pieces:
        name, number = takes[piece.take].name, 2
        while name in names:
            name, number = f"{takes[piece.take].name}-{number}", number + 1
        names.append(name)
    return names


def _starts(takes: Sequence[Take]) -> list[int]:
    """Where each take begins among the frames of all takes."""
    return [int(n) for n in np.cumsum([0, *(t.frame_count for t in takes)])[:-1]]


# -- what is said in them ---------------------------------------------------------------------------------------------


def within(phones: Phones, first: int, end: int) -> Phones:
    """The phones of frames first .. end - 1, in the time of a take that begins at `first`; cut at its ends."""
    begin, stop = (round(f * PHONE_RATE / FRAME_RATE) for f in (first, end))
    cut = ((phone, max(start, begin), min(start + length, stop)) for phone, start, length in phones)
    return tuple((phone, start - begin, until - start) for phone, start, until in cut if until > start)


def labelled(kept: Path, labels: Path) -> list[Phones]:
    """The phones of each take of the folder `kept` (footage.save_takes), in the take's own time.

    Args:
        labels: a file of training.phones.read_labels; an id is a recording's name without its ending.

    Raises MiravoxError if it is malformed or knows none of the recordings.
    """
    info = json.loads((kept / "takes.json").read_text())
    known = {u.id: u.phones for u in read_labels(labels)}
    names = [Path(row["recording"]).stem for row in info["takes"]]
    if not known.keys() & set(names):
        raise MiravoxError(
            str(labels), found=f"labels of {', '.join(sorted(known)[:3]) or 'nothing'}",
            wanted=f"some of {', '.join(sorted(set(names))[:3])}", remedy="Name labels after the recordings.",
        )  # fmt: skip
    moved = round(info["correction"] * PHONE_RATE)
    found = []
    for row, name in zip(info["takes"], names, strict=True):
        phones = tuple((phone, start + moved, length) for phone, start, length in known.get(name, ()))
        found.append(within(phones, row["begin"], row["begin"] + row["end"] - row["first"]))
    return found


# -- which frames become which take -----------------------------------------------------------------------------------


def plan(
    takes: Sequence[Take], landmarks: Sequence[Landmarks], track: Track, model: MorphableModel,
    held_out: Collection[str] = (),
) -> tuple[list[Piece], bool]:  # fmt: skip
    """The dataset's takes, the source loop first, and whether that is silent."""
    unknown = set(held_out) - {t.name for t in takes}
    if unknown:
        raise MiravoxError(
            "held-out takes", found=f"{', '.join(sorted(unknown))}", wanted="names of takes",
            remedy=f"Choose among {', '.join(t.name for t in takes)}.",
        )  # fmt: skip
    pieces = _with_a_face(landmarks)
    if held_out:
        pieces = [replace(p, held_out=takes[p.take].name in held_out) for p in pieces]
    else:
        pieces = _last_tenth(pieces)
    if not any(not p.held_out for p in pieces) or not any(p.held_out for p in pieces):
        total = sum(p.frames for p in pieces) / FRAME_RATE
        raise MiravoxError(
            "the video", found=f"{total:.0f} s with a face, in {len(pieces)} pieces",
            wanted="enough to train on and to hold a tenth out", remedy="Film two to three minutes.",
        )  # fmt: skip
    source, silent = _source(takes, pieces, track, model)
    rest: list[Piece] = []
    for piece in pieces:
        if piece.take == source.take and piece.first <= source.first and source.end <= piece.end:
            sides = replace(piece, end=source.first), replace(piece, first=source.end)
            rest += [p for p in sides if p.frames >= LEAST_TAKE]
        else:
            rest.append(piece)
    return [source, *rest], silent


def _with_a_face(landmarks: Sequence[Landmarks]) -> list[Piece]:
    """Takes, cut where no face was found for longer than `LOST` frames."""
    pieces = []
    for number, marks in enumerate(landmarks):
        found = np.flatnonzero(marks.found)
        for run in np.split(found, np.flatnonzero(np.diff(found) > LOST + 1) + 1):
            if len(run) and run[-1] + 1 - run[0] >= LEAST_TAKE:
                pieces.append(Piece(number, int(run[0]), int(run[-1]) + 1))
    return pieces


def _last_tenth(pieces: Sequence[Piece]) -> list[Piece]:
    """The last pieces held out, until they are a tenth; one that is much longer than what is still needed is cut."""
    wanted = HELD_OUT_SHARE * sum(p.frames for p in pieces)
    out: list[Piece] = []
    kept, held = list(pieces), 0
    while kept and held < 0.8 * wanted:
        last = kept.pop()
        need = max(round(wanted - held), LEAST_TAKE)
        if last.frames > 2 * need + GAP:
            kept.append(replace(last, end=last.end - need - GAP))
            last = replace(last, first=last.end - need)
        out.insert(0, replace(last, held_out=True))
        held += last.frames
    return kept + out


def _source(takes: Sequence[Take], pieces: Sequence[Piece], track: Track, model: MorphableModel) -> tuple[Piece, bool]:
    """The longest silent stretch in which the mouth rests, or else the stillest one; its ends where the head rests."""
    head_N3 = _head(takes, track, model)
    mouth_N = _opening(track, model)
    rest = float(np.quantile(mouth_N, 0.05))
    starts = _starts(takes)
    loud_by_take = [_loud(t) for t in takes]
    best: tuple[float, Piece] | None = None
    trained = [p for p in pieces if not p.held_out]
    for seconds in SOURCE_SECONDS:
        length = round(seconds * FRAME_RATE)
        quiet: list[tuple[float, Piece]] = []
        for piece in trained:
            for first in range(piece.first, piece.end - length + 1, 5):
                at = slice(starts[piece.take] + first, starts[piece.take] + first + length)
                motion = float(np.sqrt(head_N3[at].var(0).sum()) + np.abs(mouth_N[at] - rest).mean())  # cm
                found = replace(piece, first=first, end=first + length, source=True)
                if loud_by_take[piece.take][first : first + length].mean() <= SILENT_SHARE:
                    quiet.append((motion, found))
                if best is None or motion < best[0]:
                    best = motion, found
        if quiet:
            return _soft_ends(min(quiet, key=lambda q: q[0])[1], head_N3, starts), True
        if best is not None and seconds <= 4:  # a still one that is spoken in need not be longer
            break
    if best is None:
        longest = max(trained, key=lambda p: p.frames)
        return replace(longest, source=True), False
    return _soft_ends(best[1], head_N3, starts), False


def _soft_ends(piece: Piece, head_N3: Float64Array, starts: Sequence[int]) -> Piece:
    """Ends where the head hardly moves: the loop is played there and back, and turns around at them."""
    at = starts[piece.take]
    speed = np.linalg.norm(np.diff(head_N3[at + piece.first : at + piece.end], axis=0), axis=1)
    reach = min(TRIMMED, len(speed) // 4)
    first = piece.first + int(speed[:reach].argmin()) if reach else piece.first
    end = piece.end - int(speed[::-1][:reach].argmin()) if reach else piece.end
    return replace(piece, first=first, end=end)


def _head(takes: Sequence[Take], track: Track, model: MorphableModel) -> Float64Array:
    """Where the tip of the nose is in camera space [N, 3], cm, as it is seen: motion along the view counts a tenth."""
    tip = model.identity_vertices(track.alpha_I)[model.landmarks_68[HEAD]]
    seen = track.pose_N44[:, :3, :3] @ tip + track.pose_N44[:, :3, 3]
    return np.asarray(seen * (1, 1, 0.1), np.float64)


def _opening(track: Track, model: MorphableModel) -> Float64Array:
    """Distance of the inner lips [N], cm."""
    upper, lower = model.landmarks_68[MOUTH], model.landmarks_68[LOWER_LIP]
    neutral = model.identity_vertices(track.alpha_I)
    shapes = model.expression_CV3[:, upper] - model.expression_CV3[:, lower]
    return np.asarray(np.linalg.norm(neutral[upper] - neutral[lower] + track.delta_NC @ shapes, axis=1), np.float64)


def _loud(take: Take) -> NDArray[np.bool_]:
    """Whether somebody speaks in each frame [F], by level: within SILENCE_DB of the take's loud tenth."""
    power = (take.speech.reshape(-1, SAMPLES_PER_FRAME).astype(np.float64) ** 2).mean(1)
    level = 10 * np.log10(power + 1e-9)
    loud = np.quantile(level, 0.9)
    return np.asarray(level > max(loud - SILENCE_DB, -60.0), np.bool_)
