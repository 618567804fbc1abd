"""The page in a real browser, against the real server and avatar: from the press of its button to moving lips.

The microphone is a recording in which somebody is silent for three seconds and speaks for four, again and again.
Nothing here is about speed: both cores render, encode and decode, and may do other things, too.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import re
import struct
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import numpy as np
import pytest

from bench.latency import mouth_view
from bench.page import PATIENCE_SECONDS, Page
from realtime.avatar import load_avatar
from realtime.contract import SAMPLE_RATE
from realtime.errors import MiravoxError
from realtime.web.server import PAGE
from realtime.web.viewer import SILENT_SECONDS
from tests.browser import Chromium, Server, write_speaker
from tests.conftest import lacking

OpenPage = Callable[..., Page]
StartServer = Callable[..., Server]

GOODBYE_SECONDS = 10.0  # for a DELETE to come; well below SILENT_SECONDS, after which the server misses a page itself
RESTARTED = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "status of 404")
ENOUGH = 20  # frames of each kind that a median is taken of
QUIET_LEVEL, LOUD_LEVEL = 2, 25  # of the page's own meter, 0 to 100
TOKEN = "a b&c#d"  # as a person may choose it
SETTLE_MS = 1000  # after speech: the lips come to rest, and what was spoken has arrived

# Notes how much the mouth's pixels change from frame to frame (mean of 0 to 255), and what the page's meter shows.
WATCH_LIPS = """
const [left, top, right, bottom] = arguments[0];
const video = document.querySelector('#video');
const context = new OffscreenCanvas(64, 48).getContext('2d', { willReadFrequently: true });
window.lips = { frames: [], levels: [] };
let before = null;
const look = () => {
  const [width, height] = [video.videoWidth, video.videoHeight];
  context.drawImage(video, left * width, top * height, (right - left) * width, (bottom - top) * height, 0, 0, 64, 48);
  const { data } = context.getImageData(0, 0, 64, 48);
  if (before) {
    const change = data.reduce((sum, value, index) => sum + Math.abs(value - before[index]), 0) / (64 * 48 * 3);
    lips.frames.push([performance.now(), change]);
  }
  before = data;
  video.requestVideoFrameCallback(look);
};
video.requestVideoFrameCallback(look);
setInterval(() => {
  lips.levels.push([performance.now(), Number(document.querySelector('#meter').getAttribute('aria-valuenow'))]);
}, 50);
"""
# A browser without H.264.
ONLY_VP8 = """
const add = RTCPeerConnection.prototype.addTransceiver;
RTCPeerConnection.prototype.addTransceiver = function (kind, options) {
  const transceiver = add.call(this, kind, options);
  if (kind === 'video') {
    const { codecs } = RTCRtpReceiver.getCapabilities('video');
    transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => /VP8|rtx/i.test(mimeType)));
  }
  return transceiver;
};
"""
# The person answers for the microphone when the test calls allow(); `given` are the tracks that the page got.
ANSWERED_LATE = """
const { promise, resolve } = Promise.withResolvers();
window.allow = resolve;
window.given = [];
const ask = MediaDevices.prototype.getUserMedia;
MediaDevices.prototype.getUserMedia = async function (wanted) {
  const stream = await ask.call(this, wanted);
  given.push(...stream.getTracks());
  await promise;
  return stream;
};
"""
# A browser that lists its devices when the test calls list().
LISTED_LATE = """
const { promise, resolve } = Promise.withResolvers();
window.list = resolve;
window.listing = 0;
const enumerate = MediaDevices.prototype.enumerateDevices;
MediaDevices.prototype.enumerateDevices = async function () {
  listing += 1;
  await promise;
  return enumerate.call(this);
};
"""
# A person who presses Start before the page's own question for the configuration is answered, by a call of answer().
PRESSED_EARLY = """
const { promise, resolve } = Promise.withResolvers();
window.answer = resolve;
const get = window.fetch;
let asked = 0;
window.fetch = async (path, options) => {
  const response = await get(path, options);
  if (path === 'config' && asked++ === 0) {
    document.querySelector('#start').click();
    await promise;
  }
  return response;
};
"""
# A server whose source is lost.
LOST_SOURCE = """
const get = window.fetch;
window.fetch = async (path, options) => {
  const response = await get(path, options);
  if (!path.startsWith('viewers/') || options.method === 'DELETE') return response;
  const status = await response.json();
  return Response.json({ ...status, source: { ...status.source, message: 'The sound card is gone.' } });
};
"""
# The last frames: [index on the sample clock, 40 ms each; when it is displayed, milliseconds since 1970].
SHOWN = """
const origin = miravox.status?.video?.rtp_origin;
return origin == null ? [] : miravox.frames.slice(-100).map(({ rtpTimestamp, expectedDisplayTime }) => [
  Math.round(((rtpTimestamp - origin + 2 ** 32) % 2 ** 32) / 3600), performance.timeOrigin + expectedDisplayTime]);
