"""The avatar that ships, through the live code: baked against networks, rest in silence, lips that part and close,
golden frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.avatar import Avatar
from realtime.contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from realtime.face.baked_face import BakedFace
from realtime.face.neural_face import NeuralFace
from realtime.face.pipeline import FacePipeline
from realtime.face.yuv import RgbConverter, planes
from realtime.targets import open_pipeline
from tests.face.conftest import psnr, ring_of

UPPER, LOWER = 62, 66


def gap_mm(avatar: Avatar, vertices: np.ndarray) -> float:
    landmarks = avatar.landmarks(vertices)
    return float(10 * np.linalg.norm(landmarks[UPPER] - landmarks[LOWER]))


def spoken_gap_mm(networks: FacePipeline, latent: np.ndarray) -> float:
    """The gap that the deformation network makes of b, evaluated at the lips alone."""
    assert isinstance(networks.face, NeuralFace)
    avatar, face = networks.avatar, networks.face
    corners = avatar.triangles[avatar.landmark_triangles[[UPPER, LOWER]]]  # [2, 3]
    (displacement,) = face.deformation.run(face.points_V3[corners.reshape(-1)], latent)
    vertices = avatar.template[corners] + displacement.reshape(2, 3, 3)
    upper, lower = np.einsum("lk,lkx->lx", avatar.landmark_barycentrics[[UPPER, LOWER]], vertices)
    return float(10 * np.linalg.norm(upper - lower))


def test_the_window_of_a_frame_is_the_designs(avatar: Avatar) -> None:
    """Frame k hears nothing of what comes lookahead or later after sample 640 k, and does hear what comes just before
    that.
    """
    k, rng = 10, np.random.default_rng(0)
    end = SAMPLES_PER_FRAME * k + avatar.lookahead_samples
    speech = (0.1 * rng.standard_normal(SAMPLE_RATE)).astype(np.float32)
    later, earlier = speech.copy(), speech.copy()
    later[end:] = 0
    earlier[end - 400 :] = 0
    with FacePipeline(avatar, ring_of(speech), "baked") as pipeline:
        b = pipeline.latents.advance(k)
    with FacePipeline(avatar, ring_of(later), "baked") as pipeline:
        assert np.array_equal(pipeline.latents.advance(k), b)
    with FacePipeline(avatar, ring_of(earlier), "baked") as pipeline:
        assert not np.array_equal(pipeline.latents.advance(k), b)


def test_frames_in_order_equal_frames_after_a_jump(avatar: Avatar, sample: np.ndarray) -> None:
    """The eight embeddings before a frame are kept, and computed again after a jump: the same b wherever presence has
    settled.
    """
    with FacePipeline(avatar, ring_of(sample), "baked") as pipeline:
        in_order = [pipeline.latents.advance(k).copy() for k in range(60)]
        pipeline.latents.advance(5)
        jumped = pipeline.latents.advance(40)
    assert np.abs(jumped - in_order[40]).max() < 0.05


def test_baked_agrees_with_the_networks(baked: FacePipeline, networks: FacePipeline, avatar: Avatar) -> None:
    """Face images of both targets for the same latents: over 30 dB where both cover, the same pixels but for edges."""
    assert isinstance(baked.face, BakedFace) and isinstance(networks.face, NeuralFace)
    figures = []
    for k in (20, 45, 71):
        latent = baked.latents.advance(k)
        pose, box = avatar.source_pose[k], baked.inpaint.boxes[k]
        quick, slow = baked.face.draw(latent, pose, box).copy(), networks.face.draw(latent, pose, box).copy()
        mask = baked.inpaint.mask(k) == 1
        assert ((quick[..., 3] > 0) != (slow[..., 3] > 0))[mask].mean() < 0.02
        both = mask & (quick[..., 3] > 0) & (slow[..., 3] > 0)
        assert both.mean() > 0.3
        figures.append(psnr(quick[both][:, :3], slow[both][:, :3]))
    assert min(figures) > 30, figures


def test_only_the_inpaint_box_changes(baked: FacePipeline, avatar: Avatar) -> None:
    """And in it only what the mask covers: of brightness each pixel, of colour each two by two."""
    frame, source = planes(baked.render(30)), planes(baked.source.frame(30))
    left, top, right, bottom = baked.inpaint.boxes[30]
    inside = np.zeros(frame[0].shape, bool)
    inside[top:bottom, left:right] = baked.inpaint.mask(30) > 0
    halves = inside.reshape(256, 2, 256, 2).any((1, 3))
    for after, before, where in zip(frame, source, (inside, halves, halves), strict=True):
        assert np.array_equal(after[~where], before[~where])
        assert np.abs(after[where].astype(int) - before[where]).max() > 5


def test_the_mouth_rests_in_silence_and_in_noise(avatar: Avatar, networks: FacePipeline) -> None:
    """Digital silence, and white noise at -50 dB: the lips stay within 1.5 mm of the template's rest gap."""
    rest = gap_mm(avatar, avatar.template)
    noise = 10 ** (-50 / 20) * np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    for sound in (np.zeros(SAMPLE_RATE, np.float32), noise):
        with FacePipeline(avatar, ring_of(sound), "baked") as pipeline:
            for k in range(5, 25, 4):
                assert spoken_gap_mm(networks, pipeline.latents.advance(k)) < rest + 1.5


