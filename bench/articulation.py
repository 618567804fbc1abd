"""Lips against phones on held-out speech: how far the mouth of the networks follows the curves that the studio would
film.

    python -m bench articulation --avatar avatars/ada --json F [--sheet PNG] [--utterances N]

Geometry only, no pixels: the deformation network's vertices against those of the studio's expression curves, for held-
out LJ Speech (Ada's own voice) and held-out LibriSpeech (speakers never heard). A lip closure counts if the inner lips
come within 1.5 mm of the rest gap at some frame within the phone, 20 ms of tolerance on both sides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from networks.contract import DEFORMATION, FRAME_RATE, SAMPLES_PER_FRAME
from realtime.audio_input import Block
from realtime.audio_ring import AudioRing
from realtime.avatar import Avatar
from realtime.engine import Engine
from realtime.latent import LatentTrack
from realtime.pipeline import Pipeline
from realtime.sound_file import read_speech
from studio.face_model import load_face_model
from studio.speech_curves import expression_curves
from training.phones import PHONES, Utterance, data_folder, load_utterances, phone_index

FloatArray = NDArray[np.float32]

INNER_UPPER, INNER_LOWER = 62, 66
CLOSED_MM = 1.5  # above the rest gap
OPEN = ("AA", "AO", "AE", "AW", "AY")
TOLERANCE_UNITS = 2  # of 10 ms, around a phone
SHEET_CROP = 0.55  # of the frame's side, around the mouth


class LipTracker:
    """Inner-lip gap in mm of every frame, from an avatar's networks and from the studio's curves."""

    def __init__(self, avatar: Avatar, basis_CV3: FloatArray) -> None:
        self.avatar = avatar
        self.deformation = Engine(avatar.folder / "targets" / "onnx" / "deformation.onnx", DEFORMATION, threads=1)
        corners = avatar.triangles[avatar.landmark_triangles[[INNER_UPPER, INNER_LOWER]]]  # [2, 3]
        self.corners = corners.ravel()
        self.weights = avatar.landmark_barycentrics[[INNER_UPPER, INNER_LOWER]]
        self.points = avatar.scale(avatar.canonical)[self.corners]
        self.neutral = avatar.template[self.corners]
        self.basis = basis_CV3[:, self.corners]
        self.rest_gap = self._gap(np.zeros_like(self.neutral))

    def _gap(self, displacement: FloatArray) -> float:
        upper, lower = np.einsum("lk,lkx->lx", self.weights, (self.neutral + displacement).reshape(2, 3, 3))
        return float(10 * np.linalg.norm(upper - lower))

    def predicted(self, latent: FloatArray) -> float:
        return self._gap(self.deformation.run(self.points, latent)[0])

    def true(self, weights_C: FloatArray) -> float:
        return self._gap(np.tensordot(weights_C, self.basis, 1).astype(np.float32))


def template_basis(avatar: Avatar) -> FloatArray:
    """The face model's expression shapes on the avatar's template, for the identity of its provenance: [C, V, 3]."""
    from studio.actor import identity_vertices
    from studio.template import build_template

    model = load_face_model()
    provenance = avatar.info["provenance"]
    assert isinstance(provenance, dict)
    return build_template(model, identity_vertices(model, provenance["dataset"]["identity"])).basis(
        model.expression_CV3
    )


def speech_latents(avatar: Avatar, speech: FloatArray, frames: int) -> list[FloatArray]:
    """b [1, 64] of every frame, by the live code."""
    ring = AudioRing(len(speech) + 4 * SAMPLES_PER_FRAME * FRAME_RATE)
    ring.write(Block(0, np.concatenate([speech, np.zeros(2 * SAMPLES_PER_FRAME * FRAME_RATE, np.float32)])))
    track = LatentTrack(avatar, ring)
    return [track.advance(k) for k in range(frames)]


def phone_minima(gaps: FloatArray, utterance: Utterance, phones: tuple[str, ...]) -> list[float]:
    """The least gap within each occurrence of the phones; occurrences that no frame falls into are left out."""
    minima = []
    for phone, start, duration in utterance.phones:
        if phone.rstrip("012") in phones:
            first = int(np.ceil((start - TOLERANCE_UNITS) * FRAME_RATE / 100))
            last = int(np.floor((start + duration + TOLERANCE_UNITS) * FRAME_RATE / 100))
            inside = gaps[max(0, first) : last + 1]
            if len(inside):
                minima.append(float(inside.min()))
    return minima


def interval(successes: int, count: int) -> tuple[float, float]:
    """95 % Wilson interval of a share."""
    if count == 0:
        return 0.0, 1.0
    z, p = 1.96, successes / count
    centre, reach = p + z * z / (2 * count), z * np.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return float((centre - reach) / (1 + z * z / count)), float((centre + reach) / (1 + z * z / count))


def widest_jaw(avatar: Avatar, tracker: LipTracker) -> dict[str, object]:
    """The frame of the training voice's speech whose mouth is open widest: do the networks part the lips as far?"""
    names = load_face_model().expression_names
    widest: tuple[float, int, Utterance] | None = None
    for utterance in load_utterances(data_folder()):
        if utterance.corpus == "ljspeech" and not utterance.held_out:
            curves = expression_curves(utterance.phones, int(utterance.seconds * FRAME_RATE), names)
            gaps = [tracker.true(w) for w in curves]
            frame = int(np.argmax(gaps))
            if widest is None or gaps[frame] > widest[0]:
                widest = gaps[frame], frame, utterance
    assert widest is not None
    true, frame, utterance = widest
    latents = speech_latents(avatar, read_speech(utterance.path(data_folder())).samples, frame + 1)
    predicted = tracker.predicted(latents[frame])
    return {"utterance": utterance.id, "frame": frame, "true_mm": true, "predicted_mm": predicted}


