"""A nursery whose tasks run on the servers of a computation.

This module owns its methods and the block. `Children` owns its coroutines and what follows when one fails; the
session picks servers and sends.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from .._process import Call, Typed, describe, signatures
from .._scopes import open_background, raise_flat
from ._children import NURSERY_CANCELLED, Children
from ._starting import check_where, start_at, start_now_at, until_begun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._process import Submission
    from .._shipping import Shipped
    from .._values import Location
    from ._session import Session


class ComputationNursery:
    """The coroutines of one block, on servers; leaving it waits for them.

    Attributes:
        cancel_scope: Cancels the body of the block and all its coroutines.
    """

    def __init__(self, session: Session, shipped: Shipped) -> None:
        self.cancel_scope: trio.CancelScope = trio.CancelScope()
        self._session = session
        self._shipped = shipped
        self._tasks: trio.Nursery | None = None
        self._children = Children(session, self.cancel_scope)

    # --- what users start

    @Typed[signatures.StartsSoon]
    def start_soon(self, fn: Callable[..., Any], /, *args: Any, name: str | None = None) -> None:
        """Start a coroutine at the least loaded server; returns at once, also while there is no server.

        If the nursery is cancelled before the coroutine has begun there, it never begins.

        Args:
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            name: A name to display; by default the name of the function.

        Raises:
            TypeError: The function cannot be run.
            NotPicklable: The function or an argument cannot be sent.
            ComputationClosed: The computation is closed.
            RuntimeError: The block has been left.
        """
        self._start_soon(None, fn, args, name)

    @Typed[signatures.StartsSoonAt]
    def start_soon_at(
        self, where: Location | str, fn: Callable[..., Any], /, *args: Any, name: str | None = None
    ) -> None:
        """Start a coroutine at a node or server; returns at once, also while there is no server.

        Args:
            where: The address or name of a node, or the Location of a server.
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            name: A name to display; by default the name of the function.

        Raises:
            UnknownLocation: There is no such node or server. If there is no server yet, the block raises it.
            TypeError, NotPicklable, ComputationClosed, RuntimeError: As for `start_soon`.
        """
        where = check_where(where)
        self._start_soon(where, fn, args, name)

    @Typed[signatures.RunsOne]
    async def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine at the least loaded server and return its handle, once it has begun.

        Args:
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The coroutine's handle; while there is no server, this waits.

        Raises:
            ServerLost: Its server was lost before the coroutine existed.
            TypeError, NotPicklable, ComputationClosed, RuntimeError: As for `start_soon`.

        If it is cancelled, nothing that it started survives.
        """
        return await self._run(None, fn, args, kwargs)

    @Typed[signatures.RunsOneAt]
    async def run_at(self, where: Location | str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine at a node or server and return its handle, once it has begun.

        Args:
            where: The address or name of a node, or the Location of a server.
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The coroutine's handle; while there is no server, this waits.

        Raises:
            UnknownLocation: There is no such node or server.
            ServerLost, TypeError, NotPicklable, ComputationClosed, RuntimeError: As for `run`.

        If it is cancelled, nothing that it started survives.
        """
        where = check_where(where)
        return await self._run(where, fn, args, kwargs)

    @Typed[signatures.Starts]
    async def start(self, fn: Callable[..., Any], /, *args: Any, name: str | None = None) -> Any:
        """Start a coroutine and wait until it calls `task_status.started(value)`.

        Args:
            fn: An async function, or a plain one, with a keyword parameter `task_status`.
            args: Its arguments.
            name: A name to display; by default the name of the function.

        Returns:
            The value.

        Raises:
            Exception: The function's error before it had started.
            RuntimeError: It ended before it had started, or the block has been left.
            ServerLost, TypeError, NotPicklable, ComputationClosed: As for `run`.

        Cancelling it cancels the coroutine and waits for its clean-up.
        """
        self._check_open()
        describe(fn)
        call = Call(fn, args, {}, self._shipped, name, status=True)
        await trio.lowlevel.checkpoint()
        with self._children.one_more():
            started = await start_at(self._session, None, call)
            await until_begun(self._session, started)
            if started.ready is None:
                assert started.outcome is not None  # noqa: S101 - it has ended instead
                started.outcome.value()
                message = f"{started.name} ended without calling task_status.started()"
                raise RuntimeError(message)
            await self._take_in(started)
        return started.ready.value()

    # --- starting

    def _check_open(self) -> trio.Nursery:
        if self._tasks is None:
            message = "the nursery's block has been left; it starts nothing more"
            raise RuntimeError(message)
        return self._tasks

    def _start_soon(
        self, where: Location | str | None, fn: Callable[..., Any], args: tuple[Any, ...], name: str | None
    ) -> None:
        tasks = self._check_open()
        describe(fn)
        call = Call(fn, args, {}, self._shipped, name)
        if self._children.ending is not None or self.cancel_scope.cancel_called:
            return  # it would be cancelled immediately
        started = start_now_at(self._session, where, call)
        if started is not None:
            self._children.adopt(started)
        else:
            self._session.check_sendable(call)
            self._children.coming += 1
            tasks.start_soon(self._start_later, where, call, name="wait for a server")

    async def _start_later(self, where: Location | str | None, call: Call) -> None:
        try:
            self._children.adopt(await start_at(self._session, where, call))
        except Exception as error:  # noqa: BLE001 - the block raises it
            self._children.fail(error)
        finally:
            self._children.one_came()

    async def _run(
        self, where: Location | str | None, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self._check_open()
        call = Call(fn, args, kwargs, self._shipped)
        await trio.lowlevel.checkpoint()
        with self._children.one_more():
            started = await start_at(self._session, where, call, acknowledge=True)
            await until_begun(self._session, started)
            await self._take_in(started)
        return self._session.handle(started)

    async def _take_in(self, started: Submission) -> None:
        if self._tasks is None:  # the block was cancelled meanwhile and no longer waits for it
            await self._session.cancel_and_wait([started], NURSERY_CANCELLED)
        self._check_open()
        self._children.adopt(started)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[ComputationNursery]:
        """Keep the nursery open while the block lasts."""
        children = self._children
        name = f"nursery in {self._session.set_up.name}"
        with self.cancel_scope, self._session.task_dumps.block(name, children.running):
            errors: list[BaseException] = []
            try:
                async with open_background() as tasks:
                    self._tasks = tasks
                    try:
                        yield self
                        await children.until_all_ended()
                    finally:
                        self._tasks = None
                        await children.end()
            except BaseException as error:  # noqa: BLE001 - all goes into the group
                errors.append(error)
            raise_flat("errors in a computation's nursery", [*errors, *children.errors()])
