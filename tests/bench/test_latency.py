"""The latency bench on synthetic data with known answers, and its view of the mouth against the networks' lips."""

from __future__ import annotations

import base64
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import browser, latency
from bench.browser import FRAME, HEARD_BLOCK, MIC_BLOCK, OUTPUT, PACKET, POLL, Table
from bench.lossy_server import Network, is_rtp
from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import DEFORMATION, SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from realtime.face.engine import Engine
from realtime.face.latent import LatentTrack
from realtime.face.pipeline import FacePipeline
from realtime.face.yuv import RgbConverter

START = 1.75e12  # milliseconds since 1970
LOOKAHEAD = 1800
UPPER, LOWER = 62, 66


def table(kind: np.dtype[np.void], **columns: Any) -> Table:
    rows = np.zeros(len(next(iter(columns.values()))), kind)
    for name, values in columns.items():
        rows[name] = values
    return rows


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE))).astype(np.float32)


# Lines


def test_a_line_is_not_trusted_across_a_jump_and_beyond_its_ends() -> None:
    line = latency.Line(np.array([0.0, 100, 200, 300]), np.array([5.0, 5, 25, 25]), 2.0)
    x = np.array([-1.0, 0, 50, 150, 250, 301])
    assert np.array_equal(line(x), [np.nan, 5, 105, np.nan, 525, np.nan], equal_nan=True)
    assert line.inverse(np.array([105.0, 525]))[:2] == pytest.approx([50, 250])


def test_the_envelope_frees_times_of_delays_but_not_of_jumps() -> None:
    clock = np.arange(400) * 20.0
    delays = np.random.default_rng(0).exponential(3, 400)
    delays[::20] = 0
    times = 7 + clock + delays
    times[200:] += 5000
    found = latency.envelope(times, clock)
    assert found[:200] - clock[:200] == pytest.approx(7) and found[200:] - clock[200:] == pytest.approx(5007)


# The sample clock


def microphone_run(silence: int = 0) -> tuple[dict[int, float], list[dict[str, Any]]]:
    """A minute of packets, captured from START on, whose time stamps wrap; `silence` is inserted half way."""
    count = 3000
    stamps = (2**32 - 480_000 + 960 * np.arange(count)) % 2**32
    noted = START + 20 * np.arange(count) + latency.PACKET_MS + latency.ENCODER_MS
    captures = latency.packet_captures(table(PACKET, rtp_timestamp=stamps, noted=noted))
    answers = []
    for packet in range(5, count, 10):
        sample = 320 * packet + (silence if packet > count / 2 else 0)
        answers.append(
            {
                "session": "a",
                "mic": {"rtp_timestamp": int(stamps[packet]), "sample": sample},
                "arrival": {"sample": sample, "time_ms": 20.0 * packet + 25},
                "video": {"rtp_origin": 2**32 - 1000},
                "time_ms": 20.0 * packet + 50,
                "stages_ms": {"frame": {"p50": 12.0, "p95": 15.0, "p99": 16.0}},
            }
        )
    return captures, answers


def test_samples_have_the_capture_times_of_their_packets() -> None:
    captures, answers = microphone_run()
    line = latency.capture_line(answers, captures)
    sample = np.array([16_000.0, 400_123.0])
    assert line(sample) == pytest.approx(START + sample / 16, abs=0.01)


def test_inserted_silence_shifts_the_samples_after_it() -> None:
    captures, answers = microphone_run(silence=960)
    line = latency.capture_line(answers, captures)
    after = 320 * 2500.0
    assert line(np.array([after + 960])) == pytest.approx(START + after / 16, abs=0.01)
    assert line(np.array([after])) == pytest.approx(START + after / 16 - 60, abs=0.01)
    assert np.isnan(line(np.array([320 * 1500.0 + 400])))


