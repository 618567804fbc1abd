"""What an offer is reduced to, and what is answered to it: offers in the shapes of browsers, and offers that lie."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest
from aiortc import RTCPeerConnection
from aiortc.sdp import SessionDescription

from realtime.errors import MiravoxError
from realtime.web import aiortc_patches
from realtime.web.candidates import MAX_CANDIDATES
from realtime.web.offers import MAX_LINES, Offer, read_offer
from realtime.web.viewer import Viewer

FINGERPRINT = "sha-256 " + ":".join(["AB"] * 32)
ICE = f"c=IN IP4 0.0.0.0\na=ice-ufrag:abcd\na=ice-pwd:{'x' * 22}\n"
TRANSPORT = f"{ICE}a=fingerprint:{FINGERPRINT}\na=setup:actpass\na=rtcp-mux\n"
H264 = "a=rtpmap:102 H264/90000\na=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=%s\n"
VP8 = "a=rtpmap:96 VP8/90000\na=rtcp-fb:96 nack\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n"
OPUS = (
    "a=rtpmap:111 opus/48000/2\na=fmtp:111 minptime=10;useinbandfec=1\na=rtpmap:0 PCMU/8000\na=rtpmap:63 red/48000/2\n"
)
HEVC = "a=rtpmap:98 H265/90000\na=rtpmap:45 AV1/90000\n"
HOST = "a=candidate:1 1 udp 2130706431 %s %d typ host\n"


def audio(mid: str = "0", direction: str = "sendrecv", codecs: str = OPUS) -> str:
    return f"m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0\n{TRANSPORT}a=mid:{mid}\na={direction}\n{codecs}"


def video(mid: str = "1", direction: str = "recvonly", codecs: str = H264 % "42e01f" + VP8) -> str:
    return f"m=video 9 UDP/TLS/RTP/SAVPF 102 96 97\n{TRANSPORT}a=mid:{mid}\na={direction}\n{codecs}"


def data(mid: str = "2") -> str:
    return f"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\n{TRANSPORT}a=mid:{mid}\na=sctp-port:5000\n"


def offer(*sections: str, bundle: str | None = None, ends: str = "\r\n") -> str:
    mids = " ".join(re.findall(r"a=mid:(\S+)", "".join(sections)))
    group = f"a=group:BUNDLE {mids if bundle is None else bundle}\n"
    return f"v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nt=0 0\n{group}{''.join(sections)}".replace("\n", ends)


def read(sdp: str, speaks: bool = True, local_only: bool = True) -> Offer:
    return read_offer(sdp, "offer", speaks, local_only)


def answered(sdp: str, size: int = 512, speaks: bool = True) -> str:
    """What a viewer answers."""
    aiortc_patches.install(loopback_only=True)

    async def answer() -> str:
        read_one = read(sdp, speaks)
        viewer = Viewer(read_one.codec, "browser", "id", [], lambda _: None, lambda _: None)
        try:
            return await viewer.answer(read_one, size)
        finally:
            await viewer.close()

    return asyncio.run(answer())


def sections(sdp: str) -> list[str]:
    return re.split(r"(?m)^(?=m=)", sdp)[1:]


# Shapes of browsers


@pytest.mark.parametrize(
    ("sdp", "codec", "ports"),
    [
        (offer(audio(), video()), "H264", [1, 1]),
        (offer(video("0"), audio("1")), "H264", [1, 1]),
        (offer(audio(), video(codecs=VP8)), "VP8", [1, 1]),
        (offer(audio(), data("1"), video("2")), "H264", [1, 0, 1]),
        (offer(data("0"), audio("1"), video("2")), "H264", [0, 1, 1]),
        (offer(audio(), video(), video("2", "sendrecv")), "H264", [1, 1, 0]),
        (offer(audio(), video(), audio("2", "sendonly")), "H264", [1, 1, 0]),
        (offer(audio(), video(codecs=H264 % "640c1f" + VP8)), "VP8", [1, 1]),
        (offer(audio(), video(codecs=H264 % "42003c" + VP8)), "VP8", [1, 1]),
        (offer(audio(), video(codecs=HEVC + VP8)), "VP8", [1, 1]),
        (offer(audio(), video(), ends="\n"), "H264", [1, 1]),
    ],
    ids=[
        "usual",
        "video first",
        "Firefox without OpenH264",
        "data channel between",
        "data channel first",
        "two videos",
        "two audios",
        "High profile",
        "a level that nobody knows",
        "H265 and AV1",
        "LF",
    ],
)
def test_an_answer_has_a_section_for_each_of_the_offer(sdp: str, codec: str, ports: list[int]) -> None:
    """Surplus sections are refused by port 0, in their places, and are not in BUNDLE; browsers take nothing else."""
    answer = answered(sdp)
    found = sections(answer)
    assert [int(s.split(" ")[1] != "0") for s in found] == ports
    assert [s.split(" ")[0] for s in found] == [s.split(" ")[0] for s in sections(sdp)]
    mids = re.findall(r"a=mid:(\S+)", answer)
    assert mids == re.findall(r"a=mid:(\S+)", sdp)
    taken = [mid for mid, port in zip(mids, ports, strict=True) if port]
    assert re.search(r"a=group:BUNDLE (.*)\r", answer)[1].split() == taken  # type: ignore[index]
    names = set(re.findall(r"a=rtpmap:\d+ ([^/]+)", answer))
    assert names - {"rtx"} == {codec, "opus"}, "codecs that nobody wants are not in the answer"
    SessionDescription.parse("".join([re.split(r"(?m)^(?=m=)", answer)[0], *(s for s in found if " 0 " not in s[:20])]))


@pytest.mark.parametrize(
    ("profile", "size", "wanted"),
    [
        ("42e01f", 512, "42e01f"),
        ("42e01f", 960, "42e01f"),
        ("42e01f", 1024, "42e020"),
        ("42c01f", 512, "42c01f"),
        ("42001f", 1024, "420020"),
        ("42e034", 512, "42e01f"),
    ],
)
def test_the_answers_profile_is_the_offers_and_its_level_fits_the_size(profile: str, size: int, wanted: str) -> None:
    """1024 pixels were announced as level 3.1, which ends at 960."""
    answer = answered(offer(audio(), video(codecs=H264 % profile)), size)
    assert re.findall(r"profile-level-id=(\w+)", answer) == [wanted]


def test_an_offer_of_a_real_peer_and_its_own_answer_fit() -> None:
    async def meet() -> None:
        peer = RTCPeerConnection()
        peer.addTransceiver("video", direction="recvonly")
        peer.addTransceiver("audio", direction="recvonly")
        peer.createDataChannel("x")
        await peer.setLocalDescription(await peer.createOffer())
        sdp = peer.localDescription.sdp
        await peer.close()
        found = read(sdp)
        assert found.codec == "H264" and found.is_bundled and len(found.sections) == 3

    asyncio.run(meet())


# What nobody wants


def test_video_that_is_sent_to_the_server_is_not_received() -> None:
    """A second video section that sent 720p took up to 2.7 GB in a minute: it was decoded, and nobody looked."""
    sdp = offer(audio(), video("1", "sendrecv"), video("2", "sendonly"))
    first, second = sections(answered(sdp))[1:]
    assert "a=sendonly" in first and "a=inactive" in second and second.startswith("m=video 0 ")
    assert read(sdp).sdp.count("m=video") == 1 and "a=recvonly" in sections(read(sdp).sdp)[1]


def test_a_microphone_is_received_only_where_it_may_speak() -> None:
    assert "a=sendrecv" in sections(answered(offer(audio(), video())))[0]
    assert "a=sendonly" in sections(answered(offer(audio(), video()), speaks=False))[0]
    assert "a=sendonly" in sections(answered(offer(audio(direction="recvonly"), video())))[0]
    assert "a=inactive" in sections(answered(offer(audio(direction="sendonly"), video()), speaks=False))[0]


# Candidates


def test_candidates_are_few_and_of_this_machine_alone_where_the_server_is() -> None:
    """2500 candidates were all tried, in 5,844 packets; a name of mDNS made a server on loopback multicast."""
    lines = "".join(HOST % (f"127.0.0.{i % 250 + 1}", 5000 + i) for i in range(2500))
    assert read(offer(audio(), video() + lines)).sdp.count("a=candidate") == 2 * MAX_CANDIDATES
    others = HOST % ("192.0.2.7", 5000) + HOST % ("abc-1.local", 5000) + HOST % ("example.org", 5000)
    local = read(offer(audio(), video() + others + HOST % ("127.0.0.1", 5000)))
    assert local.sdp.count("a=candidate") == 2 and "127.0.0.1 5000" in local.sdp and local.named == ()
    remote = read(offer(audio(), video() + others), local_only=False)
    assert "192.0.2.7" in remote.sdp and ".local" not in remote.sdp and "example.org" not in remote.sdp
    assert [candidate.ip for candidate in remote.named] == ["abc-1.local"]


@pytest.mark.parametrize(
    "line",
    [
        HOST % ("fe80::1%eth0", 5000),
        HOST % ("224.0.0.1", 5000),
        HOST % ("0.0.0.0", 5000),
        HOST % ("192.0.2.7", 0),
        HOST % ("192.0.2.7", 70000),
        "a=candidate:1 1 tcp 2105458943 192.0.2.7 9 typ host tcptype active\n",
        "a=candidate:1 2 udp 2105458943 192.0.2.7 5000 typ host\n",
        "a=candidate:1 1 udp -1 192.0.2.7 5000 typ host\n",
        "a=candidate:1 1 udp x 192.0.2.7 5000 typ host\n",
        "a=candidate:1 1\n",
        "a=candidate:\n",
        "",
    ],
)
def test_candidates_that_cannot_be_tried_are_left_out(line: str) -> None:
    """And the end of candidates is not told, since the browser's own check may still come."""
    sdp = read(offer(audio(), video() + line + "a=end-of-candidates\n"), local_only=False).sdp
    assert "a=candidate" not in sdp and "end-of-candidates" not in sdp


