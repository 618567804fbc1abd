"""Self-reenactment of held-out takes: the speech of a take is painted into its own frames, after the inpaint region
was set to zero (thesis 4.3).

    python -m bench fidelity --avatar avatars/ada --json F [--markdown F] [--sheet F] [--dataset DIR] [--frames N]
        [--networks color onnx baked] [--beside AVATAR...] [--bounds] [--syncnet syncnet_v2.model]

`color` is the colour network's face laid over the frame as it is; `onnx` and `baked` are the targets, each with the
composition network that runs live. 8-bit sRGB; the figures of each frame, then their mean (training/metrics.py).
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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from bench.articulation import Labelled, articulation, held_out_articulation, is_synthetic
from bench.record import show
from networks.contract import FRAME_RATE, REGIONS, SAMPLES_PER_FRAME
from realtime.audio_input import Block
from realtime.audio_ring import AudioRing
from realtime.avatar import Avatar, load_avatar
from realtime.errors import MiravoxError
from realtime.neural_face import NeuralFace
from realtime.pipeline import Pipeline
from realtime.sound_file import read_speech
from studio.dataset import SOURCE, FilmConfig, film, script_of
from studio.face_model import load_face_model
from studio.speech_curves import expression_curves
from training import metrics
from training.dataset import Dataset, FaceMaps, Take, load_dataset
from training.inpaint import Inpaint, chin_heights
from training.phones import Utterance, data_folder, load_utterances

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]
Figures = dict[str, object]

RUN = 5  # consecutive frames
STEADY_MM = 0.1  # skin that is displaced by less from one frame to the next stays itself
NEAR_CM = 0.4  # a vertex is visible if its pixel shows a canonical point as near as this
INNER_LIPS = range(60, 68)  # landmarks
PARTED_MM = 3.0  # lips further apart than this show teeth
TRUE_MESH, TRUE_FACE, AT_REST = "true mesh", "true face", "at rest"  # what --bounds takes away
LIGHT = np.array([0.3, 0.4, 1.0])  # object space: towards the light that meshes are shown in
HEAT = 0.15  # error (L2 of RGB in [0, 1]) of the heat map's hottest colour

# Tables 4.5 and 4.7 of the thesis; over which pixels is not said there.
THESIS = {
    "Table 4.5, six actors": {"ssim": 0.982, "psnr": 37.791, "mse": 0.0002},
    "Table 4.7, color": {"ssim": 0.952, "psnr": 31.643, "mse": 0.00070},
    "Table 4.7, dilated": {"ssim": 0.979, "psnr": 38.527, "mse": 0.00016},
    "Table 4.7, strided": {"ssim": 0.977, "psnr": 37.970, "mse": 0.00017},
}
THESIS_LSE = {"ours": {"d": 7.33, "c": 5.19}, "recordings": {"d": 7.23, "c": 6.09}}  # averages of its Table A.2


def held_out_dataset(avatar: Avatar, folder: Path | None) -> Dataset:
    """The given dataset, or the held-out takes filmed again from the avatar's provenance (kept under build/)."""
    if folder is None:
        provenance = avatar.info["provenance"]
        assert isinstance(provenance, dict)
        recipe = provenance["dataset"]
        if recipe.get("generator") != "studio":
            raise MiravoxError(
                str(avatar.folder), found=f"provenance by {recipe.get('generator')!r}", wanted="a synthetic actor",
                remedy="Name the dataset of held-out takes with --dataset.",
            )  # fmt: skip
        folder = Path("build") / f"held-out-{avatar.name.lower()}-{recipe['identity']}"
        if not (folder / "dataset.json").is_file():
            film_again(recipe, folder)
    return load_dataset(folder)


def film_again(recipe: dict[str, object], folder: Path) -> None:
    """Films the source take and the held-out takes of a studio's provenance."""
    speech, identity = recipe["speech"], recipe["identity"]
    assert isinstance(speech, list) and isinstance(identity, int)
    wanted = [u for u in load_utterances(data_folder()) if u.held_out and f"{u.corpus}/{u.id}" in speech]
    film(folder, FilmConfig(identity, held_out_only=True), [SOURCE, *(script_of(u) for u in wanted)])


