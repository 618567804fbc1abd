"""Frames beside their phones, of an utterance that was not trained on: python -m bench sheet --png F [--id ID]."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dataset.phones import PHONES, Utterance, data_folder, load_utterances
from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import FRAME_RATE, SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from realtime.face.pipeline import FacePipeline
from realtime.face.yuv import RgbConverter

SHEET_CROP = 0.55  # of the frame's side, around the mouth


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--id", default="7511-102419-0000", help="an utterance of the label file")
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0, help="first frame")


def run(o: argparse.Namespace) -> None:
    found = [u for u in load_utterances(data_folder()) if u.id == o.id]
    if not found:
        raise MiravoxError(
            o.id, found="no such label", wanted="an id of labels.jsonl", remedy="Name another with --id."
        )
    phone_sheet(load_avatar(o.avatar), found[0], o.png, o.first)


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
    to_rgb = RgbConverter()
    with FacePipeline(avatar, ring, "baked") as pipeline:
        for i in range(count):
            frame = to_rgb(pipeline.render(first + i))
            left, top, right, bottom = pipeline.inpaint.boxes[(first + i) % len(pipeline.inpaint.boxes)]
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
