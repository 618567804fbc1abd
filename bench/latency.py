"""Mouth to photon in a real browser on this machine: server, page, headless Chromium; its microphone plays a recording.

    python -m bench latency --json F [--png F] [--seconds N] [--audio FILE] [--avatar DIR] [--target baked]
                            [--loss SHARE] [--outage SECONDS]

Two ways that share nothing but the browser's clock:

1. Every frame. Its RTP time stamp names the sample that it shows; the server tells which microphone packet brought that
   sample; a transform in the page's sender noted when that packet was encoded. From the capture of the sample to
   `expectedDisplayTime`, which is when the browser expects the frame on the screen.
2. Plosives. Bursts are found in the recording by their sound, and when the page's microphone track delivered them by
   correlation. From the burst to the first displayed frame whose mouth opens, read from the browser's own pixels
   against the avatar's resting picture.

The speech that comes back is tapped at the output of WebAudio, output latency included, and placed by correlation: A/V
skew is when a sample is heard minus when the frame that shows it is displayed (positive: sound after picture).

Units: milliseconds and 16 kHz samples. A `Line` maps one to the other.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import median_filter, minimum_filter1d

from bench.browser import CROP_HEIGHT, CROP_WIDTH, Observed, Plan, Table, TimeArray, observe, server_command
from bench.picture import drawing
from realtime.arrays import ByteArray, FloatArray
from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from realtime.face.yuv import RgbConverter
from realtime.targets import open_pipeline

IntArray = NDArray[np.int64]
Figures = dict[str, Any]

SAMPLES_PER_MS = SAMPLE_RATE / 1000
FRAME_MS = 1000 / FRAME_RATE
RTP_CYCLE = 2**32
VIDEO_RTP_RATE, OPUS_RTP_RATE = 90_000, 48_000  # Hz
WARM_UP_MS = 5000.0  # after the page is live, left out

# A packet is noted when its last sample has been encoded. Its first sample was captured a packet earlier, and what the
# decoder gives for that sample is older still: 6.5 ms look-ahead of Opus, 0.9 ms in the browser's resampler and
# hand-over. Found by placing what an aiortc peer decodes in the page's microphone track by correlation: 27.4 ms.
PACKET_MS = 20.0
PACKET_SAMPLES = 320
ENCODER_MS = 7.4
JUMP_MS = 100.0  # where a clock jumps by more, another stream begins
OUTPUTS_AROUND = 21  # of the audio output's statements, ten a second, whose median counts
ENVELOPE = 101  # neighbours of which the earliest counts: scheduling only delays
STEADY_MS = 2.0  # a line that moved by more between two of its points is not trusted between them

LOCATE_SAMPLES, LOCATE_STEP = 16_000, 8_000  # windows that are placed in the recording by correlation
LOCATE_AROUND = 4_000  # samples around the expected place that are tried first
LOCATE_LEAST = 0.5  # correlation of a window that counts as found
QUIET_RMS = 0.003  # a window below it has nothing to correlate

# Bursts, in milliseconds and dB.
CLOSURE_MS, RISE_MS, VOICED_MS, APART_MS = 40, 10, 80, 100
CLOSURE_DB, RISE_DB, VOICED_DB = -15.0, 12.0, -12.0  # first and last against the recording's loud parts
LOUD_PERCENTILE = 90.0

# The mouth: how much of the area between the lips is not lip-coloured any more.
LIP_POINTS = slice(48, 68)  # of the 68 landmarks
INNER_LIPS = slice(12, 20)  # of those
LIP_COLOUR_LOSS = 15  # red minus green, of 255
CLOSED, OPEN = 0.06, 0.12  # shares
OPENS_WITHIN_MS = 400.0
AROUND_BURST = (-2, 1)  # frames around a burst's own among which the mouth has to be closed at one: lips lead sounds
REGION_MARGIN = 0.1  # around the lips of all poses, of their width
SERVER_STAGES = ("frame", "encoding", "sending")  # that follow one another; others are parts
OWN_STAGES = ("packet wait", "uplink", "queues and network", "decoding", "display")  # measured from the browser


# Lines: milliseconds against samples


@dataclass(frozen=True)
class Line:
    """A clock against another, sampled: y = slope x + offset, the offset known at some x and steady between them."""

    x: TimeArray  # increasing
    offset: TimeArray
    slope: float
    steady: float = STEADY_MS  # by how much the offset may differ between neighbours, in units of y

    def __call__(self, x: TimeArray) -> TimeArray:
        """y at x; NaN beyond the ends and where the offset jumps."""
        if len(self.x) < 2:
            return np.full(np.shape(x), np.nan)
        after = np.clip(np.searchsorted(self.x, x), 1, len(self.x) - 1)
        jumped = np.abs(self.offset[after] - self.offset[after - 1]) > self.steady
        outside = (x < self.x[0]) | (x > self.x[-1])
        y = self.slope * np.asarray(x) + np.interp(x, self.x, self.offset)
        return np.where(jumped | outside, np.nan, y)

    def inverse(self, y: TimeArray) -> TimeArray:
        """x at y, NaN where there is none."""
        nodes = self.slope * self.x + self.offset
        order = np.argsort(nodes)
        turned = Line(nodes[order], (-self.offset / self.slope)[order], 1 / self.slope, self.steady / self.slope)
        return turned(y)


def envelope(times: TimeArray, clock: TimeArray) -> TimeArray:
    """`times` freed of scheduling delays: each is the earliest of its neighbours', relative to `clock` (same unit).

    Where one jumps against the other, another stream begins, and neighbours across are not looked at.
    """
    lag = times - clock
    jumps = np.flatnonzero(np.abs(np.diff(lag)) > JUMP_MS) + 1
    parts = [minimum_filter1d(part, ENVELOPE) for part in np.split(lag, jumps) if len(part)]
    return clock + np.concatenate(parts) if parts else times


def packet_captures(packets: Table) -> dict[int, float]:
    """RTP time stamp on the wire -> when the first sample that its packet decodes to was captured."""
    stamps = packets["rtp_timestamp"].astype(np.int64)
    clock = (stamps - stamps[0]) / (OPUS_RTP_RATE / 1000)
    noted = envelope(packets["noted"], clock)
    return dict(zip((stamps % RTP_CYCLE).tolist(), (noted - PACKET_MS - ENCODER_MS).tolist(), strict=True))


def capture_line(answers: Sequence[dict[str, Any]], captures: dict[int, float]) -> Line:
    """The server's samples of one session -> when they were captured."""
    points: dict[int, float] = {}
    for answer in answers:
        mic = answer.get("mic") or {}
        if mic.get("rtp_timestamp") in captures:
            points[mic["sample"]] = captures[mic["rtp_timestamp"]]
    samples = np.array(sorted(points), np.float64)
    times = np.array([points[int(s)] for s in samples])
    return Line(samples, times - samples / SAMPLES_PER_MS, 1 / SAMPLES_PER_MS)


