"""Candidates: which addresses of a browser are tried, of those that it offers."""

from __future__ import annotations

import ipaddress
import re

from aiortc import RTCIceCandidate
from aiortc import sdp as sdp_format

PREFIX = "a=candidate:"  # of their lines in an SDP
MAX_CANDIDATES = 20
KINDS = ("host", "srflx", "relay")
FOUNDATION = re.compile(r"[!-~]{1,32}")


def read_candidates(lines: list[str], local_only: bool) -> tuple[list[RTCIceCandidate], list[RTCIceCandidate]]:
    """Those that may be tried: by address, and by a name of mDNS. What cannot be read is left out.

    The end of candidates is never told to aiortc: without any it would give up before the browser's own check comes.
    """
    addressed: dict[tuple[str, int], RTCIceCandidate] = {}
    named: dict[tuple[str, int], RTCIceCandidate] = {}
    for line in lines:
        if len(addressed) + len(named) == MAX_CANDIDATES:
            break
        try:
            candidate = sdp_format.candidate_from_sdp(line[len(PREFIX) :][:500])
        except (AssertionError, ValueError):
            continue
        usable = (
            candidate.protocol.lower() == "udp"
            and candidate.component == 1
            and candidate.type in KINDS
            and 1 <= candidate.port <= 65535
            and 0 <= candidate.priority < 1 << 32
            and FOUNDATION.fullmatch(candidate.foundation)
        )
        if not usable:
            continue
        candidate.relatedAddress = candidate.relatedPort = candidate.tcpType = None
        if re.fullmatch(r"[0-9A-Za-z-]{1,63}\.local", candidate.ip):
            if not local_only:
                named.setdefault((candidate.ip, candidate.port), candidate)
        elif _may_be_tried(candidate.ip, local_only):
            addressed.setdefault((candidate.ip, candidate.port), candidate)
    return list(addressed.values()), list(named.values())


def _may_be_tried(text: str, local_only: bool) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # a name, which is not looked up
        return False
    if local_only:
        return address.is_loopback
    scoped = isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None
    return not (scoped or address.is_unspecified or address.is_multicast or address.is_reserved)