"""
# A browser that records in no other container, and whose downloads end here.
RECORDS = """
const able = MediaRecorder.isTypeSupported;
MediaRecorder.isTypeSupported = (type) => type.includes('KIND') && able.call(MediaRecorder, type);
const url = URL.createObjectURL;
window.saved = [];
URL.createObjectURL = (blob) => { saved.push(blob); return url.call(URL, blob); };
HTMLAnchorElement.prototype.click = function () { saved.name = this.download; };
"""
STATES = "return given.map((track) => track.readyState)"
SAVED = """
return new Promise((done) => {
  const reader = new FileReader();
  reader.onload = () => done([saved.name, reader.result]);
  reader.readAsDataURL(saved.at(-1)); // the poster was one, too
});
"""


@pytest.fixture(scope="module")
def microphone(ada: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaker(tmp_path_factory.mktemp("microphone") / "speaker.wav", ada / "sample.flac")


@pytest.fixture(scope="module")
def chromium(microphone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(microphone, tmp_path_factory.mktemp("chromium"))
    try:
        browser.driver()
    except MiravoxError as error:
        lacking(f"a browser: {error}")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def server(ada: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A session for each tab, as `python run_stream.py` without options."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def in_vain() -> list[str]:
    """What a test's requests may fail with; empty unless it says so."""
    return []


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts a server with these arguments; it ends after the test's pages are closed."""
    with ExitStack() as servers:
        yield lambda *arguments, **options: servers.enter_context(Server(tmp_path, *arguments, **options))


@pytest.fixture
def open_page(chromium: Chromium, server: Server, start_server: StartServer, in_vain: list[str]) -> Iterator[OpenPage]:
    """Opens the page in a window of its own, closed after the test. Nothing may be left in the console."""
    pages: list[Page] = []

    def open_page(address: str = server.address, **options: Any) -> Page:
        pages.append(Page(chromium.driver(), address, **options))
        return pages[-1]

    chromium.console()
    yield open_page
    for page in pages:
        if page.window in chromium.windows:
            page.close()
    assert GOODBYE_SECONDS < SILENT_SECONDS
    written = [line for line in chromium.console() if not any(reason in line for reason in in_vain)]
    assert not written
    server.wait_empty(GOODBYE_SECONDS)


def stats_of(page: Page, kind: str) -> dict[str, Any]:
    """What the browser measures of the picture ("video") or sound ("audio") that comes in; the codec's name, too."""
    report = json.loads(page.run("return miravox.pc.getStats().then((report) => JSON.stringify([...report.values()]))"))
    coming = next(entry for entry in report if entry["type"] == "inbound-rtp" and entry["kind"] == kind)
    codec = next(entry for entry in report if entry["id"] == coming["codecId"])
    return {**coming, "codec": codec["mimeType"]}


def lip_motion(page: Page) -> tuple[list[float], list[float]]:
    """Changes of the mouth's pixels in frames shown while the microphone was silent for a while, and while it spoke."""
    seen = page.run("return window.lips")
    levels = np.array(seen["levels"])
    silent, spoken = [], []
    for shown, change in seen["frames"]:
        recent = levels[(levels[:, 0] > shown - SETTLE_MS) & (levels[:, 0] <= shown), 1]
        if len(recent) and levels[0, 0] < shown - SETTLE_MS:
            if recent.max() < QUIET_LEVEL:
                silent.append(change)
            elif np.mean(recent) > LOUD_LEVEL:
                spoken.append(change)
    return silent, spoken


