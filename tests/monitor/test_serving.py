"""The listener: junk of strangers ends its own connection and nothing else."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from discoro_trio._link import OptionError
from discoro_trio._monitor import _connection, _serving
from discoro_trio._monitor._model import Model
from discoro_trio._monitor._serving import open_listeners, tls_context

from .made_up import add_nodes
from .served import Served, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = base64.b64encode(b"0123456789abcdef").decode()
HOST = "Host: 127.0.0.1"
SWITCH = "Upgrade: websocket\r\nConnection: Upgrade"
STREAM = f"GET /api/v1/stream HTTP/1.1\r\n{SWITCH}\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13"


def lines(*parts: str, body: bytes = b"") -> bytes:
    return "\r\n".join(parts).encode("latin-1") + b"\r\n\r\n" + body


ODD = {
    "an upgrade to http/2 with broken settings": lines(
        "GET / HTTP/1.1", HOST, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: \xff\xfe!!"
    ),
    "the same without settings": lines("GET / HTTP/1.1", HOST, "Connection: Upgrade", "Upgrade: h2c"),
    "http/2 with prior knowledge, then junk": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200,
    "junk behind an upgrade": lines(STREAM, HOST, body=b"\xff" * 400),
    "an upgrade of another version": lines(STREAM.replace("13", "99"), HOST),
    "an upgrade without a key": lines("GET /api/v1/stream HTTP/1.1", HOST, SWITCH, "Sec-WebSocket-Version: 13"),
    "an upgrade by POST": lines("POST /api/v1/stream HTTP/1.1", HOST, SWITCH, "Content-Length: 3", body=b"abc"),
    "an upgrade with a path that is no text": lines(STREAM.replace("/api/v1/stream", "/\xff\x00"), HOST),
    "bytes": bytes(range(256)) * 8,
    "an endless header": b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000,
    "two lengths": lines("POST / HTTP/1.1", HOST, "Content-Length: 1", "Content-Length: 2"),
    "a bad chunk": lines("POST /api/v1/session HTTP/1.1", HOST, "Transfer-Encoding: chunked", body=b"zz\r\n"),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a whole address as target": lines("GET http://evil.example/ HTTP/1.1", "Host: evil.example"),
    "nothing": b"",
}
HEALTH = lines("GET /healthz HTTP/1.1", HOST, "Connection: close")
SILENCE = 0.3
"""Seconds without more of an answer after which none is waited for."""


def small_model() -> Model:
    model = Model()
    add_nodes(model, 2, 1)
    return model


async def answer_to(served: Served, content: bytes, *, first_within: float = 60.0) -> bytes:
    """Send something, and return the answer; none if there is none in time."""
    found = b""
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(content)
            while True:
                with trio.move_on_after(SILENCE if found else first_within) as waiting:
                    part = await stream.receive_some(65536)
                if waiting.cancelled_caught or not part:
                    break
                found += part
    return found


@asynccontextmanager
async def looking_on(served: Served) -> AsyncIterator[WebSocketConnection]:
    """Be a browser that looks on."""
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, "127.0.0.1", "/api/v1/stream")
        nursery.cancel_scope.cancel()


async def next_message(socket: Any) -> dict[str, Any]:
    with trio.fail_after(60):
        found: dict[str, Any] = json.loads(await socket.get_message())
    return found


async def watch(socket: Any, **query: object) -> dict[str, Any]:
    await socket.send_message(json.dumps({"watch": query}))
    return await next_message(socket)


@pytest.mark.fault("F25")
async def test_odd_requests_are_refused_or_closed_and_a_browser_beside_them_notices_nothing() -> None:
    async with serve(small_model()) as served, looking_on(served) as socket:
        assert (await watch(socket, view="cluster"))["type"] == "full"
        for name, content in ODD.items():
            found = await answer_to(served, content, first_within=SILENCE)
            first = found.split(b"\r\n", 1)[0]
            fine = first == b"" or first.startswith((b"HTTP/1.1 4", b"HTTP/1.1 101", b"\x00\x00")) or b"426" in first
            assert fine or (first == b"HTTP/1.1 200 " and "settings" in name), (name, first)
        served.model.node("10.0.0.11", name="still heard")
        change = await next_message(socket)
        while "10.0.0.11" not in change.get("rows", {}):
            change = await next_message(socket)
        assert change["rows"]["10.0.0.11"] == {"name": "still heard"}


@pytest.mark.fault("F25")
@pytest.mark.parametrize(
    "headers",
    [[("Origin", "http://evil.example")], [("Host", "evil.example")], [("Sec-Fetch-Site", "cross-site")]],
    ids=["origin", "host", "site"],
)
async def test_a_stream_asked_for_by_another_site_is_refused(headers: list[tuple[str, str]]) -> None:
    given = dict(headers)
    request = lines(STREAM, *([] if "Host" in given else [HOST]), *(f"{name}: {value}" for name, value in headers))
    async with serve(small_model()) as served:
        found = await answer_to(served, request)
    assert found.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403")), found


@pytest.mark.fault("F25")
@pytest.mark.parametrize("last", ["not json", b'{"watch": "\xff"}', '{"watch": ' + "[" * 10_000])
async def test_what_a_browser_asks_wrongly_is_answered_and_what_is_no_json_ends_the_stream(last: str | bytes) -> None:
    async with serve(small_model()) as served, looking_on(served) as socket:
        for wrong in ({"watch": {"view": "x"}}, {"watch": 3}, {}, {"watch": {"page": "1e99"}}):
            await socket.send_message(json.dumps(wrong))
            assert (await next_message(socket))["type"] == "error"
        assert (await watch(socket, view="cluster"))["type"] == "full"
        await socket.send_message(last)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await next_message(socket)
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1008


async def test_a_path_that_is_no_stream_is_refused() -> None:
    async with serve(small_model()) as served:
        found = await answer_to(served, lines(STREAM.replace("/stream", "/other"), HOST))
    assert found.startswith(b"HTTP/1.1 404")


@pytest.mark.fault("F25")
async def test_a_peer_that_never_reads_is_dropped_and_the_end_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_connection, "PATIENCE", 0.2)
    model = Model()
    add_nodes(model, 500, 1)
    async with serve(model) as served:
        stream = await trio.open_tcp_stream("127.0.0.1", served.port)
        request = lines("GET /api/v1/cluster?size=500 HTTP/1.1", HOST)
        async with stream:
            with trio.fail_after(60), pytest.raises(trio.BrokenResourceError):
                while True:
                    await stream.send_all(request * 20)
        assert (await answer_to(served, HEALTH)).startswith(b"HTTP/1.1 200")


@pytest.mark.fault("F25")
async def test_a_peer_that_answers_no_ping_is_taken_for_gone_and_one_that_does_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_serving, "PING_INTERVAL", 0.2)
    monkeypatch.setattr(_serving, "LONGEST_SILENCE", 0.8)
    async with serve(small_model()) as served, looking_on(served) as socket:
        assert (await watch(socket, view="cluster"))["type"] == "full"
        async with await trio.open_tcp_stream("127.0.0.1", served.port) as silent:
            await silent.send_all(lines(STREAM, HOST))
            assert (await silent.receive_some()).startswith(b"HTTP/1.1 101")
            with trio.fail_after(60):
                while await silent.receive_some():
                    pass  # pings, which stay without an answer
        assert served.hub.browsers == 1
        served.model.node("10.0.0.11", name="still heard")
        assert (await next_message(socket))["rows"]["10.0.0.11"]["name"] == "still heard"


@pytest.mark.fault("F21")
async def test_connections_that_come_and_break_leave_nothing_open() -> None:
    async with serve(small_model()) as served:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted only
        for _ in range(100):
            stream = await trio.open_tcp_stream("127.0.0.1", served.port)
            await stream.send_all(b"GET /api/")
            await stream.aclose()
        await answer_to(served, HEALTH)
        with trio.fail_after(60):
            while len(os.listdir("/proc/self/fd")) > before + 2:  # noqa: ASYNC110, PTH208
                await trio.sleep(0.02)


@pytest.mark.fault("F25")
async def test_so_many_connections_are_taken_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_serving, "MOST_CONNECTIONS", 2)
    async with serve(small_model()) as served, looking_on(served), await trio.open_tcp_stream("127.0.0.1", served.port):
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await answer_to(served, HEALTH) == b""


async def one_that_ends(*streams: trio.SocketStream) -> list[trio.SocketStream]:
    """Wait until one of these is readable; give them with that one first."""
    found = list(streams)

    async def watch(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        await trio.lowlevel.wait_readable(stream.socket)
        found.sort(key=lambda other: other is not stream)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(watch, stream, nursery.cancel_scope)
    return found


@pytest.mark.fault("F25")
async def test_who_shows_nothing_is_sent_away_for_the_next_and_after_a_while_and_who_looks_on_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_serving, "MOST_STRANGERS_OF_ADDRESS", 2)
    monkeypatch.setattr(_serving, "STRANGER_SECONDS", 0.5)
    async with serve(small_model()) as served, looking_on(served) as socket:
        first, second, third = [await trio.open_tcp_stream("127.0.0.1", served.port) for _ in range(3)]
        with trio.fail_after(60):
            async with first, second, third:
                before, after = await one_that_ends(first, second)
                assert await before.receive_some() == b""
                await after.send_all(lines("GET / HTTP/1.1", HOST))  # pages are for everybody
                assert (await after.receive_some()).startswith(b"HTTP/1.1 200")
                assert await third.receive_some() == b""
                while await after.receive_some():
                    pass
        assert (await watch(socket, view="cluster"))["type"] == "full"


@pytest.mark.fault("F25")
async def test_a_head_without_an_end_is_refused() -> None:
    endless = f"GET /healthz HTTP/1.1\r\n{HOST}\r\nX-Long: ".encode() + b"x" * (40 * _serving.KIB)
    async with serve(small_model()) as served:
        assert (await answer_to(served, endless)).startswith(b"HTTP/1.1 4")


@pytest.mark.fault("F24")
async def test_a_port_in_use_and_an_unknown_host_are_named() -> None:
    async with serve(small_model()) as served:
        with pytest.raises(OptionError, match=f"port: {served.port} is in use"):
            await open_listeners("127.0.0.1", served.port)
    with pytest.raises(OptionError, match=r"host: '192\.0\.2\.1' is not an address of this machine"):
        await open_listeners("192.0.2.1", 0)


@pytest.mark.spec("S85")
async def test_a_certificate_that_is_missing_is_named(tmp_path: Path) -> None:
    load = partial(tls_context, tmp_path / "none.pem", None)
    with pytest.raises(OptionError, match="certfile"):
        load()