def observed(delay_ms: float = 180.0, lost: tuple[int, ...] = ()) -> browser.Observed:
    """A minute in which frame k is displayed `delay_ms` after its sample was captured; `lost` frames never are."""
    _, answers = microphone_run()
    packets = table(
        PACKET,
        rtp_timestamp=(2**32 - 480_000 + 960 * np.arange(3000)) % 2**32,
        noted=START + 20 * np.arange(3000) + latency.PACKET_MS + latency.ENCODER_MS,
    )
    k = np.array([k for k in range(10, 1400) if k not in lost])
    display = START + 40 * k + delay_ms
    frames = table(
        FRAME,
        rtp_timestamp=(2**32 - 1000 + 3600 * k) % 2**32,
        display=display,
        presented=display - 24,
        count=np.arange(len(k)),
        received=display - 26,
    )
    asked = START + np.array([a["time_ms"] for a in answers]) - 1
    polls = table(POLL, asked=asked, answered=asked + 2)
    nothing = np.zeros(0, np.float32)
    return browser.Observed(
        frames,
        np.zeros((len(k), 48, 64, 3), np.uint8),
        packets,
        nothing,
        np.zeros(0, MIC_BLOCK),
        nothing,
        np.zeros(0, HEARD_BLOCK),
        np.zeros(0, OUTPUT),
        polls,
        answers,
        np.zeros(0, browser.PAGE_LATENCY),
        START - 1500,
        START,
        2.5,
        "",
    )


def test_every_frame_is_timed_from_its_sample_to_its_display() -> None:
    shown = latency.shown_frames(observed(180.0), LOOKAHEAD)
    assert len(shown.index) > 1380 and np.array_equal(np.diff(shown.index), np.ones(len(shown.index) - 1))
    assert shown.latency[5:] == pytest.approx(180, abs=0.01)


def test_the_stages_add_up_to_the_latency() -> None:
    o = observed(180.0)
    shown = latency.shown_frames(o, LOOKAHEAD)
    stages = latency.stages_of(shown, o.answers)
    assert stages["packet wait"]["median"] == pytest.approx(120 / 16)  # 1800 samples are 5.6 packets
    assert stages["uplink"]["median"] == pytest.approx(25, abs=0.01)
    assert stages["display"]["median"] == pytest.approx(24) and stages["decoding"]["median"] == pytest.approx(2)
    assert stages["queues and network"]["median"] == pytest.approx(180 - 112.5 - 7.5 - 25 - 12 - 26, abs=0.01)
    assert latency.unexplained(180.0, 112.5, stages) == pytest.approx(0, abs=0.01)


def test_parts_of_a_stage_are_not_added_to_it() -> None:
    stages = {n: {"median": 5.0, "p95": 6.0} for n in ("face", "frame", "encoding")}
    assert latency.following_stages(stages) == ["frame", "encoding"]
    assert latency.following_stages({"render": {}, "encode": {}}) == ["render", "encode"]


def test_frames_that_never_came_are_counted() -> None:
    o = observed(lost=(100, 101, 700))
    shown = latency.shown_frames(o, LOOKAHEAD)
    assert latency.dropped_share(shown, o.frames["count"][shown.row]) == pytest.approx(3 / 1390, rel=0.02)
    assert latency.display_rate(o.frames) == pytest.approx(25 * (1 - 3 / 1389), rel=1e-6)


def test_a_page_that_reconnects_has_two_clocks() -> None:
    o = observed()
    for answer in o.answers[150:]:
        answer["session"] = "b"
        answer["video"] = {"rtp_origin": 2**31}
    late = o.frames["display"] > START + 30_500
    frames = o.frames.copy()
    frames["rtp_timestamp"][late] = (frames["rtp_timestamp"][late] + 1000 + 2**31) % 2**32
    changed = browser.Observed(**{**vars(o), "frames": frames})
    shown = latency.shown_frames(changed, LOOKAHEAD)
    assert set(shown.session) == {0, 1} and len(shown.index) > 1350
    assert shown.latency[np.isfinite(shown.latency)] == pytest.approx(180, abs=0.01)


def test_an_outage_is_told() -> None:
    shown = latency.shown_frames(observed(lost=tuple(range(700, 750))), LOOKAHEAD)
    began = START + 28_000.0
    log = "outage begins at 28000.0\nMiravox\noutage ends at 29000.0\n"
    outage = latency.outage_times(log, START)
    assert outage == (began, began + 1000)
    figures = latency.fault_figures(shown, outage)
    assert figures["longest_freeze_ms"] == pytest.approx(51 * 40)
    assert figures["picture_back_s"] == pytest.approx((750 * 40 + 180 - 29_000) / 1000)
    assert figures["delay_growth_ms"] == pytest.approx(0, abs=0.01)
    assert latency.outage_times("nothing", START) is None


