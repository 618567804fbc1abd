"""What was measured in footage -> a verdict for each thing that matters, with a remedy that a person can act on.

"fail": no avatar comes of it. "warn": one does, but that is what limits it. "ok".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capture import measures
from capture.footage import CORRECTED_SECONDS, SPEAKING, TURNED_DEGREES, Footage
from realtime.arrays import BoolArray, FloatArray
from realtime.contract import FRAME_RATE

SHARP_WIDTH, LEAST_WIDTH = 250, 60  # pixels of the face, cheek to cheek
BLURRED, USELESS_BLUR = 0.60, 0.72
DARK, BRIGHT, BLOWN = 45.0, 225.0, 0.05  # levels; share of the face
LIGHT_CHANGE, FLICKER = 0.15, 0.02  # of the face's brightness
DRAWN = 0.45  # share of the face without texture
STILL_LEVELS, STILL_APERTURE = 0.03, 0.004
ENOUGH_SPEECH, LEAST_SPEECH = 120.0, 20.0  # seconds
QUIET, LOUD, NOISY = -40.0, -8.0, 20.0  # dB of full scale; dB that speech stands above the room
CLIPPED = 0.0005  # share of the samples
LEAST_SHARE, SILENT_SHARE = 0.03, 0.6  # of the time: somebody speaks, nobody does
LOOP_SECONDS = 5.0  # of silence make a source loop
NOT_SPOKEN = 0.15  # correlation of lips and sound below which the sound is another's
LIKE_FRAMES = 5  # consecutive frames of lips tell about as much as one
TOLD_SECONDS = 10.0  # of speech, to say so


@dataclass(frozen=True, kw_only=True)
class Item:
    """One line of the footage check."""

    name: str
    verdict: str  # "ok", "warn" or "fail"
    found: str
    remedy: str  # empty if ok

    @property
    def line(self) -> str:
        return f"{self.verdict:4}  {self.name}: {self.found}" + (f" -> {self.remedy}" if self.remedy else "")


def judge(footage: Footage) -> list[Item]:
    """Every item of the check, the gravest first."""
    items = [
        *_repairs(footage),
        *_picture(footage),
        *_movement(footage),
        *_light(footage),
        *_hindrances(footage),
        *_sound(footage),
    ]
    return sorted(items, key=lambda i: ("fail", "warn", "ok").index(i.verdict))


def _item(name: str, found: str, warn: bool, fail: bool, remedy: str) -> Item:
    verdict = "fail" if fail else "warn" if warn else "ok"
    return Item(name=name, verdict=verdict, found=found, remedy=remedy if verdict != "ok" else "")


def _all(parts: list[FloatArray]) -> FloatArray:
    """Finite values of all shots; a single zero if there are none."""
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    return values if len(values) else np.zeros(1, np.float32)


def _share(parts: list[BoolArray]) -> float:
    return float(np.concatenate(parts).mean())


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 or share == 0 else f"{100 * share:.1f} %"


def _repairs(footage: Footage) -> list[Item]:
    """One for each thing that was wrong with a file and was mended."""
    recordings = {s.take.recording.path: s.take.recording for s in footage.shots}.values()
    remedy = "Nothing to do, if that is the voice and the picture that you mean."
    return [
        Item(name="file", verdict="warn", found=f"{r.path.name}: {repair}", remedy=remedy)
        for r in recordings
        for repair in r.repairs
    ]


def _picture(footage: Footage) -> list[Item]:
    shots = footage.shots
    recordings = {s.take.recording.path: s.take.recording for s in shots}.values()
    rates = sorted({r.frame_rate for r in recordings})
    shown = " to ".join(f"{r:g}" for r in (rates if len(rates) < 3 else [rates[0], rates[-1]]))
    slow = rates[0] < 23.5
    uneven = any(r.variable for r in recordings)
    width = float(np.median(_all([s.face_width for s in shots])))
    blur = float(np.median(_all([s.blur for s in shots])))
    flat = float(np.median(_all([s.flatness for s in shots])))
    return [
        _item(
            "frame rate",
            f"{shown} frames a second{', unevenly' if uneven else ''}; 25 are made of them",
            slow,
            rates[0] < 12,
            "Record with 25, 30, 50 or 60 frames a second, in enough light that the camera can.",
        ),
        _item(
            "face size",
            f"the face is {width:.0f} pixels wide; {SHARP_WIDTH} or more look sharp",
            width < SHARP_WIDTH,
            width < LEAST_WIDTH,
            "Move closer, zoom in, or record at a higher resolution.",
        ),
        _item(
            "sharpness",
            f"blur {blur:.2f} (0.3 is crisp, {BLURRED:.1f} soft)",
            blur > BLURRED,
            blur > USELESS_BLUR,
            "Clean the lens, focus on the eyes, add light so that the exposure is shorter, and use a higher bit rate.",
        ),
        _item(
            "real face",
            f"{_percent(flat)} of the face has no texture",
            False,
            flat > DRAWN,
            "This looks drawn: film a real person, without a filter that smooths the skin.",
        ),
    ]


def _movement(footage: Footage) -> list[Item]:
    shots = footage.shots
    still = float((_all([s.change for s in shots]) < STILL_LEVELS).mean())
    lips = [measures.aperture(s.landmarks.points) for s in shots]
    moved = float(np.subtract(*np.percentile(_all(lips), (97, 3))))
    rivals = _share([s.faces > 1 for s in shots])
    return [
        _item(
            "moving picture",
            f"{_percent(still)} of the frames repeat the one before; the lips part by up to {100 * moved:.0f} % of the "
            "distance between the eyes",
            still > 0.25,
            still > 0.9 or moved < STILL_APERTURE,
            "Use a video of somebody speaking, not a picture, and a camera that does not freeze.",
        ),
        _item(
            "one face",
            "one face" if rivals == 0 else f"more than one face in {_percent(rivals)} of the time",
            rivals > 0,
            rivals > 0.1,
            "Cut the video or crop the picture so that it shows the one person only.",
        ),
        _item(
            "cuts",
            f"{footage.cuts} cuts" if footage.cuts != 1 else "1 cut",
            footage.cuts > 0,
            False,
            "Each piece becomes a take of its own. Record in one go, with one camera in one light.",
        ),
    ]


def _light(footage: Footage) -> list[Item]:
    shots = footage.shots
    bright = _all([s.light[:, 0] for s in shots])
    blown = float(np.mean(_all([s.light[:, 1] for s in shots])))
    level = float(np.median(bright))
    low, high = np.percentile(bright, (2, 98))
    change = float((high - low) / max(level, 1))
    flicker = _flicker([s.light[:, 0] for s in shots])
    return [
        _item(
            "exposure",
            f"the face's brightness is {level:.0f} of 255, {_percent(blown)} of it is blown out",
            level < DARK or level > BRIGHT or blown > BLOWN,
            level < DARK / 3 or blown > 0.5,
            "Turn towards a large soft light." if level < DARK else "Lower the exposure, or move out of the glare.",
        ),
        _item(
            "steady light",
            f"brightness changes by {_percent(change)} and flickers by {100 * flicker:.1f} %",
            change > LIGHT_CHANGE or flicker > FLICKER,
            False,
            "Fix exposure and white balance of the camera, keep windows out of it, and use lamps that do not flicker.",
        ),
    ]


def _flicker(bright: list[FloatArray]) -> float:
    """Deviation of the face's brightness from the mean of its neighbours in time, relative."""
    rests = [np.asarray(b[1:-1] / ((b[:-2] + b[2:]) / 2 + 1e-3) - 1, np.float32) for b in bright if len(b) > 2]
    if not rests:
        return 0.0
    return 1.4826 * float(np.sqrt(2 / 3)) * float(np.median(np.abs(_all(rests))))