def write_tone(path: Path) -> Path:
    tone = 0.3 * np.sin(0.1 * np.arange(SAMPLE_RATE))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        file.writeframes((32767 * tone).astype("<i2").tobytes())
    return path


def test_the_page_is_served_and_nothing_beside_it(server: Server) -> None:
    def get(path: str) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):  # which, unlike urllib, asks for the path as it is
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()

    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
    assert {"/", "/page.js", "/style.css"} <= set(PAGE)
    for path, file in PAGE.items():
        assert get(path) == (200, kinds[file.suffix], file.read_bytes()), path
    beside = ("/index.html", "/server.py", "/client/page.js", "/page.js/", "/.", "/*.js", "/page.js%00")
    above = ("/../server.py", "/%2e%2e/server.py", "/..%2fserver.py", "/..\\server.py", "/client/../../server.py")
    for path in (*beside, *above, "//etc/passwd", "/etc/passwd", "/%2fetc%2fpasswd"):
        status, kind, _ = get(path)
        assert (status, kind) == (404, "application/json"), path


def test_from_the_button_to_lips_that_move_with_the_speech(open_page: OpenPage, server: Server, ada: Path) -> None:
    page = open_page()
    assert page.state == "idle" and page.text("#start") == "Start" and page.text("#name") == "Ada"
    assert page.text("#synthetic") == "Synthetic" and "nobody is portrayed" in page.text("#marking")
    page.start()
    page.run(WATCH_LIPS, mouth_view(load_avatar(ada)).region)
    assert page.text("#start") == "Stop" and server.shows(page.session)
    page.wait_frames(5)
    page.wait("frames in silence and in speech", lambda: min(map(len, lip_motion(page))) >= ENOUGH)
    silent, spoken = lip_motion(page)
    assert np.median(spoken) > 3 * np.median(silent), "the lips move with the speech and rest in silence"
    picture = stats_of(page, "video")
    assert (picture["frameWidth"], picture["frameHeight"]) == (512, 512)
    assert picture["codec"] == "video/H264"
    page.wait("figures", lambda: page.text("#latency") != "–" and page.text("#fps") != "–")

    page.click("#start")
    page.wait_state("stopped")
    server.wait_empty(GOODBYE_SECONDS)
    assert page.text("#start") == "Start" and page.session is None


def test_a_refused_microphone_leaves_the_sample(open_page: OpenPage, server: Server) -> None:
    page = open_page(microphone="denied")
    assert not page.shown("#fallback")
    page.click("#start")
    page.wait_state("stopped")
    assert "not allowed" in page.sentence and "Allow it in the browser" in page.sentence
    assert not server.viewers, "no session was asked for"
    page.click("#fallback")
    page.wait_state("live")
    page.wait("the sample", lambda: page.source.get("kind") == "sample")
    page.wait_frames(5)
    assert not page.shown("#fallback")


def test_the_microphone_is_allowed_after_stop_and_start(open_page: OpenPage) -> None:
    """Two runs wait for one answer; what comes for the first one leaves the microphone of the second one open."""
    page = open_page(before=ANSWERED_LATE)
    for state in ("asking", "stopped", "asking"):
        page.click("#start")
        page.wait_state(state)
    page.wait("both microphones", lambda: page.run("return given.length") == 2)
    page.run("allow()")
    page.wait_state("live")
    sent = "return miravox.pc.getSenders().map(({ track }) => track?.readyState).filter(Boolean)"
    page.wait("a microphone that speaks", lambda: page.run(sent) == ["live"])
    page.wait("one that is closed", lambda: sorted(page.run(STATES)) == ["ended", "live"])


