"""Trains the audio encoder on phone labels of many speakers; the heads are dropped at export (thesis 3.3, Table 3.1).

    python -m training.speech --out build/encoder [--resume] [--steps N] [--lookahead-samples N]
    python -m training.speech --out build/wav2lip --from wav2lip.pth

Every recording is degraded (training/augment.py) again and again; every step takes windows of random moments of it.
One embedding has to tell the phone at the encoder's own lookahead and at others, whether somebody speaks, and the shape
of the mouth. The result is encoder.safetensors (float16) with figures on held-out speakers; what the window of nine
tells is measured by training/readout.py.

With --from, a Wav2Lip checkpoint takes the encoder's place: its convolutions stay as they are, only presence is
trained.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.fft import next_fast_len
from torch import Tensor
from tqdm import tqdm

from networks.audio_encoder import AudioEncoder
from networks.contract import (
    DEFAULT_LOOKAHEAD,
    EMBEDDINGS,
    LOOKAHEAD_STEP,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    WINDOW_SAMPLES,
)
from networks.readout import LOOKAHEADS
from networks.speech_heads import SpeechHeads
from realtime.errors import MiravoxError
from realtime.mel import mel_of_windows, windows_of_take
from realtime.sound_file import read_speech
from studio.speech_curves import ARTICULATORS, OPENING, expression_curves
from training.augment import AugmentConfig, change_pitch, change_speed, degrade, mask, noise, other_tract, rms
from training.encoders import load_encoder, load_wav2lip
from training.phones import (
    LIPS_TOGETHER,
    PHONES,
    UNIT,
    VISEME_OF_PHONE,
    VISEMES,
    Utterance,
    data_folder,
    load_utterances,
)
from training.run import Checkpoint, log_line, open_run, plot_log

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

BORDER_UNITS = 4  # labels (10 ms): nearer to a silence's border, presence is not judged
CLOSED_CM = 0.15  # lip opening over rest under which a mouth counts as closed
MARGIN = WINDOW_SAMPLES + max(LOOKAHEADS)  # samples of silence before and after a recording
NOISE_SECONDS = 10  # of a recording without speech
SPREAD = {"mouthStretch": 1.0, "mouthSmile": 1.0, "mouthPucker": -1.0, "mouthFunnel": -1.0}  # width of the mouth
LABEL_JITTER = (0.2, 0.6, 0.2)  # weight of the labels 10 ms before, at, and 10 ms after: alignments err by as much


@dataclass(frozen=True)
class SpeechConfig:
    """Everything that decides the result of a run."""

    lookahead_samples: int = DEFAULT_LOOKAHEAD
    steps: int = 9000
    batch: int = 128  # windows, each of another moment
    epoch: int = 600  # steps after which every recording is degraded anew
    learning_rate: float = 2e-3
    weight_decay: float = 3e-2
    label_smoothing: float = 0.05
    closure_weight: float = 2.5  # of P B M in the losses: a closure that is missed shows more than one too many
    viseme_weight: float = 0.5
    ahead_weight: float = 0.4
    presence_weight: float = 0.7
    articulation_weight: float = 1.0
    noise_only_share: float = 0.08  # of the recordings, without speech
    masked_share: float = 0.4  # windows that lack bands and frames
    tract_share: float = 0.6  # windows heard through another vocal tract and microphone
    pitches: int = 4  # versions of every recording with another pitch
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    source: str = ""  # name of the Wav2Lip checkpoint whose convolutions are used as they are
    init: str = ""  # name of the avatar or run whose encoder the training begins with
    seed: int = 0


@dataclass(frozen=True)
class Corpus:
    """Utterances in memory. Labels are for every 10 ms; `versions` holds each recording, and it at other pitches."""

    versions: list[list[FloatArray]]
    phones: list[IntArray]
    articulation: list[FloatArray]  # [n, 3]: opening (cm), width, closed (0 or 1)

    near_border: list[NDArray[np.bool_]]  # near_border(phones)

    @property
    def speech(self) -> list[FloatArray]:
        return [v[0] for v in self.versions]


def load_corpus(utterances: list[Utterance], data: Path) -> Corpus:
    versions, phones, articulation = [], [], []
    for utterance in tqdm(utterances, desc="reading speech", unit="file"):
        versions.append([read_speech(utterance.path(data)).samples])
        phones.append(utterance.phone_indices())
        articulation.append(mouth_shape(utterance, len(phones[-1])))
    return Corpus(versions, phones, articulation, [near_border(p) for p in phones])


def add_pitches(corpus: Corpus, config: SpeechConfig) -> None:
    """Adds versions of every recording with other pitches and vocal tracts: more speakers than there are."""
    rng = np.random.default_rng(config.seed)
    for versions in tqdm(corpus.versions, desc="other pitches", unit="file"):
        # One lower and one higher, and so on.
        for k in range(config.pitches):
            low, high = np.log(config.augment.pitch)
            factor = float(np.exp(rng.uniform(low, low / 4) if k % 2 == 0 else rng.uniform(high / 4, high)))
            versions.append(change_pitch(versions[0], factor))


def mouth_shape(utterance: Utterance, units: int) -> FloatArray:
    """ARTICULATION of the studio's actor saying it, [units, 3], every 10 ms."""
    curves = expression_curves(utterance.phones, units, ARTICULATORS, instants_per_frame=1)
    aperture = curves @ np.array([OPENING[a] for a in ARTICULATORS], np.float32)
    width = curves @ np.array([SPREAD.get(a, 0.0) for a in ARTICULATORS], np.float32)
    return np.stack([aperture, width, aperture < CLOSED_CM], 1).astype(np.float32)


