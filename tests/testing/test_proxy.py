"""The fault proxy does what it says, and no more."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio

from discoro_trio import Location
from discoro_trio.testing import Damage, Direction, open_fault_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio.testing import FaultProxy


@asynccontextmanager
async def proxied_echo() -> AsyncIterator[FaultProxy]:
    async def echo(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async with stream:
                async for data in stream:
                    await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, [listener])
        async with open_fault_proxy(Location("127.0.0.1", listener.socket.getsockname()[1])) as proxy:
            yield proxy
        nursery.cancel_scope.cancel()


async def connect(proxy: FaultProxy) -> trio.SocketStream:
    return await trio.open_tcp_stream(proxy.location.addr, proxy.location.port)


async def exchanged(stream: trio.SocketStream, data: bytes, size: int) -> bytes:
    await stream.send_all(data)
    received = b""
    while len(received) < size:
        received += await stream.receive_some()
    return received


async def is_refused(stream: trio.SocketStream) -> bool:
    """Whether the other side closes without a word, by a reset or in order."""
    try:
        return await stream.receive_some() == b""
    except trio.BrokenResourceError:
        return True


async def test_at_first_everything_goes_through() -> None:
    async with proxied_echo() as proxy, await connect(proxy) as stream:
        assert await exchanged(stream, b"hello", 5) == b"hello"
        assert proxy.connections == 1
        await stream.send_eof()
        assert await stream.receive_some() == b""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Damage.FLIP, b"ab\x9cde"),
        (Damage.DOUBLE, b"abccde"),
        (Damage.DROP, b"abde"),
        (Damage.SWAP, b"abdce"),
    ],
)
@pytest.mark.parametrize("direction", Direction)
async def test_one_byte_is_damaged(kind: Damage, expected: bytes, direction: Direction) -> None:
    async with proxied_echo() as proxy, await connect(proxy) as stream:
        proxy.damage(kind, after=2, direction=direction)
        assert await exchanged(stream, b"abcde", len(expected)) == expected
        assert await exchanged(stream, b"abcde", 5) == b"abcde"


@pytest.mark.parametrize("direction", Direction)
async def test_bytes_that_are_equal_or_the_last_change_places_with_the_next_that_differ(direction: Direction) -> None:
    async with proxied_echo() as proxy, await connect(proxy) as stream:
        proxy.damage(Damage.SWAP, after=1, direction=direction)
        assert await exchanged(stream, b"abbbc", 5) == b"abbcb"
        proxy.damage(Damage.SWAP, after=2, direction=direction)
        assert await exchanged(stream, b"abc", 3) == b"abc"
        assert await exchanged(stream, b"de", 2) == b"ed"


async def test_a_stalled_connection_is_silent_until_it_heals() -> None:
    async with proxied_echo() as proxy, await connect(proxy) as stream:
        assert await exchanged(stream, b"before", 6) == b"before"
        proxy.stall()
        await stream.send_all(b"after")
        with trio.move_on_after(0.05) as silence:
            await stream.receive_some()
        assert silence.cancelled_caught
        proxy.heal()
        assert await stream.receive_some() == b"after"


async def test_a_cut_resets_connections_and_refuses_new_ones_until_it_heals() -> None:
    async with proxied_echo() as proxy:
        async with await connect(proxy) as stream:
            assert await exchanged(stream, b"before", 6) == b"before"
            proxy.cut()
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        async with await connect(proxy) as refused:
            assert await is_refused(refused)
        proxy.heal()
        async with await connect(proxy) as stream:
            assert await exchanged(stream, b"again", 5) == b"again"


async def test_what_is_slow_takes_its_time() -> None:
    async with proxied_echo() as proxy, await connect(proxy) as stream:
        proxy.rate = 10_000
        begun = trio.current_time()
        assert len(await exchanged(stream, bytes(1000), 1000)) == 1000
        assert trio.current_time() - begun >= 0.2  # 0.1 s each way
