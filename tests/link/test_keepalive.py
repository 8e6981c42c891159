"""Peers whose machine is silent: judged by what the kernel acknowledges, never by how slow they are."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from discoro_trio import config
from discoro_trio._link import _keepalive, serve_endpoint, transport_over
from discoro_trio._link._keepalive import Keepalive, _Acknowledgements, _acknowledgements
from discoro_trio._wire import Credential

if TYPE_CHECKING:
    from discoro_trio._link import Link

KEY = Credential(b"", b"k" * 32)


class MadeUpLink:
    """A link that is told to end."""

    def __init__(self) -> None:
        self.lost = False
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        self.error = error

    def heartbeat(self) -> None:
        """Send nothing."""


def silent_for(seconds: float) -> _Acknowledgements:
    """Give what the kernel reports of a peer whose host is silent while bytes are in flight."""
    return _Acknowledgements(silence=seconds, due=True, position=0)


@pytest.mark.spec("S54")
async def test_a_peer_that_reads_nothing_is_not_silent() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, await trio.testing.open_stream_to_socket_listener(listener) as stream:
        with trio.move_on_after(0.3):
            await stream.send_all(bytes(1 << 24))  # more than both ends keep
        seen = _acknowledgements(stream.socket)
        assert seen is not None
        assert seen.silence < 1


async def test_a_connection_that_is_gone_is_not_judged() -> None:
    sock = trio.socket.socket()
    sock.close()
    assert _acknowledgements(sock) is None


@pytest.mark.spec("S52")
@pytest.mark.parametrize(("seconds", "dead"), [(49.0, False), (51.0, True)])
async def test_a_peer_is_dead_after_five_pulses_of_silence_and_not_before(
    seconds: float, *, dead: bool, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_keepalive, "_acknowledgements", lambda _sock: silent_for(seconds))
    keepalive, link = Keepalive(), MadeUpLink()
    with trio.socket.socket() as sock:
        keepalive.watch(cast("Link", link), transport_over(trio.SocketStream(sock)))
        with trio.move_on_after(config.MinPulseInterval + 1):
            await keepalive.run()
    assert (link.error is not None) == dead


@pytest.mark.spec("S51", "S52")
@pytest.mark.parametrize(("silent", "ended"), [(4.9, 0), (5.1, 1), (199.0, 1), (201.0, 2)])
async def test_each_link_is_judged_by_the_interval_of_the_most_patient_use_of_it(
    silent: float, ended: int, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_keepalive, "_acknowledgements", lambda _sock: silent_for(silent))
    keepalive, quick, patient = Keepalive(), MadeUpLink(), MadeUpLink()
    wanted: list[dict[object, float]] = [{}, {}]
    keepalive.pulse_intervals += [uses.get for uses in wanted]
    with trio.socket.socket() as one, trio.socket.socket() as two:
        for link, sock in ((quick, one), (patient, two)):
            keepalive.watch(cast("Link", link), transport_over(trio.SocketStream(sock)))
        wanted[0] |= {quick: 1.0, patient: 3.0}
        wanted[1] |= {quick: 0.5, patient: 40.0}
        with trio.move_on_after(config.MinPulseInterval):
            await keepalive.run()
        assert [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) for sock in (one, two)] == [1, 40]
    assert [link.error is not None for link in (quick, patient)] == [ended > 0, ended > 1]


async def test_links_are_probed_while_they_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    watched: list[trio.socket.SocketType] = []
    probe = _keepalive._probe_when_idle

    def note(sock: trio.socket.SocketType, interval: float) -> None:
        probe(sock, interval)
        watched.append(sock)

    monkeypatch.setattr(_keepalive, "_probe_when_idle", note)
    async with serve_endpoint() as one, serve_endpoint() as two:
        one.credentials[b""] = two.credentials[b""] = KEY
        await one.link_to(two.id, two.location, b"")
        assert watched
        for sock in watched:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == config.MinPulseInterval
