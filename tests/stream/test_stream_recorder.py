"""What is streamed, recorded: picture and speech in time, all of the speech, faults that end the recording alone."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.audio.block import BLOCK_SAMPLES, Block
from realtime.audio.sound_file import blocks, read_speech
from realtime.contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.frames import Frame
from realtime.stream import stream_recorder
from realtime.stream.recorder import Recorder
from realtime.stream.stream_recorder import EARLY_SAMPLES, MAX_QUEUED_FRAMES, StreamRecorder
from tests.live_server import LiveServer
from tests.stream.test_recorder import noisy, room_for, solid
from tests.test_run_stream import write_wav

SIZE = 128
MARK = ("Ada", "Synthetic: Ada is an avatar. Consent: nobody is portrayed.")
LOOKAHEAD = 1800  # samples that come before the frame which they complete
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def frame(k: int, color: tuple[int, int, int] = BLACK) -> Frame:
    return Frame(k, solid(color))


def hum(frames: int) -> NDArray[np.float32]:
    """float32 [640 frames], 400 Hz, quiet."""
    return np.asarray(0.1 * np.sin(2 * np.pi * 400 * np.arange(SAMPLES_PER_FRAME * frames) / SAMPLE_RATE), np.float32)


def click_at(speech: NDArray[np.float32], k: int) -> None:
    """A millisecond at frame k."""
    speech[SAMPLES_PER_FRAME * k : SAMPLES_PER_FRAME * k + 16] = 0.9


def stream(recorder: StreamRecorder, speech: NDArray[np.float32], shown: dict[int, tuple[int, int, int]]) -> None:
    """Blocks and frames in the order in which a session hands them over."""
    for block in blocks(speech, BLOCK_SAMPLES):
        recorder.speech(block)
        end = block.start + len(block.samples) - LOOKAHEAD
        if end % SAMPLES_PER_FRAME < BLOCK_SAMPLES and (k := end // SAMPLES_PER_FRAME) in shown:
            recorder.frame(frame(k, shown[k]))


def frame_times(path: Path) -> list[tuple[float, float]]:
    """Seconds and mean brightness of every frame."""
    with av.open(str(path)) as container:
        return [(float(f.time or 0), float(f.to_ndarray(format="gray").mean())) for f in container.decode(video=0)]


def loudest_second(path: Path) -> float:
    return float(np.abs(read_speech(path).samples).argmax()) / SAMPLE_RATE


@pytest.mark.parametrize("first", [0, 7])
def test_picture_and_speech_begin_together_and_stay_in_time(tmp_path: Path, first: int) -> None:
    """A flash and a click at frame 30, from whichever frame on is recorded."""
    speech = hum(50)
    click_at(speech, 30)
    recorder = StreamRecorder(tmp_path / "a.mp4", SIZE, *MARK)
    stream(recorder, speech, {k: WHITE if k == 30 else BLACK for k in range(first, 47)})
    recorder.close()
    times = frame_times(tmp_path / "a.mp4")
    assert [t for t, _ in times] == pytest.approx([k / 25 for k in range(47 - first)])
    flash = [t for t, brightness in times if brightness > 128]
    assert flash == pytest.approx([(30 - first) / 25])
    assert abs(loudest_second(tmp_path / "a.mp4") - flash[0]) < 0.025
    heard = read_speech(tmp_path / "a.mp4").samples
    assert len(heard) == pytest.approx(SAMPLES_PER_FRAME * (50 - first), abs=1024), "all of it from the first frame on"


def test_nothing_of_the_speech_is_lost_and_dropped_frames_keep_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk takes nothing, frames are left out; speech waits, and so does nobody."""
    disk, write_frame = threading.Event(), Recorder.write_frame

    def slow(self: Recorder, frame_index: int, picture: av.VideoFrame) -> None:
        disk.wait()
        write_frame(self, frame_index, picture)

    monkeypatch.setattr(Recorder, "write_frame", slow)
    count = 4 * MAX_QUEUED_FRAMES
    speech = hum(count + 3)
    click_at(speech, count - 2)
    recorder = StreamRecorder(tmp_path / "a.mp4", SIZE, *MARK)
    stream(recorder, speech, dict.fromkeys(range(count - 5), BLACK))
    assert count - 5 - MAX_QUEUED_FRAMES - 1 <= recorder.dropped <= count - 5 - MAX_QUEUED_FRAMES
    disk.set()
    while recorder._queue.qsize():  # the disk is quick again
        threading.Event().wait(0.01)
    recorder.frame(frame(count - 2, WHITE))
    recorder.close()
    times = frame_times(tmp_path / "a.mp4")
    assert len(times) == count - 5 - recorder.dropped + 1
    assert times[-1] == pytest.approx(((count - 2) / 25, 255), abs=3)
    assert abs(loudest_second(tmp_path / "a.mp4") - (count - 2) / 25) < 0.025
    heard = read_speech(tmp_path / "a.mp4").samples
    assert len(heard) == pytest.approx(len(speech), abs=1024)
    middle = heard[2 * SAMPLE_RATE : 6 * SAMPLE_RATE]
    assert np.abs(middle).reshape(-1, 160).max(1).min() > 0.05, "no hole"


def test_speech_is_kept_for_the_first_frame_but_not_forever(tmp_path: Path) -> None:
    """Nobody looks for a minute: a minute of speech is not kept."""
    recorder = StreamRecorder(tmp_path / "a.mp4", SIZE, *MARK)
    stream(recorder, hum(60 * 25), {60 * 25 - 3: BLACK})
    recorder.close()
    assert sum(len(block.samples) for block in recorder._early) <= EARLY_SAMPLES + BLOCK_SAMPLES
    assert len(read_speech(tmp_path / "a.mp4").samples) == pytest.approx(3 * SAMPLES_PER_FRAME, abs=1024)