def arrival_line(polls: Table, answers: Sequence[dict[str, Any]], to_browser_ms: float) -> Line:
    """The server's samples of one session -> when they reached it, on the browser's clock."""
    points = {a["arrival"]["sample"]: a["arrival"]["time_ms"] + to_browser_ms for a in answers if a.get("arrival")}
    samples = np.array(sorted(points), np.float64)
    times = np.array([points[int(s)] for s in samples])
    return Line(samples, times - samples / SAMPLES_PER_MS, 1 / SAMPLES_PER_MS, steady=JUMP_MS)


def packet_waits(answers: Sequence[dict[str, Any]], needed: TimeArray) -> TimeArray:
    """From each needed sample to the end of the packet that brings it, milliseconds."""
    starts = np.array(sorted({a["arrival"]["sample"] for a in answers if a.get("arrival")}))
    at = np.clip(np.searchsorted(starts, needed), 0, len(starts) - 1)
    return np.asarray((starts[at] - needed) % PACKET_SAMPLES / SAMPLES_PER_MS)


def clock_difference(polls: Table, answers: Sequence[dict[str, Any]]) -> float:
    """What to add to the server's clock to get the browser's, by the quickest answer."""
    best = int(np.argmin(polls["answered"] - polls["asked"]))
    return float((polls["asked"][best] + polls["answered"][best]) / 2 - answers[best]["time_ms"])


def microphone_line(blocks: Table) -> Line:
    """Samples of the page's microphone track -> when they were captured: the last one of a block when it comes."""
    ends = blocks["first"] + blocks["count"]
    clock = ends / SAMPLES_PER_MS
    captured = envelope(blocks["arrival"], clock)
    return Line(ends, captured - clock, 1 / SAMPLES_PER_MS, steady=JUMP_MS)


def heard_line(blocks: Table, outputs: Table) -> Line:
    """Samples of the tapped speech -> when they are heard, by the output's own statements of the seconds around."""
    lag = median_filter(outputs["heard"] - 1000 * outputs["context_s"], OUTPUTS_AROUND, mode="nearest")
    heard = 1000 * blocks["context_s"] + np.interp(blocks["context_s"], outputs["context_s"], lag)
    return Line(blocks["first"].copy(), heard - blocks["first"] / SAMPLES_PER_MS, 1 / SAMPLES_PER_MS, steady=JUMP_MS)


