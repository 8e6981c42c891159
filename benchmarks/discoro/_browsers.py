"""Fifty browsers that look at a monitor, as far as it can tell: a program of its own, so that their work is theirs.

Run as `python -m benchmarks.discoro._browsers PORT`. It says `ready` when all have seen something, and ends with its
standard input. One of them never reads.
"""

from __future__ import annotations

import os
import struct
import sys

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


async def main(port: int) -> None:
    """Look until standard input ends."""
    async with trio.open_nursery() as nursery:
        streams = [await _open(port, VIEWS[number % len(VIEWS)]) for number in range(BROWSERS)]
        for stream in streams[1:]:
            nursery.start_soon(_read, stream)
        print("ready", flush=True)
        async with trio.lowlevel.FdStream(os.dup(0)) as ending:
            await ending.receive_some()
        nursery.cancel_scope.cancel()


async def _open(port: int, view: str) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(_ASK.format(port=port, key=_KEY).encode())
    await stream.receive_some()
    await stream.send_all(_watch(view))
    await stream.receive_some()
    return stream


def _watch(view: str) -> bytes:
    """Make the frame that asks for a view; its mask is zero, which changes nothing."""
    text = f'{{"watch": {{"view": "{view}"}}}}'.encode()
    return struct.pack("!BB4x", _TEXT, _MASKED | len(text)) + text


async def _read(stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        pass


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