def test_stop_while_the_microphone_opens(open_page: OpenPage, server: Server) -> None:
    page = open_page(before=LISTED_LATE)
    page.click("#start")
    page.wait("the microphone", lambda: page.run("return listing") == 2)  # the first time was at the page's start
    page.click("#start")
    page.run("list()")
    page.wait("the devices", lambda: page.run("return document.querySelector('#device').length") > 1)
    assert page.state == "stopped" and not server.viewers


def test_another_source_while_the_microphone_is_asked_for(open_page: OpenPage) -> None:
    page = open_page(before=ANSWERED_LATE)
    page.click("#start")
    page.wait_state("asking")
    page.choose("sample")
    page.wait_state("live")
    page.wait("the sample", lambda: page.source.get("kind") == "sample")
    page.wait("a microphone", lambda: page.run(STATES) == ["live"])
    page.run("allow()")
    page.wait("a microphone that is closed again", lambda: page.run(STATES) == ["ended"])


def test_start_before_the_server_has_told_what_it_has(open_page: OpenPage) -> None:
    page = open_page(before=PRESSED_EARLY)
    page.wait_state("live")
    page.run("answer()")
    page.wait_frames(3)
    assert page.state == "live" and page.text("#start") == "Stop"


def test_what_the_server_says_of_its_source_is_told_in_every_run(open_page: OpenPage) -> None:
    page = open_page(before=LOST_SOURCE)
    page.choose("sample")
    for _ in range(2):
        page.start()
        page.wait("the server's message", lambda: page.notice == "The sound card is gone.")
        page.click("#start")
        page.wait_state("stopped")


def test_another_source_while_live(open_page: OpenPage, in_vain: list[str], tmp_path: Path) -> None:
    def speaks(kind: str, name: str | None = None) -> None:
        page.wait(f"{kind} as source", lambda: page.source.get("kind") == kind and name in (None, page.source["name"]))
        assert page.session == session and page.state == "live"
        page.wait_frames(3)

    page = open_page()
    assert not page.shown("#option-silence") and not page.shown("#option-shared"), "a private session has neither"
    page.start()
    session = page.session
    speaks("browser")
    page.choose("sample")
    speaks("sample")

    recording = write_tone(tmp_path / "hello.wav")
    page.choose_file(recording)
    speaks("file", "hello.wav")
    assert page.text("#file-hint") == "hello.wav"

    in_vain.append("status of 400")
    (tmp_path / "notes.txt").write_text("no recording")
    page.choose_file(tmp_path / "notes.txt")
    page.wait("the server's reason", lambda: "notes.txt: found something that is no recording" in page.notice)
    speaks("file", "hello.wav")
    assert page.text("#file-hint") == "hello.wav", "what is not said is not shown"

    page.choose("browser")
    speaks("browser")
    assert not page.notice


def test_a_file_that_is_no_recording_is_refused_at_the_start(
    open_page: OpenPage, in_vain: list[str], tmp_path: Path
) -> None:
    in_vain.append("status of 400")
    (tmp_path / "notes.txt").write_text("no recording")
    page = open_page()
    page.choose_file(tmp_path / "notes.txt")
    assert "notes.txt" in page.sentence
    page.start()
    page.wait("the server's reason", lambda: "notes.txt: found something that is no recording" in page.notice)
    page.wait("the invitation to choose another", lambda: page.sentence == "Choose a recording.")
    assert "notes.txt" not in page.text("#file-hint")
    page.choose_file(write_tone(tmp_path / "hello.wav"))
    page.wait("the recording", lambda: page.source.get("name") == "hello.wav")
    assert not page.notice and "hello.wav" in page.sentence


def test_reload_ends_the_session_and_starts_another(open_page: OpenPage, server: Server) -> None:
    page = open_page()
    page.start()
    first = page.session
    page.load()
    server.wait_empty(GOODBYE_SECONDS)
    assert page.state == "idle"
    page.start()
    page.wait_frames(5)
    assert server.shows(page.session) and page.session != first


def test_two_tabs_have_a_session_each(open_page: OpenPage, server: Server) -> None:
    pages = [open_page(), open_page()]
    for page in pages:
        page.start()
    for page in pages:
        page.wait_frames(5)
        assert page.state == "live"
    assert server.shows(*(page.session for page in pages)) and len({page.session for page in pages}) == 2
    assert [viewer["viewers"] for viewer in server.viewers] == [1, 1]


