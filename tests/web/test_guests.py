"""What guests may not do: with the token, without it, and with requests that no browser sends. The real server."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from realtime.web import aiortc_patches
from realtime.web.half_open import HALF_OPEN_PLACES
from tests.live_server import LiveServer, Peer
from tests.test_run_stream import tone, write_wav

pytestmark = pytest.mark.usefixtures("ada", "gl_context")

TOKEN = "a b&c#d+e%f/"  # signs that mean something in an address


@pytest.fixture(scope="module", autouse=True)
def loopback() -> None:
    aiortc_patches.install(loopback_only=True)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer("--max-sessions", "1", "--size", "128") as server:
        yield server


@pytest.fixture(scope="module")
def beyond() -> Iterator[LiveServer]:
    """A server that other machines reach, with one session for all."""
    with LiveServer("--host", "0.0.0.0", "--token", TOKEN, "--source", "silence", "--size", "128") as server:
        yield server


def raw(server: LiveServer, request: bytes) -> tuple[int, str]:
    """Status of the answer, and its reason."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, json.loads(answer.read())["error"]


# Roles


def test_statistics_give_no_ids(server: LiveServer) -> None:
    """/stats gave every guest all ids, and one guest changed and ended another's session with them."""

    async def view() -> None:
        peer = Peer(server)
        await peer.connect("sample")
        await peer.wait_for(lambda: len(peer.pictures) > 0)
        stats, metrics = server.get("/stats")[1], server.get("/metrics")[1].decode()
        said = json.dumps(stats) + metrics
        assert peer.session not in said and peer.viewer not in said and "sample.flac" not in said
        assert len(stats["sessions"]) == len(stats["viewers"]) == 1 and stats["shared"] is False
        for path in (f"/viewers/{peer.session}", f"/sessions/{peer.viewer}"):
            assert server.get(path)[0] == 404, "one id does not stand for the other"
        await asyncio.to_thread(server.request, "DELETE", f"/viewers/{peer.viewer}")
        await peer.close()

    asyncio.run(view())
    server.wait_for(lambda: not server.viewers())


def test_guests_of_a_shared_session_look_and_the_rooms_microphone_is_closed(beyond: LiveServer, tmp_path: Any) -> None:
    """Any guest with the token opened the server's own microphone, and said who speaks for everybody."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    config = beyond.get("/config", **bearer)[1]
    assert config["server_microphone"] is False and config["shared"]["may_change"] is False
    speech = write_wav(tmp_path / "talk.wav", tone(16_000)).read_bytes()

    def ask(path: str, body: bytes, kind: str = "application/json") -> tuple[int, Any]:
        return beyond.request("POST", path, body, Content_Type=kind, **bearer)

    async def view() -> None:
        peer = Peer(beyond)
        await peer.connect("shared", token=TOKEN)
        await peer.wait_for(lambda: len(peer.pictures) > 0)
        path = f"/sessions/{peer.session}"
        for source in ("sample", "mic", "silence"):
            status, answer = ask(f"{path}/source", json.dumps({"source": source}).encode())
            assert status == 403 and "--allow-source-change" in answer["error"]
        assert ask(f"{path}/file?name=a.wav", speech, "audio/wav")[0] == 403
        status, answer = ask("/offer", json.dumps({"sdp": "v=0", "type": "offer", "source": "mic"}).encode())
        assert status == 403 and "--allow-server-mic" in answer["error"]
        assert beyond.get(path, **bearer)[1]["source"]["kind"] == "silence"
        await peer.close()

    asyncio.run(view())


def test_the_link_opens_the_page_whatever_the_token(beyond: LiveServer) -> None:
    """A token with signs printed a link that was refused."""
    assert beyond.process.stdout is not None
    address = beyond.process.stdout.readline().split(" at ")[1].split(" ")[0]
    query = address.partition("?")[2]
    assert beyond.get(f"/config?{query}")[0] == 200 and beyond.get("/config?token=a")[0] == 403


# Places


def test_offers_that_never_connect_hold_no_place(server: LiveServer) -> None:
    async def storm() -> None:
        hostile = [Peer(server) for _ in range(HALF_OPEN_PLACES + 4)]
        for peer in hostile:
            offer = {"sdp": await peer.offer(), "type": "offer", "source": "silence"}
            status, answer = await asyncio.to_thread(server.post, "/offer", offer)
            assert status == 200
            peer.viewer = answer["viewer"]
        assert server.get("/stats")[1]["half_open"] <= HALF_OPEN_PLACES and not server.get("/stats")[1]["sessions"]
        honest = Peer(server)
        await honest.connect("silence")
        await honest.wait_for(lambda: len(honest.pictures) > 3)
        for peer in (*hostile, honest):
            await asyncio.to_thread(server.request, "DELETE", f"/viewers/{peer.viewer}")
            await peer.close()

    asyncio.run(storm())
    server.wait_for(lambda: not server.get("/stats")[1]["half_open"] and not server.viewers())
    assert server.get("/stats")[1]["unclosed"] == 0


def test_one_recording_at_a_time_is_sent_to_a_session(server: LiveServer, tmp_path: Any) -> None:
    speech = write_wav(tmp_path / "talk.wav", tone(16_000)).read_bytes()

    async def view() -> None:
        peer = Peer(server)
        await peer.connect("silence")
        await peer.wait_for(lambda: len(peer.pictures) > 0)
        path = f"/sessions/{peer.session}/file?name=a.wav"
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
            slow.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx".encode())
            status = 0
            while status != 409:  # the slow one's request may come second
                status = (await asyncio.to_thread(server.request, "POST", path, speech))[0]
        while status != 200:  # it hung up
            status = (await asyncio.to_thread(server.request, "POST", path, speech))[0]
        await asyncio.to_thread(server.request, "DELETE", f"/viewers/{peer.viewer}")
        await peer.close()

    asyncio.run(asyncio.wait_for(view(), 60))
    server.wait_for(lambda: not server.viewers())


# Requests that no browser sends


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /config HTTP/1.1\r\nHost: :abc\r\n\r\n", 400),
        (b"GET /config HTTP/1.1\r\nHost: xn--\xff.example\r\n\r\n", 400),
        (b"GET /config HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (
            b"POST /offer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
            b"Content-Length: 4\r\n\r\nnono",
            400,
        ),
        (
            b"POST /offer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 15\r\n\r\n{"source":[[]]}',
            400,
        ),
    ],
)
def test_strange_requests_are_refused_in_a_line(server: LiveServer, request_bytes: bytes, status: int) -> None:
    found, error = raw(server, request_bytes)
    assert found == status and error.isprintable(), error


def test_a_token_in_bytes_that_are_no_letters_is_a_wrong_one(beyond: LiveServer) -> None:
    request = b"GET /config HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n\r\n"
    assert raw(beyond, request)[0] == 403


def test_other_pages_cannot_load_the_poster(server: LiveServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/poster.jpg")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Cross-Origin-Resource-Policy"]) == (200, "same-origin")
    connection.close()


def test_nothing_of_all_this_left_a_traceback(server: LiveServer, beyond: LiveServer) -> None:
    """Malformed requests and clients that leave printed tracebacks. The last test of this file: it ends the servers."""
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"POST /offer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
    server.get("/health")
    for one in (server, beyond):
        code, _, told = one.stop()
        assert code == 0 and "Traceback" not in told, told