def test_the_mouth_opens_and_closes_with_the_sample(avatar: Avatar, networks: FacePipeline, sample: np.ndarray) -> None:
    rest = gap_mm(avatar, avatar.template)
    frames = len(sample) // SAMPLES_PER_FRAME
    gaps = [spoken_gap_mm(networks, networks.latents.advance(k)) for k in range(min(frames, 100))]
    assert max(gaps) > rest + 6 and min(gaps) < rest + 1.5


def test_the_mouth_rests_within_100_ms_when_speech_is_cut_off(
    avatar: Avatar, networks: FacePipeline, sample: np.ndarray
) -> None:
    """In the middle of an open vowel: the second frame after the cut is at rest, and new speech moves it again."""
    rest = gap_mm(avatar, avatar.template)
    gaps = [
        spoken_gap_mm(networks, networks.latents.advance(k))
        for k in range(min(100, len(sample) // SAMPLES_PER_FRAME - 5))
    ]
    widest = int(np.argmax(gaps))
    assert gaps[widest] > rest + 5
    ring = AudioRing(8 * SAMPLE_RATE)
    end = SAMPLES_PER_FRAME * widest + avatar.lookahead_samples
    ring.write(Block(0, sample[:end]))
    with FacePipeline(avatar, ring, "baked") as pipeline:
        for k in range(widest + 1):
            latent = pipeline.latents.advance(k)
        assert spoken_gap_mm(networks, latent) == pytest.approx(gaps[widest], abs=0.5)
        ring.write(Block(end, np.zeros(0, np.float32), epoch=1))
        ring.write(Block(end, np.zeros(2 * SAMPLES_PER_FRAME, np.float32), epoch=1))
        after = [spoken_gap_mm(networks, pipeline.latents.advance(widest + k)) for k in (1, 2)]
        assert after[1] < rest + 1.5, after
        ring.write(Block(end + 2 * SAMPLES_PER_FRAME, sample[: 4 * SAMPLE_RATE], epoch=1))
        again = [spoken_gap_mm(networks, pipeline.latents.advance(k)) for k in range(widest + 3, widest + 60)]
    assert max(again) > rest + 5


def test_a_skipped_frame_is_heard(avatar: Avatar, sample: np.ndarray) -> None:
    """Dropping a frame changes nothing of those after it."""
    with FacePipeline(avatar, ring_of(sample), "baked") as pipeline:
        for k in range(40):
            wanted = pipeline.latents.advance(k)
        for k in range(-9, 0):
            pipeline.skip(k)
        for k in range(39):
            pipeline.skip(k)
        found = pipeline.latents.advance(39)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("size", [256, 768])
def test_other_sizes_show_the_same_picture(avatar: Avatar, baked: FacePipeline, sample: np.ndarray, size: int) -> None:
    from PIL import Image

    to_rgb = RgbConverter()
    with FacePipeline(avatar, ring_of(sample), "baked", size) as pipeline:
        pipeline.latents.advance(30)
        frame = to_rgb(pipeline.render(30))
    assert frame.shape == (size, size, 3)
    shrunk = np.asarray(Image.fromarray(frame).resize((256, 256), Image.Resampling.BOX))
    expected = np.asarray(Image.fromarray(to_rgb(baked.render(30))).resize((256, 256), Image.Resampling.BOX))
    assert psnr(shrunk, expected) > 30


@pytest.mark.parametrize("frame_index", [12, 40])
def test_golden_frames(baked: FacePipeline, golden: Callable[..., None], frame_index: int) -> None:
    """What the software renderer draws.

    After a change that is meant: pytest --regenerate-golden, and look at the picture.
    """
    golden(f"ada-{frame_index}", RgbConverter()(baked.render(frame_index)), 3)


def test_a_target_that_is_not_exported_is_told(avatar: Avatar, sample: np.ndarray) -> None:
    with pytest.raises(MiravoxError, match="exported for baked.*targets/tensorrt"):
        open_pipeline(replace(avatar, targets=("baked",)), ring_of(sample), "tensorrt")
