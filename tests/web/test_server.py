"""The real server, spoken to over HTTP and by a peer without a browser: good and bad input, sessions, shutdown."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from realtime.stream.status import SessionStatus
from realtime.web import aiortc_patches
from realtime.web.server import ServerStatus
from realtime.web.viewer import VideoStatus, ViewerStatus
from tests.conftest import ROOT
from tests.live_server import LiveServer, Peer, free_port
from tests.test_run_stream import tone, write_wav

pytestmark = pytest.mark.usefixtures("ada", "gl_context")


@pytest.fixture(scope="module", autouse=True)
def loopback() -> None:
    """Peers of these tests talk to this machine alone."""
    aiortc_patches.install(loopback_only=True)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer("--max-sessions", "2", "--size", "256") as server:
        yield server


def offer_sdp(audio: bool = True, video: bool = True) -> str:
    async def make() -> str:
        peer = Peer(None)  # type: ignore[arg-type]  # it only offers
        sdp = await peer.offer(audio, video)
        await peer.close()
        return sdp

    return asyncio.run(make())


# What it answers


def test_health_config_and_page(server: LiveServer) -> None:
    assert server.get("/health") == (200, {"status": "ok", "avatar": "Ada"})
    config = server.get("/config")[1]
    assert "Synthetic" in config["marking"] and "nobody is portrayed" in config["marking"]
    assert config["lookahead_ms"] == 112.5 and config["frame_rate"] == 25 and config["shared"] is None
    for path in ("/", "/page.js", "/marking.js", "/style.css", "/poster.jpg"):
        status, content = server.get(path)
        assert status == 200 and len(content) > 1000, path
    assert server.get("/poster.jpg")[1].startswith(b"\xff\xd8")


def test_a_peer_sees_and_hears_the_avatar(server: LiveServer) -> None:
    """Pictures at the size asked for, stamped 40 ms apart; sound; figures; a goodbye that ends the session."""

    async def view() -> dict[str, Any]:
        peer = Peer(server)
        await peer.connect()
        await peer.wait_for(lambda: len(peer.pictures) >= 30 and len(peer.sound) >= 50)
        status: dict[str, Any] = (await asyncio.to_thread(server.get, f"/viewers/{peer.viewer}"))[1]
        await asyncio.to_thread(server.request, "DELETE", f"/viewers/{peer.viewer}")
        assert peer.pictures[0].width == 256
        steps = np.diff([p.pts for p in peer.pictures])
        assert set(steps % 3600) == {0}, "every picture lies on the sample clock"
        image = peer.pictures[-1].to_ndarray(format="rgb24")
        assert 60 < image[100:140, 110:140].mean() < 250, "a face is in the middle"
        assert max(np.abs(s.to_ndarray()).max() for s in peer.sound) > 1000, "the hum comes back"
        await peer.close()
        return status

    status = asyncio.run(view())
    assert status["source"]["kind"] == "browser" and status["viewers"] == 1 and status["video"]["codec"] == "H264"
    assert {"latent", "face", "composition", "frame", "conversion", "encoding"} <= set(status["stages_ms"])
    assert status["frames"]["rendered"] >= 30 and status["mic"]["sample"] > 0
    server.wait_for(lambda: not server.viewers())


def test_the_status_has_the_fields_of_its_types(server: LiveServer) -> None:
    async def ask() -> tuple[dict[str, Any], dict[str, Any]]:
        peer = Peer(server)
        await peer.connect("silence")
        viewer = (await asyncio.to_thread(server.get, f"/viewers/{peer.viewer}"))[1]
        session = (await asyncio.to_thread(server.get, f"/sessions/{peer.session}"))[1]
        stats = (await asyncio.to_thread(server.get, "/stats"))[1]
        assert viewer["viewer"] == peer.viewer and viewer["session"] == session["session"] == peer.session
        assert set(stats) == set(ServerStatus.__annotations__)
        assert [set(s) for s in stats["sessions"]] == [set(session) - {"session"}]
        assert [set(v) for v in stats["viewers"]] == [set(viewer) - {"session", "viewer"}]
        await asyncio.to_thread(server.request, "DELETE", f"/viewers/{peer.viewer}")
        await peer.close()
        return viewer, session

    viewer, session = asyncio.run(ask())
    assert set(session) == set(SessionStatus.__annotations__)
    assert set(viewer) == set(SessionStatus.__annotations__) | set(ViewerStatus.__annotations__)
    assert set(viewer["video"]) == set(VideoStatus.__annotations__)
    server.wait_for(lambda: not server.viewers())


def test_metrics_are_prometheus_text(server: LiveServer) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    families = {f.name: f for f in text_string_to_metric_families(server.get("/metrics")[1].decode())}
    assert {"miravox_stage_seconds", "miravox_frames_rendered", "miravox_sessions"} <= set(families)
    counts = {s.labels["le"]: s.value for s in families["miravox_stage_seconds"].samples if "le" in s.labels}
    assert counts["+Inf"] >= counts["0.04"]


def test_sources_switch_while_it_runs(server: LiveServer, tmp_path: Path) -> None:
    speech = write_wav(tmp_path / "talk.wav", tone(16_000))

    async def view() -> None:
        peer = Peer(server)
        await peer.connect("silence")
        await peer.wait_for(lambda: len(peer.pictures) >= 3)
        path = f"/sessions/{peer.session}"

        async def switch(kind: str) -> tuple[int, Any]:
            return await asyncio.to_thread(server.post, f"{path}/source", {"source": kind})

        async def send(name: str, content: bytes) -> tuple[int, Any]:
            return await asyncio.to_thread(server.request, "POST", f"{path}/file?name={name}", content)

        assert (await switch("sample"))[1]["source"]["kind"] == "sample"
        status, found = await send("talk.wav", speech.read_bytes())
        assert status == 200 and found["source"] == {
            "kind": "file",
            "name": "talk.wav",
            "state": "live",
            "message": None,
        }
        status, found = await send("notes.txt", b"Once upon a time there was no sound.\n" * 100)
        assert status == 400 and "notes.txt" in found["error"] and "wanted" in found["error"]
        status, found = await switch("radio")
        assert status == 400 and "'radio'" in found["error"]
        status, found = await asyncio.to_thread(server.get, path)
        assert found["source"]["name"] == "talk.wav", "what was good is kept"
        assert (await switch("browser"))[1]["source"]["kind"] == "browser"
        count = len(peer.pictures)
        await peer.wait_for(lambda: len(peer.pictures) > count + 5)
        await asyncio.to_thread(server.request, "DELETE", f"/viewers/{peer.viewer}")
        await peer.close()

    asyncio.run(view())


# What it refuses


def without(sdp: str, *codecs: str) -> str:
    """An offer in which those codecs have another name."""
    for codec in codecs:
        sdp = sdp.replace(f" {codec}/", " Other/")
    return sdp


BAD_OFFERS: dict[str, Any] = {
    "no SDP": ("not an SDP", "without audio"),
    "empty": ("", "without audio"),
    "a number": (7, "int"),
    "null": (None, "NoneType"),
    "cut off": (lambda: offer_sdp()[:300], "found an SDP"),
    "no audio": (lambda: offer_sdp(audio=False), "without audio"),
    "no video": (lambda: offer_sdp(video=False), "without video"),
    "neither H.264 nor VP8": (lambda: without(offer_sdp(), "H264", "VP8"), "without VP8 and without H.264"),
    "no Opus": (lambda: without(offer_sdp(), "opus"), "without Opus"),
    "no fingerprint": (lambda: offer_sdp().replace("a=fingerprint", "a=finger"), "fingerprint"),
    "binary": ("\0\1\2\3" * 50, "found an SDP"),
}


@pytest.mark.parametrize("name", BAD_OFFERS)
def test_bad_offers(server: LiveServer, name: str) -> None:
    sdp, words = BAD_OFFERS[name]
    status, answer = server.post("/offer", {"sdp": sdp() if callable(sdp) else sdp, "type": "offer"})
    assert status == 400 and "wanted" in answer["error"] and words in answer["error"], answer
    assert server.viewers() == []


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"{", "application/json", 400, "not JSON"),
        (b"", "application/json", 400, "not JSON"),
        (b"[1]", "application/json", 400, "list"),
        (b"\xff\xfe{}", "application/json", 400, "not JSON"),
        (b"[" * 100_000, "application/json", 400, "JSON"),
        (b'{"sdp": "x"}', "text/plain", 415, "text/plain"),
        (b'{"sdp": "x"}', "application/sdp", 415, "application/sdp"),
        (b"x" * 2**20, "application/json", 413, "262144"),
        (b'{"sdp": "x", "type": "answer"}', "application/json", 400, "'answer'"),
    ],
)
def test_bad_bodies(server: LiveServer, body: bytes, kind: str, status: int, words: str) -> None:
    found, answer = server.request("POST", "/offer", body, Content_Type=kind)
    assert found == status and words in answer["error"], answer


def test_unknown_things(server: LiveServer) -> None:
    for method, path in (("GET", "/sessions/nobody"), ("DELETE", "/viewers/nobody"), ("POST", "/sessions/x/source")):
        status, answer = server.request(method, path, b"{}" if method == "POST" else None)
        assert status == 404 and "offer anew" in answer["error"]
    assert server.get("/nothing")[0] == 404
    assert server.request("POST", "/health")[0] == 405
    status, answer = server.post("/offer", {"sdp": offer_sdp(), "type": "offer", "source": "shared"})
    assert status == 400 and "'shared'" in answer["error"]


def test_a_foreign_page_cannot_speak_with_it(server: LiveServer) -> None:
    """DNS rebinding: the name of another site that resolves to 127.0.0.1."""
    status, answer = server.get("/config", Host=f"evil.example:{server.port}")
    assert status == 403 and "evil.example" in answer["error"]
    assert server.get("/config", Host=f"localhost:{server.port}")[0] == 200


def test_more_sessions_than_allowed_are_refused_and_the_others_never_notice(server: LiveServer) -> None:
    async def crowd() -> None:
        peers = [Peer(server), Peer(server)]
        for peer in peers:
            await peer.connect()
            await peer.wait_for(lambda p=peer: len(p.pictures) > 0)
        status, answer = await asyncio.to_thread(server.post, "/offer", {"sdp": offer, "type": "offer"})
        assert status == 503 and "2 sessions" in answer["error"]
        bad = await asyncio.to_thread(server.post, "/offer", {"sdp": "v=0", "type": "offer"})
        assert bad[0] == 400
        before = [len(p.pictures) for p in peers]
        for peer, count in zip(peers, before, strict=True):
            await peer.wait_for(lambda p=peer, c=count: len(p.pictures) > c + 10)
        assert len({p.session for p in peers}) == 2
        await asyncio.to_thread(server.request, "DELETE", f"/viewers/{peers[0].viewer}")
        third = Peer(server)
        await third.connect()
        await third.wait_for(lambda: len(third.pictures) > 3)
        for peer in (*peers[1:], third):
            await asyncio.to_thread(server.request, "DELETE", f"/viewers/{peer.viewer}")
        for peer in (*peers, third):
            await peer.close()

    offer = offer_sdp()
    asyncio.run(crowd())
    server.wait_for(lambda: not server.viewers())


def test_pages_that_connect_at_once_do_not_slip_past_the_limit(server: LiveServer) -> None:
    """All are answered; the two that are connected first get the places, and the others' connections end."""

    async def crowd() -> None:
        peers = [Peer(server) for _ in range(4)]
        await asyncio.gather(*(peer.connect("silence") for peer in peers))
        await peers[0].wait_for(lambda: sum(len(p.pictures) > 3 for p in peers) == 2)
        ended = [p for p in peers if len(p.pictures) == 0]
        for peer in ended:
            await peer.wait_for(lambda p=peer: p.pc.connectionState in ("closed", "failed"))
        assert len(ended) == 2 and len(server.viewers()) == 2
        for peer in peers:
            await asyncio.to_thread(server.request, "DELETE", f"/viewers/{peer.viewer}")
            await peer.close()

    asyncio.run(crowd())
    server.wait_for(lambda: not server.viewers())