def near_border(phones: IntArray) -> NDArray[np.bool_]:
    """Which labels lie so near to a silence's begin or end that nobody can say whether somebody speaks."""
    border = np.flatnonzero(np.diff((phones > 0).astype(int)) != 0) + 1
    near = np.zeros(len(phones), bool)
    for at in border:
        near[max(0, at - BORDER_UNITS) : at + BORDER_UNITS] = True
    return near


@dataclass(frozen=True)
class Degraded:
    """Every recording as somebody else's microphone had it, for one epoch, and recordings of noise alone."""

    sound: list[FloatArray]  # MARGIN samples of the surroundings before and after
    speed: list[float]  # by which a recording is faster than its labels
    source: list[int]  # index of the recording in the corpus; -1: noise alone

    @property
    def weights(self) -> NDArray[np.float64]:
        lengths = np.array([len(s) for s in self.sound], np.float64)
        return np.asarray(lengths / lengths.sum())


def degrade_corpus(config: SpeechConfig, corpus: Corpus, epoch: int) -> Degraded:
    """The same for the same seed and epoch."""
    rng = np.random.default_rng([config.seed, 1, epoch])
    voices, degraded = corpus.speech, Degraded([], [], [])
    for i, versions in enumerate(corpus.versions):
        speech = versions[rng.integers(len(versions))]
        speed = float(rng.uniform(*config.augment.speed)) if rng.random() < config.augment.speed_share else 1.0
        # Lengths that a Fourier transform takes quickly.
        heard = np.pad(speech, (0, next_fast_len(len(speech)) - len(speech)))
        fast = change_speed(heard, next_fast_len(round(len(heard) / speed)) if speed != 1 else len(heard))
        after = next_fast_len(len(fast) + 2 * MARGIN) - len(fast) - MARGIN
        degraded.sound.append(degrade(rng, np.pad(fast, (MARGIN, after)), rms(speech), voices, config.augment))
        degraded.speed.append(len(heard) / len(fast))
        degraded.source.append(i)
    count = round(config.noise_only_share / (1 - config.noise_only_share) * len(voices))
    for _ in range(count):
        level = 10 ** (rng.uniform(-70, -20) / 20) * (rng.random() > 0.1)
        sound = noise(rng, NOISE_SECONDS * SAMPLE_RATE, voices, config.augment) * np.float32(level)
        if rng.random() < 0.5:
            sound = degrade(rng, sound, rms(sound), voices, config.augment)
        degraded.sound.append(sound)
        degraded.speed.append(1.0)
        degraded.source.append(-1)
    return degraded


@dataclass(frozen=True)
class Batch:
    """A step's input and truth: B windows.

    Labels at the encoder's own lookahead come first, then those at each of LOOKAHEADS.
    """

    mel: Tensor  # [B, 1, 80, 16]
    phones: Tensor  # int64 [B, 1 + 6, 3]: the labels 10 ms before, at and 10 ms after
    presence: Tensor  # [B] 0 or 1
    judged: Tensor  # [B] 0 where presence is uncertain
    articulation: Tensor  # [B, 3]


