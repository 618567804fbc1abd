"""What hostile viewers send: recordings, offers, requests and packets that are wrong on purpose."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
from aiortc.rtp import RtpPacket

HUGE = 2_000_000_000


def wav(content: bytes, rate: int = 16_000, channels: int = 1, promised: int | None = None) -> bytes:
    """16 bit PCM whose header promises so many bytes of sound, all of them by default."""
    size = len(content) if promised is None else promised
    layout = struct.pack("<HHIIHH", 1, channels, rate, (rate * channels * 2) % 2**32, (channels * 2) % 2**16, 16)
    return (
        b"RIFF"
        + struct.pack("<I", (36 + size) % 2**32)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + layout
        + b"data"
        + struct.pack("<I", size % 2**32)
        + content
    )


def flac(seconds: float, rate: int, channels: int) -> bytes:
    """Silence, which is small however long it is."""
    layout = {1: "mono", 2: "stereo", 8: "7.1"}[channels]
    memory = io.BytesIO()
    with av.open(memory, "w", format="flac") as file:
        stream = file.add_stream("flac", rate=rate, layout=layout)
        silence = np.zeros((1, channels * rate), np.int16)
        for second in range(int(seconds)):
            frame = av.AudioFrame.from_ndarray(silence, format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate, second * rate
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return memory.getvalue()


def flac_that_lies(content: bytes) -> bytes:
    """The same with a header that promises 2^36 - 1 samples (the last 36 of STREAMINFO's counts)."""
    at = 4 + 4 + 13
    return content[:at] + bytes([content[at] | 0x0F]) + b"\xff" * 4 + content[at + 5 :]


def picture_in_avi(side: int) -> bytes:
    """A film of one PNG whose header alone says how large it is: all of its pixels are one byte again and again."""
    scanlines = zlib.compress(b"\0" * (side * 8), 9)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", scanlines) + chunk(b"IEND", b"")
    memory = io.BytesIO()
    with av.open(memory, "w", format="avi") as file:
        stream = file.add_stream("png", rate=25)
        stream.width = stream.height = 16
        stream.pix_fmt = "rgb24"
        packet = av.Packet(png)
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 25)
        file.start_encoding()
        file.mux(packet)
    return memory.getvalue()


def recordings() -> dict[str, bytes]:
    """Files to upload, by name: broken ones, bombs, lists of other files, headers that lie, and two that are good."""
    speech = (8000 * np.sin(np.arange(16_000) / 12)).astype("<i2").tobytes()
    noise = random.Random(0).randbytes(20_000)
    hour = flac(3600, 4000, 1)
    return {
        "good.wav": wav(speech),
        "good.flac": flac(2, 16_000, 2),
        "empty.wav": b"",
        "noise.mp3": noise,
        "notes.txt": b"Once upon a time there was no sound.\n" * 200,
        "promises more.wav": wav(speech, promised=HUGE),
        "promises nothing.wav": wav(speech, promised=0),
        "promises less.wav": wav(speech, promised=100),
        "one hertz.wav": wav(speech, rate=1),
        "no rate.wav": wav(speech, rate=0),
        "many channels.wav": wav(speech, channels=65_535),
        "cut off.wav": wav(speech)[:30],
        "hour.flac": hour,
        "more than an hour.flac": flac_that_lies(hour[:5000]),
        "wide.flac": flac(4, 655_350, 8),
        "broken.flac": hour[:200] + noise,
        "junk.ogg": b"OggS\0\2" + noise,
        "junk.mp4": struct.pack(">I", HUGE) + b"ftypisom" + noise,
        "picture.avi": picture_in_avi(16_000),
        "list.m3u8": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXTINF:1,\nfile:///etc/hostname\n",
        "list.ffconcat": b"ffconcat version 1.0\nfile /etc/hostname\n",
        "call.sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        f"{'long' * 75}.wav": wav(speech),
        "x.\0": wav(speech),
        "../../up.wav": wav(speech),
    }


Lie = Callable[[str, random.Random], str]


def _shuffled(sdp: str, rng: random.Random) -> str:
    lines = sdp.splitlines()
    for _ in range(5):
        a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[a], lines[b] = lines[b], lines[a]
    return "\r\n".join(lines) + "\r\n"


def _without_a_line(sdp: str, rng: random.Random) -> str:
    lines = sdp.splitlines()
    del lines[rng.randrange(len(lines))]
    return "\r\n".join(lines) + "\r\n"


def _candidates(sdp: str, rng: random.Random) -> str:
    """As many as fit, of every kind of address: other machines, many ports, names, IPv6, nonsense."""
    hosts = ("192.0.2.1", "127.0.0.1", "one.local", "2001:db8::1", "localhost", "0.0.0.0", "224.0.0.251", "999.1.1.1")
    lines = [
        f"a=candidate:{n} 1 udp {rng.randrange(2**31)} {rng.choice(hosts)} {rng.randrange(1, 65_536)} typ host\r\n"
        for n in range(rng.choice((1, 20, 1500)))
    ]
    return sdp + "".join(lines)


