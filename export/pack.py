"""Writes the avatar folder: weights, geometry, source loop, targets, hashes, provenance and licence."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from dataset.folder import Dataset, load_dataset
from export.coefficients import Coefficients
from export.onnx import export_onnx
from export.tensorrt import export_half
from export.weights import fill, save_networks
from networks.composition import COMPOSITIONS, Composition
from realtime import contract
from realtime.avatar import load_avatar
from realtime.avatar_format import GEOMETRY, hashes
from realtime.avatar_json import FORMAT_VERSION
from realtime.contract import EMBEDDINGS, FRAME_RATE
from realtime.errors import MiravoxError
from training.composition import CompositionTraining
from training.encoders import load_encoder, lookahead_of
from training.face_networks import load_face
from training.inpaint import Inpaint

SOURCE_SECONDS = 12  # of the silent take; the unrolled loop lasts twice as long
MASK_SIDE = 96
SOURCE_CRF = "17"


def pack(
    *,
    dataset_folder: Path,
    encoder_path: Path,
    face_path: Path,
    baked: Path,
    composition_path: Path,
    out: Path,
    name: str,
    consent: str,
    sample: Path,
) -> Path:
    """Assembles everything beside `out` and puts it in its place at the end.

    Raises MiravoxError if a piece is missing.
    """
    for path in (face_path, baked / "baked.safetensors", baked / "coefficients.safetensors", composition_path, sample):
        if not path.is_file():
            raise MiravoxError(
                str(path), found="no such file", wanted="a trained piece of the avatar", remedy="Run `make avatar`."
            )
    dataset = load_dataset(dataset_folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        _fill_folder(folder, dataset, encoder_path, face_path, baked, composition_path, name, consent, sample)
        load_avatar(folder)
        folder.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        os.replace(folder, out)
    except BaseException:  # an interruption, too, must leave nothing half-written behind
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return out


def _fill_folder(
    folder: Path,
    dataset: Dataset,
    encoder_path: Path,
    face_path: Path,
    baked: Path,
    composition_path: Path,
    name: str,
    consent: str,
    sample: Path,
) -> None:
    encoder, encoder_config = load_encoder(encoder_path)
    face, face_config, rest = load_face(face_path)
    later = _metadata(face_path, "projection")  # if the projection was trained anew
    composition_config = CompositionTraining(**_metadata(composition_path, "config"))
    composition = fill(
        Composition(COMPOSITIONS[composition_config.network]), load_file(composition_path), "", composition_path
    )
    state = load_file(baked / "coefficients.safetensors")
    ranks = [len(state[f"coefficients/{head}.bias"]) for head in ("displacement", "color")]
    coefficients = fill(Coefficients(*ranks), state, "coefficients/", baked / "coefficients.safetensors")
    networks: dict[str, nn.Module] = {
        "audio_encoder": encoder,
        "projection": face.projection,
        "deformation": face.deformation,
        "color": face.color,
        "composition": composition,
        "coefficients": coefficients,
    }
    save_networks(networks, folder / "networks.safetensors")
    for network in contract.NETWORKS:
        where = "baked" if network is contract.COEFFICIENTS else "onnx"
        path = folder / "targets" / where / f"{network.name}.onnx"
        export_onnx(networks[network.name], network, path, composition_config.side)
    for network in contract.PLAN_NETWORKS:
        path = folder / "targets" / "tensorrt" / f"{network.name}.onnx"
        export_half(networks[network.name], network, path, composition_config.side)
    shutil.copyfile(baked / "baked.safetensors", folder / "targets" / "baked" / "baked.safetensors")
    shutil.copyfile(sample, folder / "sample.flac")

    geometry = {k: np.asarray(v) for k, v in dataset.geometry.items() if k in GEOMETRY}
    save_file({**geometry, "rest_latent": rest.astype(np.float32)}, folder / "geometry.safetensors")
    _write_source(folder, dataset)

    camera = dataset.camera
    info = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "width": camera.width,
        "height": camera.height,
        "frame_rate": FRAME_RATE,
        "window_embeddings": EMBEDDINGS,
        "lookahead_samples": lookahead_of(encoder_config),
        "camera": {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy},
        "color_input": face_config.color_input,
        "frequencies": face_config.frequencies,
        "composition": composition_config.network,
        "composition_size": composition_config.side,
        "provenance": {
            "dataset": dataset.provenance,
            "encoder": encoder_config,
            "face": asdict(face_config),
            **({"projection": later} if later else {}),
            "baked": json.loads((baked / "report.json").read_text()),
            "composition": asdict(composition_config),
        },
        "consent": consent,
        "licence": dataset.licence,
        "fidelity": {},
        **hashes(folder),
    }
    (folder / "avatar.json").write_text(json.dumps(info, indent=2) + "\n")


def _metadata(path: Path, key: str) -> dict:  # type: ignore[type-arg]
    from safetensors import safe_open

    with safe_open(path, "np") as f:
        return dict(json.loads((f.metadata() or {}).get(key, "{}")))


def _write_source(folder: Path, dataset: Dataset) -> None:
    """source.mp4, all-intra and unrolled (there and back, so that its ends join), and the pose, box and mask of each
    frame.
    """
    take = dataset.takes[0]
    there = list(range(take.first, min(take.end, take.first + SOURCE_SECONDS * FRAME_RATE)))
    loop = there + there[-2:0:-1]
    inpaint = Inpaint(dataset)
    masks: dict[int, NDArray[np.uint8]] = {}
    for frame in tqdm(there, desc="inpaint masks", unit="frame"):
        mask = Image.fromarray(np.round(inpaint.mask(frame) * 255).astype(np.uint8))
        masks[frame] = np.asarray(mask.resize((MASK_SIDE, MASK_SIDE), Image.Resampling.BOX))
    save_file(
        {
            "pose": dataset.pose[loop].astype(np.float32),
            "box": np.stack([inpaint.box(f) for f in loop]),
            "mask": np.stack([masks[f] for f in loop]),
        },
        folder / "source.safetensors",
    )
    _write_loop(folder / "source.mp4", dataset, loop)


def _write_loop(path: Path, dataset: Dataset, loop: list[int]) -> None:
    images = dict(dataset.frames(set(loop)))
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE)
        stream.width, stream.height, stream.pix_fmt = dataset.camera.width, dataset.camera.height, "yuv420p"
        # Half the time to decode, every frame of every session, for an eighth more bytes.
        stream.options = {"crf": SOURCE_CRF, "preset": "slow", "tune": "fastdecode", "g": "1", "keyint": "1"}
        context = stream.codec_context
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = 1, 1  # BT.709
        for index, frame_index in enumerate(tqdm(loop, desc="source loop", unit="frame")):
            frame = av.VideoFrame.from_ndarray(images[frame_index], format="rgb24")
            frame = frame.reformat(
                format="yuv420p",
                src_colorspace=Colorspace.ITU709,
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
