"""Self-reenactment: an avatar paints the lower face into the frames of a take, driven by the take's own speech."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset.folder import Dataset
from realtime.arrays import BoolArray, ByteArray, FloatArray, IntArray
from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar
from realtime.contract import FRAME_RATE, SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from realtime.face.neural_face import NeuralFace
from realtime.face.pipeline import FacePipeline
from training.inpaint import Inpaint

TRUE_MESH, TRUE_FACE, AT_REST = "true mesh", "true face", "at rest"  # what --bounds takes away


@dataclass(frozen=True, kw_only=True)
class Painted:
    """A painted frame, and what it was painted from."""

    image: ByteArray  # [H, W, 3]
    mask: FloatArray  # [H, W]: 1 where painted, falling to 0 over the feather
    covered: BoolArray  # [H, W], by the drawn mesh
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
        self.pipeline: FacePipeline | None = None

    def paint(self, frame: int, image: ByteArray) -> Painted:
        """Paints a frame, from the true frame uint8 [H, W, 3] with the inpaint region set to zero."""
        take = self.dataset.take_of_frame(frame)
        if take.first != self.take_first:  # nothing may cross from one take into another
            self.close()
            ring = AudioRing(self.capacity)
            speech = read_speech(take.speech).samples
            ring.write(Block(0, np.concatenate([speech, np.zeros(SAMPLES_PER_FRAME * FRAME_RATE, np.float32)])))
            target = "baked" if self.network == "baked" else "onnx"
            self.pipeline, self.take_first = FacePipeline(self.avatar, ring, target), take.first
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
        return Painted(image=painted, mask=whole_mask, covered=whole_covered, vertices=vertices)

    def _face(self, frame: int, image: ByteArray, latent: FloatArray, box: IntArray) -> ByteArray:
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

    def _fit(self, box: IntArray, mask: FloatArray) -> tuple[IntArray, FloatArray]:
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
                str(self.dataset.folder),
                found=f"an inpaint region of {mask.shape[::-1]} pixels",
                wanted=f"one within the avatar's {self.pipeline.inpaint.box_size}",
                remedy="Pack the avatar with this dataset.",
            )
        return np.concatenate([corner, corner + size.astype(np.int32)]), fitted

    def close(self) -> None:
        """Frees what drawing needs; the next frame opens it again."""
        if self.pipeline is not None:
            self.pipeline.close()
            self.pipeline = None
