"""The floor's frames: a length, a number, and a pickle. Owns their layout and both ends' batching."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# length of the body in bytes, number of the job or message
HEADER = struct.Struct("!IQ")
RECEIVE_SIZE = 256 * 1024


def frame(number: int, body: bytes) -> bytes:
    """Return the bytes of one frame."""
    return HEADER.pack(len(body), number) + body


async def read_frames(stream: trio.SocketStream) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Yield all complete frames of each read at once, as (number, body), until the stream ends."""
    unpack, size = HEADER.unpack_from, HEADER.size
    receive = stream.socket.recv
    rest = b""
    while data := await receive(RECEIVE_SIZE):
        data = rest + data if rest else data
        frames: list[tuple[int, bytes]] = []
        append = frames.append
        start, end = 0, len(data)
        while end - start >= size:
            length, number = unpack(data, start)
            stop = start + size + length
            if stop > end:
                break
            append((number, data[start + size : stop]))
            start = stop
        rest = data[start:]
        yield frames


class Outbox:
    """Frames that wait to be sent; what has gathered in one pass of the scheduler goes in one call."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._frames: list[bytes] = []
        self._sleeper: trio.lowlevel.Task | None = None

    def put(self, data: bytes) -> None:
        """Queue a frame and wake the writer."""
        self._frames.append(data)
        if self._sleeper is not None:
            trio.lowlevel.reschedule(self._sleeper)
            self._sleeper = None

    async def write(self) -> None:
        """Send whatever is put, for ever."""
        while True:
            if not self._frames:
                await self._sleep()
            frames, self._frames = self._frames, []
            await self._stream.send_all(b"".join(frames))

    async def _sleep(self) -> None:
        self._sleeper = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
