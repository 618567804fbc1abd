"""Offers: a browser's SDP -> what aiortc is given of it, and aiortc's answer -> what the browser is told.

aiortc sees one audio and one video section with the codecs that are sent, a few candidates, and nothing else of the
offer: what nobody wants is neither negotiated nor decoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiortc import RTCIceCandidate
from aiortc import sdp as sdp_format
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.sdp import H264Profile, MediaDescription, SessionDescription

from ..errors import MiravoxError
from ..stream.encoders import LEVEL_31_PIXELS
from .candidates import PREFIX, read_candidates

MAX_LINES = 1000  # of an offer besides its candidates; a browser's has about 300
MAX_SECTIONS = 16
MAX_EXTENSIONS = 16  # of the RTP header, a section
MAX_FEEDBACKS = 16  # kinds of RTCP feedback, a codec
DYNAMIC_PAYLOADS = range(96, 128)  # those that aiortc answers with as they were offered
MID = re.compile(r"[!#$%&'*+.^_`{|}~0-9A-Za-z-]{1,16}")  # as an RTP header extension carries it (RFC 8285, one byte)
UFRAG, PASSWORD = re.compile(r"[!-~]{1,256}"), re.compile(r"[!-~]{1,256}")
BASELINE = (H264Profile.PROFILE_BASELINE, H264Profile.PROFILE_CONSTRAINED_BASELINE)
LEVEL_31, LEVEL_32 = "1f", "20"  # the last two digits of H.264's profile-level-id


@dataclass(frozen=True)
class Offer:
    """An offer that can be answered."""

    sdp: str  # for aiortc
    codec: str  # of the video that will be sent: H264 or VP8
    named: tuple[RTCIceCandidate, ...]  # candidates by a name of mDNS, which costs time to resolve
    profile: str | None  # the first four digits of H.264's profile-level-id, as offered
    sections: tuple[tuple[str, str | None], ...]  # of the whole offer: its m line, and its mid
    kept: tuple[int, ...]  # which of them are in `sdp`
    is_bundled: bool

    def completed(self, answer: str, size: int) -> str:
        """aiortc's answer to `sdp` as an answer to the whole offer: all other sections are refused.

        Args:
            size: side of the square video in pixels, which H.264's level must allow.
        """
        level = LEVEL_31 if size * size <= LEVEL_31_PIXELS else LEVEL_32
        if self.profile is not None:
            answer = re.sub(r"(profile-level-id=)[0-9a-fA-F]{6}", rf"\g<1>{self.profile}{level}", answer)
        if not self.is_bundled:  # aiortc answers so in any case
            answer = re.sub(r"a=group:BUNDLE[^\r\n]*\r\n", "", answer)
        head, *answered = re.split(r"(?m)^(?=m=)", answer)
        given = iter(answered)
        parts = [
            next(given) if index in self.kept else _refused(*section) for index, section in enumerate(self.sections)
        ]
        return head + "".join(parts)


def read_offer(sdp: object, kind: object, speaks: bool, local_only: bool) -> Offer:
    """An offer as a browser sent it, of whatever type it is.

    Args:
        kind: of the description; "offer" is wanted.
        speaks: whether sound of the browser is wanted, if it offers some.
        local_only: whether no other machine's candidates are taken.

    Raises MiravoxError if it is not an offer that can be answered.
    """
    if not isinstance(sdp, str) or kind != "offer":
        raise bad_offer(f"type {_shown(kind)} and an sdp that is {type(sdp).__name__}")
    lines = sdp.splitlines()
    candidate_lines = [line for line in lines if line.startswith(PREFIX)]
    lines = [line for line in lines if not line.startswith((PREFIX, "a=end-of-candidates"))]
    if len(lines) > MAX_LINES:
        raise bad_offer(f"an SDP of more than {MAX_LINES} lines")
    head, sections = _split(lines)
    if len(sections) > MAX_SECTIONS:
        raise bad_offer(f"an SDP of more than {MAX_SECTIONS} sections")
    named = tuple((section[0], _mid(section)) for section in sections)
    kept = _kept(sections)
    bundle = _bundle(head, [mid for _, mid in named])
    try:
        parsed = SessionDescription.parse("\r\n".join([*head, *(line for i in kept for line in sections[i])]) + "\r\n")
    except Exception as error:  # aiortc's parser raises whatever the text provokes
        raise bad_offer(f"an SDP that cannot be read ({type(error).__name__}: {_shown(error)})") from error
    media = {m.kind: m for m in parsed.media}
    for m in parsed.media:
        _check_section(m)
    if len({m.rtp.muxId for m in parsed.media}) != 2:
        raise bad_offer("an SDP whose audio and video have the same mid")
    opus = _opus(media["audio"])
    codec, video_codecs = _video_codecs(media["video"])
    direction = media["audio"].direction or "sendrecv"
    if not speaks and direction in ("sendrecv", "sendonly"):
        direction = "recvonly" if direction == "sendrecv" else "inactive"
    if (media["video"].direction or "sendrecv") not in ("sendrecv", "recvonly"):
        raise bad_offer(f"an SDP whose video is {media['video'].direction}: nothing would be seen")
    candidates, mdns = read_candidates(candidate_lines, local_only)
    clean = {
        "audio": _clean(media["audio"], [opus], direction, candidates),
        "video": _clean(media["video"], video_codecs, "recvonly", candidates),
    }
    description = SessionDescription()
    description.origin = "- 0 0 IN IP4 0.0.0.0"
    description.media = [clean[m.kind] for m in parsed.media]
    mids = [m.rtp.muxId for m in parsed.media]
    is_bundled = all(mid in bundle for mid in mids)
    if is_bundled:
        description.group = [sdp_format.GroupDescription("BUNDLE", [*mids])]
    return Offer(
        sdp=str(description),
        codec=codec,
        named=tuple(mdns),
        profile=str(video_codecs[0].parameters.get("profile-level-id", "42e01f"))[:4] if codec == "H264" else None,
        sections=named,
        kept=tuple(kept),
        is_bundled=is_bundled,
    )


def bad_offer(found: str) -> MiravoxError:
    return MiravoxError(
        "offer",
        found=found,
        wanted="a WebRTC offer with one audio and one video section, Opus, and H.264 or VP8",
        remedy="Offer again, with all candidates gathered.",
    )


def _shown(value: object) -> str:
    """For an error's one line: short and printable."""
    text = str(value) if isinstance(value, Exception) else repr(value)
    return "".join(c if c.isprintable() else "?" for c in text)[:100]


