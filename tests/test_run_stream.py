"""The command line: what it renders, and one clear line for everything that it cannot."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import moderngl
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from realtime.avatar import load_avatar
from realtime.config import StreamConfig
from realtime.errors import MiravoxError
from realtime.face.pipeline import FacePipeline
from realtime.interruption import bounded_start
from realtime.web.sessions import Sessions
from run_stream import main
from tests.conftest import ROOT
from tests.face.test_network_check import changed, endless_loop
from tests.stream.test_recorder import room_for

Arguments = list[str | Path]
Run = Callable[[Arguments], tuple[int, str, str]]
SMALL: Arguments = ["--offline", "--size", "128"]  # quick


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the command in an empty folder; returns exit code, stdout and stderr (FFmpeg's own included)."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    on_terminate = signal.getsignal(signal.SIGTERM)
    # A shell starts what it puts into the background with SIGINT ignored, and Python keeps to that.
    on_interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(arguments: Arguments) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    yield run
    signal.signal(signal.SIGTERM, on_terminate)
    signal.signal(signal.SIGINT, on_interrupt)


def refused(run: Run, arguments: Arguments, *words: str) -> None:
    """The command stops with exit code 2 and one line that has all the words, and leaves no new file behind."""
    before = set(Path().rglob("*"))
    code, out, err = run(arguments)
    assert code == 2 and out == ""
    assert err.startswith("miravox: ") and err.count("\n") == 1 and err.endswith("\n"), err
    for word in ("found", "wanted", *words):
        assert word in err
    assert set(Path().rglob("*")) == before, "no half-written file"


def write_wav(path: Path, samples: NDArray[np.floating], rate: int = 16_000, channels: int = 1) -> Path:
    """Writes the same 16 bit samples in every channel."""
    values = np.repeat(np.round(32767 * samples).astype("<i2")[:, None], channels, 1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(values.tobytes())
    return path


def tone(samples: int) -> NDArray[np.float32]:
    return np.asarray(0.3 * np.sin(0.05 * np.arange(samples)), np.float32)


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        assert [s.type for s in container.streams] == ["video", "audio"]
        assert container.streams.video[0].average_rate == 25
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


# Options


def test_dry_run_prints_the_resolved_configuration(run: Run) -> None:
    code, out, err = run(["--dry-run"])
    assert code == 0 and err == ""
    assert json.loads(out) == {
        "source": "browser",
        "record": None,
        "force": False,
        "avatar": str(ROOT / "avatars" / "ada"),
        "target": "baked",
        "size_pixels": None,
        "offline": False,
        "loop": False,
        "device": None,
        "window": False,
        "host": "127.0.0.1",
        "port": 8080,
        "token": None,
        "allow_server_mic": False,
        "allow_source_change": False,
        "tls_cert": None,
        "tls_key": None,
        "ice_servers": [],
        "max_sessions": 3,
        "list_devices": False,
        "dry_run": True,
        "verbose": False,
    }
    assert not list(Path().iterdir())


def test_dry_run_keeps_what_was_said(run: Run) -> None:
    options = "--source a.mp3 --record b.mp4 --avatar me --target onnx --size 256 --loop --port 81 --max-sessions 2"
    options += " --device USB --ice-server stun:stun.example --tls-cert c.pem --tls-key k.pem"
    _, out, _ = run([*options.split(), "--dry-run"])
    found = json.loads(out)
    wanted = {"source": "a.mp3", "record": "b.mp4", "avatar": "me", "target": "onnx", "size_pixels": 256}
    wanted |= {"loop": True, "port": 81, "max_sessions": 2, "device": "USB", "tls_cert": "c.pem", "tls_key": "k.pem"}
    assert {key: found[key] for key in wanted} == wanted
    assert found["ice_servers"] == [{"url": "stun:stun.example", "username": None, "credential": None}]


def test_offline_without_a_source_the_avatar_says_its_sample(run: Run) -> None:
    _, out, _ = run(["--offline", "--dry-run"])
    assert json.loads(out)["source"] == str(ROOT / "avatars" / "ada" / "sample.flac")
    assert json.loads(out)["record"] == "out/ada.mp4"


def test_offline_names_the_video_after_the_recording(run: Run) -> None:
    _, out, _ = run(["--offline", "--source", "talk.wav", "--dry-run"])
    assert json.loads(out)["record"] == "out/talk.mp4"


def test_help_lists_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    import run_stream

    for option in re.findall(r"--[a-z-]+", run_stream.__doc__ or ""):
        assert option in out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and re.fullmatch(r"miravox \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("options", [[], ["--verbose"]])
def test_verbose_shows_why_nvenc_is_off(options: list[str]) -> None:
    """In a process of its own, whose log it sets up."""
    code = """
