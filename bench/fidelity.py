"""Self-reenactment of held-out takes: the speech of a take is painted into its own frames, after the inpaint region
was set to zero (thesis 4.3).

    python -m bench fidelity --avatar avatars/ada --json F [--markdown F] [--sheet F] [--dataset DIR] [--frames N]
        [--networks color onnx baked] [--beside AVATAR...] [--bounds] [--syncnet syncnet_v2.model]

`color` is the colour network's face laid over the frame as it is; `onnx` and `baked` are the targets, each with the
composition network that runs live. 8-bit sRGB; the figures of each frame, then their mean (training/image_quality.py).
Regions: the whole frame; the face, all that is painted and covered by the mesh; the lower face, the inpaint region of
the ground-truth mesh at the frame's own expression; the mouth, its mask of Table 3.5. Source frames are the lossless
ones. Frames are measured in runs of five, so that what changes from one to the next can be told.

--sheet shows six of the frames: the truth, each network with its error as a heat map (thesis Figures 4.3 to 4.5, 4.13),
the true and the predicted mesh (Figure 4.7).

--bounds says what the error is made of, by taking parts of it away from target `onnx`: `true mesh` has the true
displacement, so the speech decides the colours alone; `true face` has the true frame's own pixels where the mesh covers
them, so what is left is composition; `at rest` are frames of the silent source take, which was trained on: nothing but
what the colour network cannot hold or know, such as shading that depends on the head's pose.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bench.articulation import Labelled, articulation, held_out_articulation, is_synthetic
from bench.fidelity_sheet import mesh_image, save_sheet
from bench.fidelity_table import Figures, table
from bench.frame_figures import GroundTruth, Rows, measure_run
from bench.held_out import evenly, held_out_dataset, runs, widest_expression
from bench.record import show
from bench.reenactment import AT_REST, TRUE_FACE, TRUE_MESH, Reenactment
from dataset.folder import Dataset, Take
from dataset.phones import Utterance
from realtime.arrays import BoolArray, ByteArray
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import FRAME_RATE
from training.inpaint import Inpaint


def fidelity(
    avatar: Avatar,
    dataset: Dataset,
    networks: tuple[str, ...],
    count: int,
    *,
    sheet: Path | None = None,
    syncnet: Path | None = None,
    beside: tuple[Avatar, ...] = (),
    bounded: bool = False,
    footage_shown: bool = True,
) -> tuple[Figures, float]:
    """The figures of each network over about `count` held-out frames, geometry on held-out speech, lip sync if
    SyncNet's weights are there; and the inpaint region's share of the frame.

    Args:
        networks: of color, onnx and baked; the last one is the one that runs live.
        beside: the same avatar with other composition networks, by whose names they are measured, too.
        bounded: whether to measure what the error is made of, too.
        footage_shown: whether the sheet shows the frames as filmed, and not only what was painted into them.
    """
    inpaint = Inpaint(dataset, widest_expression(avatar, dataset))
    truth = GroundTruth(dataset, inpaint)
    held_out = [t for t in dataset.takes if t.held_out]
    pieces = runs(held_out, count)
    frames = [f for piece in pieces for f in piece]
    images = dict(dataset.frames(set(frames)))
    shares = [float((inpaint.mask(f) == 1).sum()) / images[f][..., 0].size for f in frames]
    figures: Figures = {}
    shown = evenly(frames, 6)
    painted_of: dict[str, dict[int, ByteArray]] = {}
    true_meshes = {f: mesh_image(truth.maps, f, truth.vertices(f)) for f in shown} if sheet else {}
    meshes: dict[int, ByteArray] = {}
    regions: dict[int, BoolArray] = {}  # where nothing of the footage is left

    def measured(name: str, painter: Avatar, network: str, pieces: list[list[int]]) -> dict[str, object]:
        reenactment = Reenactment(painter, dataset, inpaint, network)
        rows, painted_of[name] = Rows(), {}
        for piece in tqdm(pieces, desc=name, unit="run"):
            painted = [reenactment.paint(f, images[f]) for f in piece]
            measure_run(rows, truth, piece, painted, [images[f] for f in piece])
            for f, p in zip(piece, painted, strict=True):
                if f in shown:
                    painted_of[name][f], regions[f] = p.image, p.mask == 1
                    if sheet and p.vertices is not None and f not in meshes:
                        meshes[f] = mesh_image(truth.maps, f, p.vertices)
        reenactment.close()
        return rows.figures()

    painters = [(network, avatar, network) for network in networks]
    painters += [(str(other.info["composition"]), other, "onnx") for other in beside]
    figures |= {name: measured(name, painter, network, pieces) for name, painter, network in painters}
    live = figures[networks[-1]]
    assert isinstance(live, dict)
    figures |= {key: live[key] for key in ("flicker_ratio", "seam_ratio", "teeth_sharpness")}
    if bounded:
        silent = runs([dataset.takes[0]], count)
        images |= dataset.frames({f for piece in silent for f in piece})
        figures |= {name: measured(name, avatar, name, pieces) for name in (TRUE_MESH, TRUE_FACE)}
        figures[AT_REST] = measured(AT_REST, avatar, "onnx", silent)
    figures["geometry"] = geometry(avatar, dataset)
    figures["lse"], figures["lse_reason"] = None, "no weights of SyncNet were given (--syncnet)"
    if syncnet is not None:
        reenactment = Reenactment(avatar, dataset, inpaint, networks[-1])
        figures["lse"], figures["lse_reason"] = lse(reenactment, held_out, syncnet), "averages of the held-out takes"
        reenactment.close()
    if sheet is not None:
        save_sheet(images, painted_of, [true_meshes, meshes], shown, sheet, None if footage_shown else regions)
    return figures, float(np.mean(shares))


def geometry(avatar: Avatar, dataset: Dataset) -> dict[str, object]:
    """Lips against the studio's on held-out speech of her own voice, and of speakers never heard; those of a person who
    was captured against the tracked ones, on the dataset's held-out takes (closures where their phones are known).
    """
    if is_synthetic(avatar):
        spoken = held_out_articulation(avatar)
    else:
        takes = [
            Labelled(
                Utterance(
                    corpus=t.corpus,
                    id=t.name,
                    seconds=t.frames / FRAME_RATE,
                    text="",
                    phones=t.phones,
                    held_out=True,
                ),
                t.speech,
                dataset.expression[t.first : t.end],
            )
            for t in dataset.takes
            if t.held_out
        ]
        spoken = {"own voice": articulation(avatar, takes, dataset.basis)}
    own = spoken["own voice"]
    keys = {"aperture_mm": "aperture_error_mm", "width_mm": "width_error_mm", "closure": "closure"}
    return {n: own[key] for n, key in keys.items()} | {"own_voice": own, "never_heard": spoken.get("never heard")}


def lse(reenactment: Reenactment, takes: list[Take], weights: Path) -> dict[str, object]:
    """LSE-D and LSE-C of the painted takes, and of the takes as filmed: averages, and each take."""
    from training.lip_sync import crop_face, embed_clip, face_box, lip_sync, load_syncnet

    network, dataset = load_syncnet(weights), reenactment.dataset
    rows: dict[str, list[dict[str, float]]] = {"painted": [], "filmed": []}

    def crops(take: Take) -> Iterator[tuple[ByteArray, ByteArray]]:
        for frame, image in dataset.frames(set(range(take.first, take.end))):
            box = face_box(dataset.camera.project(dataset.neutral, dataset.pose[frame]))
            yield crop_face(reenactment.paint(frame, image).image, box), crop_face(image, box)

    for take in tqdm(takes, desc="lip sync", unit="take"):
        speech = read_speech(take.speech).samples
        for name, faces in zip(rows, zip(*crops(take), strict=True), strict=True):
            rows[name].append(asdict(lip_sync(*embed_clip(network, list(faces), speech))))
    means = {n: {k: float(np.mean([r[k] for r in v])) for k in ("distance", "confidence")} for n, v in rows.items()}
    return {
        "d": means["painted"]["distance"],
        "c": means["painted"]["confidence"],
        "filmed": {"d": means["filmed"]["distance"], "c": means["filmed"]["confidence"]},
        "takes": rows,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", type=Path, help="folder; by default the held-out takes are filmed again")
    parser.add_argument("--frames", type=int, default=60, help="about so many held-out frames, in runs of five")
    parser.add_argument("--networks", nargs="+", choices=("color", "onnx", "baked"), default=["color", "onnx", "baked"])
    parser.add_argument(
        "--beside",
        type=Path,
        nargs="*",
        default=[],
        metavar="AVATAR",
        help="the same avatar with other composition networks, measured too",
    )
    parser.add_argument("--bounds", action="store_true", help="what the error is made of, too")
    parser.add_argument("--sheet", type=Path, help="PNG with six of the frames and their errors")
    parser.add_argument(
        "--without-footage", action="store_true", help="the PNG shows what was painted, nothing as it was filmed"
    )
    parser.add_argument("--markdown", type=Path, help="file for the tables")
    parser.add_argument("--syncnet", type=Path, help="SyncNet's published weights, for LSE-D and LSE-C")


def run(o: argparse.Namespace) -> Figures:
    avatar = load_avatar(o.avatar)
    dataset = held_out_dataset(avatar, o.dataset)
    beside = tuple(load_avatar(folder) for folder in o.beside)
    figures, share = fidelity(
        avatar,
        dataset,
        tuple(o.networks),
        o.frames,
        sheet=o.sheet,
        syncnet=o.syncnet,
        beside=beside,
        bounded=o.bounds,
        footage_shown=not o.without_footage,
    )
    show(table(figures, share), o.markdown)
    return {"figures": figures, "inpaint_share": share}
