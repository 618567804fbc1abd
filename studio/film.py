"""Which recordings the actor says, and filming them into a dataset folder: lossless frames, speech, and head pose and
expression of every frame.

Shape letters: F frames of one take, N frames of all takes, C expression channels, V template vertices, S samples.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import moderngl
import numpy as np
from tqdm import tqdm

from dataset.files import LosslessVideo, write_wav
from dataset.folder import FRAMES, Take, describe, new_folder
from dataset.phones import Utterance, data_folder, load_utterances
from dataset.speech_curves import expression_curves
from dataset.template import build_template
from realtime.arrays import FloatArray
from realtime.audio.sound_file import read_speech
from realtime.contract import SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from realtime.face.gl import create_context
from studio.actor import ADA_SEED, FRAME_PIXELS, camera
from studio.face_model import load_face_model
from studio.performance import loudness, perform
from studio.renderer import Studio

SOURCE_FRAMES = 500  # 20 s, silent: becomes the source loop
OTHER_VOICES, OTHER_VOICES_HELD_OUT = 10, 2  # LibriSpeech utterances, each by another speaker
OTHER_SECONDS = 4.0, 8.0
EXR_EVERY = 25  # frames
LICENCE = {
    "face": "ICT Face Model Light: MIT, (c) 2020 USC Institute for Creative Technologies",
    "ljspeech": "LJ Speech: public domain",
    "librispeech": "LibriSpeech (Panayotov et al. 2015): CC BY 4.0",
    "frames": "Rendered by Miravox's studio; nobody is portrayed",
}


@dataclass(frozen=True)
class FilmConfig:
    """What to film. Saved as the dataset's provenance: enough to film it again."""

    identity: int = ADA_SEED  # seed of the actor
    speech: tuple[Path, ...] = ()  # labelled recordings; none: LJ Speech and a choice of LibriSpeech
    held_out_only: bool = False
    exr: bool = False


@dataclass(frozen=True, kw_only=True)
class Script:
    """One take before it is filmed. Its id becomes the take's name."""

    id: str
    corpus: str
    held_out: bool = False
    audio: Path | None = None  # None: silence
    phones: tuple[tuple[str, int, int], ...] = ()  # (ARPAbet phone, start, duration), units of 10 ms


SOURCE = Script(id="source", corpus="silence")


def script_of(utterance: Utterance, audio: Path | None = None) -> Script:
    """The take of an utterance; `audio` is read instead of the corpus's own file if given."""
    return Script(
        id=utterance.id,
        corpus=utterance.corpus,
        held_out=utterance.held_out,
        audio=audio or utterance.path(data_folder()),
        phones=utterance.phones,
    )


def choose_scripts(config: FilmConfig) -> list[Script]:
    """The takes to film, in order: the silent source first."""
    utterances = load_utterances(data_folder())
    if config.speech:
        by_id = {u.id: u for u in utterances}
        scripts = []
        for path in config.speech:
            if not path.is_file():
                raise MiravoxError(str(path), found="no such file", wanted="a recording", remedy="Check --speech.")
            if path.stem not in by_id:
                raise MiravoxError(
                    str(path),
                    found="no phone timings in labels.jsonl",
                    wanted=f"a row with id {path.stem!r}",
                    remedy="The studio speaks only labelled recordings; film one of those in MIRAVOX_DATA/speech.",
                )
            scripts.append(script_of(by_id[path.stem], path))
    else:
        low, high = OTHER_SECONDS
        own = sorted((u for u in utterances if u.corpus == "ljspeech"), key=lambda u: u.id)
        others = sorted(
            (u for u in utterances if u.corpus == "librispeech" and low <= u.seconds <= high), key=lambda u: u.id
        )
        trained = _evenly([u for u in others if not u.held_out], OTHER_VOICES)
        held_out = _evenly([u for u in others if u.held_out], OTHER_VOICES_HELD_OUT)
        scripts = [script_of(u) for u in (*own, *trained, *held_out)]
    if config.held_out_only:
        scripts = [s for s in scripts if s.held_out]
    return [SOURCE, *scripts]