def articulation(avatar: Avatar, utterances_per_corpus: int) -> dict[str, dict[str, object]]:
    """Figures for each corpus of held-out speech."""
    tracker = LipTracker(avatar, template_basis(avatar))
    names = load_face_model().expression_names
    data = data_folder()
    figures: dict[str, dict[str, object]] = {}
    for corpus in ("ljspeech", "librispeech"):
        held_out = [u for u in load_utterances(data) if u.corpus == corpus and u.held_out][:utterances_per_corpus]
        predicted, true, closures, true_closures, opens, silences = [], [], [], [], [], []
        for utterance in tqdm(held_out, desc=corpus, unit="utterance"):
            speech = read_speech(utterance.path(data)).samples
            frames = int(np.ceil(len(speech) / SAMPLES_PER_FRAME))
            gaps = np.array([tracker.predicted(b) for b in speech_latents(avatar, speech, frames)], np.float32)
            truth = np.array([tracker.true(w) for w in expression_curves(utterance.phones, frames, names)], np.float32)
            predicted.append(gaps)
            true.append(truth)
            closures += phone_minima(gaps, utterance, ("P", "B", "M"))
            true_closures += phone_minima(truth, utterance, ("P", "B", "M"))
            opens += phone_maxima(gaps, utterance, OPEN)
            silences += long_silence(gaps, utterance)
        p, t = np.concatenate(predicted), np.concatenate(true)
        limit = tracker.rest_gap + CLOSED_MM
        closed = sum(g < limit for g in closures)
        figures[corpus] = {
            "utterances": len(held_out), "frames": len(p),
            "aperture_correlation": float(np.corrcoef(p, t)[0, 1]),
            "aperture_error_mm": float(np.abs(p - t).mean()),
            "closures": len(closures), "closed_share": closed / max(1, len(closures)),
            "closed_interval": interval(closed, len(closures)),
            "closed_share_of_studio": sum(g < limit for g in true_closures) / max(1, len(true_closures)),
            "open_vowels": len(opens), "open_vowel_gap_mm": float(np.mean(opens)),
            "silent_frames": len(silences),
            "silence_at_rest_share": float(np.mean(np.array(silences) < limit)) if silences else None,
        }  # fmt: skip
    figures["widest jaw"] = widest_jaw(avatar, tracker)
    return figures


def phone_maxima(gaps: FloatArray, utterance: Utterance, phones: tuple[str, ...]) -> list[float]:
    """The greatest gap within each occurrence of the phones, 60 ms or longer."""
    return [
        float(gaps[int(np.ceil(s * FRAME_RATE / 100)) : int((s + d) * FRAME_RATE / 100) + 1].max(initial=0))
        for phone, s, d in utterance.phones
        if phone.rstrip("012") in phones and d >= 6
    ]


def long_silence(gaps: FloatArray, utterance: Utterance) -> list[float]:
    """The gaps of frames in silences of 300 ms or more, 120 ms away from their ends."""
    inside: list[float] = []
    for phone, start, duration in utterance.phones:
        if phone_index(phone) == 0 and duration >= 30:
            first, last = (start + 12) * FRAME_RATE / 100, (start + duration - 12) * FRAME_RATE / 100
            inside += [float(g) for g in gaps[int(np.ceil(first)) : int(last)]]
    return inside


def phone_sheet(
    avatar: Avatar, utterance: Utterance, path: Path, first: int = 0, count: int = 48, columns: int = 12
) -> None:
    """Consecutive frames around the mouth with the phone under each, as PNG."""
    speech = read_speech(utterance.path(data_folder())).samples
    ring = AudioRing(len(speech) + 4 * SAMPLES_PER_FRAME * FRAME_RATE)
    ring.write(Block(0, np.concatenate([speech, np.zeros(2 * SAMPLES_PER_FRAME * FRAME_RATE, np.float32)])))
    tile, label = 150, 16
    sheet = Image.new("RGB", (columns * tile, -(-count // columns) * (tile + label)), "white")
    pen = ImageDraw.Draw(sheet)
    indices = utterance.phone_indices()
    with Pipeline(avatar, ring, "baked") as pipeline:
        for i in range(count):
            frame = pipeline.render(first + i)
            left, top, right, bottom = pipeline.boxes[(first + i) % len(pipeline.boxes)]
            x, y = (left + right) // 2, (top + bottom) // 2 - (bottom - top) // 10
            half = int(max(right - left, bottom - top) * SHEET_CROP)
            crop = Image.fromarray(frame[max(0, y - half) : y + half, max(0, x - half) : x + half]).resize((tile, tile))
            at = (i % columns * tile, i // columns * (tile + label))
            sheet.paste(crop, at)
            unit = min(4 * (first + i), len(indices) - 1)
            pen.text((at[0] + 4, at[1] + tile + 1), f"{first + i}  {PHONES[indices[unit]]}", fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    print(f"saved {path}")


def print_table(figures: dict[str, dict[str, object]]) -> None:
    for corpus, values in figures.items():
        print(corpus)
        for key, value in values.items():
            print(f"  {key:26}{value if not isinstance(value, float) else round(value, 3)}")
