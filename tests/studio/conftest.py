"""What several tests of the studio share: Ada, and a renderer."""

from __future__ import annotations

import moderngl
import pytest

from realtime.face.gl import create_context
from studio.actor import ADA_SEED, Actor
from studio.face_model import load_face_model
from studio.renderer import Studio


@pytest.fixture(scope="session")
def actor() -> Actor:
    return Actor(load_face_model(), ADA_SEED)


@pytest.fixture(scope="session")
def context() -> moderngl.Context:
    return create_context()


@pytest.fixture(scope="session")
def studio(context: moderngl.Context) -> Studio:
    return Studio(ADA_SEED, context)