def widest_expression(avatar: Avatar, dataset: Dataset) -> NDArray[np.float32] | None:
    """The expression with the lowest chin in the avatar's training speech, for a dataset of held-out takes alone.

    None if the dataset has training takes that speak, as that of a captured person always has: those tell themselves.
    """
    recipe = avatar.info["provenance"]["dataset"]
    if recipe.get("generator") != "studio" or any(not take.held_out and take.phones for take in dataset.takes):
        return None
    speech = recipe["speech"]
    names = load_face_model().expression_names
    curves = np.concatenate([
        expression_curves(u.phones, int(u.seconds * FRAME_RATE), names)
        for u in load_utterances(data_folder())
        if not u.held_out and f"{u.corpus}/{u.id}" in speech
    ])  # fmt: skip
    return np.asarray(curves[chin_heights(dataset, curves).argmin()], np.float32)


def evenly(frames: list[int], count: int) -> list[int]:
    """`count` of the frames, evenly spaced; all of them if there are not more."""
    if count >= len(frames):
        return frames
    return [frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)]


def runs(takes: list[Take], count: int) -> list[list[int]]:
    """About `count` frames of the takes in evenly spaced runs of RUN consecutive ones."""
    starts = [f for take in takes for f in range(take.first, take.end - RUN + 1, RUN)]
    return [list(range(f, f + RUN)) for f in evenly(starts, max(1, count // RUN))]


@dataclass(frozen=True)
class Painted:
    """A painted frame, and what it was painted from."""

    image: ByteArray  # [H, W, 3]
    mask: FloatArray  # [H, W]: 1 where painted, falling to 0 over the feather
    covered: NDArray[np.bool_]  # [H, W], by the drawn mesh
    vertices: FloatArray | None  # [V, 3], displaced, cm, if the network draws it


class Reenactment:
    """Paints frames of a dataset with an avatar: with its networks, a target, the colour network alone, or, for
    --bounds, the truth in some places.
    """

    def __init__(self, avatar: Avatar, dataset: Dataset, inpaint: Inpaint, network: str) -> None:
        self.dataset, self.inpaint = dataset, inpaint
        longest = max(t.frames for t in dataset.takes)
        self.capacity = (longest + 2 * FRAME_RATE) * SAMPLES_PER_FRAME
        self.avatar, self.network = avatar, network
        self.take_first: int | None = None
        self.pipeline: Pipeline | None = None

    def paint(self, frame: int, image: ByteArray) -> Painted:
        """Paints a frame, from the true frame uint8 [H, W, 3] with the inpaint region set to zero."""
        take = self.dataset.take_of_frame(frame)
        if take.first != self.take_first:  # nothing may cross from one take into another
            self.close()
            ring = AudioRing(self.capacity)
            speech = read_speech(take.speech).samples
            ring.write(Block(0, np.concatenate([speech, np.zeros(SAMPLES_PER_FRAME * FRAME_RATE, np.float32)])))
            target = "baked" if self.network == "baked" else "onnx"
            self.pipeline, self.take_first = Pipeline(self.avatar, ring, target), take.first
        assert self.pipeline is not None
        box, mask = self._fit(self.inpaint.box(frame), self.inpaint.mask(frame))
        left, top, right, bottom = box
        latent = self.pipeline.latents.advance(frame - take.first)
        face = self._face(frame, image, latent, box)
        covered = face[..., 3] > 0
        crop = image[top:bottom, left:right] * (mask < 1)[..., None].astype(np.uint8)
        painted = image.copy()
        if self.network == "color":
            painted[top:bottom, left:right] = np.where((covered & (mask > 0))[..., None], face[..., :3], crop)
        else:
            painted[top:bottom, left:right] = self.pipeline.compositor.compose(crop, face, mask)
        whole_mask, whole_covered = np.zeros(image.shape[:2], np.float32), np.zeros(image.shape[:2], bool)
        whole_mask[top:bottom, left:right], whole_covered[top:bottom, left:right] = mask, covered
        drawn = self.pipeline.face
        vertices = drawn.displace(latent) if isinstance(drawn, NeuralFace) else None
        return Painted(painted, whole_mask, whole_covered, vertices)

    def _face(self, frame: int, image: ByteArray, latent: FloatArray, box: NDArray[np.int32]) -> ByteArray:
        """The face within the box, uint8 [h, w, 4]: sRGB and coverage."""
        assert self.pipeline is not None
        drawn, pose = self.pipeline.face, self.dataset.pose[frame]
        if self.network == TRUE_MESH:
            assert isinstance(drawn, NeuralFace)
            vertices = np.asarray(self.dataset.neutral + self.dataset.displacement(frame), np.float32)
            return drawn.shade(vertices, latent, pose, box)
        face = drawn.draw(latent, pose, box)
        if self.network == TRUE_FACE:
            left, top, right, bottom = box
            covered = face[..., 3] > 0
            face[covered, :3] = image[top:bottom, left:right][covered]
        return face

    def _fit(self, box: NDArray[np.int32], mask: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The dataset's box and mask at the size of the avatar's own box, around the same centre; the mask must fit."""
        assert self.pipeline is not None
        size = np.array(self.pipeline.inpaint.box_size)
        limit = np.array([self.dataset.camera.width, self.dataset.camera.height])
        corner = np.clip(np.round((box[:2] + box[2:] - size) / 2), 0, limit - size).astype(np.int32)
        whole = np.zeros(limit[::-1], np.float32)
        whole[box[1] : box[3], box[0] : box[2]] = mask
        fitted = whole[corner[1] : corner[1] + size[1], corner[0] : corner[0] + size[0]]
        if (fitted == 1).sum() < (mask == 1).sum():
            raise MiravoxError(
                str(self.dataset.folder), found=f"an inpaint region of {mask.shape[::-1]} pixels",
                wanted=f"one within the avatar's {self.pipeline.inpaint.box_size}",
                remedy="Pack the avatar with this dataset.",
            )  # fmt: skip
        return np.concatenate([corner, corner + size.astype(np.int32)]), fitted

    def close(self) -> None:
        if self.pipeline is not None:
            self.pipeline.close()
            self.pipeline = None


class Watch:
    """What a frame's ground truth says of its pixels, and of the skin that does not move."""

    def __init__(self, dataset: Dataset, inpaint: Inpaint) -> None:
        self.dataset, self.maps = dataset, inpaint.maps
        self.mouth = dataset.regions[REGIONS.index("mouth")]
        corners = np.asarray(dataset.geometry["triangles"])[np.asarray(dataset.geometry["landmark_triangles"])]
        self.lips, weights = corners[list(INNER_LIPS)], np.asarray(dataset.geometry["landmark_barycentrics"])
        self.lip_weights = weights[list(INNER_LIPS)]

    def vertices(self, frame: int) -> FloatArray:
        return np.asarray(self.dataset.neutral + self.dataset.displacement(frame), np.float32)

    def regions(self, frame: int, painted: Painted) -> dict[str, NDArray[np.bool_]]:
        masks = self.maps.masks(frame)
        return {
            "face": (painted.mask == 1) & painted.covered,
            "lower_face": masks[..., REGIONS.index("inpaint")] > 0.5,
            "mouth": masks[..., REGIONS.index("mouth")] > 0.5,
        }

    def teeth(self, frame: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Pixels between the inner lips; none if they are too near to each other."""
        points = np.einsum("lk,lkx->lx", self.lip_weights, self.vertices(frame)[self.lips])
        if 10 * np.linalg.norm(points[2] - points[6]) < PARTED_MM:
            return np.zeros(size, bool)
        return metrics.inner_mouth(self.dataset.camera.project(points, self.dataset.pose[frame]), size)

    def steady(self, frame: int, painted: Painted) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Pixel positions [V, 2] of the vertices, and which of them are painted, visible, off the lips, and where they
        were on the face a frame ago.
        """
        dataset = self.dataset
        points = dataset.camera.project(self.vertices(frame), dataset.pose[frame])
        height, width = painted.mask.shape
        columns = np.clip(points[:, 0].astype(int), 0, width - 1)
        rows = np.clip(points[:, 1].astype(int), 0, height - 1)
        shown = self.maps.draw(frame, dataset.canonical)[rows, columns]
        visible = (shown[:, 3] > 0) & (np.linalg.norm(shown[:, :3] - dataset.canonical, axis=1) < NEAR_CM)
        moved = np.linalg.norm(dataset.displacement(frame) - dataset.displacement(max(0, frame - 1)), axis=1)
        kept = visible & (painted.mask[rows, columns] == 1) & (self.mouth < 0.1) & (10 * moved < STEADY_MM)
        return points, kept


@dataclass
class Rows:
    """Figures of every measured frame of one network."""

    images: list[dict[str, dict[str, float]]] = field(default_factory=list)
    seam: list[float] = field(default_factory=list)
    teeth: list[float] = field(default_factory=list)
    flicker: list[tuple[float, float]] = field(default_factory=list)  # of each run: painted, true
    jitter: list[tuple[float, float]] = field(default_factory=list)  # mm: predicted, true

    def figures(self) -> dict[str, object]:
        """Means: by region, and over frames or runs."""
        parts = dict.fromkeys(name for row in self.images for name in row)
        out: dict[str, object] = {
            part: {
                key: float(np.mean([row[part][key] for row in self.images if part in row]))
                for key in ("psnr", "ssim", "mse")
            }
            for part in parts
        }
        for name, values in (("seam_ratio", self.seam), ("teeth_sharpness", self.teeth)):
            out[name] = float(np.mean(values)) if values else None
        # Of all runs together: where the head stands still the original hardly changes at all.
        painted, true = np.sqrt(np.square(self.flicker).mean(0)) if self.flicker else (0.0, 0.0)
        out["flicker_ratio"] = float(painted / true) if true else None
        if self.jitter:
            out["jitter_mm"] = dict(zip(("predicted", "true"), np.mean(self.jitter, 0).tolist(), strict=True))
        return out


def measure_run(rows: Rows, watch: Watch, frames: list[int], painted: list[Painted], true: list[ByteArray]) -> None:
    """Adds the figures of one run of consecutive frames."""
    sampled, steady = [], []
    for frame, p, image in zip(frames, painted, true, strict=True):
        rows.images.append(metrics.image_figures(p.image, image, watch.regions(frame, p)))
        rows.seam.append(metrics.seam_ratio(p.image, image, p.mask))
        sharpness = metrics.sharpness_ratio(p.image, image, watch.teeth(frame, p.mask.shape))
        rows.teeth += [] if sharpness is None else [sharpness]
        points, kept = watch.steady(frame, p)
        sampled.append((metrics.sample(p.image, points), metrics.sample(image, points)))
        steady.append(kept)
    of_painted, of_true = (metrics.flicker(np.stack(luma), np.stack(steady)) for luma in zip(*sampled, strict=True))
    rows.flicker += [] if of_painted is None or of_true is None else [(of_painted, of_true)]
    displaced = [p.vertices for p in painted if p.vertices is not None]
    if len(displaced) == len(frames):
        moved = np.unique(np.asarray(watch.dataset.geometry["triangles"]))
        truth = np.stack([watch.vertices(f) for f in frames])[:, moved]
        rows.jitter.append((10 * metrics.jitter(np.stack(displaced)[:, moved]), 10 * metrics.jitter(truth)))


def fidelity(
    avatar: Avatar, dataset: Dataset, networks: tuple[str, ...], count: int, sheet: Path | None = None,
    syncnet: Path | None = None, beside: tuple[Avatar, ...] = (), bounded: bool = False, footage_shown: bool = True,
) -> tuple[Figures, float]:  # fmt: skip
    """The figures of each network over about `count` held-out frames, geometry on held-out speech, lip sync if
    SyncNet's weights are there; and the inpaint region's share of the frame.

    Args:
        networks: of color, onnx and baked; the last one is the one that runs live.
        beside: the same avatar with other composition networks, by whose names they are measured, too.
        bounded: whether to measure what the error is made of, too.
        footage_shown: whether the sheet shows the frames as filmed, and not only what was painted into them.
    """
    inpaint = Inpaint(dataset, widest_expression(avatar, dataset))
    watch = Watch(dataset, inpaint)
    held_out = [t for t in dataset.takes if t.held_out]
    pieces = runs(held_out, count)
    frames = [f for piece in pieces for f in piece]
    images = dict(dataset.frames(set(frames)))
    shares = [float((inpaint.mask(f) == 1).sum()) / images[f][..., 0].size for f in frames]
    figures: Figures = {}
    shown = evenly(frames, 6)
    painted_of: dict[str, dict[int, ByteArray]] = {}
    true_meshes = {f: mesh_image(watch.maps, f, watch.vertices(f)) for f in shown} if sheet else {}
    meshes: dict[int, ByteArray] = {}
    regions: dict[int, NDArray[np.bool_]] = {}  # where nothing of the footage is left

    def watched(name: str, painter: Avatar, network: str, pieces: list[list[int]]) -> dict[str, object]:
        reenactment = Reenactment(painter, dataset, inpaint, network)
        rows, painted_of[name] = Rows(), {}
        for piece in tqdm(pieces, desc=name, unit="run"):
            painted = [reenactment.paint(f, images[f]) for f in piece]
            measure_run(rows, watch, piece, painted, [images[f] for f in piece])
            for f, p in zip(piece, painted, strict=True):
                if f in shown:
                    painted_of[name][f], regions[f] = p.image, p.mask == 1
                    if sheet and p.vertices is not None and f not in meshes:
                        meshes[f] = mesh_image(watch.maps, f, p.vertices)
        reenactment.close()
        return rows.figures()

    painters = [(network, avatar, network) for network in networks]
    painters += [(str(other.info["composition"]), other, "onnx") for other in beside]
    figures |= {name: watched(name, painter, network, pieces) for name, painter, network in painters}
    live = figures[networks[-1]]
    assert isinstance(live, dict)
    figures |= {key: live[key] for key in ("flicker_ratio", "seam_ratio", "teeth_sharpness")}
    if bounded:
        silent = runs([dataset.takes[0]], count)
        images |= dataset.frames({f for piece in silent for f in piece})
        figures |= {name: watched(name, avatar, name, pieces) for name in (TRUE_MESH, TRUE_FACE)}
        figures[AT_REST] = watched(AT_REST, avatar, "onnx", silent)
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
                Utterance(t.corpus, t.name, t.frames / FRAME_RATE, "", t.phones, held_out=True), t.speech,
                dataset.expression[t.first : t.end],
            )
            for t in dataset.takes if t.held_out
        ]  # fmt: skip
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
        "d": means["painted"]["distance"], "c": means["painted"]["confidence"],
        "filmed": {"d": means["filmed"]["distance"], "c": means["filmed"]["confidence"]}, "takes": rows,
    }  # fmt: skip


def heat_map(painted: ByteArray, true: ByteArray) -> ByteArray:
    """L2 distance of RGB in [0, 1] as colour, blue is none (thesis Figures 4.3 to 4.5)."""
    from matplotlib import colormaps

    error = np.sqrt((((painted.astype(np.float64) - true) / 255) ** 2).sum(-1))
    return np.asarray(np.round(colormaps["jet"](np.clip(error / HEAT, 0, 1))[..., :3] * 255), np.uint8)


def mesh_image(maps: FaceMaps, frame: int, vertices: FloatArray) -> ByteArray:
    """A displaced mesh [V, 3] in a frame's pose, grey by the angle to the light (thesis Figure 4.7)."""
    triangles = np.asarray(maps.dataset.geometry["triangles"])
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, triangles[:, k], np.cross(b - a, c - a))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    drawn = maps.draw(frame, normals.astype(np.float32), vertices)
    grey = np.abs(drawn[..., :3] @ LIGHT / np.linalg.norm(LIGHT)) * (drawn[..., 3] > 0)
    return np.repeat(np.round(230 * grey).astype(np.uint8)[..., None], 3, 2)


def save_sheet(
    images: dict[int, ByteArray], painted_of: dict[str, dict[int, ByteArray]], meshes: list[dict[int, ByteArray]],
    frames: list[int], path: Path, regions: dict[int, NDArray[np.bool_]] | None = None,
) -> None:  # fmt: skip
    """Truth above, each network below with its error as a heat map, then meshes: true and predicted.

    Given `regions`, a mask [H, W] of each frame, the truth is left out, and the painted frames are black outside of it.
    """
    rows = [np.concatenate([images[f] for f in frames], 1)] if regions is None else []
    for painted in painted_of.values():
        if not painted:  # of other frames
            continue
        seen = {f: painted[f] if regions is None else painted[f] * regions[f][..., None] for f in frames}
        rows.append(np.concatenate([seen[f] for f in frames], 1))
        rows.append(np.concatenate([heat_map(painted[f], images[f]) for f in frames], 1))
    rows += [np.concatenate([mesh[f] for f in frames], 1) for mesh in meshes if mesh]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path)
    print(f"saved {path}")