def _refused(m_line: str, mid: str | None) -> str:
    """The section of an answer that refuses one (RFC 3264, 6: its port is 0)."""
    kind, _, rest = m_line[2:].split(" ", 2)
    named = f"a=mid:{mid}\r\n" if mid is not None else ""
    return f"m={kind} 0 {rest}\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\n{named}"


def _split(lines: list[str]) -> tuple[list[str], list[list[str]]]:
    """The lines of the session, and those of each section."""
    head: list[str] = []
    sections: list[list[str]] = []
    for line in lines:
        if line.startswith("m="):
            if not re.fullmatch(r"m=[a-z]{1,32} \d{1,5} [A-Z/]{1,32} [!-~ ]{1,1000}", line):
                raise bad_offer(f"an SDP with the line {_shown(line)}")
            sections.append([line])
        elif sections:
            sections[-1].append(line)
        else:
            head.append(line)
    return head, sections


def _mid(section: list[str]) -> str | None:
    mids = [line[len("a=mid:") :] for line in section if line.startswith("a=mid:")]
    if not mids:
        return None
    if len(mids) > 1 or not MID.fullmatch(mids[0]):
        raise bad_offer(f"an SDP with the mid {_shown(mids[-1])}")
    return mids[0]


def _kept(sections: list[list[str]]) -> list[int]:
    """Indices of the first audio and the first video section, in the offer's order."""
    kinds = [section[0][2:].split(" ")[0] for section in sections]
    for wanted in ("audio", "video"):
        if wanted not in kinds:
            raise bad_offer(f"an SDP without {wanted}")
    return sorted((kinds.index("audio"), kinds.index("video")))


