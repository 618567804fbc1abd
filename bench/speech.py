"""How well the audio encoder does on unseen speakers: phones, visemes, lip closures and presence for every lookahead,
clean and in noise, and how the avatar's mouth moves to it.

    python -m bench speech --json F [--png F] [--audio DIR --labels FILE]

Speakers that no training read (dataset/splits.py), or a folder of recordings with labels of the same format. Phones
are read from the window of nine embeddings that the projection sees, by a network of the projection's size
(training/readout.py); presence is the encoder's own output, which belongs to the avatar's lookahead; at others, whether
the readout finds any phone. Every frame of every recording counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from bench.articulation import Labelled, articulation, is_synthetic
from bench.picture import drawing
from dataset.phones import LIPS_TOGETHER, UNIT, VISEME_OF_PHONE, data_folder, load_utterances, read_labels
from networks.audio_encoder import AudioEncoder
from networks.readout import LOOKAHEADS, Readout
from realtime.arrays import BoolArray, FloatArray
from realtime.audio.mel import mel_of_windows
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import AUDIO_ENCODER, SAMPLE_RATE, WINDOW_SAMPLES
from realtime.errors import MiravoxError
from realtime.face.engine import Engine
from training.embeddings import EncodedRecording, encode_recording
from training.encoders import load_encoder
from training.noises import babble, rms
from training.phone_losses import visemes_of
from training.readout import load_readout
from training.speech_corpus import near_border

READOUT = Path("bench/readout.safetensors")
NOMINAL_MS = dict(zip(LOOKAHEADS, (40, 75, 110, 150, 200, 370), strict=True))
SNR_DB = 10.0
BABBLE_VOICES = 6
CLOSURE = 1  # the viseme of P B M
TIMED_RUNS = 300
STRING_HZ = 110.0  # lowest note of the music
STRING_DECAY = 0.996  # what a plucked string keeps of itself each period


def music(rng: np.random.Generator, samples: int) -> FloatArray:
    """Plucked strings (Karplus and Strong 1983), three to five notes a second, of unit RMS: a noise that no encoder was
    trained with.
    """
    sound = np.zeros(samples + SAMPLE_RATE, np.float64)
    at = 0
    while at < samples:
        semitone = rng.choice([0, 2, 4, 7, 9, 12, 14, 16, 19, 21, 24])
        period = int(SAMPLE_RATE / (STRING_HZ * 2 ** (semitone / 12)))
        string = rng.uniform(-1, 1, period)
        periods = []
        for _ in range(SAMPLE_RATE // period):
            periods.append(string)
            string = STRING_DECAY * 0.5 * (string + np.roll(string, 1))
        note = np.concatenate(periods)
        sound[at : at + len(note)] += rng.uniform(0.4, 1) * note
        at += int(SAMPLE_RATE / rng.uniform(3, 5))
    cut = sound[:samples].astype(np.float32)
    return np.asarray(cut / rms(cut), np.float32)


def with_noise(speech: FloatArray, noise: FloatArray, snr_db: float = SNR_DB) -> FloatArray:
    """Speech and noise of unit RMS, `snr_db` below the recording's own RMS."""
    return np.asarray(speech + noise * np.float32(rms(speech) * 10 ** (-snr_db / 20)), np.float32)


@torch.no_grad()
def recognise(readout: Readout, encoded: EncodedRecording) -> FloatArray:
    """Phone probabilities [frames, 6, 40] read from each window at each of LOOKAHEADS."""
    windows = torch.from_numpy(encoded.windows)
    return np.asarray(torch.cat([readout(w).softmax(-1) for w in windows.split(512)]).numpy(), np.float32)


def held_out_speech() -> list[Labelled]:
    """LibriSpeech's held-out speakers."""
    data = data_folder()
    return [Labelled(u, u.path(data)) for u in load_utterances(data) if u.corpus == "librispeech" and u.held_out]


def other_speech(audio: Path, labels: Path) -> list[Labelled]:
    """The labelled recordings that lie in a folder: each file's name is its label's id.

    Raises MiravoxError if there are none.
    """
    files = {p.stem: p for p in sorted(audio.rglob("*")) if p.is_file()}
    found = [Labelled(u, files[u.id]) for u in read_labels(labels) if u.id in files]
    if not found:
        raise MiravoxError(
            str(audio),
            found=f"{len(files)} files, none with a label",
            wanted=f"recordings named by the ids of {labels}",
            remedy="Give each row's id as the file's name without its ending.",
        )
    return found


