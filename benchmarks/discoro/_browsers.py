"""Fifty browsers that look at a monitor, as far as it can tell: a program of its own, so that their work is theirs.

Run as `python -m benchmarks.discoro._browsers`. It reads ports from standard input, a line each: at each it leaves the
monitor that it looked at, looks at the one there, none at port 0, and says `ready` once all have seen something. It
ends with its standard input. One of the browsers never reads.
"""

from __future__ import annotations

import os
import struct

import trio

VIEWS = ("cluster", "cluster", "coroutines", "timeline", "computations")
"""What they look at, in turns."""
BROWSERS = 50

_ASK = (
    "GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)
_KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
_TEXT, _MASKED = 0x81, 0x80


async def main() -> None:
    """Look where standard input says, until it ends."""
    async with trio.open_nursery() as nursery, trio.lowlevel.FdStream(os.dup(0)) as said:
        streams: list[trio.SocketStream] = []
        while line := await said.receive_some():
            for stream in streams:
                await trio.aclose_forcefully(stream)
            streams = await _look(int(line), nursery)
            print("ready", flush=True)
        nursery.cancel_scope.cancel()


async def _look(port: int, nursery: trio.Nursery) -> list[trio.SocketStream]:
    if not port:
        return []
    streams: list[trio.SocketStream] = []
    async with trio.open_nursery() as opening:
        for number in range(BROWSERS):
            opening.start_soon(_open, port, VIEWS[number % len(VIEWS)], streams)
    for stream in streams[1:]:
        nursery.start_soon(_read, stream)
    return streams


async def _open(port: int, view: str, streams: list[trio.SocketStream]) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(_ASK.format(port=port, key=_KEY).encode())
    await stream.receive_some()
    await stream.send_all(_watch(view))
    await stream.receive_some()
    streams.append(stream)


def _watch(view: str) -> bytes:
    """Make the frame that asks for a view; its mask is zero, which changes nothing."""
    text = f'{{"watch": {{"view": "{view}"}}}}'.encode()
    return struct.pack("!BB4x", _TEXT, _MASKED | len(text)) + text


async def _read(stream: trio.SocketStream) -> None:
    try:
        while await stream.receive_some():
            pass
    except (trio.ClosedResourceError, trio.BrokenResourceError):  # it looks elsewhere
        pass


if __name__ == "__main__":
    trio.run(main)