def _flipped(sdp: str, rng: random.Random) -> str:
    letters = list(sdp)
    for _ in range(rng.choice((1, 10, 100))):
        letters[rng.randrange(len(letters))] = chr(rng.choice((0, 9, 32, 48, 255, 0x2028, rng.randrange(1, 127))))
    return "".join(letters)


def _sections(sdp: str, rng: random.Random) -> str:
    """More sections than one of each kind, in directions that nobody asked for."""
    head, *sections = re.split(r"(?=^m=)", sdp, flags=re.M)
    more = [rng.choice(sections) for _ in range(rng.choice((1, 3, 30)))]
    directions = ("sendonly", "sendrecv", "inactive")
    more = [re.sub(r"a=(sendrecv|recvonly)", f"a={rng.choice(directions)}", section) for section in more]
    more = [re.sub(r"a=mid:.*", f"a=mid:{9 + index}", section) for index, section in enumerate(more)]
    return head + "".join(sections + more)


SDP_LIES: dict[str, Lie] = {
    "cut off": lambda sdp, rng: sdp[: rng.randrange(len(sdp))],
    "shuffled": _shuffled,
    "without a line": _without_a_line,
    "letters changed": _flipped,
    "candidates": _candidates,
    "more sections": _sections,
    "a bundle of what is not there": lambda sdp, rng: sdp.replace("a=group:BUNDLE 0", "a=group:BUNDLE 0 7 missing"),
    "another fingerprint": lambda sdp, rng: re.sub(r"(?<=sha-256 )\w\w", "00", sdp),
    "a huge port": lambda sdp, rng: re.sub(r"(?m)^m=(\w+) \d+", r"m=\1 99999999", sdp),
    "numbers": lambda sdp, rng: re.sub(r"\d+", lambda _: str(rng.choice((0, -1, 2**32, 10**30))), sdp),
    "long lines": lambda sdp, rng: sdp.replace("a=rtcp-mux", "a=rtcp-mux" + "x" * 100_000),
    "all of it twice": lambda sdp, rng: sdp + sdp,
}


def raw_request(rng: random.Random) -> bytes:
    """What is no proper request, or only just one."""
    body = json.dumps({"sdp": "v=0", "type": "offer"}).encode()
    host = b"Host: 127.0.0.1\r\n"
    return rng.choice(
        (
            rng.randbytes(400),
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
            b"GET / HTTP/1.1\r\nHost: :abc\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: xn--\xff\xfe.example\r\n\r\n",
            b"GET /stats HTTP/1.1\r\n" + host + b"Authorization: Bearer \xff\xfe\r\n\r\n",
            b"GET /\xff\xfe\0 HTTP/1.1\r\n" + host + b"\r\n",
            b"GET " + b"/a" * 20_000 + b" HTTP/1.1\r\n" + host + b"\r\n",
            b"GET / HTTP/1.1\r\n" + host + b"X: y\r\n" * 5000 + b"\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"BREW /offer HTCPCP/1.0\r\n\r\n",
            b"POST /offer HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\nContent-Encoding: gzip\r\n"
            b"Content-Length: 20\r\n\r\nthis is no gzip data",
            b"POST /offer HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"FFFFFFFFFFFFFFFF\r\n" + body,
            b"POST /offer HTTP/1.1\r\n" + host + b"Content-Length: -1\r\n\r\n",
            b"POST /offer HTTP/1.1\r\n" + host + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + rng.randbytes(100),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        )
    )


def packets(rng: random.Random) -> list[bytes]:
    """RTP and RTCP of a peer that lies: time stamps that jump, many sources, no sound, a flood of requests."""
    kind = rng.choice(("jumps", "fast", "sources", "junk", "requests"))
    sent = []
    for index in range(60):
        packet = RtpPacket(payload_type=rng.choice((96, 97, 109, 111)) if kind == "junk" else 111)
        packet.sequence_number = index if kind != "junk" else rng.randrange(2**16)
        packet.timestamp = {"jumps": rng.randrange(2**32), "fast": 48_000 * index}.get(kind, 960 * index) % 2**32
        packet.ssrc = rng.randrange(2**32) if kind == "sources" else 4711
        packet.payload = rng.randbytes(rng.choice((0, 1, 80, 1100)) if kind == "junk" else 80)
        sent.append(packet.serialize())
    if kind == "requests":
        # Payload-specific feedback: picture loss, full intra request; transport feedback: NACK of everything.
        sent = [
            struct.pack(">BBHII", 0x80 | form, packet_type, 2 + len(more) // 4, 4711, rng.randrange(2**32)) + more
            for form, packet_type, more in ((1, 206, b""), (4, 206, b"\0" * 8), (1, 205, b"\0\1\xff\xff" * 50))
            for _ in range(20)
        ]
    return sent