@dataclass
class Tally:
    """Which answers were right, of one lookahead under one condition; a row for each recording."""

    phone: list[BoolArray] = field(default_factory=list)
    viseme: list[BoolArray] = field(default_factory=list)
    closed: list[BoolArray] = field(default_factory=list)  # of frames within P B M: recognised as such
    closures: list[bool] = field(default_factory=list)  # of whole P B M: recognised in at least one of their frames
    claimed: list[BoolArray] = field(default_factory=list)  # of frames recognised as P B M: are such
    presence: list[BoolArray] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Shares that were right."""
        rows = {
            "phone": self.phone,
            "viseme": self.viseme,
            "closure_recall": self.closed,
            "closure_precision": self.claimed,
            "presence": self.presence,
        }
        values = {name: float(np.concatenate(row).mean()) for name, row in rows.items()}
        return values | {"closure_interval_recall": float(np.mean(self.closures))}


def tally_recording(
    tallies: dict[int, Tally],
    encoder: AudioEncoder,
    readout: Readout,
    own_lookahead: int,
    labelled: Labelled,
    sound: FloatArray,
) -> None:
    """Adds the answers for one recording, for every lookahead.

    Args:
        sound: the recording, float32 [samples], clean or with noise.
    """
    phones = labelled.utterance.phone_indices()
    encoded = encode_recording(encoder, sound)
    probability = recognise(readout, encoded)
    for k, lookahead in enumerate(LOOKAHEADS):
        moment = encoded.ends - lookahead
        inside = (moment >= 0) & (moment < min(len(sound), UNIT * len(phones)))
        unit = moment[inside] // UNIT
        truth, answer = phones[unit], probability[inside, k]
        viseme = visemes_of(torch.from_numpy(answer)).numpy().argmax(1)
        viseme_truth = VISEME_OF_PHONE[truth]
        present = encoded.presence[inside] > 0.5 if lookahead == own_lookahead else answer[:, 0] < 0.5
        tally = tallies[lookahead]
        tally.phone.append(answer.argmax(1) == truth)
        tally.viseme.append(viseme == viseme_truth)
        tally.closed.append(viseme[viseme_truth == CLOSURE] == CLOSURE)
        tally.claimed.append(viseme_truth[viseme == CLOSURE] == CLOSURE)
        tally.presence.append((present == (truth > 0))[~near_border(phones)[unit]])
        for phone, start, duration in labelled.utterance.phones:
            if phone.rstrip("012") in LIPS_TOGETHER:
                within = (unit >= start) & (unit < start + duration)
                if within.any():
                    tally.closures.append(bool((viseme[within] == CLOSURE).any()))


def recognition(
    encoder: AudioEncoder, readout: Readout, own_lookahead: int, speech: list[Labelled]
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures for each nominal lookahead: clean, at 10 dB, and at 10 dB by kind of noise."""
    sounds = [read_speech(labelled.path).samples for labelled in speech]
    makers: dict[str, Callable[[np.random.Generator, int], FloatArray]] = {
        "babble_10db": lambda rng, i: babble(
            rng, len(sounds[i]), [s for j, s in enumerate(sounds) if j != i] or [sounds[i][::-1]], BABBLE_VOICES
        ),
        "music_10db": lambda rng, i: music(rng, len(sounds[i])),
    }
    conditions = ("clean", *makers)
    tallies = {c: {x: Tally() for x in LOOKAHEADS} for c in conditions}
    for i, labelled in enumerate(tqdm(speech, desc="recognising", unit="recording")):
        for condition in conditions:
            rng = np.random.default_rng([i, conditions.index(condition)])
            sound = sounds[i]
            if condition in makers:
                noise = makers[condition](rng, i)
                sound = with_noise(sound, noise / np.float32(rms(noise)))
            tally_recording(tallies[condition], encoder, readout, own_lookahead, labelled, sound)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for lookahead, nominal in NOMINAL_MS.items():
        rows = {c: tallies[c][lookahead].figures() for c in conditions}
        noisy = [rows[c] for c in makers]
        mean = {k: float(np.mean([row[k] for row in noisy])) for k in noisy[0]}
        figures[str(nominal)] = {"clean": rows["clean"], "noise_10db": mean} | {c: rows[c] for c in makers}
    return figures