# Its life


def test_a_shared_session_is_one_for_all(tmp_path: Path) -> None:
    """A recording from the command line: every viewer sees the same frames; the second costs no second rendering."""
    speech = write_wav(tmp_path / "talk.wav", tone(32_000))
    options = ("--source", speech, "--loop", "--size", "128", "--allow-source-change")
    with LiveServer(*options) as server:
        speech.unlink()  # it is in memory

        async def view() -> None:
            peers = [Peer(server), Peer(server)]
            for peer in peers:
                await peer.connect("shared")
            for peer in peers:
                await peer.wait_for(lambda p=peer: len(p.pictures) >= 20)
            first, second = server.viewers()
            assert first["shared"] and first["viewers"] == 2
            assert first["frames"]["rendered"] == pytest.approx(second["frames"]["rendered"], abs=5)
            status, answer = await asyncio.to_thread(
                server.post, f"/sessions/{peers[0].session}/source", {"source": "silence"}
            )
            assert status == 200 and answer["source"]["kind"] == "silence"
            assert peers[0].session == peers[1].session != "", "one session, whatever the viewer"
            assert server.get(f"/viewers/{peers[1].viewer}")[1]["source"]["kind"] == "silence"
            await peers[0].close()
            count = len(peers[1].pictures)
            await peers[1].wait_for(lambda: len(peers[1].pictures) > count + 5)
            await peers[1].close()

        assert server.get("/config")[1]["shared"] == {"name": "talk.wav", "may_change": True}
        asyncio.run(view())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_within_two_seconds_with_somebody_connected(number: signal.Signals) -> None:
    begun = time.monotonic()
    server = LiveServer("--size", "128").wait_until_ready()
    started_in = time.monotonic() - begun

    async def view() -> float:
        peer = Peer(server)
        await peer.connect()
        await peer.wait_for(lambda: len(peer.pictures) > 3)
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(number)
        started = time.monotonic()
        await asyncio.to_thread(server.process.wait, 30)
        took = time.monotonic() - started
        assert not [c for c in children if c.is_running()], "nothing is left running"
        await peer.close()
        return took

    took = asyncio.run(view())
    code, _, err = server.stop()
    assert (code, err) == (0, "")
    assert took < max(2.0, started_in), "a machine that takes long to start it may take as long to stop it"