# Sounds placed in the recording


@dataclass(frozen=True)
class Place:
    """Where a window of a sound was found in the recording."""

    centre: float  # sample of the sound
    position: float  # sample of the recording, that is, modulo its length
    correlation: float


def _correlations(recording: FloatArray, window: FloatArray) -> TimeArray:
    """Normalised correlation of the window with every place of the recording where all of it fits."""
    size = len(recording) + len(window)
    product = np.fft.irfft(np.fft.rfft(recording, size) * np.conj(np.fft.rfft(window, size)), size)
    places = len(recording) - len(window) + 1
    energy = np.concatenate([[0.0], np.cumsum(recording.astype(np.float64) ** 2)])
    here = energy[len(window) :] - energy[:places]
    norm = np.sqrt(np.maximum(here, 1e-9) * float(np.square(window, dtype=np.float64).sum()))
    return np.asarray(product[:places] / norm)


def _best(correlations: TimeArray) -> tuple[float, float]:
    """Place, between samples by a parabola, and height of the highest correlation."""
    at = int(np.argmax(correlations))
    if not 0 < at < len(correlations) - 1:
        return float(at), float(correlations[at])
    left, top, right = correlations[at - 1 : at + 2]
    bend = left - 2 * top + right
    return at + (0.5 * (left - right) / bend if bend else 0.0), float(top)


def locate(sound: FloatArray, recording: FloatArray) -> list[Place]:
    """Finds one-second windows of a sound in a recording that is played again and again; silent ones are left out."""
    length = len(recording)
    endless = np.resize(recording, length + LOCATE_SAMPLES + 2 * LOCATE_AROUND)
    places: list[Place] = []
    for start in range(0, len(sound) - LOCATE_SAMPLES + 1, LOCATE_STEP):
        window = sound[start : start + LOCATE_SAMPLES]
        if np.sqrt(np.square(window).mean()) < QUIET_RMS:
            continue
        centre = start + LOCATE_SAMPLES / 2
        found, height = 0.0, 0.0
        if places:
            expected = places[-1].position + centre - places[-1].centre - LOCATE_SAMPLES / 2 - LOCATE_AROUND
            first = int(expected) % length
            near = endless[first : first + LOCATE_SAMPLES + 2 * LOCATE_AROUND]
            found, height = _best(_correlations(near, window))
            found += first
        if height < LOCATE_LEAST:
            found, height = _best(_correlations(endless[: length + LOCATE_SAMPLES - 1], window))
        if height >= LOCATE_LEAST:
            places.append(Place(centre, (found + LOCATE_SAMPLES / 2) % length, height))
    return places


def place_line(places: Sequence[Place], length: int) -> Line:
    """Samples of a sound -> samples of the endlessly repeated recording; only differences of these mean anything."""
    lag = np.array([p.position - p.centre for p in places])
    return Line(np.array([p.centre for p in places]), np.unwrap(lag, period=length), 1.0, steady=STEADY_MS * 16)


# Plosives