def test_speech_from_before_the_recorder_is_silence(tmp_path: Path) -> None:
    """A frame that was drawn before the recorder joined shows speech that it has not heard."""
    recorder = StreamRecorder(tmp_path / "a.mp4", SIZE, *MARK)
    recorder.frame(frame(10))
    click = np.full(SAMPLES_PER_FRAME, 0.9, np.float32)
    recorder.speech(Block(SAMPLES_PER_FRAME * 20, np.zeros(0, np.float32)))  # of a new epoch
    recorder.speech(Block(SAMPLES_PER_FRAME * 20, click))
    recorder.close()
    heard = read_speech(tmp_path / "a.mp4").samples
    assert np.flatnonzero(np.abs(heard) > 0.3)[0] == pytest.approx(SAMPLES_PER_FRAME * 10, abs=160)


# What goes wrong


def test_without_a_frame_there_is_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody opened the page: that is told."""
    StreamRecorder(tmp_path / "a.mp4", SIZE, *MARK).close()
    assert list(tmp_path.iterdir()) == []
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "a.mp4: found not one frame until the end" in caplog.text


def test_a_session_that_failed_has_said_so_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = StreamRecorder(tmp_path / "a.mp4", SIZE, *MARK)
    stream(recorder, hum(3), {})
    recorder.close()
    assert list(tmp_path.iterdir()) == [] and caplog.records == []


def test_a_full_disk_ends_the_recording_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    recorder = StreamRecorder(tmp_path / "a.mp4", SIZE, *MARK)
    with room_for(300_000):
        for k in range(MAX_QUEUED_FRAMES):
            recorder.frame(Frame(k, noisy(rng)))
            recorder.speech(Block(SAMPLES_PER_FRAME * k, np.zeros(SAMPLES_PER_FRAME, np.float32)))
        recorder._thread.join(20)
    for k in range(MAX_QUEUED_FRAMES, 2 * MAX_QUEUED_FRAMES):  # the session goes on
        recorder.frame(frame(k))
        recorder.speech(Block(SAMPLES_PER_FRAME * k, np.zeros(SAMPLES_PER_FRAME, np.float32)))
    assert recorder._queue.empty() and recorder.dropped == 0, "what nobody writes is neither kept nor counted"
    recorder.close()
    assert len(frame_times(tmp_path / "a.mp4")) >= 12, "what was recorded is kept"
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "a disk that takes no more" in caplog.text and "Free some space" in caplog.text
    assert "What was recorded until then is in it" in caplog.text
    assert capfd.readouterr().err == ""


def test_another_fault_is_told_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = StreamRecorder(tmp_path / "a.mp4", SIZE, *MARK)
    recorder.frame(frame(3))
    recorder.frame(frame(3))
    recorder.close()
    assert "the recording failed: frame 0 comes after frame 0; what was recorded until then is in it" in caplog.text
    assert len(frame_times(tmp_path / "a.mp4")) == 1


def test_a_disk_that_does_not_answer_holds_up_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share of a network that is gone: writing to it may take for ever."""
    disk = threading.Event()
    monkeypatch.setattr(Recorder, "write_frame", lambda *_: disk.wait())
    monkeypatch.setattr(stream_recorder, "CLOSE_SECONDS", 0.05)
    recorder = StreamRecorder(tmp_path / "a.mp4", SIZE, *MARK)
    recorder.frame(frame(0))
    recorder.close()
    assert "a.mp4: the disk does not answer" in caplog.text
    disk.set()
    recorder._thread.join()


def test_a_recorded_server_that_is_killed(tmp_path: Path, ada: Path, gl_context: object) -> None:
    """The file of a server that was killed could not be played."""
    record = tmp_path / "talk.mp4"
    with LiveServer("--source", "silence", "--size", "128", "--record", record) as server:
        server.wait_for(lambda: server.get("/stats")[1]["frames"]["rendered"] >= 60)
        server.process.kill()
        server.process.wait()
    times = frame_times(record)
    assert times[0][0] == 0 and times[-1][0] >= 1.2 and list(tmp_path.iterdir()) == [record]


# In the real server


def test_the_server_records_what_it_streams(tmp_path: Path, ada: Path, gl_context: object) -> None:
    """A hum that begins after a second, without any viewer; the video is whole after SIGTERM."""
    speech = np.concatenate([np.zeros(SAMPLE_RATE, np.float32), 3 * hum(50)])
    source, record = write_wav(tmp_path / "talk.wav", speech), tmp_path / "talk.mp4"
    with LiveServer("--source", source, "--size", "128", "--record", record) as server:
        server.wait_for(lambda: server.get("/stats")[1]["frames"]["rendered"] >= 90)
        code, _, err = server.stop()
    assert code == 0 and err.startswith(f"miravox: recorded {record} (") and err.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"talk.wav", "talk.mp4"}
    times = frame_times(record)
    assert times[0][0] == 0 and all(brightness > 20 for _, brightness in times)
    steps = np.diff([25 * t for t, _ in times])
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)  # a slow machine leaves frames out
    assert steps.min() == pytest.approx(1) and times[-1][0] > 3.5
    heard = read_speech(record).samples
    loud = np.abs(heard).reshape(-1)[: len(heard) // 160 * 160].reshape(-1, 160).max(1) > 0.15
    assert loud.sum() == pytest.approx(200, abs=3), "two seconds of speech"
    assert loud[loud.argmax() :][:198].all(), "without a hole"
