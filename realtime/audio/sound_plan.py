"""What of a recording is the speech: which track, how its channels become one, and what stands for full scale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import av
import numpy as np

from ..arrays import FloatArray
from ..contract import SAMPLE_RATE
from ..errors import MiravoxError
from .decoding_bounds import Bounds
from .mixdown import LEAST_VOICE, ChannelSurvey, ScaleSurvey, mixed
from .resampler import StreamResampler
from .sound_decoder import WANTED, Piece, SoundSource, decodable, decoded

SAMPLE_SECONDS = 60.0  # of each track are listened to, and more if nobody speaks in them
MAX_TRACKS = 8  # further ones are not listened to
FIRST_TRACK = 0.5  # of the voice on the track that has most of it is enough for the one that players take


@dataclass(frozen=True)
class SoundPlan:
    """How one recording becomes mono speech."""

    track: int  # of the sound tracks
    weights: dict[int, FloatArray] = field(default_factory=dict)  # by the number of channels, which may change
    full_scale: float = 1.0
    seconds: float = 0.0  # of sound; 0: not counted yet
    bad: int = 0  # NaN or infinite values; not counted yet
    repairs: tuple[str, ...] = ()  # what was wrong, and what is done about it

    @property
    def samples(self) -> int:
        """How long the speech is at 16 kHz."""
        return round(self.seconds * SAMPLE_RATE)

    def mono(self, values: FloatArray) -> FloatArray:
        """Values [channels, n] as decoded -> float32 [n] in [-1, 1]."""
        if self.full_scale != 1:
            values = values / np.float32(self.full_scale)
        return mixed(np.clip(values, -1, 1), self.weights.get(len(values)))


class SpeechOfPieces:
    """Decoded pieces -> 16 kHz mono float32 in [-1, 1], without a seam between them."""

    def __init__(self, plan: SoundPlan) -> None:
        self._plan = plan
        self._resampler = StreamResampler(SAMPLE_RATE)

    def __call__(self, piece: Piece) -> list[FloatArray]:
        rest = []
        if piece.rate != self._resampler.rate:  # the first one; then only where the rate changes in mid-stream
            rest = self.rest()
            self._resampler = StreamResampler(piece.rate)
        return [*rest, np.clip(self._resampler(self._plan.mono(piece.values)), -1, 1)]

    def rest(self) -> list[FloatArray]:
        """The last few samples, which the resampler holds back."""
        return [np.clip(self._resampler.finish(), -1, 1)]


def choose_track(source: SoundSource, bounds: Bounds | None = None) -> tuple[SoundPlan, bool]:
    """The track with the speech; and whether the rest of the plan is known: it has one channel, and integers.

    Raises MiravoxError if there is no sound or none of it can be decoded; av.error.FFmpegError if it can't be opened.
    """
    with source.open() as container:
        tracks = decodable(container)
        count = len(container.streams.audio)
        if not count:
            kinds = " and ".join(sorted({s.type for s in container.streams})) or "no"
            raise MiravoxError(
                str(source.path),
                found=f"{kinds} streams only",
                wanted=WANTED,
                remedy="Choose a file with a sound track; if it should have one, the file was cut off.",
            )
    if not tracks:
        raise MiravoxError(
            str(source.path),
            found="a sound track" + (f", one of {count}," if count > 1 else "") + " that FFmpeg cannot decode",
            wanted=WANTED,
            remedy="Export it as wav, mp3, flac or m4a.",
        )
    track, repairs = (tracks[0], []) if len(tracks) == 1 else _with_speech(source, tracks, count, bounds)
    lost = [i + 1 for i in range(count) if i not in tracks]
    if lost:
        repairs.append(f"of {count} sound tracks FFmpeg cannot decode {_listed(lost)}: track {track + 1} is taken")
    with source.open() as container:
        sound = container.streams.audio[track]
        simple = sound.codec_context.channels == 1 and not _may_be_scaled(sound)
    return SoundPlan(track, repairs=tuple(repairs)), simple


def survey(source: SoundSource, plan: SoundPlan, bounds: Bounds | None = None, whole: bool = True) -> SoundPlan:
    """The plan for a track, after listening to all of it. Raises as `decoded` does, and takes `whole` as it does."""
    with source.open() as container:
        scale = ScaleSurvey() if _may_be_scaled(container.streams.audio[plan.track]) else None
    surveys: dict[int, ChannelSurvey] = {}
    seconds, bad = 0.0, 0
    for piece in decoded(source, plan.track, bounds, whole):
        count = len(piece.values)
        seconds += piece.seconds
        bad += piece.bad
        if scale is not None:
            scale.add(piece.values)
        if count > 1:
            surveys.setdefault(count, ChannelSurvey(count)).add(piece.values, piece.rate)
    mixes = {count: found.mix() for count, found in surveys.items()}
    full_scale, told = scale.full_scale() if scale is not None else (1.0, "")
    repairs = [*plan.repairs, *([told] if told else []), *(r for mix in mixes.values() for r in mix.repairs)]
    weights = {count: mix.weights_C for count, mix in mixes.items()}
    return SoundPlan(plan.track, weights, full_scale, seconds, bad, tuple(repairs))


def _may_be_scaled(sound: av.AudioStream) -> bool:
    """Whether the file has floats as some program wrote them. Codecs that lose something have their own scale."""
    return sound.codec_context.name.startswith(("pcm_f", "wavpack"))


def _with_speech(source: SoundSource, tracks: list[int], count: int, bounds: Bounds | None) -> tuple[int, list[str]]:
    """The first track on which somebody speaks, and what is told if that is another than the first."""
    tracks = tracks[:MAX_TRACKS]
    voices = [_voice(source, track, bounds) for track in tracks]
    best = max((v for v in voices if v is not None), default=0.0)
    if best < LEAST_VOICE:
        first = next((t for t, v in zip(tracks, voices, strict=True) if v is not None), tracks[0])
        return first, [f"of {count} sound tracks none has a voice: track {first + 1} is taken"]
    chosen = next(t for t, v in zip(tracks, voices, strict=True) if v is not None and v >= FIRST_TRACK * best)
    if chosen == tracks[0]:
        return chosen, []
    before = _listed([t + 1 for t in tracks if t < chosen])
    return chosen, [f"of {count} sound tracks track {chosen + 1} is taken: nobody speaks on {before}"]


def _listed(numbers: list[int]) -> str:
    return ("track " if len(numbers) == 1 else "tracks ") + ", ".join(map(str, numbers))


def _voice(source: SoundSource, track: int, bounds: Bounds | None) -> float | None:
    """How much of a voice there is on a track; None: it can't be decoded after all."""
    surveys: dict[int, ChannelSurvey] = {}
    seconds = 0.0
    own = None if bounds is None else replace(bounds, seconds=0.0)
    try:
        for piece in decoded(source, track, own, whole=False):
            channels = len(piece.values)
            surveys.setdefault(channels, ChannelSurvey(channels)).add(piece.values, piece.rate)
            seconds += piece.seconds
            if seconds >= SAMPLE_SECONDS and _loudest(surveys) >= LEAST_VOICE:
                break
    except (MiravoxError, av.error.FFmpegError):
        if bounds is not None:
            bounds.check()  # called off
        if own is not None and own.max_seconds is not None and own.seconds > own.max_seconds:
            raise
    return _loudest(surveys) if surveys else None


def _loudest(surveys: dict[int, ChannelSurvey]) -> float:
    return max((float(s.voice_C.max()) for s in surveys.values()), default=0.0)
