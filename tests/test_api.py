"""The public face: what it offers, what it loads and when, and one clear line for whatever it cannot take."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import realtime
from realtime import MiravoxError, load
from realtime.audio.pcm import KINDS
from tests.conftest import ROOT

HEAVY = ("aiortc", "aiohttp", "av", "moderngl", "numpy", "onnxruntime", "torch", "tqdm")

SURFACE = {
    "Avatar": {
        "folder": "Path",
        "lookahead_seconds": "float",
        "marking": "str",
        "name": "str",
        "render": "(source: 'str | os.PathLike[str] | ArrayLike', rate: 'int | None' = None, *, "
        "size: 'int | None' = None) -> 'Rendering'",
        "sample": "Path",
        "size": "int",
        "stream": "(*, size: 'int | None' = None) -> 'Stream'",
        "target": "str",
        "targets": "tuple[str, ...]",
    },
    "Frame": {"index": "int", "rgb": "ByteArray", "samples": "FloatArray"},
    "MiravoxError": {},
    "PlaybackFinished": {"seconds": "float", "interrupted": "bool"},
    "PlaybackStarted": {},
    "Rendering": {"close": "() -> 'None'"},
    "Stream": {
        "dropped": "int",
        "end_segment": "() -> 'None'",
        "events": "() -> 'AsyncGenerator[Playback, None]'",
        "interrupt": "() -> 'None'",
        "push": "(samples: 'ArrayLike', rate: 'int') -> 'None'",
    },
    "__version__": "str",
    "load": "(avatar: 'str | os.PathLike[str]' = 'ada', *, target: 'str' = 'auto') -> 'Avatar'",
}


def described(value: Any) -> Any:
    """A public name as SURFACE has it: signatures of functions, types of attributes, members of classes."""
    if inspect.isclass(value):
        fields = dict(getattr(value, "__dataclass_fields__", {}))
        public = {name: member for name, member in vars(value).items() if not name.startswith("_")}
        return {name: described(member) for name, member in public.items() if name not in fields} | {
            name: field.type for name, field in fields.items()
        }
    if isinstance(value, property):
        return inspect.signature(value.fget).return_annotation  # type: ignore[arg-type]
    if callable(value):
        signature = inspect.signature(value)
        return str(signature.replace(parameters=[p for p in signature.parameters.values() if p.name != "self"]))
    return type(value).__name__


def fresh(code: str, *options: str) -> Any:
    """What the code prints as JSON in a Python of its own."""
    done = subprocess.run([sys.executable, *options, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def loaded_by(code: str) -> set[str]:
    """Which heavy packages are loaded after the code has run."""
    return set(fresh(f"{code}\nimport json, sys; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"))


# What it offers


def test_the_surface_is_frozen() -> None:
    """Whoever changes this changes other people's programs."""
    assert sorted(SURFACE) == realtime.__all__
    assert {name: described(getattr(realtime, name)) for name in realtime.__all__} == SURFACE


def test_names_are_found_and_others_are_not() -> None:
    assert set(realtime.__all__) <= set(fresh("import json, realtime; print(json.dumps(dir(realtime)))"))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        realtime.__getattr__("lode")


def test_there_is_one_version() -> None:
    from importlib.metadata import version

    assert realtime.__version__ == version("miravox")


# What it loads


def test_constants_load_nothing() -> None:
    assert loaded_by("import realtime.contract, realtime.errors") == set()
    assert loaded_by("import networks.composition, networks.audio_encoder") <= {"numpy", "torch", "tqdm"}


def test_the_command_line_is_read_before_anything_heavy_is_loaded() -> None:
    assert loaded_by("from realtime.cli import parse_config; parse_config(['--source', 'a.wav'])") == set()


def test_no_opengl_is_loaded_before_something_is_drawn() -> None:
    load_it = "from realtime import load; avatar = load('ada', target='baked')"
    assert not loaded_by(load_it) & {"moderngl", "onnxruntime", "aiortc", "aiohttp", "tqdm"}
    drawn = loaded_by(f"{load_it}; next(avatar.render([0.0] * 640, 16_000, size=128))")
    assert {"moderngl", "onnxruntime"} <= drawn and not drawn & {"aiortc", "aiohttp"}