def bursts(speech: FloatArray) -> IntArray:
    """Where plosives burst: 40 ms of closure, a rise by 12 dB within 10 ms, a loud sound within 80 ms. Samples."""
    step = SAMPLE_RATE // 1000
    power = np.square(speech[: len(speech) // step * step], dtype=np.float64).reshape(-1, step).mean(1)  # of each ms
    if len(power) < CLOSURE_MS + VOICED_MS:
        return np.zeros(0, np.int64)
    smooth = np.convolve(power, np.full(5, 0.2), "same")
    level = 10 * np.log10(smooth + 1e-10)
    loud = float(np.percentile(level, LOUD_PERCENTILE))
    found: list[int] = []
    for t in range(CLOSURE_MS, len(level) - VOICED_MS):
        if found and t - found[-1] // step < APART_MS:
            continue
        closure = level[t - CLOSURE_MS : t - 2].max()
        if closure > loud + CLOSURE_DB or level[t : t + RISE_MS].max() - closure < RISE_DB:
            continue
        if level[t : t + VOICED_MS].max() < loud + VOICED_DB:
            continue
        sharp = 10 * np.log10(power[t - 2 : t + RISE_MS + 2] + 1e-10) > closure + RISE_DB / 2
        found.append((t - 2 + int(np.argmax(sharp))) * step if sharp.any() else t * step)
    return np.array(found, np.int64)


def burst_times(where: IntArray, length: int, places: Line, captured: Line) -> TimeArray:
    """When each occurrence of each burst was captured, while the recording of that length was repeated."""
    ends = places.slope * places.x[[0, -1]] + places.offset[[0, -1]]
    rounds = np.arange(np.floor(ends[0] / length), np.ceil(ends[1] / length) + 1) * length
    occurrences = np.sort((where[None] + rounds[:, None]).ravel()).astype(np.float64)
    times = captured(places.inverse(occurrences))
    return np.asarray(times[np.isfinite(times)])


@dataclass(frozen=True)
class MouthView:
    """The region of the frame that holds the mouth in every pose, and the mouth's own box in its small picture."""

    region: tuple[float, float, float, float]  # left, top, right, bottom, in shares of the frame's side
    boxes: IntArray  # [loop frames, 4]: left, top, right, bottom in pixels of the picture


def mouth_view(avatar: Avatar) -> MouthView:
    """From the landmarks of the resting lips in all poses of the source loop."""
    lips = avatar.landmarks(avatar.template)[LIP_POINTS]
    points = np.stack([avatar.camera.project(lips, pose) for pose in avatar.source_pose])  # [loop, 20, 2]
    low, high = points.min((0, 1)), points.max((0, 1))
    margin = REGION_MARGIN * (high[0] - low[0])
    width = high[0] - low[0] + 2 * margin
    corner = low - margin
    size = np.array([width, width * CROP_HEIGHT / CROP_WIDTH])
    pixels = (points - corner) / size * np.array([CROP_WIDTH, CROP_HEIGHT])
    left, right = pixels[..., 0].min(1), pixels[..., 0].max(1)
    middle, wide = pixels[:, INNER_LIPS, 1].mean(1), right - left
    boxes = np.stack([left + wide / 4, middle - wide / 10, right - wide / 4, middle + 0.35 * wide], 1)
    boxes = np.clip(np.round(boxes), 0, [CROP_WIDTH, CROP_HEIGHT] * 2).astype(np.int64)
    side = np.array([avatar.width, avatar.height])
    left_top, right_bottom = corner / side, (corner + size) / side
    region = float(left_top[0]), float(left_top[1]), float(right_bottom[0]), float(right_bottom[1])
    return MouthView(region, boxes)


def crop_mouth(frame: ByteArray, region: tuple[float, float, float, float]) -> ByteArray:
    """The small picture [48, 64, 3] of a frame, as the probe takes it in the browser."""
    height, width = frame.shape[:2]
    box = region[0] * width, region[1] * height, region[2] * width, region[3] * height
    size = CROP_WIDTH, CROP_HEIGHT
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR, box), np.uint8)


def resting_mouths(avatar: Avatar, view: MouthView, target: str) -> ByteArray:
    """The mouth at rest in every frame of the source loop: [loop frames, 48, 64, 3]."""
    frames = len(avatar.source_pose)
    ring = AudioRing((frames + FRAME_RATE) * SAMPLES_PER_FRAME)
    ring.write(Block(0, np.zeros((frames + FRAME_RATE) * SAMPLES_PER_FRAME, np.float32)))
    to_rgb = RgbConverter()
    with open_pipeline(avatar, ring, target) as pipeline:
        return np.stack([crop_mouth(to_rgb(pipeline.render(k)), view.region) for k in range(frames)])


def openness(mouth: ByteArray, resting: ByteArray, box: IntArray) -> float:
    """Share of the box between the lips that lost the lips' colour against the resting mouth: 0 closed, 0.5 wide."""
    left, top, right, bottom = box
    redness = [
        image[top:bottom, left:right, 0].astype(np.int16) - image[top:bottom, left:right, 1]
        for image in (resting, mouth)
    ]
    return float((redness[0] - redness[1] > LIP_COLOUR_LOSS).mean())


@dataclass(frozen=True)
class Plosives:
    """Way 2."""

    candidates: int  # bursts in the sound that fell into the measured time
    burst: TimeArray  # [events]: when it was captured
    delay: TimeArray  # [events]: until the mouth opened on the screen


def plosive_delays(
    captured: TimeArray, burst_frame: TimeArray, index: IntArray, display: TimeArray, opened: TimeArray
) -> Plosives:
    """From each burst to the first displayed frame whose mouth opens.

    An event is a burst around whose own frame the mouth is closed, and after that opens within 400 ms.

    Args:
        captured: when each burst was captured; `burst_frame` is the frame that shows that sample, NaN if unknown.
        index: of each displayed frame, increasing; `display` is when it was, `opened` its openness.
    """
    events: list[tuple[float, float]] = []
    known = np.isfinite(burst_frame)
    for time, own in zip(captured[known], np.floor(burst_frame[known]), strict=True):
        around = (index >= own + AROUND_BURST[0]) & (index <= own + AROUND_BURST[1])
        closed = np.flatnonzero(around & (opened <= CLOSED))
        if not len(closed):
            continue
        after = slice(closed[-1], None)
        opening = np.flatnonzero((opened[after] >= OPEN) & (index[after] <= own + OPENS_WITHIN_MS / FRAME_MS))
        if len(opening):
            events.append((float(time), float(display[after][opening[0]] - time)))
    burst, delay = np.array(events, np.float64).reshape(-1, 2).T
    return Plosives(int(known.sum()), burst, delay)


