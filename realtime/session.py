"""Session: one avatar that speaks. Wires audio input, ring, render loop, encoders and the tracks of its viewers.

source -> AudioInput -> AudioRing -> RenderLoop -> Mailbox -> composing -> event loop -> viewers' tracks
                     -> SpeechOut ------------------------------------------> event loop -> viewers' tracks
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from networks.contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.audio_input import AudioInput, Block
from realtime.audio_ring import AudioRing
from realtime.avatar import Avatar
from realtime.degradation import HALVED, STEPS, UNREFINED, Degradation
from realtime.device_frame import Rendered
from realtime.encoders import Packet, RateControl, VideoEncoder
from realtime.pipeline import Pipeline
from realtime.render_loop import Frame, Mailbox, Painted, RenderLoop
from realtime.schedule import Cores, Turns
from realtime.sound_file import read_speech
from realtime.sources import BrowserMicrophone, Microphone, Recording, Silence, Source
from realtime.stage_timer import StageTimer
from realtime.targets import AnyPipeline, open_pipeline
from realtime.tracks import EncodedTrack, SpeechOut

log = logging.getLogger("miravox")

RING_SECONDS = 2
MAX_FILE_SECONDS = 3600.0  # of a recording that is said live: it lies in memory
# Speech leaves so much earlier than the lookahead has passed that its frame waits for. A browser plays it later than
# pictures, by the 70 ms of buffer that the page asks for and its output, less rendering (`python -m bench latency`).
SPEECH_LEAD_SAMPLES = 1800
SERVER_SOURCES = ("mic", "sample", "silence")  # what a page may ask for, besides its own microphone or file


class Tap(Protocol):
    """Something else that takes what is streamed: a recording, a window."""

    def frame(self, frame: Frame) -> None: ...

    def speech(self, block: Block) -> None: ...

    def close(self) -> None: ...


class Session:
    """One avatar and its speech; many viewers. Made and closed on the event loop; `load` and `close` may take a second.

    Args:
        device: of the sound card's microphone; None is the default.
        totals: a server's stage times and counts.
        turns: of a server's sessions; this one takes one until it is closed.
        cores: of a server, which its sessions share.
    """

    def __init__(
        self,
        avatar: Avatar,
        target: str,
        size: int,
        device: str | None,
        totals: StageTimer | None = None,
        turns: Turns | None = None,
        cores: Cores | None = None,
    ) -> None:
        self.avatar, self.size, self._device = avatar, size, device
        self.timer = StageTimer(totals)
        self.ring = AudioRing(RING_SECONDS * SAMPLE_RATE)
        self._turns, self._turn = turns, turns.take() if turns is not None else None
        self.input = AudioInput(self._hear, phase=avatar.lookahead_samples, turn=self._turn)
        self.source: Source | None = None
        self.taps: list[Tap] = []
        self.wall_clock_zero = 0.0  # seconds since 1970 at sample 0
        self._loop = asyncio.get_running_loop()
        self._tracks: dict[str, set[EncodedTrack]] = {"H264": set(), "VP8": set(), "audio": set()}
        self._estimates: dict[EncodedTrack, Callable[[], int | None]] = {}
        self._encoders = {codec: VideoEncoder(codec, size) for codec in ("H264", "VP8")}
        self._rate = RateControl()
        self._speech_out = SpeechOut(
            max(0, avatar.lookahead_samples - SPEECH_LEAD_SAMPLES), self._send_speech, self.input.played,
            wanted=lambda: bool(self._tracks["audio"]),
        )  # fmt: skip
        self._cores = cores or Cores()
        self._mailbox: Mailbox[Painted] = Mailbox()
        # A GPU does a whole frame at once: it gives up nothing of it, and drops frames if it must.
        self._degradation = Degradation(self.timer, () if target == "tensorrt" else STEPS)
        self._composing_failed: Exception | None = None
        self._render_loop = RenderLoop(
            lambda: open_pipeline(avatar, self.ring, target, size, self.timer, self._encoders["H264"].hardware),
            self.ring, avatar.lookahead_samples,
            self._mailbox, self.timer, self._degradation, self._cores,
            wanted=lambda: self.viewers > 0 or bool(self.taps),
        )  # fmt: skip
        self._encode_thread = threading.Thread(target=self._compose_and_encode, name="compose", daemon=True)
        self._started = False
        self._switching = asyncio.Lock()

    # Life

    async def load(self) -> None:
        """Returns when frames can be rendered. Raises what stands in the way."""
        await asyncio.to_thread(self._render_loop.wait_until_ready)

    def start(self) -> None:
        """Starts the sample clock at sample 0; it is silent while there is no source."""
        self._started = True
        self.wall_clock_zero = time.time()
        self._encode_thread.start()
        self.input.start()
        self._render_loop.start()

    async def close(self) -> None:
        """Ends every thread of the session and closes its source."""
        await asyncio.to_thread(self._close)
        if self._turns is not None and self._turn is not None:
            self._turns.give_back(self._turn)
            self._turn = None

    def _close(self) -> None:
        if self.source is not None:
            self.source.close()
        self.input.stop()
        self._mailbox.close()
        if self._started:
            self._encode_thread.join()  # before the render loop: it uses the pipeline
        for encoder in self._encoders.values():
            encoder.close()  # before the pipeline's frames go
        self._render_loop.stop()
        for tap in self.taps:
            tap.close()

    @property
    def failure(self) -> Exception | None:
        """What ended the rendering, if something did."""
        return self._render_loop.failure or self._composing_failed

    # Source

    async def open_source(self, kind: str, file: Path | None = None, name: str = "", loop: bool = True) -> None:
        """Another source takes over: browser, mic, sample, silence or file. On a MiravoxError the old one stays.

        Args:
            file: of kind "file"; `name` is what it is called.
            loop: recordings are said again and again.
        """
        async with self._switching:
            await asyncio.to_thread(self._open_source, kind, file, name, loop)

    def _open_source(self, kind: str, file: Path | None, name: str, loop: bool) -> None:
        before, opened = self.source, self._make_source(kind, file, name, loop)
        self.source = opened
        if before is not None:
            before.close()

    def _make_source(self, kind: str, file: Path | None, name: str, loop: bool) -> Source:
        if kind == "browser":
            return BrowserMicrophone(self.input)
        elif kind == "mic":
            return Microphone(self.input, self._device)
        elif kind == "sample":
            samples = read_speech(self.avatar.sample).samples
            return Recording(self.input, samples, self.avatar.sample.name, "sample", loop)
        elif kind == "file":
            assert file is not None
            samples = read_speech(file, MAX_FILE_SECONDS).samples
            return Recording(self.input, samples, name or file.name, "file", loop)
        else:
            assert kind == "silence", kind
            return Silence(self.input)

    # Speech: on the audio input's thread

    def _hear(self, block: Block) -> None:
        self.ring.write(block)
        self._speech_out.write(block)
        for tap in self.taps:
            tap.speech(block)

    def _send_speech(self, packet: Packet) -> None:
        self._on_loop(self._fan_out, "audio", [packet])

    # Frames: on the composing thread

    def _compose_and_encode(self) -> None:
        pipeline = self._render_loop.pipeline
        assert pipeline is not None
        try:
            while (painted := self._mailbox.take()) is not None:
                if painted.epoch < self.input.epoch:
                    self.timer.count("cut_off")
                    continue
                taken = perf_counter()
                self.timer.add("hand-over", 1000 * (taken - painted.ready))
                with self._cores.one(painted.started):
                    frame = self._finish(pipeline, painted)
                    self.timer.add("frame", 1000 * (perf_counter() - painted.started))
                    self._encode(frame)
                    pipeline.read_ahead()
                for tap in self.taps:
                    tap.frame(frame)
        except Exception as error:  # whatever it is, the session ends with it and others go on
            self._composing_failed = error
            log.exception("composing stopped")

    def _finish(self, pipeline: AnyPipeline, painted: Painted) -> Frame:
        if isinstance(painted.face, Rendered):  # a GPU leaves nothing to do
            return Frame(painted.index, painted.face.picture, painted.face.on_device)
        assert isinstance(pipeline, Pipeline)
        refined = not self._degradation.gives_up(UNREFINED)
        return Frame(painted.index, pipeline.compose(painted.index, painted.face, refined))

    def _encode(self, frame: Frame) -> None:
        """Once for all viewers of a codec."""
        codecs = [codec for codec in ("H264", "VP8") if self._tracks[codec]]
        if not codecs:
            return
        bitrate, sizes = self._rate.update(self._estimate(), frame.index), []
        for codec in codecs:
            with self.timer.measure("encoding"):
                encoder = self._encoders[codec]
                picture = frame.on_device if encoder.hardware and frame.on_device is not None else frame.picture
                packets = encoder.encode(picture, frame.index, bitrate)
            self._on_loop(self._fan_out, codec, packets, perf_counter())
            sizes.append(sum(packet.size for packet in packets))
        self._rate.sent(max(sizes), frame.index)

    def _estimate(self) -> int | None:
        """What the slowest viewer's network carries."""
        found = [estimate for ask in list(self._estimates.values()) if (estimate := ask()) is not None]
        return min(found, default=None)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the event loop has ended; so does the session
            return

    # Viewers: on the event loop

    def _fan_out(self, kind: str, packets: list[Packet], encoded: float | None = None) -> None:
        if encoded is not None:
            self.timer.add("sending", 1000 * (perf_counter() - encoded))
        for track in self._tracks[kind]:
            for packet in packets:
                track.put(packet)

    @property
    def viewers(self) -> int:
        return len(self._tracks["audio"])

    def add_viewer(self, codec: str, estimate: Callable[[], int | None]) -> tuple[EncodedTrack, EncodedTrack]:
        """A viewer's video and audio track. `estimate` tells what the viewer's network carries, in bits per second."""
        video = EncodedTrack("video", self._encoders[codec].request_keyframe)
        audio = EncodedTrack("audio")
        self._tracks[codec].add(video)
        self._tracks["audio"].add(audio)
        self._estimates[video] = estimate
        return video, audio

    def remove_viewer(self, video: EncodedTrack, audio: EncodedTrack) -> None:
        for codec in ("H264", "VP8"):
            self._tracks[codec].discard(video)
        self._tracks["audio"].discard(audio)
        self._estimates.pop(video, None)

    def request_keyframe(self, codec: str) -> None:
        self._encoders[codec].request_keyframe()

    def status(self) -> dict[str, Any]:
        """What the page and /stats show. Times in milliseconds."""
        source = self.source.state() if self.source is not None else None
        arrival, counts = self.input.arrival, self.input.counts
        rendered = self.timer.counted("rendered")
        lost = self.failure
        if lost is not None:
            state, message = "lost", f"rendering stopped: {lost}"
        elif source is not None:
            state, message = source.state, source.message or ""
        else:
            state, message = "waiting", ""
        return {
            "viewers": self.viewers,
            "source": {
                "kind": source.kind if source else "silence",
                "name": source.name if source else "silence",
                "state": state,
                "message": message or None,
            },
            "arrival": {"sample": arrival.sample, "time_ms": 1000 * arrival.seconds},
            "mic": None if arrival.stamp is None else {
                "rtp_timestamp": arrival.stamp[0], "sample": arrival.stamp[1],
            },
            "lookahead_ms": 1000 * self.avatar.lookahead_samples / SAMPLE_RATE,
            "fps": self.timer.rate("frame"),
            "frames": {
                "rendered": rendered,
                "late": self.timer.counted("late"),
                "dropped": self.timer.counted("dropped"),
                "cut_off": self.timer.counted("cut_off"),
                "unrefined": self.timer.counted(UNREFINED),
                "halved": self.timer.counted(HALVED),
            },
            "given_up": list(self._degradation.given_up),
            "samples": {"silence": counts.silence, "discarded": counts.discarded, "bad": counts.bad},
            "stages_ms": self.timer.percentiles(),
            "drift_ms": round(1000 * self.input.drift_seconds, 2),
        }  # fmt: skip

    def bitrate(self, codec: str) -> int:
        return self._encoders[codec].bitrate

    def latency_ms(self, frame: Frame) -> float:
        """From the arrival of the sample that a frame shows until now."""
        arrival = self.input.arrival
        arrived = arrival.seconds + (SAMPLES_PER_FRAME * frame.index - arrival.sample) / SAMPLE_RATE
        return 1000 * (time.monotonic() - arrived)
