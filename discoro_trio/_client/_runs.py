"""The methods that run functions in a computation: single coroutines, one at each of many places, jobs, nurseries.

Each method checks its arguments and decides which block owns the coroutines. `Topology` picks servers, `_starting`
starts coroutines, `Mapping` runs the jobs of a map, and `ComputationNursery` the tasks of a nursery.
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
    """The methods that run functions in a scheduled computation."""

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

        It belongs to the computation: leaving the computation's block cancels it.

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
            RuntimeError: The computation is not scheduled.
            ServerLost: Its server was lost before the coroutine existed.
            DiscoroError: No server will come, since the set-up failed at all of them.

        If it is cancelled, nothing that it started survives.
        """
        return await self._run_one(None, fn, args, kwargs)

    @Typed[signatures.RunsOneAt]
    async def run_at(self, where: Location | str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine at a node or server.

        Args:
            where: The address or name of a node, which stands for its least loaded server, or a server's Location or
                its text, such as `addr:port`.
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The coroutine's handle, once it has begun; while there is no server, or the node is suspended, this waits.

        Raises:
            UnknownLocation: There is no such node or server; the message lists the known ones.
            Exception: As for `run`.

        If it is cancelled, nothing that it started survives.
        """
        where = check_where(where)
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
            The handles, once all coroutines exist. This waits while servers of these nodes are being set up for the
            first time. Suspended nodes are left out.

        Raises:
            UnknownLocation: There is no such node or server; the message lists the known ones.
            Exception: As for `run`; coroutines that were already started have been cancelled and cleaned up.

        If it is cancelled, nothing that it started survives.
        """
        where = check_where(where)
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
        addr = check_where(addr)
        return await self._run_each(addr, fn, args, kwargs)

    async def _run_one(
        self, where: Location | str | None, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coro[Any]:
        session, owned = self._running(), self._owned
        assert owned is not None  # noqa: S101 - it is scheduled
        call = Call(fn, args, kwargs, self._shipped)
        await trio.lowlevel.checkpoint()
        if where is None:
            started = session.submit(call, acknowledge=True)
        else:
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

    # --- coroutines that belong to one call or block

    @Typed[signatures.GivesResult]
    async def run_result(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a coroutine and return its value.

        Args:
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Raises:
            Exception: The coroutine's error, with the remote traceback in a note.
            CoroCancelled: Other code cancelled it.
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
                await started.moved()  # not `until_ended`, which would cost another coroutine for each of many jobs
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
            ExceptionGroup: The errors of the body and the coroutines, flat, also for one error. All other coroutines
                were cancelled and have cleaned up.
            ComputationClosed, RuntimeError: As for `run`.

        A coroutine that other code cancels ends silently. Cancelling the block cancels all coroutines and waits for
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
            ExceptionGroup: The error of the first job that failed; the others are cancelled.

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
        """Run a function for each item, a limited number at a time, and yield the results as they come.

        Args:
            fn: A function of one argument.
            iterable: The items, an iterable or async iterable; read in one task as room appears.
            ordered: Whether results come in the order of the items.
            errors: What happens when a job fails. `"raise"`: the rest is cancelled and the block raises the error;
                `"collect"`: the error replaces the value; `"skip"`: the item is left out.
            limit: How many items are read whose results are not taken. By default it adapts to the jobs: an item is
                read when a server would soon begin its job, while at most 128 jobs per server are in flight, and at
                most 1,024 jobs and 64 MiB of results wait to be taken.
            retries: How often a job is run again if its server is lost or it raises one of `retry_on`. After two losses
                the job gets a server of its own.
            retry_on: Types of errors after which a job is run again, up to `retries` times, or 3 times if that is 0.
                The first delay is 0.1 seconds; it doubles each time, up to 10 seconds.
            chunksize: How many items a server gets as one job; "auto": as many as take about 5 ms.
            progress: Whether standard error, or the cell of a notebook, shows how many items are done, how many have
                failed, and the rate.

        Yields:
            The results, to be iterated over; `results.with_items()` gives pairs of an item and its value instead.

        Raises:
            ExceptionGroup: Raised on leaving the block: the error of the body or of a job; the rest is cancelled. A
                note on a job's error names the item and the server.
            KeyboardInterrupt: Raised bare, not in a group.

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
    """Return the argument if it is a computation; raise TypeError if not."""
    if not isinstance(value, Runs):
        wrong_type(name, value, "a Computation")
    return value