def test_growth_is_the_last_quarter_against_the_one_before_the_fault() -> None:
    time = np.arange(1000.0)
    assert latency.quartiles_growth(time, np.where(time < 520, 180.0, 195.0), 500.0) == pytest.approx(15)


# Sounds


def test_a_sound_is_placed_in_a_recording_that_comes_round() -> None:
    recording = noise(7.3)
    sound = np.resize(recording, 20 * SAMPLE_RATE)[5000:]
    sound = sound + 0.02 * noise(20)[5000:]
    places = latency.locate(sound, recording)
    assert len(places) > 30 and min(p.correlation for p in places) > 0.9
    for p in places:
        assert (p.position - p.centre - 5000 + 50) % len(recording) == pytest.approx(50, abs=0.2)
    line = latency.place_line(places, len(recording))
    assert line(np.array([100_000.0])) - line(np.array([50_000.0])) == pytest.approx(50_000, abs=0.5)


def test_silence_has_no_place() -> None:
    assert latency.locate(np.zeros(3 * SAMPLE_RATE, np.float32), noise(2)) == []


def speech_with_plosives() -> tuple[np.ndarray, list[int]]:
    """Loud vowels, closures of 60 ms that end in a burst, and traps: a pause without a burst, a slow rise, a click."""
    rng = np.random.default_rng(1)
    t = np.arange(8 * SAMPLE_RATE) / SAMPLE_RATE
    speech = 0.3 * np.sin(2 * np.pi * 140 * t) + 0.02 * rng.standard_normal(len(t))
    where = [SAMPLE_RATE, 2 * SAMPLE_RATE, int(3.5 * SAMPLE_RATE)]
    for burst in where:
        speech[burst - 960 : burst] *= 1e-3
    slow = slice(5 * SAMPLE_RATE - 960, 5 * SAMPLE_RATE + 3200)
    speech[slow] *= np.concatenate([np.full(960, 1e-3), np.geomspace(1e-3, 1, 3200)])
    speech[6 * SAMPLE_RATE :] *= 1e-3  # the end
    speech[7 * SAMPLE_RATE : 7 * SAMPLE_RATE + 8] = 0.02  # a click in silence
    return speech.astype(np.float32), where


def test_bursts_are_found_by_their_sound() -> None:
    speech, where = speech_with_plosives()
    found = latency.bursts(speech)
    assert len(found) == len(where) and np.abs(found - where).max() <= 32  # 2 ms
    assert len(latency.bursts(np.zeros(16_000, np.float32))) == 0 and len(latency.bursts(speech[:100])) == 0


def test_bursts_have_times_in_every_round_of_the_recording() -> None:
    length = 5 * SAMPLE_RATE
    places = latency.Line(np.array([8_000.0, 300_000.0]), np.array([3_000.0, 3_000.0]), 1.0)
    captured = latency.Line(np.array([0.0, 300_000.0]), np.array([START, START]), 1 / 16)
    times = latency.burst_times(np.array([20_000, 79_000]), length, places, captured)
    expected = [(20_000 + n * length - 3_000) / 16 for n in range(4)] + [
        (79_000 + n * length - 3_000) / 16 for n in range(3)
    ]
    assert times - START == pytest.approx(sorted(expected), abs=0.01)


def test_plosives_are_timed_to_the_frame_whose_mouth_opens() -> None:
    index = np.arange(200)
    display = START + 40.0 * index + 190
    opened = np.zeros(200)
    opened[52:60] = 0.3  # opens two frames after the burst in frame 50
    opened[75:85] = 0.3  # opens a frame before the burst in frame 76
    opened[95:120] = 0.3  # open before the burst in frame 100
    opened[170:] = 0.3  # opens too late after the burst in frame 150
    burst_frame = np.array([50.5, 76.5, 100.5, 150.5, np.nan])
    captured = START + 40 * np.array([50.5, 76.5, 100.5, 150.5, 10.0])
    found = latency.plosive_delays(captured, burst_frame, index, display, opened)
    assert found.candidates == 4 and np.array_equal(found.burst, captured[:2])
    assert found.delay == pytest.approx([1.5 * 40 + 190, -1.5 * 40 + 190])
    none = latency.plosive_delays(captured[4:], burst_frame[4:], index, display, opened)
    assert none.candidates == 0 and len(none.delay) == 0


