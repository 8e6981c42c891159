"""Jobs in chunks on bare Trio: a few chunks under way at each worker, values by the list."""

from __future__ import annotations

import pickle
from time import perf_counter

import trio

from benchmarks._scale import CHUNK, WARM_UP, WORKERS
from benchmarks.floor._frames import frame, read_frames
from benchmarks.floor._workers import open_workers

AHEAD = 4
"""Chunks under way at each worker."""


def measure(seconds: float) -> float:
    """Return jobs per second."""

    async def main() -> float:
        async with open_workers("chunks", count=WORKERS) as streams:
            await _run_chunks(streams, seconds * WARM_UP)
            begun = perf_counter()
            jobs = await _run_chunks(streams, seconds)
            return jobs / (perf_counter() - begun)

    return trio.run(main)


async def _run_chunks(streams: list[trio.SocketStream], seconds: float) -> int:
    deadline = perf_counter() + seconds
    values: list[int] = []
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(_feed, stream, deadline, values)
    return len(values)


async def _feed(stream: trio.SocketStream, deadline: float, values: list[int]) -> None:
    """Send a chunk for each that comes back, until the deadline; then take what is under way."""
    for number in range(AHEAD):
        await stream.send_all(_chunk(number))
    under_way = AHEAD
    async for frames in read_frames(stream):
        for number, body in frames:
            if perf_counter() < deadline:
                await stream.send_all(_chunk(number + AHEAD))
            else:
                under_way -= 1
            values.extend(pickle.loads(body))
        if not under_way:
            return


def _chunk(number: int) -> bytes:
    return frame(number, pickle.dumps(list(range(number * CHUNK, (number + 1) * CHUNK)), 5))
