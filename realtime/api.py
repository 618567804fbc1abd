"""The public face: `load` an avatar, `render` a recording with it, `stream` it in real time."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from . import avatar as folders
from .audio.pcm import mono_samples, sample_rate
from .audio.sound_file import SpeechFile, open_speech, speech_of_samples
from .config import TARGETS, StreamConfig, check_size
from .contract import SAMPLE_RATE
from .errors import MiravoxError
from .resources import resource_folder
from .targets import resolved

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .arrays import FloatArray
    from .face.shared_engines import SharedEngines
    from .stream.frame_stream import Stream
    from .stream.rendering import Rendering
    from .stream.schedule import Cores


def load(avatar: str | os.PathLike[str] = "ada", *, target: str = "auto") -> Avatar:
    """An avatar, validated: every file is there and as avatar.json says.

    Args:
        avatar: the name of one that ships ("ada"), or a folder ("./ada" is never a name).
        target: which of its exports renders, "baked", "onnx" or "tensorrt"; "auto" is tensorrt where an NVIDIA GPU and
            TensorRT are, else baked.

    Nothing is drawn and no network is loaded yet. Nothing of the process is changed either: a program that renders on
    few cores does well to set the environment variables LP_NUM_THREADS=0 and OPENBLAS_NUM_THREADS=1 before it starts,
    so that Mesa's software OpenGL and NumPy work without helper threads.

    Raises MiravoxError if there is no such avatar, its folder is not valid, or it is not exported for the target.
    """
    if target not in TARGETS:
        raise MiravoxError(
            "target", found=repr(target), wanted=f"one of {', '.join(TARGETS)}", remedy="Leave it out for auto."
        )
    folder = _find(avatar)
    config = resolved(StreamConfig(avatar=folder, target=target))
    found = folders.load_avatar(folder)
    if config.target not in found.targets:
        raise MiravoxError(
            f"target {config.target}",
            found=f"{folder} exported for {', '.join(found.targets) or 'nothing'}",
            wanted="one that it is exported for",
            remedy="Choose another target, or get the avatar with all of its files.",
        )
    return Avatar(found, config.target)


def _find(avatar: str | os.PathLike[str]) -> Path:
    """The folder of an avatar that ships, or another one. Raises MiravoxError."""
    shipped = resource_folder("avatars")
    names = sorted(path.parent.name for path in shipped.glob("*/avatar.json"))
    if avatar in names:
        return shipped / str(avatar)
    folder = Path(avatar)
    if not (folder / "avatar.json").is_file():
        found = "a folder without avatar.json" if folder.is_dir() else "no avatar of that name and no such folder"
        raise MiravoxError(
            f"avatar {os.fspath(avatar)!r}",
            found=f"{found} (looked in {shipped} and at {folder.resolve()})",
            wanted=f"one of {', '.join(names) or 'none that ship here'}, or a folder with avatar.json",
            remedy="Correct the name or the path.",
        )
    return folder


class Avatar:
    """An avatar of one person, which can be made to say anything. Made by `load`; many threads may use it.

    What is rendered is synthetic: show `marking` to whoever sees it.
    """

    def __init__(self, folder: folders.Avatar, target: str) -> None:
        self._folder, self._target = folder, target
        self._shared: SharedEngines | None = None

    def __repr__(self) -> str:
        return f"<miravox.Avatar {self.name!r}, {self.size} x {self.size}, target {self.target}>"

    @property
    def name(self) -> str:
        return self._folder.name

    @property
    def folder(self) -> Path:
        return self._folder.folder

    @property
    def target(self) -> str:
        """Which of its exports renders."""
        return self._target

    @property
    def targets(self) -> tuple[str, ...]:
        """What it is exported for, as far as the files are here: of "baked", "onnx" and "tensorrt"."""
        return self._folder.targets

    @property
    def size(self) -> int:
        """Side of its frames in pixels, unless another one is asked for."""
        return self._folder.width

    @property
    def lookahead_seconds(self) -> float:
        """How much speech after a frame's own moment the networks see: no stream has a smaller delay."""
        return self._folder.lookahead_samples / SAMPLE_RATE

    @property
    def marking(self) -> str:
        """What everybody must be told who sees it: that it is synthetic, and whose consent there is."""
        return self._folder.marking

    @property
    def sample(self) -> Path:
        """A recording to try it with."""
        return self._folder.sample

    def render(
        self, source: str | os.PathLike[str] | ArrayLike, rate: int | None = None, *, size: int | None = None
    ) -> Rendering:
        """The frames of the avatar saying a recording, as fast as they are asked for, 25 for each second of it.

        Args:
            source: the path of any recording that FFmpeg reads, or samples, of which there must be at least one: [n] or
                [n, channels] (their mean is said) of float16, float32 or float64 in [-1, 1] (louder is clipped), or of
                int16, int32 or uint8 of their full range. NaN and infinity become silence.
            rate: of samples, which must have one: 4,000 to 384,000 a second.
            size: side of the frames in pixels, a multiple of 16 from 128 to 1024; the avatar's own by default.

        Raises MiravoxError for a source, rate or size that will not do. The source is read at once; OpenGL and the
        networks are loaded when the first frame is asked for, which raises MiravoxError if they cannot be.
        """
        from .stream.rendering import Rendering

        speech = _read(source, rate)
        return Rendering(self._folder, speech, self._target, self._checked(size), self._engines())

    def stream(self, *, size: int | None = None) -> Stream:
        """The avatar in real time, for agents; open it with `async with`. It idles while there is no speech.

        Args:
            size: side of the frames in pixels, a multiple of 16 from 128 to 1024; the avatar's own by default.

        Raises MiravoxError for a size that will not do.
        """
        from .stream.frame_stream import Stream

        return Stream(self._folder, self._target, self._checked(size), self._engines(), _cores())

    def _checked(self, size: int | None) -> int:
        if size is not None:
            check_size(size, "size")
        return size or self.size

    def _engines(self) -> SharedEngines | None:
        """One copy of the networks for all that is rendered with this avatar; a GPU has its own."""
        from .face.shared_engines import SharedEngines

        if self._target != "tensorrt" and self._shared is None:
            self._shared = SharedEngines(self._folder)
        return self._shared


@cache
def _cores() -> Cores:
    """The cores that all streams of this process share."""
    from .stream.schedule import Cores

    return Cores()


def _read(source: str | os.PathLike[str] | ArrayLike, rate: int | None) -> FloatArray | SpeechFile:
    """A recording; samples as float32 [n], n >= 1, 16 kHz, in [-1, 1]. Raises MiravoxError."""
    if isinstance(source, (str, os.PathLike)):
        if rate is not None:
            raise MiravoxError(
                "rate", found=f"{rate} for a file", wanted="none: the file says it", remedy="Leave the rate out."
            )
        return open_speech(Path(source))
    if rate is None:
        raise MiravoxError(
            "rate", found="none", wanted="how many of the samples are a second", remedy="render(samples, rate=...)"
        )
    checked_rate, samples = sample_rate(rate), mono_samples(source)
    if not len(samples):
        raise MiravoxError("samples", found="none", wanted="at least one", remedy="Give a recording.")
    return speech_of_samples(samples, checked_rate).samples