# Sound against picture


def test_skew_is_heard_minus_shown_and_drifts() -> None:
    index = np.arange(25 * 60)
    shown_sample, display = index * float(SAMPLES_PER_FRAME), START + 40.0 * index + 190
    sample = np.arange(1000, 900_000, 8000.0)
    heard = START + sample / 16 + 190 + 12 + 6 * sample / (60 * SAMPLE_RATE)
    found = latency.skew(heard, sample, shown_sample, display)
    assert found.drift_per_minute == pytest.approx(6, rel=0.01)
    assert np.median(found.skew) == pytest.approx(15, abs=0.5) and found.p95 == pytest.approx(17.4, abs=0.5)
    opposite = latency.skew(heard - 40, sample, shown_sample, display)
    assert opposite.p95 < -20


def test_skew_skips_frames_that_were_dropped() -> None:
    index = np.array([0, 1, 2, 10, 11, 12])
    display = START + np.array([0.0, 40, 80, 1000, 1040, 1080])  # the clock jumped
    sample = np.array([320.0, 4 * 640, 10.5 * 640])
    found = latency.skew(START + sample, sample, index * 640.0, display)
    assert len(found.skew) == 2


def test_heard_speech_is_traced_to_its_sample() -> None:
    """Content that is captured at t, sample 16 (t - START), and heard 300 ms later is heard with that sample."""
    recording = noise(7.3)
    length, shift = len(recording), 4000
    spoken = np.resize(recording, 20 * SAMPLE_RATE)[shift:]
    ends = np.arange(160.0, len(spoken), 160)
    arrival = START + ends / 16
    mic = latency.microphone_line(
        table(MIC_BLOCK, arrival=arrival, stamp=arrival, first=ends - 160, count=[160.0] * len(ends))
    )
    first = np.arange(0, len(spoken), 1536.0)
    blocks = table(HEARD_BLOCK, context_s=1 + first / SAMPLE_RATE, first=first, count=[1536.0] * len(first))
    outputs = table(OUTPUT, context_s=[1.0, 2.0, 3.0], heard=START + 300 + np.array([0.0, 1000, 2000]))
    heard = latency.heard_line(blocks, outputs)
    captured = latency.Line(np.array([0.0, 320_000.0]), np.array([START, START]), 1 / 16)
    places = latency.locate(spoken, recording)
    when, sample = latency.heard_samples(heard, places, mic, latency.place_line(places, length), captured, length)
    known = np.isfinite(sample)
    assert known.sum() > len(places) - 4
    assert when[known] - START - sample[known] / 16 == pytest.approx(300, abs=0.1)


# The mouth


@pytest.fixture(scope="module")
def avatar(ada: Path) -> Avatar:
    return load_avatar(ada)


def test_the_mouth_is_within_its_region_in_every_pose(avatar: Avatar) -> None:
    view = latency.mouth_view(avatar)
    left, top, right, bottom = view.region
    assert 0 < left < right < 1 and 0 < top < bottom < 1
    assert (bottom - top) / (right - left) == pytest.approx(browser.CROP_HEIGHT / browser.CROP_WIDTH, rel=1e-3)
    assert (view.boxes[:, :2] > 0).all() and (view.boxes[:, 2:] < [browser.CROP_WIDTH, browser.CROP_HEIGHT]).all()
    assert len(view.boxes) == len(avatar.source_pose)


