"""Messages one way over a bare socket, pickled one by one and sent in batches."""

from __future__ import annotations

import pickle
from time import perf_counter

import trio

from benchmarks.floor._frames import frame, read_frames
from benchmarks.floor._workers import open_workers

BATCH = 1024
"""Messages that go in one call."""


def measure(seconds: float) -> float:
    """Return messages per second, until the other side has counted the last."""

    async def main() -> float:
        async with open_workers("count", count=1) as [stream]:
            begun = perf_counter()
            await _send(stream, begun + seconds)
            counted = await _counted(stream)
            return counted / (perf_counter() - begun)

    return trio.run(main)


async def _send(stream: trio.SocketStream, deadline: float) -> None:
    dumps = pickle.dumps
    while perf_counter() < deadline:
        await stream.send_all(b"".join([frame(n, dumps(n, 5)) for n in range(BATCH)]))
    await stream.send_all(frame(0, dumps(None, 5)))


async def _counted(stream: trio.SocketStream) -> int:
    async for frames in read_frames(stream):
        for _, body in frames:
            return int(pickle.loads(body))
    raise EOFError