def _hindrances(footage: Footage) -> list[Item]:
    shots = footage.shots
    missing = 1 - _share([s.landmarks.found & s.inside for s in shots])
    covered, turned = _share(footage.covered), _share(footage.turned)
    yaw = float(np.percentile(np.abs(_all([s.angles[:, 0] for s in shots])), 98))
    return [
        _item(
            "face in the picture",
            f"{_percent(missing)} of the frames show no whole face",
            missing > 0.01,
            missing > 0.9,
            "Keep the whole head in the picture, forehead to chin.",
        ),
        _item(
            "nothing before the face",
            f"the lower face is covered in {_percent(covered)} of the frames",
            covered > 0,
            covered > 0.9,
            "These frames are left out. Keep hands, cups and microphones away from the mouth.",
        ),
        _item(
            "head turns",
            f"up to {yaw:.0f} degrees; {_percent(turned)} of the frames are beyond "
            f"{TURNED_DEGREES[0]:.0f} to the side or {TURNED_DEGREES[1]:.0f} up or down",
            turned > 0,
            turned > 0.9,
            "These frames are left out. Look towards the camera while you speak.",
        ),
    ]


def _sound(footage: Footage) -> list[Item]:
    shots = footage.shots
    speech = [s.take.speech for s in shots]
    if all(not s.take.recording.sound for s in shots) or max(np.abs(x).max(initial=0) for x in speech) < 1e-3:
        remedy = "Record the voice with the picture: the avatar learns which sound makes which mouth."
        return [Item(name="sound", verdict="fail", found="no sound", remedy=remedy)]
    speaking = [s.predicted.presence > SPEAKING for s in shots]
    share = _share(speaking)
    if share < LEAST_SHARE:
        remedy = "Record a voice, not music alone."
        return [Item(name="sound", verdict="fail", found="sound, but nobody speaks", remedy=remedy)]
    db = [measures.levels_db(x)[: s.frames] for x, s in zip(speech, shots, strict=True)]
    said = _all([d[s] for d, s in zip(db, speaking, strict=True)])
    level = float(10 * np.log10(np.mean(10 ** (said / 10))))
    room = float(np.percentile(np.concatenate(db), 5))
    clipped = float(np.mean([measures.clipped_share(x) for x in speech]))
    pauses = [end - first for s in speaking for first, end in measures.stretches(~s)]
    pause = max(pauses, default=0) / FRAME_RATE
    useful = sum(float(speaking[index][first:end].sum()) / FRAME_RATE for index, first, end in footage.pieces)
    return [
        _item(
            "sound",
            f"speech at {level:.0f} dB of full scale",
            not QUIET <= level <= LOUD,
            False,
            "Move the microphone closer or raise its level." if level < QUIET else "Lower the microphone's level.",
        ),
        _item(
            "clipping",
            f"{100 * clipped:.2f} % of the samples are cut off",
            clipped > CLIPPED,
            False,
            "Lower the microphone's level until loud words no longer distort.",
        ),
        _item(
            "noise",
            f"speech stands {level - room:.0f} dB above the room",
            level - room < NOISY,
            False,
            "Record in a quieter, softer room, with the microphone closer, and without music.",
        ),
        _item(
            "silence",
            f"{_percent(1 - share)} of the time nobody speaks; the longest pause lasts {pause:.1f} s",
            1 - share > SILENT_SHARE or pause < LOOP_SECONDS,
            False,
            "Speak for most of the time."
            if 1 - share > SILENT_SHARE
            else "Look at the camera silently, mouth closed, for ten seconds: the avatar idles in that stretch.",
        ),
        _lips(footage, sum(float(s.sum()) for s in speaking) / FRAME_RATE),
        _item(
            "usable speech",
            f"{useful:.0f} s in {len(footage.pieces)} takes; {ENOUGH_SPEECH:.0f} s or more are good",
            useful < ENOUGH_SPEECH,
            useful < LEAST_SPEECH,
            "Record more: read aloud for two to three minutes, in whole sentences, looking at the camera.",
        ),
    ]