import sys
from realtime import cli
from realtime.stream import encoders
encoders.probe_nvenc = lambda: "no driver"
cli._run = lambda config: encoders.VideoEncoder("H264", 512, hardware=True)  # all of a session that matters here
sys.exit(cli.main(sys.argv[1:]))
"""
    done = subprocess.run([sys.executable, "-c", code, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == ""
    reason = "miravox: libx264 encodes: NVENC does not work here (no driver)\n"
    assert done.stderr == (reason if options else "")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--size", "100"], "multiple of 16"),
        (["--size", "112"], "from 128"),
        (["--size", "1040"], "to 1024"),
        (["--size", "large"], "--size"),
        (["--target", "torch"], "tensorrt"),
        (["--record", "out.avi"], ".mp4"),
        (["--source", "a.mp4", "--record", "./a.mp4"], "the source itself"),
        (["--sauce", "a.wav"], "--sauce"),
        (["a.wav"], "a.wav"),
        (["--offline", "--source", "mic"], "a recording"),
        (["--window"], "--source silence"),
        (["--window", "--offline", "--source", "a.wav"], "--window"),
        (["--port", "0"], "1 to 65535"),
        (["--port", "eighty"], "--port"),
        (["--max-sessions", "0"], "1 or more"),
        (["--source", ""], "an empty value after --source"),
        (["--source="], "an empty value after --source"),
        (["--avatar", "", "--offline"], "an empty value after --avatar"),
        (["--record", ""], "an empty value after --record"),
        (["--device", "", "--source", "mic"], "an empty value after --device"),
        (["--host="], "an empty value after --host"),
        ([""], "an empty value after the command"),
        (["--tls-cert", "a.pem"], "both or neither"),
        (["--ice-server", "http://x"], "stun:"),
        (["--ice-server", "turn:x,me"], "USERNAME"),
    ],
)
def test_wrong_options(run: Run, arguments: Arguments, word: str) -> None:
    refused(run, arguments, word)


# What it renders


@pytest.mark.parametrize(
    ("samples", "rate", "channels", "frames"),
    [(8_000, 8_000, 1, 25), (9_600, 96_000, 1, 3), (1_601, 16_000, 7, 3), (1, 16_000, 1, 1), (640, 16_000, 2, 1)],
)
def test_odd_sources_render(run: Run, ada: Path, samples: int, rate: int, channels: int, frames: int) -> None:
    source = write_wav(Path("talk.wav"), tone(samples), rate, channels)
    code, out, err = run(["--source", source, "--record", "talk.mp4", *SMALL])
    assert (code, err) == (0, "")
    assert out.startswith(f"{frames} frame") and "frames per second" in out and out.endswith("talk.mp4\n")
    images = frames_of(Path("talk.mp4"))
    assert len(images) == frames and images[0].shape == (128, 128, 3)
    assert sorted(path.name for path in Path().iterdir()) == ["talk.mp4", "talk.wav"]


def test_silence_renders(run: Run, ada: Path) -> None:
    code, _, err = run(["--source", write_wav(Path("a.wav"), np.zeros(3200)), *SMALL])
    assert (code, err) == (0, "")
    assert len(frames_of(Path("out/a.mp4"))) == 5


def test_nan_and_infinity_are_counted_in_the_closing_line(run: Run, ada: Path) -> None:
    write_wav(Path("a.wav"), tone(1600))
    with av.open("a.wav") as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)]).astype("<f4") / 32768
    samples[[5, 6, 700]] = [np.nan, np.inf, -np.inf]
    data = samples.astype("<f4").tobytes()
    header = bytearray(Path("a.wav").read_bytes()[:44])
    header[20:22], header[28:32] = (3).to_bytes(2, "little"), (64_000).to_bytes(4, "little")
    header[32:36] = (4).to_bytes(2, "little") + (32).to_bytes(2, "little")
    header[4:8], header[40:44] = (36 + len(data)).to_bytes(4, "little"), len(data).to_bytes(4, "little")
    Path("a.wav").write_bytes(bytes(header) + data)
    code, out, _ = run(["--source", "a.wav", *SMALL])
    assert code == 0 and " 3 samples silenced" in out


def test_targets_agree(run: Run, ada: Path) -> None:
    """The baked face looks like the networks that it replaces."""
    source = write_wav(Path("a.wav"), tone(1280))
    for target in ("baked", "onnx"):
        assert run(["--source", source, "--record", f"{target}.mp4", "--target", target, *SMALL])[0] == 0
    baked, networks = frames_of(Path("baked.mp4"))[-1], frames_of(Path("onnx.mp4"))[-1]
    assert np.abs(baked.astype(int) - networks).mean() < 3


def test_the_sample_becomes_a_video(ada: Path, tmp_path: Path) -> None:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, ROOT / "run_stream.py", "--offline"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "out/ada.mp4" in done.stdout
    with av.open(str(tmp_path / "out" / "ada.mp4")) as video:
        assert "Synthetic: Ada" in video.metadata["comment"] and "nobody is portrayed" in video.metadata["comment"]
    images = frames_of(tmp_path / "out" / "ada.mp4")
    assert len(images) > 25 and images[0].shape == (512, 512, 3)


# Sources that it cannot render


def missing(path: Path) -> None:
    pass


def empty(path: Path) -> None:
    path.touch()


def cut_off(path: Path) -> None:
    write_wav(path, tone(16_000))
    path.write_bytes(path.read_bytes()[:9_000])


def text(path: Path) -> None:
    path.write_text("Once upon a time there was no sound.\n" * 100)


def video_only(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (missing, "no such file"),
        (empty, "an empty file"),
        (cut_off, "cut off"),
        (text, "no recording"),
        (video_only, "video streams only"),
    ],
)
def test_bad_sources(run: Run, ada: Path, make: Callable[[Path], None], word: str) -> None:
    make(Path("talk.wav"))
    refused(run, ["--offline", "--source", "talk.wav", "--record", "talk.mp4"], "talk.wav", word)


# Avatar folders that it cannot load


def wrong_hash(folder: Path) -> str:
    data = bytearray((folder / "source.mp4").read_bytes())
    data[-1] ^= 1
    (folder / "source.mp4").write_bytes(data)
    return "source.mp4"


def unknown_key(folder: Path) -> str:
    change_info(folder, hat="red")
    return "'hat'"


def newer_version(folder: Path) -> str:
    change_info(folder, format_version=99)
    return "format version 99"


def missing_file(folder: Path) -> str:
    (folder / "geometry.safetensors").unlink()
    return "geometry.safetensors"


def missing_info(folder: Path) -> str:
    (folder / "avatar.json").unlink()
    return "avatar.json"


def no_json(folder: Path) -> str:
    (folder / "avatar.json").write_text("{")
    return "avatar.json"


def wrong_shape(folder: Path) -> str:
    path = folder / "geometry.safetensors"
    tensors = load_file(path)
    tensors["rest_latent"] = tensors["rest_latent"][:-1].copy()
    save_file(tensors, path)
    files = json.loads((folder / "avatar.json").read_text())["files"]
    files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    change_info(folder, files=files)
    return "rest_latent"


def change_info(folder: Path, **values: object) -> None:
    path = folder / "avatar.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "damage", [wrong_hash, unknown_key, newer_version, missing_file, missing_info, no_json, wrong_shape]
)
def test_bad_avatars(run: Run, ada: Path, damage: Callable[[Path], str]) -> None:
    shutil.copytree(ada, "me")
    word = damage(Path("me"))
    refused(run, ["--offline", "--source", write_wav(Path("a.wav"), tone(1600)), "--avatar", "me"], "me/", word)


def test_a_missing_avatar(run: Run) -> None:
    refused(run, ["--offline", "--avatar", "nobody"], "nobody")


# Outputs that it cannot write


@pytest.mark.parametrize("record", ["none/a.mp4", "talk.wav/a.mp4", "folder.mp4", "/dev/full/a.mp4"])
def test_unwritable_outputs(run: Run, ada: Path, record: str) -> None:
    Path("folder.mp4").mkdir()
    refused(run, ["--source", write_wav(Path("talk.wav"), tone(1600)), "--record", record, *SMALL], record)


def test_a_full_disk(run: Run, ada: Path) -> None:
    """Not even the first half second fits, and the earlier recording stays."""
    write_wav(Path("talk.wav"), tone(16_000))
    Path("talk.mp4").write_bytes(b"an earlier recording")
    options: Arguments = ["--offline", "--source", "talk.wav", "--record", "talk.mp4", "--force"]
    with room_for(20_000):
        refused(run, options, "talk.mp4", "takes no more", "Free some space")
    assert Path("talk.mp4").read_bytes() == b"an earlier recording"


def test_a_disk_that_gets_full_keeps_the_first_part(run: Run, ada: Path) -> None:
    """All that was rendered was deleted."""
    write_wav(Path("talk.wav"), tone(64_000))
    options: Arguments = ["--source", "talk.wav", "--record", "talk.mp4", *SMALL]
    assert run(options)[0] == 0
    whole = Path("talk.mp4").stat().st_size
    Path("talk.mp4").unlink()
    with room_for(whole // 2):
        code, _, err = run(options)
    assert code == 2 and err.count("\n") == 1 and "takes no more" in err and "What was recorded until then" in err
    assert 12 <= len(frames_of(Path("talk.mp4"))) < 100


def test_an_existing_file_is_not_overwritten(run: Run, ada: Path) -> None:
    """It was, without a word."""
    source = write_wav(Path("a.wav"), tone(1280))
    Path("a.mp4").write_bytes(b"an earlier recording")
    refused(run, ["--source", source, "--record", "a.mp4", *SMALL], "a.mp4", "there already", "--force")
    refused(run, ["--source", "silence", "--record", "a.mp4"], "a.mp4", "there already", "--force")
    assert Path("a.mp4").read_bytes() == b"an earlier recording"
    assert run(["--source", source, "--record", "a.mp4", "--force", *SMALL])[0] == 0
    assert len(frames_of(Path("a.mp4"))) == 2


def test_a_recording_without_a_name_takes_the_next_one(run: Run, ada: Path) -> None:
    source = write_wav(Path("a.wav"), tone(640))
    for name in ("a.mp4", "a-2.mp4", "a-3.mp4"):
        code, out, _ = run(["--source", source, *SMALL])
        assert code == 0 and out.endswith(f"out/{name}\n")
    assert run(["--source", source, "--force", *SMALL])[1].endswith("out/a.mp4\n")
    assert {path.name for path in Path("out").iterdir()} == {"a.mp4", "a-2.mp4", "a-3.mp4"}


def test_later_sessions_leave_out_names_that_are_taken(ada: Path, tmp_path: Path) -> None:
    """OUT-2.mp4 of an earlier run was overwritten."""
    (tmp_path / "a-2.mp4").touch()
    for force, names in ((False, ["a.mp4", "a-3.mp4", "a-4.mp4"]), (True, ["a.mp4", "a-2.mp4", "a-3.mp4"])):
        sessions = Sessions(StreamConfig(force=force), load_avatar(ada))
        assert [sessions._next_recording(tmp_path / "a.mp4").name for _ in range(3)] == names


def test_nobody_reads_what_is_printed(ada: Path, tmp_path: Path) -> None:
    """A closed pipe ended in a traceback; the video is whole."""
    source = write_wav(tmp_path / "a.wav", tone(1280))
    command = [sys.executable, ROOT / "run_stream.py", "--source", source, "--record", "a.mp4", *SMALL]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "miravox: standard output was closed\n")
    assert len(frames_of(tmp_path / "a.mp4")) == 2


# The machine


def test_no_opengl(run: Run, ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_context(*_: object, **__: object) -> None:
        raise Exception("libEGL.so not found in /usr/lib")  # moderngl's own kind of exception

    monkeypatch.setattr(moderngl, "create_context", create_context)
    source = write_wav(Path("a.wav"), tone(1600))
    refused(
        run, ["--offline", "--source", source, "--record", "a.mp4"], "OpenGL", "libEGL.so not found", "apt-get install"
    )


@pytest.mark.parametrize("fault", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("frame", "kept"), [(0, False), (3, True), (40, True)])
def test_an_interruption_keeps_what_was_rendered(
    run: Run, ada: Path, monkeypatch: pytest.MonkeyPatch, fault: signal.Signals, frame: int, kept: bool
) -> None:
    render = FacePipeline.render

    def interrupted(self: FacePipeline, frame_index: int) -> av.VideoFrame:
        if frame_index == frame:
            if not kept:  # the start: the signal would end the process at once
                raise KeyboardInterrupt
            os.kill(os.getpid(), fault)
        return render(self, frame_index)

    monkeypatch.setattr(FacePipeline, "render", interrupted)
    code, out, err = run(["--source", write_wav(Path("a.wav"), tone(64_000)), "--record", "a.mp4", *SMALL])
    assert (code, out) == (130, "")
    if not kept:
        assert err == "miravox: interrupted; nothing was written\n"
        assert [path.name for path in Path().iterdir()] == ["a.wav"]
        return
    (seconds,) = re.fullmatch(r"miravox: interrupted; the first ([\d.]+) s are in a.mp4\n", err).groups()  # type: ignore[union-attr]
    frames = len(frames_of(Path("a.mp4")))
    assert frame - 1 <= frames <= frame + 1 and float(seconds) == pytest.approx(frames / 25, abs=0.06)


def test_a_fault_in_the_middle_keeps_what_was_rendered(run: Run, ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render = FacePipeline.render

    def broken(self: FacePipeline, frame_index: int) -> av.VideoFrame:
        if frame_index == 40:
            raise MiravoxError("source.mp4", found="no frame 40", wanted="598", remedy="Get it again.")
        return render(self, frame_index)

    monkeypatch.setattr(FacePipeline, "render", broken)
    code, _, err = run(["--source", write_wav(Path("a.wav"), tone(64_000)), "--record", "a.mp4", *SMALL])
    assert code == 2 and err.count("\n") == 1
    assert re.search(r"Get it again\. The first 1\.\d s are in a\.mp4\.\n$", err)
    assert 39 <= len(frames_of(Path("a.mp4"))) <= 40


# The start


@pytest.mark.parametrize("module", ["numpy", "av", "onnxruntime", "aiohttp", "moderngl"])
def test_the_start_ends_at_a_signal_wherever_it_is(tmp_path: Path, module: str) -> None:
    """SIGTERM while something was imported ended in that one's ImportError."""
    code = f"""
import os, signal, sys
from importlib.abc import MetaPathFinder

class Signalled(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except BaseException as error:  # as packages do while they are imported
                raise ImportError("half of it is there") from error

sys.meta_path.insert(0, Signalled())
from realtime.cli import main
sys.exit(main(["--offline", "--record", {str(tmp_path / "a.mp4")!r}] if {module != "aiohttp"} else ["--port", "1"]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "") and list(tmp_path.iterdir()) == []


def test_a_start_that_hangs_ends_with_one_line(tmp_path: Path) -> None:
    """A library that never returns; the signal ends it as well."""
    code = """
