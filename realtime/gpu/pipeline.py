"""GpuPipeline: speech window -> frame on an NVIDIA GPU, by the thesis's networks themselves.

`paint` reads like the data path, and `paint_box` like the part of it that works on pixels:

    window -> latent;  latent, source picture -> GPU;  displacement -> position map;  painted box -> frame

The mesh is rasterised in OpenGL; its position map is handed to CUDA without a copy through the host, coloured, composed
and painted into the source frame there. Everything after the position map is one CUDA graph, which freezes addresses
and sizes: so all buffers are allocated once, what changes from frame to frame lies in device memory, and the number of
points is padded to a bucket (profiles.py), with a graph for each bucket.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import deque

import av
import numpy as np

from ..arrays import ByteArray, FloatArray
from ..audio.ring import AudioRing
from ..avatar import Avatar
from ..contract import AUDIO_ENCODER, COMPOSITION, DEFORMATION, ENCODED_COLOR, LATENT, PROJECTION, Network
from ..face.inpaint_boxes import InpaintBoxes
from ..face.latent import LatentTrack
from ..face.rasteriser import Rasteriser
from ..face.source_loop import SourceLoop
from ..frames import FULL_QUALITY, Frame, Quality
from ..stage_timer import StageTimer
from .buffers import Buffer, Buffers, Extents, Staged
from .cuda_error import CudaError
from .device_frame import DeviceFrame
from .interop import probe_interop
from .kernels import Kernels
from .nv12 import picture_of, write_nv12
from .opened_gpu import OpenedGpu, open_gpu
from .plan_engine import Binding, PlanEngine
from .position_map import DisplacedMesh, HostPositionMap, SharedPositionMap
from .profiles import frame_buckets
from .release_stack import ReleaseStack


class GpuPipeline:
    """Renders one avatar from one ring of speech (frames.Pipeline). Owns an OpenGL context and a CUDA stream: make, use
    and close it on one thread.

    Args:
        size: side of the square frame in pixels; the avatar's own by default.
        timer: is told how long each stage took. The GPU works behind "source" and "face"; "composition" waits for it.
        gpu: what it runs on, and closes; by default this machine's first GPU.
        keep_on_device: frames are also left on the GPU, for an encoder there.

    Raises MiravoxError for whatever stands in the way, with nothing left allocated.
    """

    qualities = (FULL_QUALITY,)  # a GPU does a whole frame at once, or none of it

    def __init__(
        self,
        avatar: Avatar,
        ring: AudioRing,
        size: int | None = None,
        timer: StageTimer | None = None,
        gpu: OpenedGpu | None = None,
        keep_on_device: bool = False,
    ) -> None:
        self.avatar, self.timer, self.size = avatar, timer or StageTimer(), size or avatar.width
        self.keep_on_device = keep_on_device
        self.inpaint = InpaintBoxes(avatar, self.size)
        self.bucket_of_frame = frame_buckets(self.inpaint)
        self.extents = Extents.of(avatar, self.size, self.inpaint.box_size, max(self.bucket_of_frame))
        self._slots: deque[int] = deque()  # device memory for frames that stay there, while nobody uses it
        self._held = held = ReleaseStack()
        with held.released_on_error():
            self.gpu = gpu or open_gpu()
            self.cuda = held.keep(self.gpu.cuda, lambda cuda: cuda.close())
            self.stream = held.keep(self.cuda.create_stream(), self.cuda.destroy_stream)
            self.kernels = held.keep(Kernels(self.cuda, self.gpu.image), lambda kernels: kernels.close())
            self.buffers = Buffers.allocate(self.extents, self._device_memory)
            self.staged = Staged.allocate(self.buffers, self.extents, self._pinned)
            self._upload_constants()
            # OpenGL, and what it draws.
            self.context = held.keep(self.gpu.create_context(), lambda context: context.release())
            camera = avatar.camera.scaled(self.size, self.size)
            self.rasteriser = held.keep(
                Rasteriser(self.context, avatar.triangles, len(avatar.template), camera), lambda mesh: mesh.release()
            )
            self.mesh = DisplacedMesh(avatar, self.cuda, self.stream, self.kernels, self.buffers, self.rasteriser)
            self.without_interop = probe_interop(self.cuda, self.context)  # why no memory is shared here, or None
            self.position_map: SharedPositionMap | HostPositionMap
            if self.without_interop is None:
                self.position_map = SharedPositionMap(self.mesh, held)
            else:
                self.position_map = HostPositionMap(self.mesh, held)
            # Networks, and the graphs that run them.
            self.plans = self.gpu.plans(avatar, self.size)
            self.latents = LatentTrack(avatar, ring, (self._engine(AUDIO_ENCODER), self._engine(PROJECTION)))
            self.deformation = self._bind_deformation()
            self.color = self._bind_color()  # by bucket
            self.composition = self._bind_composition()
            self.graphs = {bucket: self._capture(bucket) for bucket in self.color}
            self.source = held.keep(
                SourceLoop(avatar.file("source.mp4"), len(avatar.source_pose), self.size, avatar.info["width"]),
                lambda loop: loop.close(),
            )

    # What it holds

    def _device_memory(self, nbytes: int) -> Buffer:
        """A buffer of its own, cleared."""
        address = self._held.keep(self.cuda.allocate(nbytes), self.cuda.free)
        self.cuda.clear(address, nbytes, self.stream)
        return Buffer(address, nbytes)

    def _pinned(self, nbytes: int) -> ByteArray:
        """Page-locked memory of its own."""
        return self._held.keep(self.cuda.pinned(nbytes), self.cuda.free_pinned)

    def _upload_constants(self) -> None:
        """What never changes, from memory that is not page-locked: CUDA has copied that when the call returns."""
        buffers, avatar = self.buffers, self.avatar
        low, high = avatar.box
        for buffer, values in (
            (buffers.points, avatar.scale(avatar.canonical)),
            (buffers.neutral, avatar.template),
            (buffers.low, low),
            (buffers.high, high),
        ):
            self.cuda.upload(buffer, np.ascontiguousarray(values, np.float32), self.stream)

    def _engine(self, network: Network) -> PlanEngine:
        engine = PlanEngine(self.plans[network.name], network, self.gpu.trt, self.cuda, self.stream, network.name)
        return self._held.keep(engine, lambda opened: opened.close())

    def _bind_deformation(self) -> Binding:
        buffers, vertices = self.buffers, self.extents.vertices
        return self._engine(DEFORMATION).bind(
            shapes={"points": (vertices, 3), "latent": (1, LATENT), "displacement": (vertices, 3)},
            pointers={"points": buffers.points, "latent": buffers.latent, "displacement": buffers.displacement},
        )

    def _bind_color(self) -> dict[int, Binding]:
        """The colour network for each bucket that a frame of the source loop needs."""
        engine, buffers, padded = self._engine(ENCODED_COLOR), self.buffers, self.extents.padded
        return {
            bucket: engine.bind(
                shapes={"encoded": (bucket, padded), "latent": (1, LATENT), "rgb": (bucket, 3)},
                pointers={"encoded": buffers.encoded, "latent": buffers.latent, "rgb": buffers.colors},
            )
            for bucket in sorted(set(self.bucket_of_frame))
        }

    def _bind_composition(self) -> Binding:
        side = self.extents.side
        return self._engine(COMPOSITION).bind(
            shapes={"layers": (1, 6, side, side), "rgb": (1, 3, side, side)},
            pointers={"layers": self.buffers.small, "rgb": self.buffers.refined},
        )

    def _capture(self, bucket: int) -> int:
        """The graph of `paint_box` for a bucket."""
        self.cuda.begin_capture(self.stream)
        try:
            self.paint_box(bucket)
        except BaseException:  # whatever it is, the stream must not stay in capture
            self.cuda.abort_capture(self.stream)
            raise
        return self._held.keep(self.cuda.end_capture(self.stream), self.cuda.destroy_graph)

    def close(self) -> None:
        """Releases everything. Raises CudaError if the GPU refused to release something."""
        with contextlib.suppress(CudaError):  # what has failed is told by whoever waited for the frame
            self.cuda.synchronize(self.stream)
        self._held.close()

    def __enter__(self) -> GpuPipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(CudaError) if kind else contextlib.nullcontext():
            self.close()

    # A frame

    def render(self, frame_index: int) -> av.VideoFrame:
        """Frame k, yuv420p, BT.709. The ring must hold the speech up to sample 640 k + lookahead."""
        return self.paint(frame_index).picture

    def paint(self, frame_index: int, quality: Quality = FULL_QUALITY) -> Frame:
        """Frame k, finished: one thread does it all, at the one quality that there is."""
        k = frame_index % len(self.inpaint)
        with self.timer.measure("latent"):
            latent = self.latents.advance(frame_index)
        with self.timer.measure("source"):
            self._upload(k, latent)
        with self.timer.measure("face"):
            self.deformation.enqueue()
            self.position_map.draw(self.avatar.source_pose[k])
        with self.timer.measure("composition"):
            self.cuda.launch_graph(self.graphs[self.bucket_of_frame[k]], self.stream)
            kept = self._left_on_device() if self.keep_on_device else None
            self.cuda.download(self.staged.finished, self.buffers.frame, self.stream)
            self.source.read_ahead()  # the GPU is at work
            self.cuda.synchronize(self.stream)
        with self.timer.measure("conversion"):
            picture = picture_of(self.staged.finished)
            return Frame(frame_index, picture, kept.to_video_frame() if kept is not None else None)

    def finish(self, frame_index: int, face: Frame, quality: Quality = FULL_QUALITY) -> Frame:
        """The frame that `paint` gave: it is finished already."""
        return face

    def read_ahead(self) -> None:
        """Decodes the next picture of the source loop, if that was not done while the GPU was at work."""
        with self.timer.measure("reading ahead"):
            self.source.read_ahead()

    def skip(self, frame_index: int) -> None:
        """Frame k is not drawn; only its speech is embedded, since the next eight frames need it."""
        self.latents.embed(frame_index)

    def warm_up(self) -> None:
        """Renders the loop's first frame with the silence before all speech: fills every cache."""
        self.render(-len(self.inpaint))

    def _upload(self, k: int, latent: FloatArray) -> None:
        """What is different in every frame: source picture, b, and where how much is painted."""
        staged, buffers = self.staged, self.buffers
        write_nv12(self.source.frame(k), staged.source)
        staged.latent[:] = latent[0]
        staged.place[:] = self.inpaint.boxes[k]
        staged.mask[:] = self.inpaint.mask(k)
        self.cuda.upload(buffers.frame, staged.source, self.stream)
        self.cuda.upload(buffers.latent, staged.latent, self.stream)
        self.cuda.upload(buffers.place, staged.place, self.stream)
        self.cuda.upload(buffers.mask, staged.mask, self.stream)

    def paint_box(self, bucket: int) -> None:
        """Position map -> painted box, in place in the frame. Only enqueues: this is what a graph captures."""
        kernels, stream, b, extents = self.kernels, self.stream, self.buffers, self.extents
        box = {"width": extents.width, "height": extents.height}
        picture = {"frame": b.frame, "pitch": self.size, "frame_height": self.size, "place": b.place}
        self.cuda.clear(b.count, b.count.nbytes, stream)
        self.cuda.clear(b.face, b.face.nbytes, stream)
        kernels.nv12_to_rgb(stream, **picture, rgb=b.rgb, **box)
        kernels.gather(
            stream,
            positions=b.positions,
            frame_width=self.size,
            place=b.place,
            mask=b.mask,
            low=b.low,
            high=b.high,
            **box,
            frequencies=extents.frequencies,
            padded=extents.padded,
            capacity=bucket,
            count=b.count,
            index=b.index,
            encoded=b.encoded,
        )
        self.color[bucket].enqueue()
        kernels.scatter(stream, rgb=b.colors, index=b.index, count=b.count, face=b.face, capacity=bucket)
        kernels.layers(stream, rgb=b.rgb, face=b.face, mask=b.mask, layers=b.layers, known=b.known, **box)
        cells = {"cells": b.cells, "spare": b.spare, "rows": extents.rows, "columns": extents.columns}
        kernels.fill(stream, layers=b.layers, known=b.known, **cells, **box)
        kernels.shrink(stream, layers=b.layers, small=b.small, **box, side=extents.side)
        self.composition.enqueue()
        network = {"small": b.small, "refined": b.refined, "side": extents.side}
        kernels.blend(stream, layers=b.layers, rgb=b.rgb, **network, mask=b.mask, painted=b.painted, **box)
        kernels.rgb_to_nv12(stream, painted=b.painted, mask=b.mask, **picture, **box)

    def _left_on_device(self) -> DeviceFrame:
        """A copy of the frame that stays as it is until nobody holds it any more."""
        nbytes = self.buffers.frame.nbytes
        slot = self._slots.popleft() if self._slots else self._held.keep(self.cuda.allocate(nbytes), self.cuda.free)
        self.cuda.copy(slot, self.buffers.frame, nbytes, self.stream)
        frame = DeviceFrame(slot, self.size, self.size, self.size, self.cuda.device)
        weakref.finalize(frame, self._slots.append, slot)
        return frame