def test_openness_follows_the_lips(avatar: Avatar, gl_context: object) -> None:
    """Openness of rendered frames against the deformation network's lip gap; near zero where the lips are closed."""
    speech = read_speech(avatar.sample).samples[: 3 * SAMPLE_RATE]
    frames = 60  # with a wide vowel and closed lips among them
    view = latency.mouth_view(avatar)
    rings = [AudioRing(4 * SAMPLE_RATE) for _ in range(2)]
    rings[0].write(Block(0, speech))
    rings[1].write(Block(0, np.zeros_like(speech)))
    deformation = Engine(avatar.folder / "targets" / "onnx" / "deformation.onnx", DEFORMATION, threads=1)
    corners = avatar.triangles[avatar.landmark_triangles[[UPPER, LOWER]]].ravel()
    weights = avatar.landmark_barycentrics[[UPPER, LOWER]]
    points, latents = avatar.scale(avatar.canonical)[corners], LatentTrack(avatar, rings[0])
    gaps, opened, to_rgb = [], [], RgbConverter()
    with FacePipeline(avatar, rings[0], "baked") as speaking, FacePipeline(avatar, rings[1], "baked") as resting:
        for k in range(frames):
            pictures = [latency.crop_mouth(to_rgb(p.render(k)), view.region) for p in (speaking, resting)]
            opened.append(latency.openness(pictures[0], pictures[1], view.boxes[k % len(view.boxes)]))
            lips = avatar.template[corners] + deformation.run(points, latents.advance(k))[0]
            upper, lower = np.einsum("lk,lkx->lx", weights, lips.reshape(2, 3, 3))
            gaps.append(10 * float(np.linalg.norm(upper - lower)))
    gap, found = np.array(gaps), np.array(opened)
    assert gap.max() > 10 and gap.min() < 1
    assert np.corrcoef(gap, found)[0, 1] > 0.9
    assert (found[gap < 1] <= latency.CLOSED).all() and (found[gap > 5] >= latency.OPEN).mean() > 0.95


# The fault injection


def rtp(number: int) -> bytes:
    return bytes([0x80, 96]) + number.to_bytes(2, "big") + bytes(20)


STUN, RTCP = bytes(20), bytes([0x80, 200]) + bytes(20)


def test_loss_takes_media_only_and_always_the_same() -> None:
    def lost() -> list[int]:
        network = Network(0.02, 0, 0)
        return [n for n in range(5000) if not network.passes(rtp(n % 65536), "out")]

    first = lost()
    assert lost() == first and 60 < len(first) < 140
    assert is_rtp(rtp(1)) and not is_rtp(STUN) and not is_rtp(RTCP) and not is_rtp(b"")
    everything = Network(1.0, 0, 0)
    assert everything.passes(STUN, "in") and everything.passes(RTCP, "out") and not everything.passes(rtp(0), "in")


def test_each_way_has_losses_of_its_own() -> None:
    """What is sent does not change what happens to what is received."""
    alone, beside = Network(0.1, 0, 0), Network(0.1, 0, 0)
    fates = []
    for n in range(500):
        beside.passes(rtp(n), "out")
        fates.append((alone.passes(rtp(n), "in"), beside.passes(rtp(n), "in")))
    assert all(a == b for a, b in fates)


def test_the_outage_takes_everything_for_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    network = Network(0, 1.5, 10, clock=lambda: now)
    assert network.passes(STUN, "in")
    now = 200.0
    assert network.passes(rtp(0), "out")  # the first media: the outage begins 10 s later
    passed = {}
    for now in (205.0, 209.9, 210.1, 211.4, 211.6):
        passed[now] = network.passes(STUN, "out"), network.passes(rtp(1), "in")
    assert passed == {
        205.0: (True,) * 2,
        209.9: (True,) * 2,
        210.1: (False,) * 2,
        211.4: (False,) * 2,
        211.6: (True,) * 2,
    }
    assert capsys.readouterr().out == "outage begins at 210000.0\noutage ends at 211500.0\n"


# The browser's side


