"""The CUDA kernels: their values, by their C++ twins against numpy, the compositor and swscale; their compilation by
NVRTC for every kind of GPU; the cache.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from bench import kernel_twins
from realtime.arrays import ByteArray, FloatArray
from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import COMPOSITION, SAMPLE_RATE, encoded_width
from realtime.face.compositor import LEAST_SHARE, Compositor, layers_of, unit
from realtime.face.neural_face import NeuralFace
from realtime.face.pipeline import FacePipeline
from realtime.face.resize import resampling, resize, weights_of
from realtime.face.shared_engines import SharedEngines
from realtime.face.yuv import FrameConverter, RgbConverter, crop, paste, planes
from realtime.gpu.kernel_compiler import read_sources
from realtime.gpu.kernels import SIGNATURES, Extent, Kernels, cell_counts, fill_passes
from tests.conftest import ROOT

SIZES = ((64, 48), (50, 66), (176, 240), (8, 12))  # of boxes: width, height
SIDE = 64
QUICKLY = tuple("-O0" if flag == "-O2" else flag for flag in kernel_twins.FLAGS)  # compiled; it runs slower


class Host:
    """Stands for Cuda (realtime/gpu/cuda.py): runs kernels on host memory, by their twins."""

    def __init__(self, twins: ctypes.CDLL | None = None, backwards: bool = False) -> None:
        self.twins, self.backwards = twins, backwards
        self.names: list[str] = []

    def load_module(self, image: bytes) -> int:
        return 1

    def unload_module(self, module: int) -> None:
        self.names.clear()

    def kernel(self, module: int, name: str) -> int:
        self.names.append(name)
        return len(self.names) - 1

    def launch(self, kernel: int, grid: Extent, block: Extent, arguments: Sequence[Any], stream: int) -> None:
        kernel_twins.launch(self.names[kernel], grid, block, arguments, backwards=self.backwards, twins=self.twins)


def on_host(twins: ctypes.CDLL | None = None, backwards: bool = False) -> Kernels:
    return Kernels(Host(twins, backwards), b"")


@pytest.fixture(scope="module", params=[False, True], ids=["forwards", "backwards"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """The twins, their threads in either order: none may need another one's result."""
    return on_host(backwards=request.param)


@pytest.fixture(scope="module")
def avatar(ada: Path) -> Avatar:
    return load_avatar(ada)


def at(array: NDArray[Any]) -> int:
    """Where an array's values lie."""
    assert array.flags.c_contiguous
    return array.ctypes.data


def blobs(rng: np.random.Generator, width: int, height: int, count: int, radius: float) -> NDArray[np.bool_]:
    """A few ellipses, [h, w]."""
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width), bool)
    for _ in range(count):
        cy, cx, ry, rx = rng.random(4) * (height, width, radius * height, radius * width)
        image |= ((y - cy) / (ry + 1)) ** 2 + ((x - cx) / (rx + 1)) ** 2 < 1
    return image


