"""The node's ends of a server's pipes: reading, and holding a server that writes too much."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
import trio.testing

from discoro_trio._cluster.fork_server._server_output import OutputPipe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def open_pipe() -> AsyncIterator[tuple[OutputPipe, list[bytes]]]:
    taken: list[bytes] = []
    pipe = OutputPipe(taken.append)
    try:
        yield pipe, taken
    finally:
        pipe.close_read()
        pipe.close_write()


async def test_a_held_pipe_is_not_read_until_it_is_released() -> None:
    async with open_pipe() as (pipe, taken), trio.open_nursery() as nursery:
        pipe.hold()
        pipe.hold()
        nursery.start_soon(pipe.read)
        os.write(pipe.write_fd, b"one")
        await trio.testing.wait_all_tasks_blocked()
        assert taken == []
        pipe.release()
        await trio.testing.wait_all_tasks_blocked()
        assert taken == [b"one"]
        os.write(pipe.write_fd, b"two")
        await trio.testing.wait_all_tasks_blocked()
        assert taken == [b"one", b"two"]
        nursery.cancel_scope.cancel()


async def test_what_is_left_in_a_held_pipe_is_read_at_the_end() -> None:
    async with open_pipe() as (pipe, taken):
        pipe.hold()
        os.write(pipe.write_fd, b"the last words")
        pipe.drain()
        assert taken == [b"the last words"]
