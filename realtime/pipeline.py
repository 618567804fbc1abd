"""Pipeline: speech window -> frame. `render` reads like the data path, a line an arrow."""

from __future__ import annotations

import os

import av
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from realtime.audio_ring import AudioRing
from realtime.avatar import Avatar
from realtime.baked_face import Baked, BakedFace
from realtime.compositor import Compositor
from realtime.inpaint_boxes import InpaintBoxes
from realtime.latent import LatentTrack
from realtime.neural_face import NeuralFace
from realtime.rasteriser import create_context
from realtime.source_loop import SourceLoop
from realtime.stage_timer import StageTimer
from realtime.yuv import FrameConverter, RgbConverter, crop, paste

ByteArray = NDArray[np.uint8]


class Pipeline:
    """Renders one avatar from one ring of speech. Owns an OpenGL context: make it and use it on one thread.

    Args:
        target: "baked" or "onnx", of those that the avatar is exported for.
        size: side of the square frame in pixels; the avatar's own by default.
        timer: is told how long each stage took.
    """

    def __init__(
        self,
        avatar: Avatar,
        ring: AudioRing,
        target: str = "baked",
        size: int | None = None,
        timer: StageTimer | None = None,
    ) -> None:
        self.avatar, self.target, self.timer = avatar, target, timer or StageTimer()
        self.size = size or avatar.width
        self.inpaint = InpaintBoxes(avatar, self.size)

        # OpenGL, ONNX Runtime, the codecs and numpy share few cores: threads in all of them get in each other's way.
        os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's software renderer draws on the calling thread
        threadpool_limits(1, user_api="blas")  # for good: another pipeline may be at work when this one closes
        camera = avatar.camera.scaled(self.size, self.size)
        self.context = create_context()
        self.latents = LatentTrack(avatar, ring)
        self.face: BakedFace | NeuralFace
        if target == "baked":
            baked = avatar.once("baked", lambda: Baked.load(avatar.folder / "targets" / "baked"))
            self.face = BakedFace(self.context, baked, camera, self.inpaint.box_size)
        else:
            self.face = NeuralFace(self.context, avatar, camera, self.inpaint.box_size)
        self.compositor = Compositor(avatar, self.inpaint.box_size)
        self.to_rgb, self.to_yuv = RgbConverter(), FrameConverter()
        self.source = SourceLoop(avatar.folder / "source.mp4", len(avatar.source_pose), self.size)

    def render(self, frame_index: int) -> av.VideoFrame:
        """Frame k, yuv420p, BT.709. The ring must hold the speech up to sample 640 k + lookahead."""
        return self.compose(frame_index, self.paint(frame_index))

    def paint(self, frame_index: int, halved: bool = False) -> ByteArray:
        """The face of frame k, uint8 [h, w, 4]: sRGB and coverage, a new array. On the thread that owns OpenGL.

        `halved`: only every second pixel of every second row is shaded.
        """
        k = frame_index % len(self.inpaint)
        with self.timer.measure("latent"):
            latent = self.latents.advance(frame_index)
        with self.timer.measure("face"):
            return self.face.draw(latent, self.avatar.source_pose[k], self.inpaint.boxes[k], halved).copy()

    def compose(self, frame_index: int, face: ByteArray, refined: bool = True) -> av.VideoFrame:
        """Frame k from its face, refined by the composition network or not. Another thread may do it, one at a time."""
        k = frame_index % len(self.inpaint)
        with self.timer.measure("source"):
            picture = self.source.frame(k)
            source = self.to_rgb(crop(picture, self.inpaint.boxes[k]))
        with self.timer.measure("composition"):
            mask = self.inpaint.mask(k)
            painted = self.compositor.compose(source, face, mask, refined)
        with self.timer.measure("conversion"):
            paste(picture, self.inpaint.boxes[k], self.to_yuv(painted), mask > 0)
        return picture

    def read_ahead(self) -> None:
        """Makes the next frame quicker, on any thread, once this one is on its way."""
        with self.timer.measure("reading ahead"):
            self.source.read_ahead()

    def warm_up(self) -> None:
        """Renders the loop's first frame with the silence before all speech: fills every cache."""
        self.render(-len(self.inpaint))

    def skip(self, frame_index: int) -> None:
        """Frame k is not drawn; only its speech is heard, since the next eight frames need it."""
        self.latents.hear(frame_index)

    def close(self) -> None:
        self.source.close()
        self.context.release()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