def training_batch(config: SpeechConfig, corpus: Corpus, degraded: Degraded, step: int) -> Batch:
    """Windows of random moments of random recordings; the same for the same seed and step."""
    rng = np.random.default_rng([config.seed, 0, step])
    backward = np.array([config.lookahead_samples, *LOOKAHEADS])
    count = config.batch
    windows = np.zeros((count, WINDOW_SAMPLES), np.float32)
    phones = np.zeros((count, len(backward), 3), np.int64)
    presence, judged = np.zeros(count, np.float32), np.ones(count, np.float32)
    articulation = np.tile(np.array([0, 0, 1], np.float32), (count, 1))  # at rest
    weights = degraded.weights
    for row, k in enumerate(rng.choice(len(weights), count, p=weights)):
        sound, i = degraded.sound[k], degraded.source[k]
        end = int(rng.integers(WINDOW_SAMPLES, len(sound) + 1))
        windows[row] = sound[end - WINDOW_SAMPLES : end]
        if i < 0:
            continue
        labels = corpus.phones[i]
        unit = np.floor((end - MARGIN - backward) * degraded.speed[k] / UNIT).astype(int)
        around = unit[:, None] + np.arange(-1, 2)
        inside = (around >= 0) & (around < len(labels))
        phones[row] = np.where(inside, labels[np.clip(around, 0, len(labels) - 1)], 0)
        presence[row] = phones[row, 0, 1] > 0
        if 0 <= unit[0] < len(labels):
            judged[row] = not corpus.near_border[i][unit[0]]
            articulation[row] = corpus.articulation[i][unit[0]]
    mel = mel_of_windows(windows)
    for one in mel:
        if rng.random() < config.tract_share:
            one[:] = other_tract(rng, one, config.augment)
        if rng.random() < config.masked_share:
            mask(rng, one, config.augment)
    return Batch(*(torch.from_numpy(x) for x in (mel[:, None], phones, presence, judged, articulation)))


def phone_loss(logits: Tensor, labels: Tensor, closure_weight: float, smoothing: float) -> Tensor:
    """Cross entropy; logits [..., P], labels [..., 3] with the weights LABEL_JITTER; P, B and M weigh
    `closure_weight`.
    """
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1, 3)
    target = torch.zeros_like(logits).scatter_add_(1, labels, torch.tensor(LABEL_JITTER).expand(len(labels), 3))
    weight = torch.tensor([closure_weight if p in LIPS_TOGETHER else 1.0 for p in PHONES])
    return F.cross_entropy(logits, target, weight, label_smoothing=smoothing)


def viseme_loss(logits: Tensor, labels: Tensor, closure_weight: float) -> Tensor:
    """Cross entropy of the phones' sums by viseme; arguments as of phone_loss, of the labels the middle one counts."""
    viseme = visemes_of(logits.softmax(-1)).clamp_min(1e-6).log()
    truth = torch.from_numpy(VISEME_OF_PHONE)[labels[..., 1]]
    weight = torch.ones(len(VISEMES))
    weight[VISEME_OF_PHONE[PHONES.index("P")]] = closure_weight
    return F.nll_loss(viseme.flatten(0, -2), truth.flatten(), weight)


def visemes_of(probability: Tensor) -> Tensor:
    """Phone probabilities [..., 40] -> viseme probabilities [..., 13]."""
    sums = torch.zeros(len(PHONES), len(VISEMES))
    sums[torch.arange(len(PHONES)), torch.from_numpy(VISEME_OF_PHONE)] = 1
    return probability @ sums


def losses(config: SpeechConfig, encoder: AudioEncoder, heads: SpeechHeads, batch: Batch) -> dict[str, Tensor]:
    """Every loss of a step, unweighted."""
    embedding, presence = encoder(batch.mel)
    phone, ahead, articulation = heads(embedding)
    own, others = batch.phones[:, 0], batch.phones[:, 1 : 1 + ahead.shape[1]]
    return {
        "phone": phone_loss(phone, own, config.closure_weight, config.label_smoothing),
        "viseme": viseme_loss(phone, own, config.closure_weight),
        "ahead": phone_loss(ahead, others, config.closure_weight, config.label_smoothing),
        "presence": F.binary_cross_entropy(presence[:, 0], batch.presence, batch.judged),
        "articulation": F.smooth_l1_loss(articulation[:, :2], batch.articulation[:, :2], beta=0.1)
        + F.binary_cross_entropy_with_logits(articulation[:, 2], batch.articulation[:, 2]),
    }


