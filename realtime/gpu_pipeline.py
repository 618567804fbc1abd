"""GpuPipeline: speech window -> frame on an NVIDIA GPU, by the thesis's networks themselves.

The mesh is rasterised in OpenGL; its position map is handed to CUDA without a copy through the host, coloured, composed
and painted into the source frame there. Everything after the position map is one CUDA graph, which freezes addresses
and sizes: so all buffers are allocated once, what changes from frame to frame lies in device memory, and the number of
points is padded to a bucket, with a graph for each bucket.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import av
import numpy as np
from numpy.typing import NDArray

from networks.contract import (
    AUDIO_ENCODER,
    COMPOSITION,
    DEFORMATION,
    ENCODED_COLOR,
    LATENT,
    PROJECTION,
    Network,
    encoded_width,
)
from realtime.audio_ring import AudioRing
from realtime.avatar import Avatar
from realtime.device_frame import DeviceFrame, Rendered
from realtime.engine import Binding, PlanEngine
from realtime.gl_cuda import CudaError, probe_interop
from realtime.gpu import Device, open_device
from realtime.inpaint_boxes import InpaintBoxes
from realtime.kernels import Kernels, cell_counts
from realtime.latent import LatentTrack
from realtime.plans import bucket_of, buckets
from realtime.rasteriser import Rasteriser
from realtime.source_loop import SourceLoop
from realtime.stage_timer import StageTimer
from realtime.yuv import planes

ByteArray = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
T = TypeVar("T")

F4 = 4  # bytes of a float32 or an int32


class GpuPipeline:
    """Renders one avatar from one ring of speech. Owns an OpenGL context and a CUDA stream: make, use and close it on
    one thread.

    Args:
        size: side of the square frame in pixels; the avatar's own by default.
        timer: is told how long each stage took. The GPU works behind "source" and "face"; "composition" waits for it.
        device: what it runs on; by default this machine's first GPU.
        keep_on_device: frames are also left on the GPU, for an encoder there.

    Raises MiravoxError for whatever stands in the way, with nothing left allocated.
    """

    def __init__(
        self, avatar: Avatar, ring: AudioRing, size: int | None = None, timer: StageTimer | None = None,
        device: Device | None = None, keep_on_device: bool = False,
    ) -> None:  # fmt: skip
        self.avatar, self.timer, self.size = avatar, timer or StageTimer(), size or avatar.width
        self.keep_on_device = keep_on_device
        self.inpaint = InpaintBoxes(avatar, self.size)
        self._failure: CudaError | None = None  # the first one while things are released
        with ExitStack() as held:
            self._held = held
            self.device = device or open_device()
            self.cuda = self._keep(self.device.cuda, lambda cuda: cuda.close())
            self.stream = self._keep(self.cuda.create_stream(), self.cuda.destroy_stream)
            self.kernels = self._keep(Kernels(self.cuda, self.device.image), lambda kernels: kernels.close())
            self.context = self._keep(self.device.create_context(), lambda context: context.release())
            camera = avatar.camera.scaled(self.size, self.size)
            self.rasteriser = self._keep(
                Rasteriser(self.context, avatar.triangles, len(avatar.template), camera), lambda mesh: mesh.release()
            )
            self._lay_out()
            self._share_with_opengl()
            self.plans = self.device.plans(avatar, self.size)
            self._load_networks()
            self.latents = LatentTrack(avatar, ring, (self._engine(AUDIO_ENCODER), self._engine(PROJECTION)))
            self.source = self._keep(
                SourceLoop(avatar.folder / "source.mp4", len(avatar.source_pose), self.size), lambda loop: loop.close()
            )
            self.graphs = {bucket: self._capture(bucket) for bucket in sorted(set(self.bucket_of_frame))}
            self._held = held.pop_all()

    # Life

    def _keep(self, thing: T, release: Callable[[T], object]) -> T:
        """Something that is released in the end, after everything that was made later."""
        self._held.callback(partial(self._release, thing, release))
        return thing

    def _release(self, thing: T, release: Callable[[T], object]) -> None:
        """A GPU that has failed refuses to release, too: the rest is released all the same."""
        try:
            release(thing)
        except CudaError as error:
            self._failure = self._failure or error

    def close(self) -> None:
        """Releases everything. Raises CudaError if the GPU refused to release something."""
        with contextlib.suppress(CudaError):  # what has failed is told by whoever waited for the frame
            self.cuda.synchronize(self.stream)
        self._held.close()
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> GpuPipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(CudaError) if kind else contextlib.nullcontext():
            self.close()

    # What lies in the GPU's memory

    def _lay_out(self) -> None:
        """Allocates every buffer, and uploads what never changes."""
        avatar, (width, height), side = self.avatar, self.inpaint.box_size, self.avatar.composition_size
        pixels = width * height
        self.rows, self.columns = cell_counts(width, height)
        self.padded = encoded_width(avatar.info["frequencies"])
        sizes = buckets(pixels)
        # No more points are coloured than pixels are painted; so the bucket is known before the mesh is drawn.
        self.bucket_of_frame = [
            bucket_of(int((self.inpaint.mask(k) > 0).sum()), sizes) for k in range(len(self.inpaint))
        ]
        capacity, values = max(self.bucket_of_frame), avatar.template.size
        self.sizes = {
            "latent": F4 * LATENT, "place": F4 * 4, "mask": F4 * pixels, "frame": self.size * self.size * 3 // 2,
            "points": F4 * values, "neutral": F4 * values, "displacement": F4 * values, "vertices": F4 * values,
            "positions": 4 * F4 * self.size * self.size, "low": F4 * 3, "high": F4 * 3,
            "rgb": 3 * pixels, "face": 4 * pixels, "known": pixels, "painted": 3 * pixels,
            "count": F4, "index": F4 * capacity, "encoded": 2 * self.padded * capacity, "colors": 3 * F4 * capacity,
            "layers": 6 * F4 * pixels, "cells": 4 * F4 * self.rows * self.columns,
            "spare": 4 * F4 * self.rows * self.columns, "small": 6 * F4 * side * side,
            "refined": 3 * F4 * side * side,
        }  # fmt: skip
        cuda = self.cuda
        self.at = {name: self._keep(cuda.allocate(size), cuda.free) for name, size in self.sizes.items()}
        for name in self.sizes:
            cuda.clear(self.at[name], self.sizes[name], self.stream)
        low, high = avatar.box
        constants = {"points": avatar.scale(avatar.canonical), "neutral": avatar.template, "low": low, "high": high}
        for name, values_of in constants.items():
            cuda.upload(self.at[name], np.ascontiguousarray(values_of, np.float32), self.stream)
        self.latent = self._staged("latent").view(np.float32)
        self.place = self._staged("place").view(np.int32)
        self.mask = self._staged("mask").view(np.float32).reshape(height, width)
        self.frame = self._staged("frame").reshape(-1, self.size)
        self.finished = self._staged("frame").reshape(-1, self.size)
        self._slots: deque[int] = deque()  # of frames that stay on the device, free ones

    def _staged(self, name: str) -> ByteArray:
        """Page-locked memory of a buffer's size, through which it is uploaded or read back."""
        return self._keep(self.cuda.pinned(self.sizes[name]), self.cuda.free_pinned)

    def _share_with_opengl(self) -> None:
        """Registers the mesh's buffers and the position map with CUDA, unless this machine cannot share them."""
        self.without_interop = probe_interop(self.cuda, self.context)  # why not, or None
        if self.without_interop is not None:
            self.host_vertices = self._staged("vertices").view(np.float32)
            self.host_positions = self._staged("positions").view(np.float32)
            return
        shared = [self.rasteriser.positions]
        with self.context:
            if self.avatar.color_input == "deformed":
                shared.append(self.rasteriser.values)
            else:
                self.rasteriser.values.write(np.ascontiguousarray(self.avatar.canonical, np.float32))
            cuda, mesh_map = self.cuda, self.rasteriser.map_texture
            self.mesh_buffers = [self._keep(cuda.register_buffer(b.glo), self._unregister) for b in shared]
            self.map_resource = self._keep(cuda.register_texture(mesh_map.glo), self._unregister)

    def _unregister(self, resource: int) -> None:
        with self.context:
            self.cuda.unregister(resource)

    # What is run

    def _engine(self, network: Network) -> PlanEngine:
        engine = PlanEngine(self.plans[network.name], network, self.device.trt, self.cuda, self.stream, network.name)
        return self._keep(engine, lambda opened: opened.close())

    def _load_networks(self) -> None:
        vertices, side = len(self.avatar.template), self.avatar.composition_size
        self.deformation = self._bind(
            self._engine(DEFORMATION),
            points=("points", (vertices, 3)), latent=("latent", (1, LATENT)),
            displacement=("displacement", (vertices, 3)),
        )  # fmt: skip
        color = self._engine(ENCODED_COLOR)
        self.color = {
            bucket: self._bind(
                color,
                encoded=("encoded", (bucket, self.padded)), latent=("latent", (1, LATENT)), rgb=("colors", (bucket, 3)),
            )
            for bucket in sorted(set(self.bucket_of_frame))
        }  # fmt: skip
        self.composition = self._bind(
            self._engine(COMPOSITION), layers=("small", (1, 6, side, side)), rgb=("refined", (1, 3, side, side))
        )

    def _bind(self, engine: PlanEngine, **tensors: tuple[str, tuple[int, ...]]) -> Binding:
        """A network whose tensors lie in the named buffers."""
        return engine.bind(
            {name: shape for name, (_, shape) in tensors.items()},
            {name: self.at[buffer] for name, (buffer, _) in tensors.items()},
        )

    def _capture(self, bucket: int) -> int:
        self.cuda.begin_capture(self.stream)
        try:
            self.paint_box(bucket)
        except BaseException:  # whatever it is, the stream must not stay in capture
            self.cuda.abort_capture(self.stream)
            raise
        return self._keep(self.cuda.end_capture(self.stream), self.cuda.destroy_graph)

    # A frame

    def render(self, frame_index: int) -> av.VideoFrame:
        """Frame k, yuv420p, BT.709. The ring must hold the speech up to sample 640 k + lookahead."""
        return self.paint(frame_index).picture

    def paint(self, frame_index: int, halved: bool = False) -> Rendered:
        """Frame k, finished: one thread does it all. `halved` is never asked of it (realtime/session.py)."""
        assert not halved
        k = frame_index % len(self.inpaint)
        with self.timer.measure("latent"):
            latent = self.latents.advance(frame_index)
        with self.timer.measure("source"):
            self._upload(k, latent)
        with self.timer.measure("face"):
            self._draw(self.avatar.source_pose[k])
        with self.timer.measure("composition"):
            self.cuda.launch_graph(self.graphs[self.bucket_of_frame[k]], self.stream)
            kept = self._left_on_device() if self.keep_on_device else None
            self.cuda.download(self.finished, self.at["frame"], self.stream)
            self.source.read_ahead()  # the GPU is at work
            self.cuda.synchronize(self.stream)
        with self.timer.measure("conversion"):
            return Rendered(self._picture(), kept.to_video_frame() if kept is not None else None)

    def read_ahead(self) -> None:
        """Has been done while the GPU was at work."""

    def warm_up(self) -> None:
        """Renders the loop's first frame with the silence before all speech: fills every cache."""
        self.render(-len(self.inpaint))

    def skip(self, frame_index: int) -> None:
        """Frame k is not drawn; only its speech is heard, since the next eight frames need it."""
        self.latents.hear(frame_index)

    def _upload(self, k: int, latent: FloatArray) -> None:
        y, u, v = planes(self.source.frame(k))
        self.frame[: self.size] = y
        self.frame[self.size :, 0::2] = u
        self.frame[self.size :, 1::2] = v
        self.latent[:] = latent[0]
        self.place[:] = self.inpaint.boxes[k]
        self.mask[:] = self.inpaint.mask(k)
        for name, staged in (
            ("frame", self.frame),
            ("latent", self.latent),
            ("place", self.place),
            ("mask", self.mask),
        ):
            self.cuda.upload(self.at[name], staged, self.stream)

    def _draw(self, pose_44: FloatArray) -> None:
        """b -> displaced vertices -> position map, in linear memory."""
        self.deformation.enqueue()
        if self.without_interop is not None:
            self._draw_through_host(pose_44)
            return
        with self.context:  # another one may be current on this thread
            with self._mapped(self.mesh_buffers):
                for resource in self.mesh_buffers:
                    address, size = self.cuda.mapped_buffer(resource)
                    assert size == self.sizes["vertices"]
                    self.displace(address)
            self.rasteriser.render(pose_44)
            row = 4 * F4 * self.size
            with self._mapped([self.map_resource]):  # where its array lies may change every time
                array = self.cuda.mapped_array(self.map_resource)
                self.cuda.copy_from_array(self.at["positions"], row, array, row, self.size, self.stream)

    def _draw_through_host(self, pose_44: FloatArray) -> None:
        self.displace(self.at["vertices"])
        self.cuda.download(self.host_vertices, self.at["vertices"], self.stream)
        self.cuda.synchronize(self.stream)
        vertices_V3 = self.host_vertices.reshape(-1, 3)
        seen_V3 = vertices_V3 if self.avatar.color_input == "deformed" else self.avatar.canonical
        self.host_positions[:] = self.rasteriser.draw(vertices_V3, pose_44, seen_V3).reshape(-1)
        self.cuda.upload(self.at["positions"], self.host_positions, self.stream)

    def displace(self, vertices: int) -> None:
        """Displaced vertices into a buffer, from the deformation network's output."""
        self.kernels.displace(
            self.stream, neutral=self.at["neutral"], displacement=self.at["displacement"], vertices=vertices,
            values=self.avatar.template.size,
        )  # fmt: skip

    @contextlib.contextmanager
    def _mapped(self, resources: Sequence[int]) -> Iterator[None]:
        """Between the two OpenGL must not touch them, and outside CUDA must not."""
        self.cuda.map(resources, self.stream)
        try:
            yield
        except BaseException:  # whatever it is: it is the error to tell, and nothing may stay mapped
            with contextlib.suppress(CudaError):
                self.cuda.unmap(resources, self.stream)
            raise
        self.cuda.unmap(resources, self.stream)

    def paint_box(self, bucket: int) -> None:
        """Position map -> painted box, in place in the frame. Only enqueues: this is what a graph captures."""
        kernels, stream, at = self.kernels, self.stream, self.at
        (width, height), side = self.inpaint.box_size, self.avatar.composition_size
        box = {"width": width, "height": height}
        picture = {"frame": at["frame"], "pitch": self.size, "frame_height": self.size, "place": at["place"]}
        self.cuda.clear(at["count"], self.sizes["count"], stream)
        self.cuda.clear(at["face"], self.sizes["face"], stream)
        kernels.nv12_to_rgb(stream, **picture, rgb=at["rgb"], **box)
        kernels.gather(
            stream, positions=at["positions"], frame_width=self.size, place=at["place"], mask=at["mask"],
            low=at["low"], high=at["high"], **box, frequencies=self.avatar.info["frequencies"], padded=self.padded,
            capacity=bucket, count=at["count"], index=at["index"], encoded=at["encoded"],
        )  # fmt: skip
        self.color[bucket].enqueue()
        kernels.scatter(
            stream, rgb=at["colors"], index=at["index"], count=at["count"], face=at["face"], capacity=bucket
        )
        kernels.layers(
            stream, rgb=at["rgb"], face=at["face"], mask=at["mask"], layers=at["layers"], known=at["known"], **box
        )
        kernels.fill(
            stream, layers=at["layers"], known=at["known"], cells=at["cells"], spare=at["spare"], **box,
            rows=self.rows, columns=self.columns,
        )  # fmt: skip
        kernels.shrink(stream, layers=at["layers"], small=at["small"], **box, side=side)
        self.composition.enqueue()
        kernels.blend(
            stream, layers=at["layers"], rgb=at["rgb"], small=at["small"], refined=at["refined"], mask=at["mask"],
            painted=at["painted"], **box, side=side,
        )  # fmt: skip
        kernels.rgb_to_nv12(stream, painted=at["painted"], mask=at["mask"], **picture, **box)

    def _left_on_device(self) -> DeviceFrame:
        """A copy of the frame that stays as it is until nobody holds it any more."""
        slot = (
            self._slots.popleft()
            if self._slots
            else self._keep(self.cuda.allocate(self.sizes["frame"]), self.cuda.free)
        )
        self.cuda.copy(slot, self.at["frame"], self.sizes["frame"], self.stream)
        frame = DeviceFrame(slot, self.size, self.size, self.size, self.cuda.device)
        weakref.finalize(frame, self._slots.append, slot)
        return frame

    def _picture(self) -> av.VideoFrame:
        """The frame that was read back, as yuv420p."""
        picture = av.VideoFrame(self.size, self.size, "yuv420p")
        y, u, v = planes(picture)
        y[:] = self.finished[: self.size]
        u[:] = self.finished[self.size :, 0::2]
        v[:] = self.finished[self.size :, 1::2]
        return picture