def test_two_tabs_view_one_shared_session(open_page: OpenPage, start_server: StartServer, ada: Path) -> None:
    shared = start_server("--source", ada / "sample.flac", "--loop")
    pages = [open_page(shared.address), open_page(shared.address)]
    for page in pages:
        assert page.run("return miravox.source") == "shared" and page.shown("#option-silence")
        page.start()
    assert shared.shows(*(page.session for page in pages)) and len({page.session for page in pages}) == 1
    assert [(viewer["viewers"], viewer["shared"]) for viewer in shared.viewers] == [(2, True)] * 2

    def apart_ms() -> list[float]:
        """Of each frame that both pages showed: how much later the second one did."""
        first, second = (dict(page.run(SHOWN)) for page in pages)
        return [second[index] - first[index] for index in first.keys() & second.keys()]

    pages[0].wait(f"{ENOUGH} frames shown by both pages", lambda: len(apart_ms()) >= ENOUGH)
    assert abs(np.median(apart_ms())) < 200, "the same picture at the same time"
    pages[0].wait("two viewers", lambda: "2 viewers" in pages[0].text("#shared-hint"))


def test_from_the_shared_session_to_ones_own_and_back(open_page: OpenPage, start_server: StartServer) -> None:
    shared = start_server("--source", "silence", "--max-sessions", "2")
    page = open_page(shared.address)
    page.start()
    first = page.session

    page.answer_microphone("denied")
    page.choose("browser")
    page.wait("the advice", lambda: "not allowed" in page.notice)
    assert page.state == "live" and page.run("return miravox.source") == "shared", "what cannot be had is not chosen"

    page.answer_microphone("granted")
    page.choose("browser")
    page.wait("a session of one's own", lambda: page.state == "live" and page.source.get("kind") == "browser")
    assert shared.shows(page.session) and page.session != first, "nobody views the shared one any more"
    page.wait_frames(5)
    page.choose("shared")
    page.wait("the shared session", lambda: page.state == "live" and page.session == first)
    page.wait("one viewer", lambda: shared.shows(first))
    page.wait_frames(5)


def test_guests_of_a_shared_session_choose_for_themselves(
    open_page: OpenPage, start_server: StartServer, tmp_path: Path
) -> None:
    """What a page chooses there is a session of its own, a recording, too; the shared one goes on as it was."""
    shared = start_server("--source", "silence", "--max-sessions", "2")
    page = open_page(shared.address)
    page.start()
    first = page.session
    page.wait("the hint", lambda: "a session of your own" in page.text("#shared-hint"))
    page.choose("sample")
    page.wait("the sample", lambda: page.state == "live" and page.source.get("kind") == "sample")
    assert page.session != first and shared.shows(page.session)
    page.choose("shared")
    page.wait("the shared session", lambda: page.state == "live" and page.session == first)
    page.choose_file(write_tone(tmp_path / "tone.wav"))
    page.wait("the recording", lambda: page.state == "live" and page.source.get("name") == "tone.wav")
    assert page.session != first


def test_a_microphone_that_is_unplugged_is_replaced(open_page: OpenPage) -> None:
    page = open_page()
    page.start()
    unplug = "const [track] = miravox.pc.getSenders().map(({ track }) => track).filter(Boolean);"
    page.run(f"{unplug} window.unplugged = track; track.stop(); track.dispatchEvent(new Event('ended'));")
    page.wait("the other one's name", lambda: "was disconnected; " in page.notice and "is used instead" in page.notice)
    assert page.run(f"{unplug} return track !== unplugged && track.readyState") == "live"
    page.wait("sound", lambda: int(page.find("#meter").get_attribute("aria-valuenow") or 0) > LOUD_LEVEL)