def embedding_milliseconds(avatar: Avatar) -> dict[str, float]:
    """Median time of one embedding on one core: the mel spectrogram, the network, and both."""
    engine = Engine(avatar.folder / "targets" / "onnx" / "audio_encoder.onnx", AUDIO_ENCODER, threads=1)
    window = (0.1 * np.random.default_rng(0).standard_normal((1, WINDOW_SAMPLES))).astype(np.float32)
    mel_ms, network_ms = [], []
    for _ in range(TIMED_RUNS):
        begun = time.perf_counter()
        mel = mel_of_windows(window)
        made = time.perf_counter()
        engine.run(mel[:, None])
        mel_ms.append(1000 * (made - begun))
        network_ms.append(1000 * (time.perf_counter() - made))
    both = float(np.median(np.array(mel_ms) + np.array(network_ms)))
    return {"mel": float(np.median(mel_ms)), "network": float(np.median(network_ms)), "both": both}


def speech(avatar: Avatar, recordings: list[Labelled], readout_path: Path) -> dict[str, object]:
    """Everything that the command prints."""
    encoder, _ = load_encoder(avatar.folder)
    readout = load_readout(readout_path, encoder)
    lookahead = avatar.lookahead_samples
    milliseconds = embedding_milliseconds(avatar)
    return {
        "lookahead_ms": recognition(encoder, readout, lookahead, recordings),
        "default_lookahead_ms": 1000 * lookahead / SAMPLE_RATE,
        "embedding_ms": milliseconds["both"],
        "embedding_parts_ms": milliseconds,
        "recordings": len(recordings),
        "seconds": sum(x.utterance.seconds for x in recordings),
        "ada": articulation(avatar, recordings) if is_synthetic(avatar) else None,  # others' true lips nobody knows
    }


def print_table(result: dict[str, object]) -> None:
    columns = ("phone", "viseme", "closure_recall", "closure_interval_recall", "closure_precision", "presence")
    rows = result["lookahead_ms"]
    assert isinstance(rows, dict)
    print(f"{'lookahead':>10} {'':12}" + "".join(f"{c.replace('closure_', 'P B M '):>24}" for c in columns))
    for nominal, conditions in rows.items():
        for condition, figures in conditions.items():
            print(f"{nominal:>7} ms {condition:12}" + "".join(f"{100 * figures[c]:22.1f} %" for c in columns))
    parts = result["embedding_parts_ms"]
    assert isinstance(parts, dict)
    print(f"one embedding: {parts['both']:.2f} ms (mel {parts['mel']:.2f}, network {parts['network']:.2f}), one core")
    print(f"the avatar's mouth, lookahead {result['default_lookahead_ms']:.1f} ms")
    print(json.dumps(result["ada"], indent=1) if result["ada"] else "its lips: see `python -m bench fidelity`")


def plot(result: dict[str, object], path: Path) -> None:
    """The figures against the lookahead, clean and in noise, as PNG."""
    rows = result["lookahead_ms"]
    assert isinstance(rows, dict)
    milliseconds = [1000 * x / SAMPLE_RATE for x in LOOKAHEADS]
    names = {"phone": "phones", "viseme": "visemes", "closure_recall": "P B M recall", "presence": "presence"}
    with drawing(path, (14, 3.4), 1, len(names), sharex=True) as axes:
        for axis, (name, title) in zip(axes, names.items(), strict=True):
            for condition, label in (
                ("clean", "clean"),
                ("babble_10db", "babble, 10 dB"),
                ("music_10db", "music, 10 dB"),
            ):
                axis.plot(milliseconds, [100 * rows[n][condition][name] for n in rows], "o-", label=label)
            axis.axvline(result["default_lookahead_ms"], color="grey", lw=0.8, ls="--")
            axis.set(title=title, xlabel="lookahead, ms", ylabel="% of frames")
            axis.grid(alpha=0.3)
        axes[0].legend()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--audio", type=Path, help="folder with other recordings, each named by its label's id")
    parser.add_argument("--labels", type=Path, help="their phone timings, one JSON object a line")
    parser.add_argument("--readout", type=Path, default=READOUT, help="of the avatar's encoder, by training.readout")
    parser.add_argument("--png", type=Path, help="picture of the figures against the lookahead")


def run(o: argparse.Namespace) -> dict[str, object]:
    if (o.audio is None) != (o.labels is None):
        raise MiravoxError(
            "--audio",
            found="one of --audio and --labels",
            wanted="both or neither",
            remedy="Labels look like those of MIRAVOX_DATA/speech/labels.jsonl.",
        )
    recordings = other_speech(o.audio, o.labels) if o.audio else held_out_speech()
    result = speech(load_avatar(o.avatar), recordings, o.readout)
    print_table(result)
    if o.png:
        plot(result, o.png)
    return result
