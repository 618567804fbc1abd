"""Fixtures of all tests. What a test needs and the machine lacks is a skip with its reason; if CI=true, a failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import moderngl
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dataset.phones import data_folder as find_data_folder
from realtime.errors import MiravoxError
from realtime.face.gl import create_context
from realtime.process import prepare_process
from tests.installation import Environment, build, install

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
GOLDEN_DIFF = ROOT / "build" / "golden-diff"
SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast")

prepare_process()  # as where the program starts: one thread for drawing, one for numpy

Golden = Callable[[str, NDArray[np.uint8], int], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate-golden", action="store_true", help="write tests/golden anew instead of comparing")


def lacking(reason: str) -> NoReturn:
    """Ends the test: a skip must be provable, so it is none where CI expects the thing."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI lacks {reason}", pytrace=False)
    pytest.skip(f"this machine lacks {reason}")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with face model, portrait clips and speech."""
    folder = find_data_folder()
    if not folder.is_dir():
        lacking(f"the data folder {folder} (or another one named by MIRAVOX_DATA)")
    return folder


@pytest.fixture(scope="session")
def ada() -> Path:
    """The folder of the avatar that ships."""
    folder = ROOT / "avatars" / "ada"
    if not (folder / "avatar.json").is_file():
        lacking(f"the avatar {folder.relative_to(ROOT)}")
    return folder


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """PyTorch, seeded."""
    try:
        import torch
    except ImportError:
        lacking("torch (pip install -e .[train])")
    torch.manual_seed(0)
    return torch


@pytest.fixture(scope="session")
def gl_context() -> Iterator[moderngl.Context]:
    """One headless OpenGL context for all tests; a test takes `gl`."""
    try:
        context = create_context()
    except MiravoxError as error:
        lacking(f"OpenGL: {error}")
    yield context
    context.release()


@pytest.fixture
def gl(gl_context: moderngl.Context) -> Iterator[moderngl.Context]:
    """The OpenGL context, current, without an error before the test and after it."""
    with gl_context:
        assert gl_context.error == "GL_NO_ERROR", "an earlier test left an OpenGL error"
        yield gl_context
        gl_context.__enter__()  # the test may have made another context
        assert gl_context.error == "GL_NO_ERROR"


@pytest.fixture
def golden(request: pytest.FixtureRequest, gl_context: moderngl.Context) -> Golden:
    """golden(name, image, tolerance): compares a uint8 image [H, W, 3] with tests/golden/NAME.png.

    No value may differ by more than `tolerance`. On failure build/golden-diff/NAME.png shows wanted, found and eight
    times the difference side by side. Only the software renderer's images are compared: GPUs round in their own ways.
    """
    regenerate = request.config.getoption("--regenerate-golden")
    with gl_context:
        renderer = str(gl_context.info["GL_RENDERER"])
    software = any(name in renderer for name in SOFTWARE_RENDERERS)

    def compare(name: str, image: NDArray[np.uint8], tolerance: int) -> None:
        path = GOLDEN / f"{name}.png"
        if not software:
            lacking(f"the software renderer that golden images are made with (here: {renderer})")
        if regenerate:
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(path, optimize=True)
            return
        if not path.is_file():
            pytest.fail(f"no tests/golden/{name}.png; make it with pytest --regenerate-golden, and look at it")
        with Image.open(path) as file:
            wanted = np.asarray(file.convert("RGB"))
        assert image.shape == wanted.shape
        difference = np.abs(image.astype(np.int16) - wanted)
        if difference.max() > tolerance:
            GOLDEN_DIFF.mkdir(parents=True, exist_ok=True)
            amplified = np.minimum(8 * difference, 255).astype(np.uint8)
            Image.fromarray(np.hstack([wanted, image, amplified])).save(GOLDEN_DIFF / f"{name}.png")
            pytest.fail(
                f"{name}: {np.count_nonzero(difference.max(-1) > tolerance)} pixels differ by more than {tolerance}, "
                f"at most by {difference.max()}; see build/golden-diff/{name}.png"
            )

    return compare


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The wheel of this clone."""
    folder = tmp_path_factory.mktemp("wheel")
    yield build(folder, "wheel")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An environment in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("installed")
    yield install(wheel, folder)
    shutil.rmtree(folder)


@pytest.fixture
def measured_lips() -> dict[str, Any]:
    """What bench articulation says of one voice."""
    return {
        "aperture_error_mm": 1.2,
        "aperture_error_interval": (1.0, 1.4),
        "aperture_correlation": 0.8,
        "width_error_mm": 0.5,
        "closure": 0.9,
        "counts": {
            "closures": {"share": 0.9, "of": 19, "interval": (0.69, 0.97)},
            "vowels": {"share": 0.05, "of": 60, "interval": (0.02, 0.1)},
        },
    }