def test_an_offer_without_candidates_is_answered_at_once() -> None:
    assert "a=candidate" in answered(offer(audio(), video() + HOST % ("gone.local", 5000)))


# Offers that lie


BAD: dict[str, tuple[Callable[[], str], str]] = {
    "BUNDLE of a missing section": (lambda: offer(audio(), video(), bundle="0 1 9"), "BUNDLE"),
    "the same mid twice": (lambda: offer(audio("a"), video("a")), "mid"),
    "a mid too long": (lambda: offer(audio("a" * 17), video()), "mid"),
    "no mid": (lambda: offer(audio(), video().replace("a=mid:1\n", ""), bundle="0"), "mid"),
    "no video to see": (lambda: offer(audio(), video(direction="sendonly")), "sendonly"),
    "only what is not sent": (lambda: offer(audio(), video(codecs=HEVC)), "without VP8"),
    "High profile alone": (lambda: offer(audio(), video(codecs=H264 % "64001f")), "without VP8"),
    "no Opus": (lambda: offer(audio(codecs="a=rtpmap:111 opus/8000\n"), video()), "Opus"),
    "no rtcp-mux": (lambda: offer(audio(), video()).replace("a=rtcp-mux", "a=x"), "rtcp-mux"),
    "an ICE user name of 100 kB": (lambda: offer(audio(), video()).replace("abcd", "a" * 100_000), "ICE"),
    "an ICE password of none": (lambda: offer(audio(), video()).replace("x" * 22, ""), "ICE"),
    "too many lines": (lambda: offer(audio(), video() + "a=rtpmap:1 x/1\na=rtcp-fb:* x\n" * MAX_LINES), "lines"),
    "too many sections": (lambda: offer(audio(), video(), *(data(str(i)) for i in range(2, 40))), "sections"),
    "a line that is no section": (lambda: offer(audio(), video(), "m=video\n"), "m=video"),
    "a section with a strange port": (lambda: offer(audio(), video()).replace("m=video 9", "m=video -9"), "m=video"),
    "a payload type of 300": (lambda: offer(audio(), video()).replace("SAVPF 102", "SAVPF 300"), "cannot be read"),
    "a format of no codec": (lambda: offer(audio(), video() + "a=fmtp:120 x=1\n"), "cannot be read"),
    "an unknown setup": (lambda: offer(audio(), video()).replace("actpass", "perhaps"), "cannot be read"),
    "control letters": (lambda: offer(audio(), video()) + "a=setup:\x1b[31m\r\n", "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_answered_is_refused_in_a_line(name: str) -> None:
    """A BUNDLE that named a missing section was a fault of the server; so were others of these."""
    make, words = BAD[name]
    with pytest.raises(MiravoxError) as told:
        read(make())
    assert words in str(told.value) and str(told.value).isprintable() and len(str(told.value)) < 400


@pytest.mark.parametrize("extensions", ["a=extmap:300 x\n", "a=extmap:0 x\n", "a=extmap:3 x\na=extmap:3 y\n"])
def test_header_extensions_that_cannot_be_sent_are_left_out(extensions: str) -> None:
    ids = re.findall(r"a=extmap:(\d+)", read(offer(audio(), video() + extensions)).sdp)
    assert len(ids) == len(set(ids)) and set(ids) <= {"3"}
