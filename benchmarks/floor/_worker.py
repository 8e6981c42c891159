"""A worker process of the floor: dials its client and plays one role until the connection ends.

``python -m benchmarks.floor._worker PORT ROLE``. The client's side of each role is in the modules
that are named after the figures.
"""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING

import trio

from benchmarks.floor._bulk import receive_exactly
from benchmarks.floor._frames import Outbox, frame, read_frames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


def increment_plainly(value: int) -> int:
    """Do the same as a plain function, for chunks."""
    return value + 1


FUNCTIONS: list[Callable[..., Awaitable[object]]] = [increment]


async def run_jobs(stream: trio.SocketStream) -> None:
    """Run each frame's (function number, arguments) as a task, and send the pickled value."""
    outbox = Outbox(stream)

    async def run(number: int, body: bytes) -> None:
        function, arguments = pickle.loads(body)
        value = await FUNCTIONS[function](*arguments)
        outbox.put(frame(number, pickle.dumps(value, 5)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.write)
        async for frames in read_frames(stream):
            for number, body in frames:
                nursery.start_soon(run, number, body)
        nursery.cancel_scope.cancel()


async def run_chunks(stream: trio.SocketStream) -> None:
    """Apply a plain function to each frame's list, and send the pickled list of values."""
    async for frames in read_frames(stream):
        for number, body in frames:
            values = [increment_plainly(value) for value in pickle.loads(body)]
            await stream.send_all(frame(number, pickle.dumps(values, 5)))


async def echo(stream: trio.SocketStream) -> None:
    """Send back each message, unpickled and pickled again."""
    async for frames in read_frames(stream):
        for number, body in frames:
            await stream.send_all(frame(number, pickle.dumps(pickle.loads(body), 5)))


async def count(stream: trio.SocketStream) -> None:
    """Count messages; at None send the count, and begin again."""
    total = 0
    async for frames in read_frames(stream):
        for number, body in frames:
            if pickle.loads(body) is not None:
                total += 1
            else:
                await stream.send_all(frame(number, pickle.dumps(total, 5)))
                total = 0


async def echo_bulk(stream: trio.SocketStream) -> None:
    """Receive as many bytes as the first frame says into memory taken once, and send them back."""
    size = int.from_bytes(await stream.receive_some(8), "big")
    memory = memoryview(bytearray(size))
    while await receive_exactly(stream, memory):
        await stream.send_all(memory)


ROLES = {
    "jobs": run_jobs,
    "chunks": run_chunks,
    "echo": echo,
    "count": count,
    "bulk": echo_bulk,
}


async def main(port: int, role: str) -> None:
    """Dial the client and play the role."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await ROLES[role](stream)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2])