def table(figures: Figures, share: float) -> str:
    """Everything as Markdown, the thesis's figures beside ours."""
    lines = ["| what | region | PSNR dB | SSIM | MSE |", "|---|---|---|---|---|"]
    for name, f in THESIS.items():
        lines.append(f"| thesis, {name} | not said | {f['psnr']:.2f} | {f['ssim']:.3f} | {f['mse']:.5f} |")
    networks = [name for name, parts in figures.items() if isinstance(parts, dict) and "frame" in parts]
    for network in networks:
        parts = figures[network]
        assert isinstance(parts, dict)
        for part, f in parts.items():
            if isinstance(f, dict) and "psnr" in f:
                lines.append(f"| {network} | {part} | {f['psnr']:.2f} | {f['ssim']:.4f} | {f['mse']:.6f} |")
    lines += ["", "| network | seam | teeth sharpness | flicker | jitter, mm (truth) |", "|---|---|---|---|---|"]
    for network in networks:
        parts = figures[network]
        assert isinstance(parts, dict)
        jitter = parts.get("jitter_mm")
        ratios = [parts[k] for k in ("seam_ratio", "teeth_sharpness", "flicker_ratio")]
        cells = ["-" if r is None else f"{r:.2f}" for r in ratios]
        cells.append(f"{jitter['predicted']:.2f} ({jitter['true']:.2f})" if jitter else "-")
        lines.append(f"| {network} | {' | '.join(cells)} |")
    lips = figures["geometry"]
    assert isinstance(lips, dict)
    lines += _lips_table(lips)
    lines += ["", f"The inpaint region is {100 * share:.1f} % of the frame."]
    sync = figures["lse"]
    if isinstance(sync, dict):
        lines.append(
            f"LSE-D {sync['d']:.2f}, LSE-C {sync['c']:.2f}; as filmed {sync['filmed']['d']:.2f}, "
            f"{sync['filmed']['c']:.2f}; thesis {THESIS_LSE['ours']['d']}, {THESIS_LSE['ours']['c']} against "
            f"{THESIS_LSE['recordings']['d']}, {THESIS_LSE['recordings']['c']} of its recordings."
        )
    else:
        lines.append(f"LSE: {figures['lse_reason']}.")
    return "\n".join(lines) + "\n"