def test_the_process_stays_as_it_is() -> None:
    """Environment, BLAS's threads, Python's switch interval, signal handlers and logging are the program's own."""
    code = """
import json, logging, os, signal, sys, asyncio
import numpy, onnxruntime, threadpoolctl
def state():
    blas = [(pool["internal_api"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()]
    handlers = [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    log = logging.getLogger("miravox")
    return [dict(os.environ), blas, handlers, sys.getswitchinterval(), str(logging.root.handlers), str(log.handlers),
            log.level]
numpy.ones((2, 2)) @ numpy.ones((2, 2))
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # the one thing that is set: before onnxruntime is imported
before = state()
from realtime import load
avatar = load("ada", target="baked")
next(avatar.render([0.0] * 640, 16_000, size=128))
async def speak():
    async with avatar.stream(size=128) as stream:
        async for frame in stream:
            break
asyncio.run(speak())
print(json.dumps([before, state()]))
"""
    before, after = fresh(code)
    assert before == after


# Loading


@pytest.mark.parametrize("kind", [str, Path])
def test_a_name_or_a_folder(ada: Path, kind: type) -> None:
    by_name, by_folder = load("ada", target="baked"), load(kind(ada), target="baked")
    assert by_name.folder.samefile(ada) and by_folder.folder == ada
    assert (by_name.name, by_name.size, by_name.target) == ("Ada", 512, "baked")
    assert by_name.targets == ("baked", "onnx", "tensorrt") and by_name.lookahead_seconds == 0.1125
    assert "Synthetic: Ada" in by_name.marking and by_name.sample.is_file()
    assert repr(by_folder) == "<miravox.Avatar 'Ada', 512 x 512, target baked>"


def test_auto_is_a_target(ada: Path) -> None:
    assert load(ada).target in ("baked", "tensorrt")


@pytest.mark.parametrize(
    ("avatar", "words"),
    [
        ("bob", ["avatar 'bob'", "no avatar of that name", "avatars", "/bob)", "one of ada", "Correct the name"]),
        ("none/bob", ["no such folder", "none/bob)"]),
        ("", ["a folder without avatar.json"]),
        ("empty", ["a folder without avatar.json", "empty"]),
        (Path("empty"), ["a folder without avatar.json"]),
    ],
)
def test_a_missing_avatar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, avatar: str | Path, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(MiravoxError) as fault:
        load(avatar)
    for word in words:
        assert word in str(fault.value)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("vulkan", "target: found 'vulkan'; wanted one of auto, baked, onnx, tensorrt"),
        ("tensorrt", "exported for baked, onnx"),
    ],
)
def test_a_target_that_there_is_not(ada: Path, tmp_path: Path, target: str, words: str) -> None:
    copy = tmp_path / "me"
    shutil.copytree(ada, copy, ignore=shutil.ignore_patterns("tensorrt"))
    with pytest.raises(MiravoxError, match=words):
        load(copy, target=target)


# What cannot be rendered: every kind of bad file is in test_run_stream.py, of bad samples in audio/test_pcm.py


@pytest.mark.parametrize(
    ("source", "rate", "words"),
    [
        ("none.wav", None, "none.wav: found no such file"),
        (Path("."), None, "found a folder"),
        ("talk.wav", 16_000, "rate: found 16000 for a file; wanted none"),
        (np.zeros(640), None, "rate: found none"),
        (np.zeros(640), 0, "sample rate: found 0"),
        (np.zeros(640), -16_000, "sample rate: found -16000"),
        (np.zeros(0), 16_000, "samples: found none; wanted at least one"),
        (np.zeros((2, 16_000)), 16_000, "Transpose them"),
        (np.zeros(640, np.int64), 16_000, KINDS),
        (None, 16_000, "samples: found"),
    ],
)
def test_sources_that_cannot_be_rendered(ada: Path, source: Any, rate: Any, words: str) -> None:
    """They are refused at once, not with the first frame."""
    avatar = load(ada, target="baked")
    with pytest.raises(MiravoxError) as fault:
        avatar.render(source, rate)
    assert words in str(fault.value)


@pytest.mark.parametrize("size", [0, -128, 100, 1040])
def test_sizes_that_cannot_be(ada: Path, size: int) -> None:
    avatar = load(ada, target="baked")
    for ask in (lambda: avatar.render([0.0], 16_000, size=size), lambda: avatar.stream(size=size)):
        with pytest.raises(MiravoxError, match=f"size: found {size}; wanted a multiple of 16 from 128 to 1024"):
            ask()