def test_the_server_is_started_again_under_an_open_page(
    open_page: OpenPage, server: Server, in_vain: list[str]
) -> None:
    in_vain += RESTARTED
    page = open_page()
    page.start()
    first = page.session
    server.kill()
    page.wait_state("reconnecting")
    assert page.sentence.endswith("Trying again…")
    server.start_again()
    page.wait_state("live")
    page.wait_frames(5)
    assert server.shows(page.session) and page.session != first


def test_a_browser_without_h264_plays_vp8(open_page: OpenPage, server: Server) -> None:
    page = open_page(before=ONLY_VP8)
    page.start()
    page.wait_frames(5)
    picture = stats_of(page, "video")
    assert picture["codec"] == "video/VP8" and picture["frameWidth"] == 512
    assert server.viewers[0]["video"]["codec"] == "VP8"


def test_the_avatar_is_heard(open_page: OpenPage) -> None:
    def muted() -> bool:
        return bool(page.run("return document.querySelector('#video').muted"))

    def pressed() -> str | None:
        return page.find("#hear").get_attribute("aria-pressed")

    page = open_page()
    assert pressed() == "false", "one's own voice is not played back unasked"
    page.choose("sample")
    page.start()
    assert pressed() == "true" and not muted()
    before = stats_of(page, "audio")
    page.wait("sound", lambda: stats_of(page, "audio")["totalAudioEnergy"] > before["totalAudioEnergy"] + 1e-4)
    assert stats_of(page, "audio")["codec"] == "audio/opus"
    page.click("#hear")
    assert pressed() == "false" and muted()
    page.click("#hear")
    assert pressed() == "true" and not muted()


def fragments_of(recording: bytes) -> list[int]:
    """Where its index says that fragments of an MP4 begin: `tfra`, version 1, with three numbers of four bytes each."""
    index = recording.rfind(b"tfra") + 4
    version, lengths, entries = recording[index], *struct.unpack_from(">II", recording, index + 8)
    assert (version, lengths, entries > 0) == (1, 0x3F, True)
    return [struct.unpack_from(">Q", recording, index + 16 + 28 * i + 8)[0] for i in range(entries)]


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_a_recording_says_what_it_is(open_page: OpenPage, ada: Path, kind: str) -> None:
    """In its name and in its metadata; it plays, and its index is right, as if nothing had been put in."""
    page = open_page(before=RECORDS.replace("KIND", kind))
    page.choose("sample")
    page.start()
    page.click("#record")
    page.wait_frames(75)
    page.click("#record")
    page.wait("a recording", lambda: bool(page.run("return saved.name")))
    name, address = page.run(SAVED)
    assert re.fullmatch(rf"miravox-ada-synthetic-[-\d]+\.{kind}", name)
    recording, avatar = base64.b64decode(address.rpartition(",")[2]), load_avatar(ada)
    with av.open(io.BytesIO(recording), "r") as file:
        metadata = {key.lower(): value for key, value in file.metadata.items()}
        assert (metadata["title"], metadata["comment"]) == (avatar.name, avatar.marking)
        kinds = Counter[type](type(frame) for frame in file.decode())
        assert kinds[av.VideoFrame] > 50 and kinds[av.AudioFrame] > 25
    if b"tfra" in recording:
        assert all(recording[at + 4 : at + 8] == b"moof" for at in fragments_of(recording))


def test_a_server_beyond_this_machine_wants_its_token(
    open_page: OpenPage, start_server: StartServer, in_vain: list[str]
) -> None:
    guarded = start_server("--host", "0.0.0.0", "--token", TOKEN, token=TOKEN)
    in_vain.append("status of 403")
    page = open_page(guarded.address)
    page.click("#start")
    page.wait_state("stopped")
    assert "?token=" in page.sentence and page.text("#start") == "Start"
    page.close()

    page = open_page(f"{guarded.address}?token={quote(TOKEN)}")
    assert page.text("#name") == "Ada"
    page.start()
    page.wait_frames(5)
    assert guarded.shows(page.session)


def test_a_tab_that_dies_without_goodbye_is_noticed(open_page: OpenPage, chromium: Chromium, server: Server) -> None:
    page = open_page()
    page.start()
    assert server.shows(page.session)
    chromium.kill()
    server.wait_empty(PATIENCE_SECONDS)