import sys, threading
from realtime.interruption import bounded_start, end_on_signals
end_on_signals()
with bounded_start("avatars/stranger", 0.05):
    threading.Event().wait()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("miravox: avatars/stranger: found no frame after")


def test_a_start_that_does_not_hang_goes_on() -> None:
    with bounded_start("avatars/ada", 3600):
        timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    (timer,) = timers
    timer.join()


def test_a_network_that_loops_is_refused_at_the_start(run: Run, ada: Path) -> None:
    """It hung, and no signal was answered."""
    shutil.copytree(ada, "me")
    path = Path("me/targets/onnx/projection.onnx")
    path.write_bytes(changed(path.read_bytes(), endless_loop))
    info = json.loads(Path("me/avatar.json").read_text())
    change_info(Path("me"), files=info["files"] | {str(path)[3:]: hashlib.sha256(path.read_bytes()).hexdigest()})
    refused(run, ["--offline", "--avatar", "me", "--record", "a.mp4"], str(path), "does not write")


def test_a_sample_that_is_not_listed_is_not_opened(run: Run, ada: Path) -> None:
    shutil.copytree(ada, "me")
    files = json.loads(Path("me/avatar.json").read_text())["files"]
    change_info(Path("me"), files={name: value for name, value in files.items() if name != "sample.flac"})
    refused(run, ["--offline", "--avatar", "me", "--record", "a.mp4"], "me/sample.flac", "does not list")