def random_box(seed: int, width: int, height: int) -> tuple[ByteArray, ByteArray, FloatArray]:
    """Source [h, w, 3], face [h, w, 4] and mask [h, w]: gaps between the two, feathered edges, all extremes."""
    rng = np.random.default_rng(seed)
    source, face = (rng.integers(0, 256, (height, width, c), dtype=np.uint8) for c in (3, 4))
    face[..., 3] = 255 * blobs(rng, width, height, 3, 0.4)
    face[face[..., 3] == 0] = 0
    inside = blobs(rng, width, height, 4, 0.5).astype(np.float32)
    rows, columns = (weights_of(n, -(-n // 4)) for n in (height, width))
    mask = rows.T @ (rows @ inside @ columns.T) @ columns
    return source, face, np.ascontiguousarray(np.where(inside > 0, 1, np.minimum(mask, 1)), np.float32)


class Composed:
    """What the kernels make of one box, by way of `refine`, which stands for the composition network."""

    def __init__(
        self,
        kernels: Kernels,
        source: ByteArray,
        face: ByteArray,
        mask: FloatArray,
        refine: Callable[[FloatArray], FloatArray] | None = None,
        side: int = SIDE,
    ) -> None:
        height, width = mask.shape
        rows, columns = cell_counts(width, height)
        self.layers = np.full((6, height, width), np.nan, np.float32)
        self.known = np.full((height, width), 7, np.uint8)
        self.cells, spare = (np.full((4, rows, columns), np.nan, np.float32) for _ in range(2))
        self.small = np.full((6, side, side), np.nan, np.float32)
        self.painted = np.full((height, width, 3), 7, np.uint8)
        box = {"width": width, "height": height}
        kernels.layers(
            0, rgb=at(source), face=at(face), mask=at(mask), layers=at(self.layers), known=at(self.known), **box
        )
        gaps = {"cells": at(self.cells), "spare": at(spare), "rows": rows, "columns": columns}
        kernels.fill(0, layers=at(self.layers), known=at(self.known), **gaps, **box)
        kernels.shrink(0, layers=at(self.layers), small=at(self.small), side=side, **box)
        network = {"small": 0, "refined": 0, "side": side, "refine": 0}
        if refine is not None:
            refined = np.ascontiguousarray(refine(self.small))
            network |= {"small": at(self.small), "refined": at(refined), "refine": 1}
        pictures = {"rgb": at(source), "mask": at(mask), "painted": at(self.painted)}
        kernels.blend(0, layers=at(self.layers), **pictures, **network, **box)


def differs_by(found: NDArray[Any], wanted: NDArray[Any]) -> int:
    return int(np.abs(found.astype(np.int32) - wanted).max())


def check_layers(kernels: Kernels, width: int, height: int) -> None:
    """Layers, gaps filled, and their shrinking against the compositor's."""
    for seed in range(4):
        source, face, mask = random_box(seed, width, height)
        found = Composed(kernels, source, face, mask)
        known = (face[..., 3] > 0) | (mask < 1)
        assert (found.known == known).all()
        if width > 8:
            assert 0.02 < np.mean(~known) < 0.9, "a test of filling has something to fill, and with something"
        wanted = layers_of(unit(source), face, mask)
        np.testing.assert_allclose(found.layers, wanted, atol=2e-6)
        small = resize(found.layers, resampling(height, SIDE), resampling(width, SIDE))
        np.testing.assert_allclose(found.small, small, atol=2e-6)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_layers_are_the_compositors(kernels: Kernels, width: int, height: int) -> None:
    check_layers(kernels, width, height)


@pytest.mark.parametrize(("width", "height"), [(200, 120), (8, 200), (6, 4), (2, 2), (246, 250)])
def test_the_widest_gap_is_filled(kernels: Kernels, width: int, height: int) -> None:
    """One known pixel in a corner: as many passes as there can be, and all of them needed."""
    source, face, mask = random_box(0, width, height)
    face[:], mask[:] = 0, 1
    mask[0, 0] = 0
    found = Composed(kernels, source, face, mask)
    np.testing.assert_allclose(found.layers, layers_of(unit(source), face, mask), atol=2e-6)
    np.testing.assert_allclose(found.layers[3:, -1, -1], source[0, 0] / 255, atol=2e-6)
    rows, columns = cell_counts(width, height)
    assert max(rows, columns) - 1 <= fill_passes(rows, columns) <= max(rows, columns) and not fill_passes(5, 7) % 2


@pytest.mark.parametrize("everywhere", [False, True])
def test_nothing_known_and_nothing_unknown(kernels: Kernels, everywhere: bool) -> None:
    source, face, mask = random_box(0, 64, 48)
    face[..., 3], mask[:] = 255 * everywhere, 1
    found = Composed(kernels, source, face, mask)
    np.testing.assert_allclose(found.layers, layers_of(unit(source), face, mask), atol=2e-6)
    assert found.layers[3:].any() == everywhere


def test_a_cell_counts_as_empty_as_in_the_compositor() -> None:
    found = re.search(r"#define LEAST_SHARE (\S+)f", read_sources()["layers.cu"])
    assert found and float(found[1]) == LEAST_SHARE


@pytest.mark.parametrize(("before", "after"), [(240, 96), (96, 96), (40, 96), (97, 96), (500, 96), (2, 96)])
def test_shrinking_and_growing_is_the_compositors(kernels: Kernels, before: int, after: int) -> None:
    rng = np.random.default_rng(0)
    layers = rng.random((6, before, before + 2), dtype=np.float32)
    small = np.full((6, after, after), np.nan, np.float32)
    kernels.shrink(0, layers=at(layers), small=at(small), width=before + 2, height=before, side=after)
    wanted = resize(layers, resampling(before, after), resampling(before + 2, after))
    np.testing.assert_allclose(small, wanted, atol=2e-6)


def refinement(compositor: Compositor) -> Callable[[FloatArray], FloatArray]:
    """The avatar's composition network: [6, side, side] -> [3, side, side]."""

    def refine(small: FloatArray) -> FloatArray:
        (rgb,) = compositor.engine.run(small[None])
        return np.asarray(rgb[0], np.float32)

    return refine


def check_composition(kernels: Kernels, avatar: Avatar, width: int, height: int) -> None:
    """The finished box with Ada's own composition network against the compositor's."""
    engine = SharedEngines(avatar).engine(COMPOSITION)
    compositor = Compositor(engine, avatar.composition_size, (width, height))
    source, face, mask = random_box(1, width, height)
    for refined in (True, False):
        found = Composed(kernels, source, face, mask, refinement(compositor) if refined else None).painted
        wanted = compositor.compose(source, face, mask, refined)
        assert differs_by(found, wanted) <= 1
        assert np.mean(found != wanted) < 1e-3


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_finished_box_is_the_compositors(kernels: Kernels, avatar: Avatar, width: int, height: int) -> None:
    assert avatar.composition_size == SIDE
    check_composition(kernels, avatar, width, height)


# Points.


def turned_positions(seed: int, size: int, low: FloatArray, high: FloatArray) -> FloatArray:
    """A position map [size, size, 4] with holes; its points lie in the template's box and beyond it."""
    rng = np.random.default_rng(seed)
    positions = np.empty((size, size, 4), np.float32)
    positions[..., :3] = low + (high - low) * rng.uniform(-0.1, 1.1, (size, size, 3))
    positions[..., 3] = blobs(rng, size, size, 4, 0.4)
    positions[positions[..., 3] == 0] = 0
    return positions


def gamma(points: FloatArray, frequencies: int) -> NDArray[np.float64]:
    """networks.color.encode_position in float64, of points as they are in float32: [N, 3] -> [N, 6 L]."""
    half_turns = points.astype(float)[..., None] * 2.0 ** np.arange(frequencies)
    angle = np.remainder(half_turns, 2) * np.pi
    return np.concatenate([f(angle).reshape(len(points), -1) for f in (np.sin, np.cos)], 1)


def check_gather(kernels: Kernels, avatar: Avatar, frequencies: int, capacity: int = 4096) -> None:
    low, high = avatar.box
    left, top, width, height = 6, 10, 50, 34
    positions = turned_positions(0, 72, low, high)
    mask = np.random.default_rng(1).integers(0, 2, (height, width)).astype(np.float32)
    padded = encoded_width(frequencies)
    count, index = np.zeros(1, np.int32), np.full(capacity, -1, np.int32)
    encoded = np.full((capacity, padded), 7, np.float16)
    place = np.array([left, top, left + width, top + height], np.int32)
    corners = np.ascontiguousarray(avatar.box)
    seen = {"positions": at(positions), "frame_width": 72, "place": at(place), "mask": at(mask)}
    scale = {"low": at(corners), "high": at(corners) + 12, "frequencies": frequencies, "padded": padded}
    found_points = {"count": at(count), "index": at(index), "encoded": at(encoded)}
    kernels.gather(0, **seen, **scale, width=width, height=height, capacity=capacity, **found_points)
    box = positions[top : top + height, left : left + width]
    covered = np.flatnonzero((box[..., 3] > 0) & (mask > 0))
    assert 100 < len(covered) == count[0]
    kept = min(capacity, len(covered))
    assert len(set(index[:kept])) == kept and set(index[:kept]) <= set(covered)
    assert (index[kept:] == -1).all() and (encoded[kept:] == 7).all(), "rows without a point stay as they are"
    wanted = gamma(avatar.scale(box.reshape(-1, 4)[index[:kept], :3]), frequencies)
    found = encoded[:kept].astype(float)
    assert np.abs(found[:, : 6 * frequencies] - wanted).max() < 2**-12 + 1e-6, "half a step of float16 below 1"
    assert np.mean(found[:, : 6 * frequencies] != wanted.astype(np.float16)) < 0.01
    assert not found[:, 6 * frequencies :].any()


@pytest.mark.parametrize("frequencies", [1, 10, 16])
def test_points_are_gathered_and_encoded(kernels: Kernels, avatar: Avatar, frequencies: int) -> None:
    check_gather(kernels, avatar, frequencies)


def test_more_points_than_there_is_room_for(kernels: Kernels, avatar: Avatar) -> None:
    check_gather(kernels, avatar, 10, capacity=99)


def test_the_encoding_is_that_of_training(avatar: Avatar, torch: Any) -> None:
    """The reference above is the one that the colour network was trained with."""
    from networks.color import encode_position

    points = np.random.default_rng(0).uniform(-1.2, 1.2, (100, 3)).astype(np.float32)
    trained = encode_position(torch.from_numpy(points), 16).numpy()
    np.testing.assert_allclose(gamma(points, 16), trained, atol=1e-6)


def test_float16_is_rounded_as_numpy_does() -> None:
    extra = """extern "C" void halves(const float* from, half_bits* to, int n) {
        for (int i = 0; i < n; i++) to[i] = to_half(from[i]);
    }"""
    twins = kernel_twins.load_twins(kernel_twins.compile_twins(read_sources(), extra=extra))
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    steps = np.sort(every[np.isfinite(every)])
    ties = (steps[1:] + steps[:-1]) / 2
    beside = [np.nextafter(ties, np.float32(way), dtype=np.float32) for way in (-np.inf, np.inf)]
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 20, dtype=np.uint32).view(np.float32)
    values = np.concatenate([every, ties, *beside, bits])
    found = np.zeros(len(values), np.float16)
    twins.halves(ctypes.c_void_p(at(values)), ctypes.c_void_p(at(found)), len(values))
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float16)
    same = (found.view(np.uint16) == wanted.view(np.uint16)) | (np.isnan(found) & np.isnan(wanted))
    assert same.all()


def check_scatter(kernels: Kernels) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.random((64, 3), dtype=np.float32)
    rgb[:6] = np.array([[0, 1, 0.5], [0.5 / 255, 1.5 / 255, 2.5 / 255], [1.1, -0.1, 0.999]] * 2, np.float32)
    index = rng.permutation(200)[:64].astype(np.int32)
    for points, capacity in ((40, 64), (64, 48), (0, 64)):
        face, count = np.zeros((10, 20, 4), np.uint8), np.array([points], np.int32)
        kernels.scatter(0, rgb=at(rgb), index=at(index), count=at(count), face=at(face), capacity=capacity)
        kept, wanted = min(points, capacity), np.zeros((200, 4), np.uint8)
        wanted[index[:kept], :3] = np.clip(np.round(rgb[:kept] * np.float32(255)), 0, 255)
        wanted[index[:kept], 3] = 255
        assert (face.reshape(-1, 4) == wanted).all()


def test_colours_are_scattered(kernels: Kernels) -> None:
    check_scatter(kernels)


@pytest.mark.parametrize("values", [3, 255, 256, 3 * 1001])
def test_vertices_are_displaced(kernels: Kernels, values: int) -> None:
    neutral, displacement = np.random.default_rng(0).normal(size=(2, values)).astype(np.float32)
    vertices = np.full(values + 5, np.nan, np.float32)
    kernels.displace(0, neutral=at(neutral), displacement=at(displacement), vertices=at(vertices), values=values)
    assert (vertices[:values] == neutral + displacement).all() and np.isnan(vertices[values:]).all()


# Pictures.


class Nv12:
    """A frame in NV12 whose rows are longer than its pictures are wide, from yuv420p and back."""

    def __init__(self, picture: av.VideoFrame, gap: int = 6) -> None:
        self.width, self.height, self.pitch = picture.width, picture.height, picture.width + gap
        self.bytes = np.full((self.height * 3 // 2, self.pitch), 7, np.uint8)
        luma, u, v = planes(picture)
        self.bytes[: self.height, : self.width] = luma
        self.bytes[self.height :, 0 : self.width : 2], self.bytes[self.height :, 1 : self.width : 2] = u, v

    def planes(self) -> tuple[ByteArray, ByteArray, ByteArray]:
        colors = self.bytes[self.height :, : self.width]
        return self.bytes[: self.height, : self.width], colors[:, ::2], colors[:, 1::2]

    def arguments(self, place: NDArray[np.int32]) -> dict[str, int]:
        left, top, right, bottom = (int(x) for x in place)
        return {
            "frame": at(self.bytes),
            "pitch": self.pitch,
            "frame_height": self.height,
            "place": at(place),
            "width": right - left,
            "height": bottom - top,
        }


def noise(seed: int, width: int, height: int) -> av.VideoFrame:
    values = np.random.default_rng(seed).integers(0, 256, (height * 3 // 2, width), dtype=np.uint8)
    return av.VideoFrame.from_ndarray(values, format="yuv420p")


def source_pictures(avatar: Avatar, count: int) -> Iterator[tuple[av.VideoFrame, NDArray[np.int32]]]:
    """Frames of the source loop, and the even boxes around their inpaint boxes."""
    with av.open(str(avatar.folder / "source.mp4")) as container:
        for number, frame in zip(range(count), container.decode(video=0), strict=False):
            left, top, right, bottom = (int(x) for x in avatar.source_box[number])
            box = np.array([left // 2 * 2, top // 2 * 2, (right + 1) // 2 * 2, (bottom + 1) // 2 * 2], np.int32)
            yield frame.reformat(format="yuv420p"), box


def pictures(avatar: Avatar) -> Iterator[tuple[av.VideoFrame, NDArray[np.int32]]]:
    yield from source_pictures(avatar, 3)
    for seed, box in enumerate(([0, 0, 64, 48], [10, 4, 60, 46], [62, 30, 64, 48], [2, 2, 18, 14])):
        yield noise(seed, 64, 48), np.array(box, np.int32)


def check_to_rgb(kernels: Kernels, avatar: Avatar) -> None:
    for picture, box in pictures(avatar):
        frame = Nv12(picture)
        rgb = np.full((box[3] - box[1], box[2] - box[0], 3), 7, np.uint8)
        kernels.nv12_to_rgb(0, rgb=at(rgb), **frame.arguments(box))
        wanted = RgbConverter()(crop(picture, box))
        assert differs_by(rgb, wanted) <= 1
        assert np.abs(rgb.astype(float) - wanted).mean() < 0.01


def test_the_box_becomes_rgb_as_swscale_has_it(kernels: Kernels, avatar: Avatar) -> None:
    check_to_rgb(kernels, avatar)


def check_to_nv12(kernels: Kernels, avatar: Avatar) -> None:
    for seed, (picture, box) in enumerate(pictures(avatar)):
        frame, width, height = Nv12(picture), box[2] - box[0], box[3] - box[1]
        painted = RgbConverter()(crop(picture, box)).copy()
        if seed % 2:  # colours that the picture does not have
            painted = np.random.default_rng(seed).integers(0, 256, painted.shape, dtype=np.uint8)
        mask = np.where(blobs(np.random.default_rng(seed), width, height, 3, 0.5), 0.3, 0).astype(np.float32)
        before = frame.bytes.copy()
        kernels.rgb_to_nv12(0, painted=at(painted), mask=at(mask), **frame.arguments(box))
        paste(picture, box, FrameConverter()(painted), mask > 0)
        for found, wanted in zip(frame.planes(), planes(picture), strict=True):
            assert differs_by(found, wanted) <= 1
            assert np.abs(found.astype(float) - wanted).mean() < 0.01
        changed, (left, top) = frame.bytes != before, box[:2]
        where = np.zeros(changed.shape, bool)
        where[top : top + height, left : left + width] = mask > 0
        colors = (mask > 0).reshape(height // 2, 2, width // 2, 2).any((1, 3)).repeat(2, 1)
        first = frame.height + top // 2
        where[first : first + height // 2, left : left + width] = colors
        assert not (changed & ~where).any(), "elsewhere the frame stays exactly as it was"
        assert changed.any() or not (mask > 0).any() or not seed % 2


def test_the_box_goes_into_the_frame_as_swscale_has_it(kernels: Kernels, avatar: Avatar) -> None:
    check_to_nv12(kernels, avatar)


@pytest.mark.parametrize("extreme", [0, 255])
def test_no_colour_wraps_round(kernels: Kernels, extreme: int) -> None:
    """Pure colours and Y, U, V that no RGB has."""
    values = np.full((24 * 3 // 2, 32), extreme, np.uint8)
    picture, box = av.VideoFrame.from_ndarray(values, format="yuv420p"), np.array([0, 0, 32, 24], np.int32)
    frame, rgb = Nv12(picture), np.zeros((24, 32, 3), np.uint8)
    kernels.nv12_to_rgb(0, rgb=at(rgb), **frame.arguments(box))
    assert differs_by(rgb, RgbConverter()(picture)) <= 1
    mask = np.ones((24, 32), np.float32)
    for color in np.ndindex(2, 2, 2):
        rgb[:] = np.array(color) * 255
        kernels.rgb_to_nv12(0, painted=at(rgb), mask=at(mask), **frame.arguments(box))
        for found, wanted in zip(frame.planes(), planes(FrameConverter()(rgb)), strict=True):
            assert differs_by(found, wanted) <= 1


# The whole frame.


def test_a_frame_of_ada_from_position_map_to_nv12(avatar: Avatar) -> None:
    """Every kernel in turn, with the networks between them run by ONNX Runtime, against the pipeline's target onnx."""
    speech = read_speech(avatar.sample).samples[: 2 * SAMPLE_RATE]
    ring = AudioRing(4 * SAMPLE_RATE)
    ring.write(Block(0, speech))
    kernels, k = on_host(), 20
    with FacePipeline(avatar, ring, "onnx", size=256) as pipeline:
        neural, compositor, inpaint = pipeline.face, pipeline.compositor, pipeline.inpaint
        assert isinstance(neural, NeuralFace)
        wanted_face = pipeline.paint(k)
        latent = pipeline.latents.advance(k)
        place, mask = inpaint.boxes[k], np.ascontiguousarray(inpaint.mask(k))
        (width, height), frequencies = inpaint.box_size, avatar.info["frequencies"]
        box = {"width": width, "height": height}

        (displacement,) = neural.deformation.run(neural.points_V3, latent)
        vertices = np.empty_like(avatar.template)
        kernels.displace(
            0, neutral=at(avatar.template), displacement=at(displacement), vertices=at(vertices), values=vertices.size
        )
        positions = neural.rasteriser.draw(vertices, avatar.source_pose[k], avatar.canonical)
        capacity, padded = width * height, encoded_width(frequencies)
        count, index = np.zeros(1, np.int32), np.zeros(capacity, np.int32)
        encoded, face = np.zeros((capacity, padded), np.float16), np.zeros((height, width, 4), np.uint8)
        corners = np.ascontiguousarray(avatar.box)
        visible = {"positions": at(positions), "frame_width": 256, "place": at(place), "mask": at(mask)}
        scale = {"low": at(corners), "high": at(corners) + 12, "frequencies": frequencies, "padded": padded}
        points = {"count": at(count), "index": at(index), "encoded": at(encoded)}
        kernels.gather(0, **visible, **scale, **box, capacity=capacity, **points)
        seen = positions[place[1] : place[3], place[0] : place[2]].reshape(-1, 4)[index[: count[0]], :3]
        (rgb,) = neural.color.run(avatar.scale(seen), latent)
        kernels.scatter(0, rgb=at(rgb), index=at(index), count=at(count), face=at(face), capacity=len(rgb))
        shown = mask > 0
        assert count[0] > 500 and differs_by(face[shown], wanted_face[shown]) <= 1

        picture = pipeline.source.frame(k)
        frame, untouched = Nv12(picture), Nv12(picture)
        source = np.zeros((height, width, 3), np.uint8)
        kernels.nv12_to_rgb(0, rgb=at(source), **frame.arguments(place))
        painted = Composed(kernels, source, face, mask, refinement(compositor)).painted
        kernels.rgb_to_nv12(0, painted=at(painted), mask=at(mask), **frame.arguments(place))
        assert np.count_nonzero(frame.bytes != untouched.bytes) > 500, "something is painted"
        wanted = pipeline.finish(k, wanted_face).picture
        for found, plane in zip(frame.planes(), planes(wanted), strict=True):
            assert differs_by(found, plane) <= 1
            assert np.mean(found != plane) < 0.001


# What the values above do not show: memory, order, and that the checks see mistakes.


MISTAKES: tuple[tuple[str, str, str, Callable[[Kernels, Avatar], None]], ...] = (
    ("frame.cuh", "before > after ? before : after", "after", lambda k, _: check_layers(k, 64, 48)),
    ("frame.cuh", "(high + after - 1) / after / 2", "high / after / 2", lambda k, _: check_layers(k, 50, 66)),
    ("layers.cu", "covered && mask[pixel] > 0.0f", "covered", lambda k, _: check_layers(k, 64, 48)),
    ("layers.cu", "r <= row + 1", "r <= row", lambda k, _: check_layers(k, 176, 240)),
    ("layers.cu", "sum[channel] / sum[3]", "sum[channel]", lambda k, _: check_layers(k, 64, 48)),
    ("blend.cu", "small[(3 + channel)", "small[(channel)", lambda k, a: check_composition(k, a, 64, 48)),
    ("blend.cu", "+ 0.5f", "", lambda k, a: check_composition(k, a, 64, 48)),
    ("face.cu", "wave / frequencies", "wave % 3", lambda k, a: check_gather(k, a, 10)),
    ("face.cu", "sinpif(angle) : cospif", "cospif(angle) : sinpif", lambda k, a: check_gather(k, a, 10)),
    ("face.cu", "(turns - rintf(turns))", "turns - 1e-3f", lambda k, a: check_gather(k, a, 10)),
    ("face.cu", "&& mask[pixel] > 0.0f", "", lambda k, a: check_gather(k, a, 10)),
    ("face.cu", "rintf(rgb", "(rgb", lambda k, _: check_scatter(k)),
    ("face.cu", "i >= *count || ", "", lambda k, _: check_scatter(k)),
    ("nv12.cu", "left & ~size_t(1)", "left | size_t(1)", lambda k, a: check_to_rgb(k, a)),
    ("nv12.cu", "high_product(v, -4366)", "high_product(v, -4466)", lambda k, a: check_to_rgb(k, a)),
    ("nv12.cu", "(pair[2] + pair[5])", "2 * pair[2]", lambda k, a: check_to_nv12(k, a)),
    ("nv12.cu", "492, 1786, 1786, 492", "342, 1936, 1936, 342", lambda k, a: check_to_nv12(k, a)),
    ("nv12.cu", "if (!changed) return;", "", lambda k, a: check_to_nv12(k, a)),
)


@pytest.mark.parametrize(("file", "right", "wrong", "check"), MISTAKES, ids=[m[1] for m in MISTAKES])
def test_a_planted_mistake_is_seen(
    avatar: Avatar, file: str, right: str, wrong: str, check: Callable[[Kernels, Avatar], None]
) -> None:
    sources = read_sources()
    assert sources[file].count(right) == 1
    sources[file] = sources[file].replace(right, wrong)
    wrong_twins = kernel_twins.load_twins(kernel_twins.compile_twins(sources, QUICKLY))
    with pytest.raises(AssertionError):
        check(on_host(wrong_twins), avatar)


def run_everything(library: str, folder: str) -> None:
    """Every kernel, at sizes that leave blocks half empty; run in a process that watches its memory."""
    kernels, avatar = on_host(kernel_twins.load_twins(Path(library))), load_avatar(Path(folder))
    for width, height in SIZES:
        check_layers(kernels, width, height)
        Composed(kernels, *random_box(0, width, height), lambda small: small[:3], side=50)
    check_gather(kernels, avatar, 10)
    check_gather(kernels, avatar, 16, capacity=99)
    check_scatter(kernels)
    check_to_rgb(kernels, avatar)
    check_to_nv12(kernels, avatar)


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("", "", ""),
        ("blend.cu", "column >= side || row >= side", "column > side || row >= side"),
        ("face.cu", "if (row >= capacity) return;", ""),
        ("nv12.cu", "row < height ? row : height - 1", "row < height ? row : height"),
    ],
    ids=["right", "shrink", "gather", "rgb_to_nv12"],
)
def test_no_kernel_leaves_its_buffers(ada: Path, file: str, right: str, wrong: str) -> None:
    """Address and undefined-behaviour sanitizers over the twins: silent without a mistake, not with one."""
    sources = read_sources()
    if file:
        assert sources[file].count(right) == 1
        sources[file] = sources[file].replace(right, wrong)
    sanitized = [*QUICKLY, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    library = kernel_twins.compile_twins(sources, sanitized)
    runtimes = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from tests.gpu import test_kernels; test_kernels.run_everything({str(library)!r}, {str(ada)!r})",
        ],
        env={
            **os.environ,
            "LD_PRELOAD": " ".join(runtimes),
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if file:
        assert "heap-buffer-overflow" in done.stderr or "SEGV" in done.stderr, done.stderr
    else:
        assert done.returncode == 0 and "anitizer" not in done.stderr, done.stderr


def test_arguments_are_checked() -> None:
    array = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="3 arguments; wanted 4"):
        kernel_twins.launch("displace", (1, 1, 1), (256, 1, 1), [at(array)] * 3)
    with pytest.raises(ValueError, match="grid"):
        kernel_twins.launch("displace", (0, 1, 1), (256, 1, 1), [*[at(array)] * 3, 4])
    with pytest.raises(ValueError, match="grid"):
        kernel_twins.launch("displace", (1, 1, 1), (2048, 1, 1), [*[at(array)] * 3, 4])
    encoded = [*[at(array)] * 13, at(array) + 2]
    with pytest.raises(ValueError, match="multiple of 16"):
        kernel_twins.launch("gather", (1, 1, 1), (1, 1, 1), encoded)
    with pytest.raises(ValueError, match="zip"):
        on_host()._launch("displace", 0, (256, 1, 1), (4, 1), at(array), at(array), at(array))


def test_the_twins_have_the_same_parameters() -> None:
    for name, kinds in SIGNATURES.items():
        assert kernel_twins.parameter_sizes(name) == [ctypes.sizeof(kind) for kind in kinds]


def test_the_twins_compile_without_a_warning() -> None:
    kernel_twins.compile_twins(read_sources(), (*kernel_twins.FLAGS, "-Wall", "-Wextra", "-Werror"))
