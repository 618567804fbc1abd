"""What pipelines of one avatar share."""

from __future__ import annotations

from pathlib import Path

from realtime.audio.ring import AudioRing
from realtime.avatar import load_avatar
from realtime.contract import SAMPLE_RATE
from realtime.face.baked_face import BakedFace
from realtime.face.pipeline import FacePipeline
from realtime.face.shared_engines import SharedEngines


def test_pipelines_of_one_avatar_share_what_nobody_changes(ada: Path, gl_context: object) -> None:
    avatar = load_avatar(ada)
    engines = SharedEngines(avatar)
    rings = AudioRing(SAMPLE_RATE), AudioRing(SAMPLE_RATE)
    with (
        FacePipeline(avatar, rings[0], engines=engines) as one,
        FacePipeline(avatar, rings[1], engines=engines) as other,
    ):
        assert isinstance(one.face, BakedFace) and isinstance(other.face, BakedFace)
        assert one.face.baked is other.face.baked and one.compositor.engine is other.compositor.engine
        assert one.latents.encoder is other.latents.encoder and one.face.change is not other.face.change
