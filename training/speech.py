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
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from dataset.phones import PHONES, UNIT, VISEME_OF_PHONE, data_folder, load_utterances
from networks.audio_encoder import AudioEncoder
from networks.speech_heads import SpeechHeads
from realtime.arrays import BoolArray
from realtime.contract import LOOKAHEAD_STEP
from realtime.errors import MiravoxError
from realtime.whole_file import replacing
from training.embeddings import encode_recording
from training.encoders import load_encoder, load_wav2lip
from training.phone_losses import phone_loss, viseme_loss, visemes_of
from training.run import Checkpoint, log_line, open_run, plot_log
from training.speech_batches import Batch, SpeechConfig, degrade_corpus, training_batch
from training.speech_corpus import Corpus, add_pitches, load_corpus, near_border


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


@torch.no_grad()
def evaluate(
    config: SpeechConfig, encoder: AudioEncoder, heads: SpeechHeads, corpus: Corpus, every: int = 1
) -> dict[str, float]:
    """Accuracies on whole recordings of held-out speakers, clean, read from one embedding at the encoder's own
    lookahead.
    """
    heads.eval()
    right: dict[str, list[BoolArray]] = {}
    for speech, phones in zip(corpus.speech[::every], corpus.phones[::every], strict=True):
        encoded = encode_recording(encoder, speech)
        moment = encoded.ends - config.lookahead_samples
        inside = (moment >= 0) & (moment < len(speech))
        probability = heads(torch.from_numpy(encoded.windows[inside, -1]))[0].softmax(1)
        unit = moment[inside] // UNIT
        truth = phones[unit]
        viseme, viseme_truth = visemes_of(probability).numpy().argmax(1), VISEME_OF_PHONE[truth]
        sure = ~near_border(phones)[unit]
        right.setdefault("phone", []).append(probability.numpy().argmax(1) == truth)
        right.setdefault("viseme", []).append(viseme == viseme_truth)
        right.setdefault("closure_recall", []).append(viseme[viseme_truth == 1] == 1)
        right.setdefault("presence", []).append(((encoded.presence[inside] > 0.5) == (truth > 0))[sure])
    return {name: float(np.concatenate(values).mean()) for name, values in right.items()}


def train(
    config: SpeechConfig,
    folder: Path,
    data: Path,
    resume: bool = False,
    source: Path | None = None,
    init: Path | None = None,
) -> Path:
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
    add_pitches(corpus, config.pitches, config.augment.pitch, config.seed)
    held_out = load_corpus([u for u in utterances if u.held_out and u.corpus == "librispeech"], data)

    trained = [p for p in (*encoder.parameters(), *heads.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, config.learning_rate, weight_decay=config.weight_decay)
    checkpoint = Checkpoint(folder, {"encoder": encoder, "heads": heads}, optimizer)
    first = checkpoint.load()
    started = time.monotonic()
    factors = {
        "phone": 1.0,
        "viseme": config.viseme_weight,
        "ahead": config.ahead_weight,
        "presence": config.presence_weight,
        "articulation": config.articulation_weight,
    }

    # While a step runs, one thread degrades the corpus for the next epoch, and another makes the next batch.
    with ThreadPoolExecutor(1) as degrading, ThreadPoolExecutor(1) as batching:
        degraded = degrade_corpus(config, corpus, first // config.epoch)
        next_degraded = degrading.submit(degrade_corpus, config, corpus, first // config.epoch + 1)
        next_batch = batching.submit(training_batch, config, corpus, degraded, first)
        for step in tqdm(
            range(first, config.steps), initial=first, total=config.steps, desc="audio encoder", unit="step"
        ):
            batch = next_batch.result()
            if (step + 1) % config.epoch == 0:
                degraded = next_degraded.result()
                next_degraded = degrading.submit(degrade_corpus, config, corpus, (step + 1) // config.epoch + 1)
            next_batch = batching.submit(training_batch, config, corpus, degraded, step + 1)

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
    with replacing(path) as partial:
        save_file(state, partial, {"config": json.dumps(asdict(config)), "held_out_figures": json.dumps(figures)})
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
                "--lookahead-samples",
                found=str(options.lookahead_samples),
                wanted=f"a multiple of {LOOKAHEAD_STEP}, 0 or more",
                remedy="1800 is the default.",
            )
        config = SpeechConfig(
            lookahead_samples=options.lookahead_samples,
            steps=options.steps,
            seed=options.seed,
            learning_rate=options.learning_rate,
            source=options.source.name if options.source else "",
            init=options.init.name if options.init else "",
        )
        train(config, options.out, data_folder(), options.resume, options.source, options.init)
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
