"""What the actors of a workload run on: servers of a cluster, or tasks of one bare Trio process as the floor."""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import trio

from benchmarks.discoro._cluster import open_computation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import discoro_trio as discoro


class Actor(Protocol):
    """A running coroutine with a mailbox."""

    async def send(self, message: Any) -> None:
        """Put a message into its mailbox."""

    async def receive(self) -> Any:
        """Take a message out of it; for the actor itself."""

    async def result(self) -> Any:
        """Wait for what its function returns."""


class Stage(Protocol):
    """Where actors run."""

    async def start(self, function: Callable[..., Awaitable[Any]], *args: Any, place: int = 0) -> Actor:
        """Start an actor; those of different places run on different servers if there are several."""


class Cluster:
    """Servers of a computation; an actor is a coroutine."""

    def __init__(self, computation: discoro.Computation, servers: Sequence[discoro.Location]) -> None:
        self._computation = computation
        self._servers = servers

    async def start(self, function: Callable[..., Awaitable[Any]], *args: Any, place: int = 0) -> Actor:
        """Start a coroutine on one of the servers."""
        server = self._servers[place % len(self._servers)]
        actor: Actor = await self._computation.run_at(server, function, *args)
        return actor


@asynccontextmanager
async def open_servers(functions: Sequence[Callable[..., Any]], number: int) -> AsyncIterator[Stage]:
    """Open a cluster of so many servers."""
    async with open_computation(*functions, servers=number) as computation:
        await computation.wait_for_servers(number)
        yield Cluster(computation, sorted(await computation.servers()))


_MAILBOX = 1024
"""Messages that a mailbox of the floor holds, as one of discoro_trio does."""


class TaskActor:
    """A Trio task with a memory channel as its mailbox."""

    def __init__(self) -> None:
        self._mailbox, self._messages = trio.open_memory_channel[Any](_MAILBOX)
        self._ended = trio.Event()
        self._value: Any = None
        self.send = self._mailbox.send
        self.receive = self._messages.receive

    async def run(self, function: Callable[..., Awaitable[Any]], args: Sequence[Any]) -> None:
        """Run its function."""
        takes = "coro" in inspect.signature(function).parameters
        self._value = await (function(*args, coro=self) if takes else function(*args))
        self._ended.set()

    async def result(self) -> Any:
        """Wait for what its function returns."""
        await self._ended.wait()
        return self._value


class Tasks:
    """One Trio process; places mean nothing in it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    async def start(self, function: Callable[..., Awaitable[Any]], *args: Any, place: int = 0) -> Actor:  # noqa: ARG002
        """Start a task."""
        actor = TaskActor()
        self._nursery.start_soon(actor.run, function, args)
        await trio.lowlevel.checkpoint()
        return actor


@asynccontextmanager
async def open_tasks() -> AsyncIterator[Stage]:
    """Open a nursery for tasks."""
    async with trio.open_nursery() as nursery:
        yield Tasks(nursery)