def test_the_microphone_has_three_samples_for_each(tmp_path: Path) -> None:
    speech = noise(1.5)
    browser.write_microphone(tmp_path / "mic.wav", speech, 4.0)
    with wave.open(str(tmp_path / "mic.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (48_000, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert len(samples) == 3 * 4 * SAMPLE_RATE
    assert np.corrcoef(samples[: 3 * len(speech) : 3], speech)[0, 1] > 0.95


def parts(**changes: bytes) -> dict[str, bytes]:
    frame = np.ones(1, FRAME).tobytes()
    whole = {
        "frames": frame,
        "crops": bytes(48 * 64 * 3),
        "packets": np.ones(2, PACKET).tobytes(),
        "mic": b"\0\x40" * 4,
        "mic_blocks": b"",
        "heard": b"",
        "heard_blocks": b"",
        "outputs": b"",
        "polls": np.ones(1, POLL).tobytes(),
        "answers": b'[{"session": "a"}]',
        "page_latency": b"",
        "faults": b'["loudspeaker: none"]',
    }
    return {**whole, **changes}


def test_what_the_probe_recorded_is_read_back() -> None:
    class Chromium:
        """Answers as the probe would."""

        def execute_async_script(self, script: str) -> dict[str, int]:
            return {name: len(part) for name, part in parts().items()}

        def execute_script(self, script: str, name: str, at: int, count: int) -> str:
            return base64.b64encode(parts()[name][at : at + count]).decode()

    assert browser.fetch(Chromium()) == parts()  # type: ignore[arg-type]
    o = browser.observed(parts(), START - 1500, START, 2.5, "log")
    assert o.frames["display"][0] == 1 and o.crops.shape == (1, 48, 64, 3) and o.mic == pytest.approx(0.5)
    assert o.answers == [{"session": "a"}] and len(o.packets) == 2


@pytest.mark.parametrize(("missing", "content"), [("frames", b""), ("packets", b""), ("answers", b"[]")])
def test_a_page_that_does_not_stream_is_told(missing: str, content: bytes) -> None:
    with pytest.raises(MiravoxError, match="loudspeaker: none"):
        browser.observed(parts(**{missing: content}), START, START, 2.5, "")


def test_a_missing_browser_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MiravoxError, match="apt-get install chromium"):
        browser.open_chromium(tmp_path / "mic.wav", tmp_path)


def test_a_server_that_ends_is_told_with_what_it_said(tmp_path: Path) -> None:
    import sys

    command = [sys.executable, "-c", "print('no such avatar'); raise SystemExit(2)"]
    with pytest.raises(MiravoxError, match="exit code 2: no such avatar"):
        browser.ServerProcess(command, tmp_path / "log").__enter__()


def test_faults_run_the_lossy_server(tmp_path: Path) -> None:
    plain = browser.server_command(tmp_path, "baked", [])
    lossy = browser.server_command(tmp_path, "baked", ["--loss=0.02"])
    assert plain[1].endswith("run_stream.py") and "bench.lossy_server" in lossy
    assert lossy[lossy.index("--") + 1 :] == plain[2:]


def test_the_report_has_its_keys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The table and the picture of a report with everything and of one with nothing known."""
    o = observed()
    shown = latency.shown_frames(o, LOOKAHEAD)
    stages = latency.stages_of(shown, o.answers)
    times = np.array([START + 1000.0, START + 2000])
    figures = {
        "mouth_to_photon_ms": {"median": 180.0, "p95": 190.0, "frames": 3},
        "plosive_to_photon_ms": {"median": None, "p95": None, "events": 0, "candidates": 2},
        "lookahead_ms": 112.5,
        "stages_ms": stages,
        "unexplained_ms": 0.0,
        "shown_fps": 25.0,
        "dropped_share": 0.001,
        "av_skew_ms": {"median": 1.0, "p95": -2.0, "drift_per_minute": 0.1},
        "page_latency_ms": None,
        "server_start_s": 1.6,
        "first_frame_s": 0.9,
        "longest_freeze_ms": 80.0,
        "picture_back_s": None,
        "delay_growth_ms": 1.0,
    }
    latency.print_table(figures)
    printed = capsys.readouterr().out
    assert "mouth to photon" in printed and "0.10 % dropped" in printed and "longest freeze 80 ms" in printed
    report = latency.Report(
        figures, shown, latency.Plosives(2, times[:0], times[:0]), latency.Skew(times, np.array([1.0, 2.0])), None
    )
    latency.draw(report, tmp_path / "latency.png")
    assert (tmp_path / "latency.png").stat().st_size > 10_000
    json.dumps(figures)