@dataclass(frozen=True)
class Heard:
    """What an encoder makes of one recording: a row for every frame whose moment lies within it."""

    windows: FloatArray  # [frames, 9, 512]
    presence: FloatArray  # [frames], at the encoder's own lookahead
    ends: IntArray  # [frames]: the sample at which each window ends


@torch.no_grad()
def hear(encoder: AudioEncoder, speech: FloatArray) -> Heard:
    """Embeds every frame from the first that hears anything to the last, as the live code does."""
    encoder.eval()
    frames = -(-(len(speech) + max(LOOKAHEADS)) // SAMPLES_PER_FRAME)
    reach = EMBEDDINGS - 1
    mel = torch.from_numpy(mel_of_windows(windows_of_take(speech, frames + reach, 0, -reach))[:, None])
    embedding, presence = (torch.cat(x).numpy() for x in zip(*(encoder(m) for m in mel.split(256)), strict=True))
    windows = np.stack([embedding[k : k + EMBEDDINGS] for k in range(frames)])
    return Heard(windows, presence[reach:, 0], SAMPLES_PER_FRAME * np.arange(frames))


@torch.no_grad()
def evaluate(
    config: SpeechConfig, encoder: AudioEncoder, heads: SpeechHeads, corpus: Corpus, every: int = 1
) -> dict[str, float]:
    """Accuracies on whole recordings of held-out speakers, clean, read from one embedding at the encoder's own
    lookahead.
    """
    heads.eval()
    right: dict[str, list[NDArray[np.bool_]]] = {}
    for speech, phones in zip(corpus.speech[::every], corpus.phones[::every], strict=True):
        heard = hear(encoder, speech)
        moment = heard.ends - config.lookahead_samples
        inside = (moment >= 0) & (moment < len(speech))
        probability = heads(torch.from_numpy(heard.windows[inside, -1]))[0].softmax(1)
        unit = moment[inside] // UNIT
        truth = phones[unit]
        viseme, viseme_truth = visemes_of(probability).numpy().argmax(1), VISEME_OF_PHONE[truth]
        sure = ~near_border(phones)[unit]
        right.setdefault("phone", []).append(probability.numpy().argmax(1) == truth)
        right.setdefault("viseme", []).append(viseme == viseme_truth)
        right.setdefault("closure_recall", []).append(viseme[viseme_truth == 1] == 1)
        right.setdefault("presence", []).append(((heard.presence[inside] > 0.5) == (truth > 0))[sure])
    return {name: float(np.concatenate(values).mean()) for name, values in right.items()}


def train(
    config: SpeechConfig, folder: Path, data: Path, resume: bool = False, source: Path | None = None,
    init: Path | None = None,
) -> Path:  # fmt: skip
    """Runs or resumes the training; returns the path of the encoder's weights.

    Args:
        source: a Wav2Lip checkpoint whose convolutions are kept as they are.
        init: an avatar or encoder.safetensors to begin with, instead of random weights.
    """
    open_run(folder, config, resume)
    torch.manual_seed(config.seed)
    encoder, heads = AudioEncoder(), SpeechHeads(len(PHONES))
    if init is not None:
        encoder = load_encoder(init)[0]
    if source is not None:
        encoder = load_wav2lip(source)
        encoder.audio_encoder.requires_grad_(False)
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a tenth faster on a CPU
    utterances = load_utterances(data)
    corpus = load_corpus([u for u in utterances if not u.held_out], data)
    add_pitches(corpus, config)
    held_out = load_corpus([u for u in utterances if u.held_out and u.corpus == "librispeech"], data)

    trained = [p for p in (*encoder.parameters(), *heads.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, config.learning_rate, weight_decay=config.weight_decay)
    checkpoint = Checkpoint(folder, {"encoder": encoder, "heads": heads}, optimizer)
    first = checkpoint.load()
    started = time.monotonic()
    factors = {
        "phone": 1.0, "viseme": config.viseme_weight, "ahead": config.ahead_weight,
        "presence": config.presence_weight, "articulation": config.articulation_weight,
    }  # fmt: skip

    # A thread of its own for the sound of the next epoch, and one for the next batch.
    with ThreadPoolExecutor(1) as microphone, ThreadPoolExecutor(1) as reader:
        heard = degrade_corpus(config, corpus, first // config.epoch)
        next_heard = microphone.submit(degrade_corpus, config, corpus, first // config.epoch + 1)
        coming = reader.submit(training_batch, config, corpus, heard, first)
        for step in tqdm(
            range(first, config.steps), initial=first, total=config.steps, desc="audio encoder", unit="step"
        ):
            batch = coming.result()
            if (step + 1) % config.epoch == 0:
                heard = next_heard.result()
                next_heard = microphone.submit(degrade_corpus, config, corpus, (step + 1) // config.epoch + 1)
            coming = reader.submit(training_batch, config, corpus, heard, step + 1)

            # Learning rate: a twentieth of the run to rise, then a cosine to nothing.
            progress = step / config.steps
            scale = min(progress / 0.05, 0.5 + 0.5 * np.cos(np.pi * (progress - 0.05) / 0.95)) if step else 0.01
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * max(scale, 0.005)

            encoder.train()
            heads.train()
            if source is not None:
                encoder.audio_encoder.eval()
            torch.manual_seed(config.seed * 1_000_003 + step)  # dropout, the same after an interruption
            parts = losses(config, encoder, heads, batch)
            loss = sum(factors[name] * value for name, value in parts.items())
            assert isinstance(loss, Tensor)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            if step % 50 == 0:
                log_line(folder, step=step, **{f"{k}_loss": v.item() for k, v in parts.items()})
            if step % 1000 == 999:
                log_line(folder, step=step, **evaluate(config, encoder, heads, held_out, 3))
                plot_log(folder)
            checkpoint.save_if_due(step + 1)
    checkpoint.save(config.steps)
    return _save(config, folder, encoder, heads, held_out, time.monotonic() - started)


def _save(
    config: SpeechConfig, folder: Path, encoder: AudioEncoder, heads: SpeechHeads, held_out: Corpus, seconds: float
) -> Path:
    """Writes encoder.safetensors, float16, with the configuration and the figures on held-out speakers in its
    metadata.
    """
    figures = evaluate(config, encoder, heads, held_out)
    path = folder / "encoder.safetensors"
    state = {k: v.half().contiguous() for k, v in encoder.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, path, {"config": json.dumps(asdict(config)), "held_out_figures": json.dumps(figures)})
    print(
        json.dumps(
            {"encoder": str(path), "seconds_this_run": round(seconds), **{k: round(v, 4) for k, v in figures.items()}}
        )
    )
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.speech", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--out", type=Path, default=Path("build/encoder"), help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument("--steps", type=int, default=SpeechConfig.steps)
    parser.add_argument("--lookahead-samples", type=int, default=SpeechConfig.lookahead_samples)
    parser.add_argument(
        "--from", type=Path, dest="source", metavar="WAV2LIP.PTH", help="use a Wav2Lip checkpoint's encoder as it is"
    )
    parser.add_argument("--init", type=Path, metavar="AVATAR", help="begin with the encoder of an avatar or a run")
    parser.add_argument(
        "--learning-rate", type=float, default=SpeechConfig.learning_rate, help="the highest of the run"
    )
    parser.add_argument("--seed", type=int, default=SpeechConfig.seed)
    options = parser.parse_args()
    try:
        if options.lookahead_samples % LOOKAHEAD_STEP or options.lookahead_samples < 0:
            raise MiravoxError(
                "--lookahead-samples", found=str(options.lookahead_samples),
                wanted=f"a multiple of {LOOKAHEAD_STEP}, 0 or more", remedy="1800 is the default.",
            )  # fmt: skip
        config = SpeechConfig(
            lookahead_samples=options.lookahead_samples, steps=options.steps, seed=options.seed,
            learning_rate=options.learning_rate,
            source=options.source.name if options.source else "", init=options.init.name if options.init else "",
        )  # fmt: skip
        train(config, options.out, data_folder(), options.resume, options.source, options.init)
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
