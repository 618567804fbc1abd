"""Options of the network that cannot work are refused at the start, and those that can are taken."""

from __future__ import annotations

import pytest
from aiortc import RTCIceServer
from aiortc.rtcicetransport import connection_kwargs

from realtime.cli import ice_server, parse_config
from realtime.config import IceServer, StreamConfig
from realtime.errors import MiravoxError
from realtime.web.server import link


@pytest.mark.parametrize("token", ["", " ", "\t", " a", "a ", "ä", "a\nb", "a\0"])
def test_a_token_that_browsers_cannot_send_is_refused(token: str) -> None:
    """An empty one, of a variable that was not set, opened the server to all and switched the check of hosts off."""
    with pytest.raises(MiravoxError, match="--token"):
        StreamConfig(host="0.0.0.0", token=token)


@pytest.mark.parametrize(
    ("token", "query"), [("a b&c#d", "a%20b%26c%23d"), ("x+y/z=?", "x%2By%2Fz%3D%3F"), ("abc", "abc"), ("~", "~")]
)
def test_the_link_carries_the_token(token: str, query: str) -> None:
    assert link(StreamConfig(host="192.0.2.1", token=token)) == f"http://192.0.2.1:8080/?token={query}"


@pytest.mark.parametrize(
    "url",
    [
        "turn:[::1]",
        "stun:[2001:db8::1]:3478",
        "stun:host:99999",
        "stun:host:0",
        "stun:",
        "stun:a b",
        "stun:host:x",
        "stun:host?transport=udp",
        "stuns:host",
        "http://host",
        "turn:host?transport=sctp",
        "turns:host?transport=udp",
    ],
)
def test_addresses_of_ice_servers_that_cannot_be_used_are_refused(url: str) -> None:
    """They passed the start, and every offer failed."""
    with pytest.raises(MiravoxError, match="--ice-server"):
        StreamConfig(ice_servers=(IceServer(url, "me", "secret"),))


def test_a_relay_wants_credentials() -> None:
    with pytest.raises(MiravoxError, match="without a user name"):
        StreamConfig(ice_servers=(IceServer("turn:host"),))


@pytest.mark.parametrize(
    "text",
    [
        "stun:stun.example.org",
        "stun:192.0.2.1:3478",
        "turn:host:3478,me,secret",
        "turn:host?transport=tcp,1700000000:me,a,b,,c==",
        "turns:turn_1.example:443?transport=tcp,me,secret",
    ],
)
def test_addresses_of_ice_servers_that_can_be_used_are_taken(text: str) -> None:
    """A credential may have commas in it; they were refused."""
    (server,) = parse_config(["--ice-server", text]).ice_servers
    assert (
        server == ice_server(text) and ",".join(filter(None, (server.url, server.username, server.credential))) == text
    )
    assert connection_kwargs([RTCIceServer(server.url, server.username, server.credential)]), "aiortc takes it, too"