def _lips(footage: Footage, spoken: float) -> Item:
    """Whether the lips go with the sound, and when."""
    _, height, _ = measures.peak(footage.agreement)
    what = f"lips and sound agree by {height:.2f}"
    if np.isfinite(footage.lag):
        late = 1000 * footage.lag
        when = f"{what}; the sound comes {abs(late):.0f} ms {'late' if late > 0 else 'early'}"
        known = "{:+.0f} to {:+.0f} ms with 95 % confidence".format(*(1000 * end for end in footage.lag_interval))
        return _item(
            "sound and picture",
            f"{when}, {'corrected' if footage.correction else 'not corrected'} ({known})",
            abs(footage.lag) > CORRECTED_SECONDS,
            False,
            "Nothing to do: takes have it corrected. Other software may need it."
            if footage.correction
            else "This is too little to know: it may be chance. Record more speech, or make sure by eye.",
        )
    by_chance = 3 * np.sqrt(LIKE_FRAMES / max(spoken * FRAME_RATE, 1))
    unrelated = spoken >= TOLD_SECONDS and height < max(NOT_SPOKEN, by_chance)
    return _item(
        "sound and picture",
        f"{what}: how far they are apart cannot be told",
        True,
        unrelated,
        "The sound is not what this mouth says: use the original sound, without a voice-over or music."
        if unrelated
        else "Make sure by eye that lips and sound go together; use footage in which the mouth is seen well.",
    )