def test_a_port_in_use_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, str(ROOT / "run_stream.py"), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("miravox: ") and done.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}" in done.stderr and "--port" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--source", "gone.wav"], ["gone.wav", "no such file"]),
        (["--source", "silence", "--tls-cert", "a.pem", "--tls-key", "b.pem"], ["--tls-cert", "PEM"]),
        (["--avatar", "nobody"], ["nobody", "avatar.json"]),
        (["--record", "none/a.mp4"], ["none/a.mp4"]),
    ],
)
def test_what_stands_in_the_way_is_told_in_a_line(options: list[str], words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "run_stream.py"), "--port", str(free_port()), "--size", "128", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "", done
    assert done.stderr.startswith("miravox: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words)
    assert not list(tmp_path.iterdir())


def test_beyond_this_machine_it_wants_a_token() -> None:
    with LiveServer("--host", "0.0.0.0", "--size", "128") as server:
        assert server.process.stdout is not None
        line = server.process.stdout.readline()
        token = line.split("?token=")[1].split()[0]
        assert len(token) >= 20
        assert server.get("/health")[0] == 200 and server.get("/")[0] == 200
        for path in ("/config", "/stats", "/metrics", "/sessions/x", "/poster.jpg"):
            assert server.get(path)[0] == 403, path
            assert server.get(path, Authorization="Bearer wrong")[0] == 403, path
        assert server.post("/offer", {"sdp": "x", "type": "offer"})[0] == 403
        assert server.get("/config", Authorization=f"Bearer {token}")[0] == 200
        assert server.get(f"/config?token={token}")[0] == 200


def test_https_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    import datetime
    import ssl
    import urllib.request

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    cert, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = LiveServer("--size", "128", "--tls-cert", cert, "--tls-key", private)
    trusted = ssl.create_default_context(cafile=str(cert))

    def health() -> bytes | None:
        try:
            with urllib.request.urlopen(f"https://localhost:{server.port}/health", context=trusted) as response:
                content: bytes = response.read()
                return content
        except OSError:
            return None

    try:
        assert b"Ada" in server.wait_for(health)
        assert server.process.stdout is not None
        assert "https://127.0.0.1" in server.process.stdout.readline()
    finally:
        server.stop()


def test_secrets_are_not_printed() -> None:
    command = [sys.executable, str(ROOT / "run_stream.py"), "--dry-run", "--token", "s3cret", "--host", "0.0.0.0"]
    command += ["--ice-server", "turn:turn.example:3478,me,passw0rd"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "s3cret" not in out and "passw0rd" not in out
    assert json.loads(out)["ice_servers"][0]["username"] == "me"
