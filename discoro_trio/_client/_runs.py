"""The ways to run something in a computation: one coroutine, one at each of many places, jobs, nurseries.

Each method checks what it is given and says who owns what it starts. Placing is in `Places`, starting with
`_starting`, the jobs of a map with `Mapping`, the tasks of a nursery with `ComputationNursery`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import trio

from .._arguments import wrong_type
from .._process import Call, Typed, signatures
from .._shipping import NOTHING
from ._map import MapOptions, Mapping
from ._nursery import ComputationNursery
from ._session import raise_clean_up_error
from ._starting import check_where, start_at, start_each, until_begun
from ._topology import EACH_NODE, EACH_SERVER

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractAsyncContextManager

    from .._process import Coro
    from .._shipping import Shipped
    from .._values import Location
    from ._map import MapResults
    from ._owned import Owned
    from ._session import Session

R = TypeVar("R", bound="Runs")


class Runs:
    """What can be run in a computation that is scheduled."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._owned: Owned | None = None
        self._shipped: Shipped = NOTHING

    def _running(self) -> Session:
        raise NotImplementedError

    # --- coroutines that belong to the computation

    @Typed[signatures.RunsOne]
    async def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine at the least loaded server of the least loaded node.

        It belongs to the computation, which cancels it when its block is left.

        Args:
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The coroutine's handle, once it has begun; while there is no server, this waits.

        Raises:
            TypeError: The function cannot be run; the message says what to write instead.
            NotPicklable: The function or an argument cannot be sent.
            ComputationClosed: The computation is closed.
            RuntimeError: It is not scheduled.
            ServerLost: Its server was lost before the coroutine existed.
            DiscoroError: No server will come, since the set-up failed at all of them.

        Cancelling it, nothing that it started survives.
        """
        return await self._run_one(None, fn, args, kwargs)

    @Typed[signatures.RunsOneAt]
    async def run_at(self, where: Location | str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine at a place.

        Args:
            where: The address or name of a node, whose least loaded server is taken, or the Location of a server; each
                also as text, such as `addr:port`.
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The coroutine's handle, once it has begun; while there is no server, or the node is suspended, this waits.

        Raises:
            UnknownLocation: Nothing is known by that place; the message lists what is.
            Exception: As for `run`.

        Cancelling it, nothing that it started survives.
        """
        check_where(where)
        return await self._run_one(where, fn, args, kwargs)

    @Typed[signatures.RunsManyAt]
    async def run_each(self, where: Location | str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine at every node, at every server, or at every server of a node: all of them, or none.

        Args:
            where: `"node"`, `"server"`, or the address or name of a node.
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The handles, once all coroutines exist. While servers of the nodes in question are still being set up
            for the first time, this waits; nodes that are suspended are left out.

        Raises:
            UnknownLocation: Nothing is known by that place; the message lists what is.
            Exception: As for `run`; what was started already is cancelled then, and has cleaned up.

        Cancelling it, nothing that it started survives.
        """
        check_where(where)
        return await self._run_each(where, fn, args, kwargs)

    @Typed[signatures.RunsMany]
    async def run_nodes(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine at one server of each node. Everything else is as with `run_each`."""
        return await self._run_each(EACH_NODE, fn, args, kwargs)

    @Typed[signatures.RunsMany]
    async def run_servers(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine at every server. Everything else is as with `run_each`."""
        return await self._run_each(EACH_SERVER, fn, args, kwargs)

    @Typed[signatures.RunsManyAt]
    async def run_node_servers(self, addr: Location | str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine at every server of a node, given by address or name.

        Everything else is as with `run_each`.
        """
        check_where(addr)
        return await self._run_each(addr, fn, args, kwargs)

    async def _run_one(
        self, where: Location | str | None, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coro[Any]:
        session, owned = self._running(), self._owned
        assert owned is not None  # noqa: S101 - it is scheduled
        call = Call(fn, args, kwargs, self._shipped)
        await trio.lowlevel.checkpoint()
        started = await start_at(session, where, call, acknowledge=True)
        await until_begun(session, started)
        return owned.add(started)

    async def _run_each(
        self, where: Location | str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[Coro[Any]]:
        session, owned = self._running(), self._owned
        assert owned is not None  # noqa: S101 - it is scheduled
        call = Call(fn, args, kwargs, self._shipped)
        await trio.lowlevel.checkpoint()
        return [owned.add(started) for started in await start_each(session, where, call)]

    # --- coroutines that belong to the call or block that starts them

    @Typed[signatures.GivesResult]
    async def run_result(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a coroutine and return its value.

        Args:
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Raises:
            Exception: What it raised, with the remote traceback in a note.
            CoroCancelled: It was cancelled by someone else.
            ServerLost: Its server is gone.
            TypeError, NotPicklable, ComputationClosed, RuntimeError, DiscoroError: As for `run`.

        Cancelling it cancels the coroutine and waits for its clean-up.
        """
        session = self._running()
        call = Call(fn, args, kwargs, self._shipped)
        await trio.lowlevel.checkpoint_if_cancelled()
        started = session.submit(call)
        try:
            while (outcome := started.outcome) is None:
                await started.moved()  # and not `until_ended`, which would be a coroutine more for each of many jobs
        except BaseException as error:
            await session.cancel_and_wait([started])
            raise_clean_up_error(started, error)
            raise
        return outcome.value()

    def open_nursery(self) -> AbstractAsyncContextManager[ComputationNursery]:
        """Open a nursery whose tasks run on the servers of the computation; leaving the block waits for them.

        Yields:
            The nursery, with `start_soon`, `start_soon_at`, `run`, `run_at`, `start` and `cancel_scope`.

        Raises:
            ExceptionGroup: What the body and the coroutines raised, flat, also for one error; the others were
                cancelled, wherever they ran, and have cleaned up.
            ComputationClosed, RuntimeError: As for `run`.

        A coroutine that somebody else cancels ends silently. Cancelling the block cancels all of them and waits for
        their clean-up.
        """
        return ComputationNursery(self._running(), self._shipped).opened()

    @Typed[signatures.GivesResults]
    async def run_results(self, fn: Callable[..., Any], iterable: Any) -> list[Any]:
        """Run a function for each item, and return the values in order.

        Args:
            fn: A function of one argument.
            iterable: The items, an iterable or async iterable.

        Raises:
            ExceptionGroup: What the first job that failed raised; the others are cancelled.

        Cancelling it cancels all jobs and waits for their clean-up.
        """
        async with self.map(fn, iterable) as results:
            return [value async for value in results]

    @Typed[signatures.Maps]
    def map(
        self,
        fn: Callable[..., Any],
        iterable: Any,
        *,
        ordered: bool = True,
        errors: Literal["raise", "collect", "skip"] = "raise",
        limit: int | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | Collection[type[BaseException]] = (),
        chunksize: int | Literal["auto"] = 1,
        progress: bool = False,
    ) -> AbstractAsyncContextManager[MapResults[Any, Any]]:
        """Run a function for each item, a bounded number at a time; give the results as they come.

        Args:
            fn: A function of one argument.
            iterable: The items, an iterable or async iterable; read in one task as room appears.
            ordered: Whether results come in the order of the items.
            errors: What the error of a job does: `"raise"` cancels the rest, and the block raises it; `"collect"` gives
                it in place of the value; `"skip"` leaves the item out.
            limit: The items that are read and whose results are not yet taken. By default it follows the jobs: an
                item is read when a server would soon begin its job, while at most 128 jobs a server are in flight, and
                at most 1,024 jobs and 64 MiB of results wait to be taken.
            retries: How often a job is run again that was lost with its server, or raised one of `retry_on`. After two
                losses it runs alone on its server.
            retry_on: Types of errors of a job after which it is run again: up to `retries` times, 3 if that is 0;
                0.1 seconds later at first, twice as long each time, at most 10 seconds.
            chunksize: Items that go to a server as one job; "auto" for as many as take about 5 ms.
            progress: Whether standard error, or the cell of a notebook, shows how many items are done, how many have
                failed, and the rate.

        Yields:
            The results, to be iterated over; `results.with_items()` gives pairs of an item and its value instead.

        Raises:
            ExceptionGroup: On leaving the block, what the body or a job raised; the rest is cancelled. A note of a
                job's error says which item failed and where.
            KeyboardInterrupt: As it is, not in a group.

        Leaving the block early, or cancelling it, cancels all jobs and waits for their clean-up.
        """
        options = MapOptions.checked(
            ordered=ordered,
            limit=limit,
            retries=retries,
            retry_on=retry_on,
            chunksize=chunksize,
            errors=errors,
            progress=progress,
        )
        return Mapping(self._running(), self._shipped, fn, iterable, options, star=False)

    @Typed[signatures.StarMaps]
    def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Any,
        *,
        ordered: bool = True,
        errors: Literal["raise", "collect", "skip"] = "raise",
        limit: int | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | Collection[type[BaseException]] = (),
        chunksize: int | Literal["auto"] = 1,
        progress: bool = False,
    ) -> AbstractAsyncContextManager[MapResults[Any, Any]]:
        """Spread each item over the arguments of the function. Everything else is as with `map`."""
        options = MapOptions.checked(
            ordered=ordered,
            limit=limit,
            retries=retries,
            retry_on=retry_on,
            chunksize=chunksize,
            errors=errors,
            progress=progress,
        )
        return Mapping(self._running(), self._shipped, fn, iterable, options, star=True)


def scheduled(name: str, value: R) -> R:
    """Check an argument that must be a computation."""
    if not isinstance(value, Runs):
        wrong_type(name, value, "a Computation")
    return value
