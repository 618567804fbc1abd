"""FacePipeline: speech window -> frame, on the CPU and OpenGL.

`paint` and `finish` read like the data path, a line an arrow:

    window -> embedding -> latent -> displaced, coloured mesh in the head's pose -> face       paint
    source frame + face -> composed box -> frame                                                finish
"""

from __future__ import annotations

import av

from ..arrays import ByteArray
from ..audio.ring import AudioRing
from ..avatar import Avatar
from ..contract import COLOR, COMPOSITION, DEFORMATION
from ..frames import FULL_QUALITY, Frame, Quality
from ..stage_timer import StageTimer
from .baked_face import BakedFace
from .compositor import Compositor
from .gl import create_context
from .inpaint_boxes import InpaintBoxes
from .latent import LatentTrack
from .neural_face import NeuralFace
from .shared_engines import SharedEngines
from .source_loop import SourceLoop
from .yuv import FrameConverter, RgbConverter, crop, paste

UNREFINED, HALVED = Quality(refined=False), Quality(refined=False, halved=True)


class FacePipeline:
    """Renders one avatar from one ring of speech (frames.Pipeline). Owns an OpenGL context: make it, paint with it and
    close it on one thread.

    Args:
        target: "baked" or "onnx", of those that the avatar is exported for.
        size: side of the square frame in pixels; the avatar's own by default.
        timer: is told how long each stage took.
        engines: the avatar's, if other pipelines share them.
    """

    qualities = (FULL_QUALITY, UNREFINED, HALVED)

    def __init__(
        self,
        avatar: Avatar,
        ring: AudioRing,
        target: str = "baked",
        size: int | None = None,
        timer: StageTimer | None = None,
        engines: SharedEngines | None = None,
    ) -> None:
        self.avatar, self.target, self.timer = avatar, target, timer or StageTimer()
        self.size = size or avatar.width
        self.inpaint = InpaintBoxes(avatar, self.size)
        engines = engines or SharedEngines(avatar)
        camera = avatar.camera.scaled(self.size, self.size)
        self.context = create_context()
        self.latents = LatentTrack(avatar, ring, engines.speech())
        self.face: BakedFace | NeuralFace
        if target == "baked":
            self.face = BakedFace(self.context, engines.baked(), camera, self.inpaint.box_size)
        else:
            networks = engines.engine(DEFORMATION), engines.engine(COLOR)
            self.face = NeuralFace(self.context, avatar, networks, camera, self.inpaint.box_size)
        self.compositor = Compositor(engines.engine(COMPOSITION), avatar.composition_size, self.inpaint.box_size)
        self.to_rgb, self.to_yuv = RgbConverter(), FrameConverter()
        self.source = SourceLoop(avatar.file("source.mp4"), len(avatar.source_pose), self.size, avatar.info["width"])

    def render(self, frame_index: int) -> av.VideoFrame:
        """Frame k, yuv420p, BT.709: `paint` and `finish` in one."""
        return self.finish(frame_index, self.paint(frame_index)).picture

    def paint(self, frame_index: int, quality: Quality = FULL_QUALITY) -> ByteArray:
        """The face of frame k, uint8 [h, w, 4]: sRGB and coverage, a new array."""
        k = frame_index % len(self.inpaint)
        with self.timer.measure("latent"):
            latent = self.latents.advance(frame_index)
        with self.timer.measure("face"):
            face = self.face.draw(latent, self.avatar.source_pose[k], self.inpaint.boxes[k], quality.halved)
            return face.copy()  # the next frame is painted over it

    def finish(self, frame_index: int, face: ByteArray, quality: Quality = FULL_QUALITY) -> Frame:
        """Frame k from its face."""
        k = frame_index % len(self.inpaint)
        with self.timer.measure("source"):
            picture = self.source.frame(k)
            source = self.to_rgb(crop(picture, self.inpaint.boxes[k]))
        with self.timer.measure("composition"):
            mask = self.inpaint.mask(k)
            painted = self.compositor.compose(source, face, mask, quality.refined)
        with self.timer.measure("conversion"):
            paste(picture, self.inpaint.boxes[k], self.to_yuv(painted), mask > 0)
        return Frame(frame_index, picture)

    def read_ahead(self) -> None:
        """Decodes the next picture of the source loop, if it is not yet."""
        with self.timer.measure("reading ahead"):
            self.source.read_ahead()

    def warm_up(self) -> None:
        """Renders the loop's first frame with the silence before all speech: fills every cache."""
        self.render(-len(self.inpaint))

    def skip(self, frame_index: int) -> None:
        """Frame k is not drawn; only its speech is embedded, since the next eight frames need it."""
        self.latents.embed(frame_index)

    def close(self) -> None:
        self.source.close()
        self.context.release()

    def __enter__(self) -> FacePipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
