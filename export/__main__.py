"""From trained networks to an avatar folder.

python -m export bake --dataset DIR [--encoder F --face F --out DIR]
python -m export pack --dataset DIR --name NAME --consent TEXT --sample FLAC [--encoder F --face F --baked DIR
--composition F] --out DIR
python -m export composition --avatar DIR --composition F --out DIR
python -m export face --avatar DIR --face F --out DIR
python -m export card --avatar DIR --fidelity F

An avatar that is there already is exported anew, and its plans are built if there is a GPU, with

python -m export AVATAR --target tensorrt [--size PIXELS --out DIR]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from dataset.folder import load_dataset
from export.baked import BakeConfig, bake
from export.card import write_card
from export.pack import pack
from export.replace import recompose, reface
from export.tensorrt import build_plans, export_target
from realtime.errors import MiravoxError
from training.embeddings import embed_dataset
from training.encoders import load_encoder, lookahead_of
from training.face_networks import load_face

ADA = Path("avatars/ada")
BUILD = Path("build/avatar")
TARGET_USAGE = "python -m export AVATAR --target tensorrt [--size PIXELS] [--out DIR]"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(argument.partition("=")[0] == "--target" for argument in arguments):
        return parse_target(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Turns trained networks into an avatar folder.",
        epilog=f"An avatar that is there already is exported for a GPU with: {TARGET_USAGE}",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("bake", "factor the networks into textures"), ("pack", "assemble the avatar folder")):
        command = commands.add_parser(name, help=what)
        command.add_argument("--dataset", type=Path, required=True)
        command.add_argument("--encoder", type=Path, default=Path("build/encoder/encoder.safetensors"))
        command.add_argument("--face", type=Path, default=BUILD / "face" / "face.safetensors")
        if name == "bake":
            command.add_argument("--out", type=Path, default=BUILD / "baked")
            command.add_argument("--color-rank", type=int, default=BakeConfig.color_rank)
        else:
            command.add_argument("--baked", type=Path, default=BUILD / "baked")
            command.add_argument("--composition", type=Path, default=BUILD / "composition" / "composition.safetensors")
            command.add_argument("--out", type=Path, required=True)
            command.add_argument("--name", required=True)
            command.add_argument("--consent", required=True, help="who consented to being shown, and how that is known")
            command.add_argument("--sample", type=Path, required=True, help="FLAC that ships as the sample recording")
    command = commands.add_parser("composition", help="put another composition network into an avatar")
    command.add_argument("--avatar", type=Path, default=ADA)
    command.add_argument("--composition", type=Path, default=BUILD / "composition" / "composition.safetensors")
    command.add_argument("--out", type=Path, required=True)
    command = commands.add_parser("face", help="put another face into an avatar, which is no longer baked then")
    command.add_argument("--avatar", type=Path, default=ADA)
    command.add_argument("--face", type=Path, default=BUILD / "face" / "face.safetensors")
    command.add_argument("--out", type=Path, required=True)
    command = commands.add_parser("card", help="keep what bench fidelity measured in the avatar's description")
    command.add_argument("--avatar", type=Path, default=ADA)
    command.add_argument("--fidelity", type=Path, required=True, metavar="F", help="its --json file")
    return parser.parse_args(arguments)


def parse_target(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m export", usage=TARGET_USAGE, description="Exports an avatar anew for one target."
    )
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--target", choices=("tensorrt",), required=True)
    parser.add_argument("--size", type=int, help="side of the frames that plans are built for; by default her own")
    parser.add_argument("--out", type=Path, help="write into a copy of the avatar instead of into its folder")
    return parser.parse_args(arguments, argparse.Namespace(command="target"))


def main() -> None:
    o = parse()
    try:
        if o.command == "bake":
            dataset = load_dataset(o.dataset)
            encoder, encoder_config = load_encoder(o.encoder)
            networks, _, _ = load_face(o.face)
            windows = embed_dataset(encoder, dataset, lookahead_of(encoder_config))
            print(json.dumps(bake(dataset, networks, windows, o.out, BakeConfig(color_rank=o.color_rank)), indent=2))
        elif o.command == "composition":
            print(recompose(o.avatar, o.composition, o.out))
        elif o.command == "face":
            print(reface(o.avatar, o.face, o.out))
        elif o.command == "target":
            print(export_target(o.avatar, o.out))
            print(build_plans(o.out or o.avatar, o.size))
        elif o.command == "card":
            write_card(o.avatar, o.fidelity)
        else:
            packed = pack(
                dataset_folder=o.dataset,
                encoder_path=o.encoder,
                face_path=o.face,
                baked=o.baked,
                composition_path=o.composition,
                out=o.out,
                name=o.name,
                consent=o.consent,
                sample=o.sample,
            )
            print(packed)
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