def _evenly(rows: list[Utterance], count: int) -> list[Utterance]:
    """`count` of them, evenly spaced."""
    return [rows[(2 * k + 1) * len(rows) // (2 * count)] for k in range(count)]


def whole_frames(path: Path) -> FloatArray:
    """A recording as 16 kHz mono float32 [S], padded with zeros to whole frames. No level normalisation."""
    samples = read_speech(path).samples
    return np.pad(samples, (0, -len(samples) % SAMPLES_PER_FRAME))


def take_seed(identity: int, script: Script) -> int:
    """Seed of a take's head motion: the same whichever other takes are filmed."""
    return zlib.crc32(f"{identity}/{script.corpus}/{script.id}".encode())


def film(
    out: Path, config: FilmConfig, scripts: Iterable[Script] | None = None, context: moderngl.Context | None = None
) -> None:
    """Writes the dataset folder `out`, which must not exist yet. Raises MiravoxError if it does, or a recording is bad.

    Args:
        scripts: the takes; by default those of `config` (choose_scripts).
        context: OpenGL; by default a new one.
    """
    if out.exists():
        raise MiravoxError(
            str(out),
            found="something there already",
            wanted="a new folder",
            remedy="Remove it or choose another --out.",
        )
    scripts = list(scripts) if scripts is not None else choose_scripts(config)
    silence = np.zeros(SOURCE_FRAMES * SAMPLES_PER_FRAME, np.float32)
    speeches = [silence if s.audio is None else whole_frames(s.audio) for s in scripts]
    studio = Studio(config.identity, context or create_context(), load_face_model())
    model = studio.actor.model
    names = model.expression_names
    poses: list[FloatArray] = []
    expressions: list[FloatArray] = []
    takes: list[Take] = []
    first = 0
    total = sum(len(s) for s in speeches) // SAMPLES_PER_FRAME
    with new_folder(out) as part:
        with (
            LosslessVideo(part / FRAMES, FRAME_PIXELS) as video,
            tqdm(total=total, unit="frame", desc=f"filming {len(scripts)} takes") as bar,
        ):
            for script, speech_S in zip(scripts, speeches, strict=True):
                frames = len(speech_S) // SAMPLES_PER_FRAME
                sound = part / "speech" / f"{script.id}.wav"
                write_wav(sound, speech_S)
                act = perform(loudness(speech_S), take_seed(config.identity, script), names, still=script.audio is None)
                expression_FC = act.expression_FC + expression_curves(script.phones, frames, names)
                for k in range(frames):
                    gaze = float(act.gaze_F2[k, 0]), float(act.gaze_F2[k, 1])
                    video.write(studio.draw(expression_FC[k], act.pose_F44[k], gaze))
                    if config.exr and k % EXR_EVERY == 0:
                        maps = studio.position_maps(expression_FC[k], act.pose_F44[k])
                        _write_exr(part / "positions", first + k, *maps)
                    bar.update()
                takes.append(
                    Take(
                        name=script.id,
                        first=first,
                        end=first + frames,
                        speech=sound,
                        held_out=script.held_out,
                        corpus=script.corpus,
                        phones=script.phones,
                    )
                )
                first += frames
                poses.append(act.pose_F44)
                expressions.append(expression_FC)
        template = build_template(model, studio.actor.neutral_V3)
        describe(
            part,
            name="ada" if config.identity == ADA_SEED else f"actor{config.identity}",
            camera=camera(),
            takes=takes,
            template=template,
            basis=template.basis(model.expression_CV3),
            expression_names=names,
            pose=np.concatenate(poses),
            expression=np.concatenate(expressions),
            provenance={
                "generator": "studio",
                "identity": config.identity,
                "held_out_only": config.held_out_only,
                "speech": [f"{s.corpus}/{s.id}" for s in scripts if s.audio is not None],
            },
            licence=LICENCE,
        )


def _write_exr(folder: Path, frame: int, neutral_HW4: FloatArray, displaced_HW4: FloatArray) -> None:
    """Half-float OpenEXR: channels neutral.XYZ and displaced.XYZ (cm, object space) and A (coverage)."""
    try:
        import OpenEXR  # type: ignore[import-not-found, unused-ignore]
    except ImportError as fault:
        raise MiravoxError(
            "--exr",
            found="no OpenEXR package",
            wanted="the optional extra `studio`",
            remedy="pip install OpenEXR, or leave --exr out.",
        ) from fault
    folder.mkdir(exist_ok=True)
    channels = {f"neutral.{axis}": neutral_HW4[..., k].astype(np.float16) for k, axis in enumerate("XYZ")}
    channels |= {f"displaced.{axis}": displaced_HW4[..., k].astype(np.float16) for k, axis in enumerate("XYZ")}
    channels["A"] = neutral_HW4[..., 3].astype(np.float16)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {k: np.ascontiguousarray(v) for k, v in channels.items()}).write(
        str(folder / f"{frame:06d}.exr")
    )
