"""What a longer delay buys: how well speech is recognised, and mouth to photon, against the lookahead.

    python -m bench lookahead --json F [--png F] [--seconds N]

One encoder is read at every lookahead (bench/speech.py). The latency is measured in the browser with the avatar's
lookahead changed, the rest as it is; her mouth was trained for her own lookahead, so only recognition is compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from bench.articulation import Labelled
from bench.latency import latency
from bench.picture import drawing
from bench.speech import READOUT, held_out_speech, recognition
from networks.readout import LOOKAHEADS
from realtime.avatar import Avatar, load_avatar
from realtime.contract import SAMPLE_RATE
from training.encoders import load_encoder
from training.readout import load_readout

RECOGNISED = ("phone", "viseme", "closure_recall", "presence")


def with_lookahead(avatar: Avatar, samples: int, folder: Path) -> Avatar:
    """A copy of the avatar in `folder`, with another lookahead."""
    shutil.copytree(avatar.folder, folder)
    info = {**avatar.info, "lookahead_samples": samples}
    (folder / "avatar.json").write_text(json.dumps(info))
    return load_avatar(folder)


def lookahead(
    avatar: Avatar, recordings: list[Labelled], readout: Path, target: str, seconds: float
) -> dict[str, object]:
    """For each lookahead in ms: shares recognised, clean and at 10 dB, and mouth to photon in ms; and the avatar's own
    lookahead.
    """
    encoder, _ = load_encoder(avatar.folder)
    recognised = recognition(encoder, load_readout(readout, encoder), avatar.lookahead_samples, recordings)
    rows: dict[str, object] = {}
    for samples, figures in zip(LOOKAHEADS, recognised.values(), strict=True):
        with tempfile.TemporaryDirectory() as place:
            other = with_lookahead(avatar, samples, Path(place) / "avatar")
            measured = latency(other, target, None, seconds)
        rows[f"{1000 * samples / SAMPLE_RATE:g}"] = {
            "clean": {k: figures["clean"][k] for k in RECOGNISED},
            "noise_10db": {k: figures["noise_10db"][k] for k in RECOGNISED},
            "mouth_to_photon_ms": measured["mouth_to_photon_ms"],
        }
    return {"lookahead_ms": rows, "default_lookahead_ms": 1000 * avatar.lookahead_samples / SAMPLE_RATE}


def print_table(result: dict[str, object]) -> None:
    rows = result["lookahead_ms"]
    assert isinstance(rows, dict)
    print(
        f"{'lookahead':>10}{'phones':>10}{'visemes':>10}{'P B M':>10}{'presence':>10}{'mouth to photon':>18}{'p95':>8}"
    )
    for name, row in rows.items():
        shares = "".join(f"{100 * row['clean'][k]:8.1f} %" for k in RECOGNISED)
        times = row["mouth_to_photon_ms"]
        print(f"{name:>7} ms{shares}{times['median']:15.0f} ms{times['p95']:8.0f}")


def plot(result: dict[str, object], path: Path) -> None:
    """Visemes recognised, clean and at 10 dB, against mouth to photon, as PNG."""
    rows = result["lookahead_ms"]
    assert isinstance(rows, dict)
    with drawing(path, (7, 4.2)) as axis:
        times = [row["mouth_to_photon_ms"]["median"] for row in rows.values()]
        for condition, label in (("clean", "clean"), ("noise_10db", "babble and music, 10 dB")):
            axis.plot(times, [100 * row[condition]["viseme"] for row in rows.values()], "o-", label=label)
        for time, (name, row) in zip(times, rows.items(), strict=True):
            axis.annotate(f"{name} ms", (time, 100 * row["clean"]["viseme"]), (0, 6), textcoords="offset points")
        axis.set(xlabel="mouth to photon, ms (median)", ylabel="visemes recognised, %", title="what delay buys")
        axis.grid(alpha=0.3)
        axis.legend()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=20.0, help="measured at each, less the first five")
    parser.add_argument("--readout", type=Path, default=READOUT, help="of the avatar's encoder, by training.readout")
    parser.add_argument("--target", choices=("baked", "onnx", "tensorrt"), default="baked")
    parser.add_argument("--png", type=Path, help="picture of the figures")


def run(o: argparse.Namespace) -> dict[str, object]:
    result = lookahead(load_avatar(o.avatar), held_out_speech(), o.readout, o.target, o.seconds)
    print_table(result)
    if o.png:
        plot(result, o.png)
    return result