# Frames


@dataclass(frozen=True)
class Shown:
    """The displayed frames whose sample is known. One entry for each; times in milliseconds."""

    index: IntArray  # of the frame: it shows sample 640 index
    row: IntArray  # of Observed.frames
    session: IntArray  # which of the sessions, 0 the first
    captured: TimeArray  # when its sample was; NaN where the server's clock jumped
    needed: TimeArray  # when the last sample that it needs was captured
    waited: TimeArray  # from there to the end of the packet with it, how long
    arrived: TimeArray  # when that packet reached the server
    received: TimeArray
    presented: TimeArray
    display: TimeArray

    @property
    def latency(self) -> TimeArray:
        return np.asarray(self.display - self.captured)

    def at(self, chosen: NDArray[Any]) -> Shown:
        return Shown(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def sessions_of(answers: Sequence[dict[str, Any]]) -> list[IntArray]:
    """Indices of the answers of each session, in order: a page that reconnects gets another one."""
    names = [a["session"] for a in answers]
    return [np.flatnonzero([n == name for n in names]) for name in dict.fromkeys(names)]


def shown_frames(o: Observed, lookahead: int) -> Shown:
    """Each displayed frame with the times of its sample, by the session whose clock it fits. lookahead: samples."""
    captures, columns = packet_captures(o.packets), []
    for number, mine in enumerate(sessions_of(o.answers)):
        answers, polls = [o.answers[i] for i in mine], o.polls[mine]
        origins = [a["video"]["rtp_origin"] for a in answers if a["video"]["rtp_origin"] is not None]
        if not origins:
            continue
        captured = capture_line(answers, captures)
        arrived = arrival_line(polls, answers, clock_difference(polls, answers))
        ticks = (o.frames["rtp_timestamp"] - origins[-1]) % RTP_CYCLE
        sample = ticks * SAMPLE_RATE / VIDEO_RTP_RATE
        needed = sample + lookahead
        waited = packet_waits(answers, needed)
        when = arrived(needed) + waited
        fits = np.isfinite(when) & (when < o.frames["display"] + JUMP_MS) & (o.frames["display"] - when < 60_000)
        rows = np.flatnonzero(fits)
        index = np.round(sample[rows] / SAMPLES_PER_FRAME).astype(np.int64)
        frames = o.frames[rows]
        columns.append(
            (
                index,
                rows,
                np.full(len(rows), number),
                captured(sample[rows]),
                captured(needed[rows]),
                waited[rows],
                when[rows],
                frames["received"],
                frames["presented"],
                frames["display"],
            )
        )
    if not columns:
        raise MiravoxError(
            "page",
            found="no frame whose sample is known",
            wanted="rtp_origin, arrival and mic in GET /viewers/{id}",
            remedy="Use a server of this version.",
        )
    shown = Shown(*(np.concatenate(c) for c in zip(*columns, strict=True)))
    return shown.at(np.argsort(shown.display, kind="stable"))


def display_rate(frames: Table) -> float:
    """Frames a second that the browser put on the screen."""
    seconds = (frames["display"][-1] - frames["display"][0]) / 1000
    return float((frames["count"][-1] - frames["count"][0]) / seconds)


def dropped_share(shown: Shown, count: TimeArray) -> float:
    """Share of the frames of the sample clock that never were on the screen, between the first and the last shown one.

    Args:
        count: how many frames the browser had put on the screen at each of them.
    """
    due = int(sum(np.ptp(shown.index[shown.session == s]) for s in np.unique(shown.session)))
    return float(max(0, due - (count[-1] - count[0])) / max(1, due))


def quartiles_growth(time: TimeArray, latency: TimeArray, fault: float) -> float:
    """Median latency of the last quarter of the time minus that of the quarter before the fault."""
    quarter = (time[-1] - time[0]) / 4
    late, before = time > time[-1] - quarter, (time < fault) & (time > fault - quarter)
    return float(np.nanmedian(latency[late]) - np.nanmedian(latency[before]))


# Skew


@dataclass(frozen=True)
class Skew:
    """Sound against picture."""

    time: TimeArray  # when a sample was heard
    skew: TimeArray  # that minus when the frame that shows it was displayed

    @property
    def drift_per_minute(self) -> float:
        """Slope of the line through it, milliseconds a minute."""
        if len(self.time) < 2:
            return float("nan")
        return float(np.polyfit((self.time - self.time[0]) / 60_000, self.skew, 1)[0])

    @property
    def p95(self) -> float:
        """The skew, with its sign, whose size 95 % stay below."""
        return float(self.skew[np.argsort(np.abs(self.skew))[int(0.95 * (len(self.skew) - 1))]])


def skew(heard: TimeArray, sample: TimeArray, shown_sample: TimeArray, display: TimeArray) -> Skew:
    """When samples were heard against when they were shown, between frames that follow each other.

    Args:
        heard: when each `sample` of the server's clock was heard.
        shown_sample: of each displayed frame, increasing; `display` is when it was.
    """
    line = Line(shown_sample, display - shown_sample / SAMPLES_PER_MS, 1 / SAMPLES_PER_MS, steady=FRAME_MS)
    difference = heard - line(sample)
    known = np.isfinite(difference)
    return Skew(heard[known], difference[known])


def heard_samples(
    heard: Line, heard_places: Sequence[Place], mic: Line, mic_places: Line, captured: Line, length: int
) -> tuple[TimeArray, TimeArray]:
    """When placed windows of the tapped speech were heard, and which samples of the server's clock they are."""
    centre = np.array([p.centre for p in heard_places])
    when = heard(centre)
    # The recording comes round: of the occurrences of the same place, the one spoken last before it was heard.
    newest = mic_places(mic.inverse(when))
    behind = (newest - np.array([p.position for p in heard_places])) % length
    spoken = mic(mic_places.inverse(newest - behind))
    return when, captured.inverse(spoken)


# The report


@dataclass(frozen=True)
class Report:
    """Figures for the JSON file, and what the picture of them is drawn from."""

    figures: Figures
    shown: Shown  # measured frames
    plosives: Plosives
    skew: Skew
    outage: tuple[float, float] | None  # when it began and ended


def spread(values: TimeArray) -> dict[str, float | None]:
    """Median and 95th percentile of those that are known."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {"median": None, "p95": None}
    return {"median": float(np.median(known)), "p95": float(np.percentile(known, 95))}


def server_stages(answers: Sequence[dict[str, Any]]) -> Figures:
    """Median and 95th percentile of the server's own stages, by its last answer."""
    stages = answers[-1]["stages_ms"]
    return {name: {"median": t["p50"], "p95": t["p95"]} for name, t in stages.items()}


def following_stages(stages: Figures) -> list[str]:
    """The server's stages that follow one another."""
    return [s for s in SERVER_STAGES if s in stages] or list(stages)


def stages_of(shown: Shown, answers: Sequence[dict[str, Any]]) -> Figures:
    """From the capture of the last sample that a frame needs to the screen, stage by stage."""
    server = server_stages(answers)
    inside = sum(server[s]["median"] for s in following_stages(server))
    return {
        "packet wait": spread(shown.waited),
        "uplink": spread(shown.arrived - shown.waited - shown.needed),
        **server,
        "queues and network": spread(shown.received - shown.arrived - inside),
        "decoding": spread(shown.presented - shown.received),
        "display": spread(shown.display - shown.presented),
    }


def unexplained(median: float, lookahead_ms: float, stages: Figures) -> float:
    """What of the median latency the stages' medians leave over."""
    return float(median - lookahead_ms - sum(stages[s]["median"] or 0.0 for s in whole_stages(stages)))


def whole_stages(stages: Figures) -> list[str]:
    """The stages that make up the latency, in order: parts of another one are left out."""
    following = following_stages({name: t for name, t in stages.items() if name not in OWN_STAGES})
    return [name for name in stages if name in OWN_STAGES or name in following]


def outage_times(server_log: str, to_browser_ms: float) -> tuple[float, float] | None:
    """When the outage began and ended, on the browser's clock; None if there was none."""
    found = {word: float(t) for word, t in re.findall(r"outage (begins|ends) at ([\d.]+)", server_log)}
    if set(found) != {"begins", "ends"}:
        return None
    return found["begins"] + to_browser_ms, found["ends"] + to_browser_ms


def fault_figures(shown: Shown, outage: tuple[float, float] | None) -> Figures:
    """What loss and outage did to the picture."""
    fault = outage[0] if outage else (shown.display[0] + shown.display[-1]) / 2
    back = shown.display[shown.display > outage[1]] if outage else np.zeros(0)
    return {
        "longest_freeze_ms": float(np.diff(shown.display).max()),
        "picture_back_s": float(back[0] - outage[1]) / 1000 if outage and len(back) else None,
        "delay_growth_ms": quartiles_growth(shown.display, shown.latency, fault),
    }


def analyse(o: Observed, avatar: Avatar, speech: FloatArray, view: MouthView, resting: ByteArray) -> Report:
    """All figures of a run. speech: 16 kHz, what was repeated at the microphone."""
    shown = shown_frames(o, avatar.lookahead_samples)
    shown = shown.at(shown.display > o.live + WARM_UP_MS)
    if len(shown.index) < 2:
        raise MiravoxError(
            "page",
            found=f"{len(shown.index)} frames after the first {WARM_UP_MS / 1000:.0f} s",
            wanted="a picture that moves",
            remedy="Measure longer: --seconds.",
        )
    frames = o.frames[shown.row]
    length = len(speech)
    mic, mic_places = microphone_line(o.mic_blocks), place_line(locate(o.mic, speech), length)
    last = sessions_of(o.answers)[-1]
    captured = capture_line([o.answers[i] for i in last], packet_captures(o.packets))
    of_last = shown.at(shown.session == shown.session[-1])

    # Way 2.
    opened = np.array(
        [
            openness(o.crops[row], resting[k % len(resting)], view.boxes[k % len(resting)])
            for row, k in zip(of_last.row, of_last.index, strict=True)
        ]
    )
    spoken = burst_times(bursts(speech), length, mic_places, mic)
    spoken = spoken[(spoken > of_last.captured[0]) & (spoken < of_last.captured[-1])]
    own = captured.inverse(spoken) / SAMPLES_PER_FRAME
    plosives = plosive_delays(spoken, own, of_last.index, of_last.display, opened)

    # Sound against picture.
    heard_places = locate(o.heard, speech)
    when, sample = heard_samples(heard_line(o.heard_blocks, o.outputs), heard_places, mic, mic_places, captured, length)
    apart = skew(when, sample, of_last.index * float(SAMPLES_PER_FRAME), of_last.display)

    stages = stages_of(shown, o.answers)
    outage = outage_times(o.server_log, clock_difference(o.polls, o.answers))
    lookahead_ms = avatar.lookahead_samples / SAMPLES_PER_MS
    latency = spread(shown.latency)
    page = o.page_latency[o.page_latency["time"] > o.live + WARM_UP_MS]["latency_ms"]
    figures: Figures = {
        "mouth_to_photon_ms": {**latency, "frames": int(np.isfinite(shown.latency).sum())},
        "plosive_to_photon_ms": {
            **spread(plosives.delay),
            "events": len(plosives.delay),
            "candidates": plosives.candidates,
        },
        "lookahead_ms": lookahead_ms,
        "stages_ms": stages,
        "unexplained_ms": unexplained(latency["median"] or np.nan, lookahead_ms, stages),
        "shown_fps": display_rate(frames),
        "dropped_share": dropped_share(shown, frames["count"]),
        "av_skew_ms": {
            "median": spread(apart.skew)["median"],
            "p95": apart.p95 if len(apart.skew) else None,
            "drift_per_minute": apart.drift_per_minute,
        },
        "page_latency_ms": spread(page)["median"],
        "server_start_s": o.start_s,
        "first_frame_s": float(o.frames["display"][0] - o.opened) / 1000,  # the button is pressed at once
        "probe_ms": spread(frames["cost_ms"]),
        "server_frames": o.answers[-1]["frames"],
        "server_samples": o.answers[-1]["samples"],
        "sessions": len(sessions_of(o.answers)),
    }
    return Report(figures, shown, plosives, apart, outage)


def latency(
    avatar: Avatar,
    target: str,
    audio: Path | None,
    seconds: float,
    loss: float = 0.0,
    outage: float = 0.0,
    png: Path | None = None,
) -> Figures:
    """Runs server and browser and returns the figures. Raises MiravoxError if either is missing or fails."""
    speech = read_speech(audio or avatar.sample).samples[: int(2 * seconds * SAMPLE_RATE) + 60 * SAMPLE_RATE]
    view = mouth_view(avatar)
    load = os.getloadavg()[0]
    faults = [f"--loss={loss}"] if loss else []
    faults += [f"--outage={outage}", f"--outage-after={seconds / 2}"] if outage else []
    o = observe(Plan(server_command(avatar.folder, target, faults), speech, seconds, view.region))
    report = analyse(o, avatar, speech, view, resting_mouths(avatar, view, target))
    report.figures["load_before"] = load  # of the machine, one minute: others' work makes every figure worse
    if faults:
        report.figures.update(fault_figures(report.shown, report.outage))
    if png is not None:
        draw(report, png)
    return report.figures


def draw(report: Report, path: Path) -> None:
    """Latency over time, its distribution, and the stages, as PNG."""
    figures, shown = report.figures, report.shown
    start = shown.display[0]
    with drawing(path, (14, 8), 2, 2) as ((over_time, distribution), (apart, bars)):
        over_time.plot((shown.display - start) / 1000, shown.latency, ".", ms=2, label="each frame")
        over_time.plot((report.plosives.burst - start) / 1000, report.plosives.delay, "x", ms=5, label="each plosive")
        if report.outage:
            over_time.axvspan(*((t - start) / 1000 for t in report.outage), color="0.85", label="outage")
        over_time.set(xlabel="s", ylabel="ms", title="mouth to photon", ylim=(0, None))
        over_time.legend()

        known = shown.latency[np.isfinite(shown.latency)]
        for values, name in ((known, "each frame"), (report.plosives.delay, "each plosive")):
            if len(values):
                distribution.hist(values, bins=60, density=True, alpha=0.6, label=name)
        distribution.set(xlabel="ms", title="distribution", yticks=[])
        distribution.legend()

        apart.plot((report.skew.time - start) / 1000, report.skew.skew, ".", ms=4)
        apart.axhspan(-40, 40, color="0.93")
        apart.set(xlabel="s", ylabel="ms", title="sound after picture")

        stages = {
            "lookahead": {"median": figures["lookahead_ms"], "p95": figures["lookahead_ms"]},
            **figures["stages_ms"],
        }
        names = list(stages)[::-1]
        bars.barh(names, [stages[n]["p95"] or 0 for n in names], color="0.85", label="p95")
        bars.barh(names, [stages[n]["median"] or 0 for n in names], height=0.5, label="median")
        bars.set(xlabel="ms", title="stages")
        bars.legend()


def print_table(figures: Figures) -> None:
    def row(name: str, values: dict[str, Any], more: str = "") -> None:
        cells = "".join(f"{'-' if values[k] is None else format(values[k], '.1f'):>10}" for k in ("median", "p95"))
        print(f"{name:26}{cells}  {more}")

    print(f"{'milliseconds':26}{'median':>10}{'p95':>10}")
    row("mouth to photon", figures["mouth_to_photon_ms"], f"{figures['mouth_to_photon_ms']['frames']} frames")
    plosives = figures["plosive_to_photon_ms"]
    row("plosive to photon", plosives, f"{plosives['events']} events of {plosives['candidates']} bursts")
    row("sound after picture", figures["av_skew_ms"], f"{figures['av_skew_ms']['drift_per_minute']:+.1f} a minute")
    row("lookahead", {"median": figures["lookahead_ms"], "p95": None})
    stages = figures["stages_ms"]
    whole = whole_stages(stages)
    for name, times in stages.items():
        row(name if name in whole else f"  {name}", times, "" if name in whole else "a part of another stage")
    row("not explained by these", {"median": figures["unexplained_ms"], "p95": None})
    row("the page's own figure", {"median": figures["page_latency_ms"], "p95": None})
    print(
        f"server ready {figures['server_start_s']:.2f} s after its start, "
        f"first frame {figures['first_frame_s']:.2f} s after opening the page"
    )
    print(f"{figures['shown_fps']:.2f} frames a second shown, {100 * figures['dropped_share']:.2f} % dropped")
    if "longest_freeze_ms" in figures:
        back = figures["picture_back_s"]
        print(
            f"longest freeze {figures['longest_freeze_ms']:.0f} ms, "
            f"picture back {'-' if back is None else format(back, '.2f')} s after the outage, "
            f"delay grew by {figures['delay_growth_ms']:.1f} ms"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=120.0, help="measured, less the first five")
    parser.add_argument("--audio", type=Path, help="recording for the microphone; the avatar's sample by default")
    parser.add_argument("--target", choices=("baked", "onnx", "tensorrt"), default="baked")
    parser.add_argument("--png", type=Path, help="picture of the figures")
    parser.add_argument("--loss", type=float, default=0.0, metavar="SHARE", help="of the media packets, both ways")
    parser.add_argument("--outage", type=float, default=0.0, metavar="SECONDS", help="once, in the middle")


def run(o: argparse.Namespace) -> Figures:
    figures = latency(load_avatar(o.avatar), o.target, o.audio, o.seconds, o.loss, o.outage, o.png)
    print_table(figures)
    return figures
