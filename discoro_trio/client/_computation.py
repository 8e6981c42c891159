"""What users hold: a computation, its options, and the ways to run something in it.

The running computation behind it is a `Session`.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from .._config import config
from .._errors import ComputationClosed, SchedulerNotFound
from .._scopes import open_background
from .._values import Location
from ..cluster import Scheduler, current_scheduler, messages
from ..process import Call, Coro, Ending, ensure_endpoint
from ..wire import NOTHING, close_shipped, encode_package, open_shipped
from ._components import check_components, pack
from ._hub import Hub
from ._map import Mapping
from ._owned import Owned
from ._session import Session, SetUp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from ..link import Link
    from ..process import Process, Started


@attrs.frozen(kw_only=True)
class Options:
    """The options of a computation, checked."""

    timeout: float
    pulse_interval: float
    grace_period: float
    cleanup: bool
    forward_output: bool
    threads: int
    name: str


class Computation:
    """Functions, classes, modules and files that are shipped to servers, and what is run there.

    Args:
        components: Functions, classes, modules, packages, and paths of files and folders.
        timeout: Seconds for connecting, a handshake, the reply to a request, or a transfer without progress;
            `config.MsgTimeout` by default.
        pulse_interval: Seconds between signs of life; `config.MinPulseInterval` by default.
        grace_period: Seconds that cancelled coroutines have for their clean-up before their server is replaced.
        cleanup: Whether the working folders are removed at the end.
        forward_output: Whether what coroutines print and log shows here.
        threads: Plain functions that run at once on a server, each in a thread.
        name: For people; by default that of the first component.

    Raises:
        TypeError: A component is none of these.
        ValueError: An option is out of its range; the message says which setting bounds it.
    """

    def __init__(
        self,
        components: Iterable[object] = (),
        *,
        timeout: float | None = None,
        pulse_interval: float | None = None,
        grace_period: float = 5.0,
        cleanup: bool = True,
        forward_output: bool = True,
        threads: int = 40,
        name: str | None = None,
    ) -> None:
        self._components = check_components(components)
        self._shipped = NOTHING
        self.options = Options(
            timeout=config.MsgTimeout if timeout is None else timeout,
            pulse_interval=_pulse_interval(pulse_interval),
            grace_period=_not_negative("grace_period", grace_period),
            cleanup=cleanup,
            forward_output=forward_output,
            threads=_at_least_one("threads", threads),
            name=name or "computation",
        )
        self._session: Session | None = None
        self._owned: Owned | None = None
        self._was_closed = False

    # --- its life

    @asynccontextmanager
    async def schedule(self, scheduler: Scheduler | Location | str | None = None) -> AsyncIterator[Computation]:
        """Queue the computation, wait for its turn, and close it when the block is left.

        Args:
            scheduler: Where; by default the innermost enclosing one, else one that discovery finds.

        Raises:
            SchedulerNotFound: No scheduler answered within `timeout`.
            RuntimeError: The computation is scheduled already.
            ExceptionGroup: The errors of coroutines that nobody heard of, if the block raised nothing else.

        Cancelling while it waits takes it out of the queue.
        """
        if self._session is not None:
            message = "this computation is scheduled already; make a second Computation to schedule twice"
            raise RuntimeError(message)
        async with ensure_endpoint() as process, open_background() as nursery:
            session = self._session = Session(process, nursery, await self._set_up())
            self._owned = Owned(session)
            self._was_closed = False
            hub = Hub.of(process.endpoint)
            hub.sessions[session.set_up.computation] = session
            open_shipped(session.set_up.shipped)
            try:
                await self._take_turn(session, scheduler, process)
                with process.names.kept_at(lambda: session.scheduler):
                    yield self
            finally:
                await self.close()
                close_shipped(session.set_up.shipped)
                del hub.sessions[session.set_up.computation]
                unheard = self._owned.unheard()
                self._session = self._owned = None
        if unheard:
            message = "coroutines failed and nobody asked how they ended"
            raise BaseExceptionGroup(message, unheard)

    async def _set_up(self) -> SetUp:
        options = self.options
        packed = await trio.to_thread.run_sync(pack, self._components)
        self._shipped = packed.shipped
        return SetUp(
            computation=secrets.token_bytes(16),
            name=options.name,
            package=encode_package(packed.package),
            shipped=packed.shipped,
            grace_period=options.grace_period,
            pulse_interval=options.pulse_interval,
            threads=options.threads,
            forward_output=options.forward_output,
            cleanup=options.cleanup,
            node_setup=[],
            server_setup=[],
        )

    async def _take_turn(
        self, session: Session, scheduler: Scheduler | Location | str | None, process: Process
    ) -> None:
        link = session.scheduler = await _scheduler_link(process, scheduler)
        options = self.options
        await link.request(
            messages.Submit(
                session.set_up.computation, options.name, [], None, options.pulse_interval, None, running=False, key=b""
            )
        )
        await session.turn.wait()

    async def close(self) -> None:
        """Close it early: cancel its coroutines, wait for their clean-up and for the end of its servers."""
        self._was_closed = True
        session = self._session
        if session is not None:
            if self._owned is not None:
                self._owned.close()
            await session.close()

    def _running(self) -> Session:
        if self._session is None:
            if self._was_closed:
                message = "the computation is closed; it runs nothing more"
                raise ComputationClosed(message)
            message = "the computation is not scheduled; run it inside 'async with computation.schedule():'"
            raise RuntimeError(message)
        self._session.check_open()
        return self._session

    # --- running

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return Call(function, args, kwargs, self._shipped)

    async def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Coro[Any]:
        """Start a coroutine at the least loaded server of the least loaded node.

        It belongs to the computation, which cancels it when its block is left.

        Args:
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The coroutine's handle, once it exists.

        Raises:
            NotPicklable: The function or an argument cannot be sent.
            ComputationClosed: It is closed.
            ServerLost: Its server was lost before the coroutine existed.

        Cancelling it, nothing that it started survives.
        """
        session = self._running()
        call = self._call(fn, args, kwargs)
        await trio.lowlevel.checkpoint()
        started = await session.start(fn, call, acknowledge=True)
        return await self._existing(session, started)

    async def _existing(self, session: Session, started: Started) -> Coro[Any]:
        try:
            await started.until_exists()
        except trio.Cancelled:
            await session.cancel_and_wait([started])
            raise
        outcome = started.outcome
        if outcome is not None and outcome.ending is Ending.LOST:
            outcome.value()
        assert self._owned is not None  # noqa: S101 - it is scheduled
        return self._owned.add(started)

    async def run_result(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a coroutine and give its value.

        Args:
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Raises:
            Exception: What it raised, with the remote traceback in a note.
            CoroCancelled: It was cancelled by someone else.
            ServerLost: Its server is gone.
            NotPicklable, ComputationClosed: As for `run`.

        Cancelling it cancels the coroutine and waits for its clean-up.
        """
        session = self._running()
        call = self._call(fn, args, kwargs)
        await trio.lowlevel.checkpoint_if_cancelled()
        started = session.start_now(fn, call) or await session.start(fn, call)
        try:
            await started.until_ended()
        except trio.Cancelled:
            await session.cancel_and_wait([started])
            raise
        assert started.outcome is not None  # noqa: S101 - it has ended
        return started.outcome.value()

    async def run_results(self, fn: Callable[..., Any], iterable: Any) -> list[Any]:
        """Run a function for each item, and give the values in order.

        Args:
            fn: A function of one argument.
            iterable: The items, an iterable or async iterable.

        Raises:
            ExceptionGroup: What the first job that failed raised; the others are cancelled.

        Cancelling it cancels all jobs and waits for their clean-up.
        """
        async with self.map(fn, iterable) as results:
            return [value async for value in results]

    def map(
        self,
        fn: Callable[..., Any],
        iterable: Any,
        *,
        ordered: bool = True,
        limit: int | None = None,
        chunksize: int = 1,
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Run a function for each item, a bounded number at a time; give the results as they come.

        Args:
            fn: A function of one argument.
            iterable: The items, an iterable or async iterable; read in one task as room appears.
            ordered: Whether results come in the order of the items.
            limit: The items that are read and whose results are not yet taken; by default 4 x servers x chunksize.
            chunksize: Items that go to a server as one job.

        Raises:
            ExceptionGroup: On leaving the block, what the body or a job raised; the rest is cancelled.

        Leaving the block early, or cancelling it, cancels all jobs and waits for their clean-up.
        """
        return Mapping(self._running(), self._shipped, fn, iterable, star=False).opened(
            ordered=ordered, limit=limit, chunksize=chunksize
        )

    def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Any,
        *,
        ordered: bool = True,
        limit: int | None = None,
        chunksize: int = 1,
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Do as `map`, with each item spread over the arguments of the function."""
        return Mapping(self._running(), self._shipped, fn, iterable, star=True).opened(
            ordered=ordered, limit=limit, chunksize=chunksize
        )

    # --- what it has

    async def nodes(self) -> list[str]:
        """Give the addresses of the nodes in use."""
        await trio.lowlevel.checkpoint()
        session = self._running()
        used = {server.node_id for server in session.servers.values()}
        return [node.location.addr for node in session.nodes.values() if node.node_id in used]

    async def servers(self) -> list[Location]:
        """Give the Locations of the servers in use."""
        await trio.lowlevel.checkpoint()
        return [server.location for server in self._running().servers.values()]


async def _scheduler_link(process: Process, scheduler: Scheduler | Location | str | None) -> Link:
    if scheduler is None:
        scheduler = current_scheduler()
    if scheduler is None:
        message = "no scheduler encloses this and none was named; use open_cluster(), open_scheduler() or name one"
        raise SchedulerNotFound(message)
    if isinstance(scheduler, str):
        scheduler = Location.parse(scheduler)
    location = scheduler if isinstance(scheduler, Location) else scheduler.location
    return await process.endpoint.link_at(location)


def _pulse_interval(value: float | None) -> float:
    low, high = config.MinPulseInterval, config.MaxPulseInterval
    if value is None:
        return low
    if not low <= value <= high:
        message = (
            f"pulse_interval={value!r} is outside of config.MinPulseInterval and config.MaxPulseInterval, "
            f"{low:g} to {high:g} s"
        )
        raise ValueError(message)
    return value


def _not_negative(name: str, value: float) -> float:
    if not value >= 0:
        message = f"{name} must be 0 or more, not {value!r}"
        raise ValueError(message)
    return value


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        message = f"{name} must be 1 or more, not {value!r}"
        raise ValueError(message)
    return value

