"""Several processes, in the package's sense, in one run of Trio: each with its own endpoint and coroutines."""

from __future__ import annotations

import pickle
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import trio
import trio.testing

from discoro_trio import PeerDisconnected, config
from discoro_trio._link import serve_endpoint
from discoro_trio._process import Process
from discoro_trio._process.messaging._mailbox import Mailbox
from discoro_trio._wire import Credential

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from discoro_trio._process import Coro

T = TypeVar("T")

KEY = Credential(b"", b"k" * 32)

SECONDS = 60.0
"""After which a test that hangs fails."""


@asynccontextmanager
async def open_process(*, credential: Credential = KEY, process_id: bytes | None = None) -> AsyncIterator[Process]:
    """Open one process; its tasks are those that run inside `process.entered()`."""
    async with serve_endpoint(bind="127.0.0.1", process_id=process_id) as endpoint:
        endpoint.credentials[credential.realm] = credential
        yield Process(endpoint, realm=credential.realm)


@asynccontextmanager
async def open_processes(count: int) -> AsyncIterator[list[Process]]:
    """Open processes that know one secret; all is cancelled when it takes too long."""
    with trio.fail_after(SECONDS):
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(open_process()) for _ in range(count)]


def spawn(
    nursery: trio.Nursery,
    process: Process,
    function: Callable[..., Awaitable[Any]],
    *args: Any,
    mailbox_size: int | None = None,
) -> Coro[Any]:
    """Start a coroutine of a process; give its own handle."""
    with process.entered():
        local, _ = process.start_here(nursery, function, args, {}, name=None)
    if mailbox_size is not None:
        local.mailbox = Mailbox(local.serial, mailbox_size, config.mailbox_bytes, process.turns)
        local.handle.mailbox_size = mailbox_size
    return local.handle


def elsewhere(value: T) -> T:
    """Give what another process gets when this is sent to it."""
    copy: T = pickle.loads(pickle.dumps(value))
    return copy


def cut(one: Process, other: Process) -> None:
    """Break the connection between two processes."""
    one.endpoint.links[other.id].fail(PeerDisconnected("cut by the test"))


async def settle() -> None:
    """Wait until nothing moves any more but what waits for the test."""
    await trio.testing.wait_all_tasks_blocked(0.01)