def _lips_table(lips: dict[str, Any]) -> list[str]:
    """Against the studio's own, or as tracked."""
    lines = [
        "", "| lips, held-out speech | aperture, mm (95 %) | correlation | width, mm | P B M closed (95 %) |"
        " open vowels closed |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, f in (("own voice", lips["own_voice"]), ("voices never heard", lips["never_heard"])):
        if f is None:
            continue
        low, high = f["aperture_error_interval"]
        closures, vowels = f["counts"]["closures"], f["counts"]["vowels"]
        least, most = closures["interval"]
        closed, open_closed = "not known", "not known"  # without phones
        if closures["of"]:
            closed = f"{100 * closures['share']:.0f} % of {closures['of']} ({100 * least:.0f} to {100 * most:.0f})"
        if vowels["of"]:
            open_closed = f"{100 * vowels['share']:.1f} % of {vowels['of']}"
        lines.append(
            f"| {name} | {f['aperture_error_mm']:.2f} ({low:.2f} to {high:.2f}) | {f['aperture_correlation']:.2f} |"
            f" {f['width_error_mm']:.2f} | {closed} | {open_closed} |"
        )
    return lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", type=Path, help="folder; by default the held-out takes are filmed again")
    parser.add_argument("--frames", type=int, default=60, help="about so many held-out frames, in runs of five")
    parser.add_argument("--networks", nargs="+", choices=("color", "onnx", "baked"), default=["color", "onnx", "baked"])
    parser.add_argument(
        "--beside", type=Path, nargs="*", default=[], metavar="AVATAR",
        help="the same avatar with other composition networks, measured too",
    )  # fmt: skip
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
        avatar, dataset, tuple(o.networks), o.frames, o.sheet, o.syncnet, beside, o.bounds, not o.without_footage
    )
    show(table(figures, share), o.markdown)
    return {"figures": figures, "inpaint_share": share}