def _bundle(head: list[str], mids: list[str | None]) -> list[str]:
    """The sections that share a transport."""
    groups = [line.split()[1:] for line in head if line.startswith("a=group:BUNDLE")]
    if not groups:
        return []
    for mid in groups[0]:
        if mid not in mids:
            raise bad_offer(f"an SDP whose BUNDLE names the section {_shown(mid)}, which it does not have")
    return groups[0]


def _check_section(media: MediaDescription) -> None:
    if not media.rtp.muxId:
        raise bad_offer(f"an SDP whose {media.kind} has no mid")
    ice, dtls = media.ice, media.dtls
    if ice is None or not ice.usernameFragment or dtls is None or not dtls.fingerprints:
        raise bad_offer(f"an SDP whose {media.kind} has no ICE user name or DTLS fingerprint")
    if not UFRAG.fullmatch(ice.usernameFragment) or not PASSWORD.fullmatch(ice.password or ""):
        raise bad_offer(f"an SDP whose {media.kind} has a bad ICE user name or password")
    if not media.rtcp_mux:
        raise bad_offer(f"an SDP whose {media.kind} has no rtcp-mux")


def _opus(media: MediaDescription) -> RTCRtpCodecParameters:
    for codec in _dynamic_first(media.rtp.codecs):
        if codec.name.lower() == "opus" and codec.clockRate == 48_000 and codec.channels == 2:
            return codec
    raise bad_offer("an SDP without Opus")


def _video_codecs(media: MediaDescription) -> tuple[str, list[RTCRtpCodecParameters]]:
    """H264 where its Baseline is offered, VP8 otherwise, each with what retransmits it."""
    codecs = _dynamic_first([c for c in media.rtp.codecs if c.clockRate == 90_000])
    for name, fits in (("H264", _is_baseline), ("VP8", lambda codec: True)):
        for codec in codecs:
            if codec.name.upper() == name and fits(codec):
                again = [c for c in codecs if c.name.lower() == "rtx" and c.parameters.get("apt") == codec.payloadType]
                return name, [codec, *again[:1]]
    raise bad_offer("an SDP without VP8 and without H.264 Baseline (42001f or 42e01f, packetization mode 1)")


def _is_baseline(codec: RTCRtpCodecParameters) -> bool:
    if str(codec.parameters.get("packetization-mode")) != "1":
        return False
    try:
        level_id = str(codec.parameters.get("profile-level-id", "42e01f"))
        return len(level_id) == 6 and sdp_format.parse_h264_profile_level_id(level_id)[0] in BASELINE
    except ValueError:
        return False


def _dynamic_first(codecs: list[RTCRtpCodecParameters]) -> list[RTCRtpCodecParameters]:
    return sorted(codecs, key=lambda codec: codec.payloadType not in DYNAMIC_PAYLOADS)


def _clean(
    media: MediaDescription, codecs: list[RTCRtpCodecParameters], direction: str, candidates: list[RTCIceCandidate]
) -> MediaDescription:
    """A section with what is wanted of it."""
    clean = MediaDescription(
        kind=media.kind, port=9, profile="UDP/TLS/RTP/SAVPF", fmt=[codec.payloadType for codec in codecs]
    )
    for codec in codecs:
        codec.rtcpFeedback = codec.rtcpFeedback[:MAX_FEEDBACKS]
    clean.direction, clean.rtcp_port, clean.rtcp_mux = direction, 9, True
    extensions: dict[int, RTCRtpHeaderExtensionParameters] = {}
    for extension in media.rtp.headerExtensions:
        if 1 <= extension.id <= 255 and extension.uri not in {e.uri for e in extensions.values()}:
            extensions.setdefault(extension.id, extension)
        if len(extensions) == MAX_EXTENSIONS:
            break
    clean.rtp = RTCRtpParameters(codecs=codecs, headerExtensions=list(extensions.values()), muxId=media.rtp.muxId)
    clean.ssrc = [ssrc for ssrc in media.ssrc[:1] if 0 <= ssrc.ssrc < 1 << 32] if media.kind == "audio" else []
    clean.ice, clean.dtls = media.ice, media.dtls
    clean.ice_candidates = candidates
    return clean
