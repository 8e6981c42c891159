"""Starts coroutines at one place or at many, and waits until they have begun.

The caller owns the coroutines that are returned. If a function here raises or is cancelled, nothing that it started
survives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._arguments import text, wrong_type
from .._process import Ending
from .._values import Location

if TYPE_CHECKING:
    from .._process import Call, Submission
    from ._session import Session

_GIVEN_UP = "the task that started it did not wait for it"


def check_where(where: Location | str) -> Location | str:
    """Check a place, and return it; raise TypeError for a value that is none."""
    if isinstance(where, Location):
        return where
    if not isinstance(where, str):
        wrong_type("where", where, "a node's address or name, as text, or a server's Location")
    return text("where", where)


def start_now_at(
    session: Session, where: Location | str | None, call: Call, *, acknowledge: bool = False
) -> Submission | None:
    """Start a coroutine at a place, or anywhere; return None if the server or node is not known yet.

    Raises:
        UnknownLocation: There is no such node or server.
        DiscoroError: The set-up failed at all servers there.
        ComputationClosed, NotPicklable: As for `start_at`.
    """
    if where is None:
        return session.submit(call, acknowledge=acknowledge)
    session.check_open()
    meant = session.topology.meant(where)
    if isinstance(meant, Location):
        server = session.topology.pick(meant)
        return None if server is None else session.start_on(server, call, acknowledge=acknowledge)
    node_id = session.topology.node_for(meant, plain=call.plain)
    return None if node_id is None else session.submit(call, acknowledge=acknowledge, node_id=node_id)


async def start_at(
    session: Session, where: Location | str | None, call: Call, *, acknowledge: bool = False
) -> Submission:
    """Start a coroutine at a place, or anywhere; wait while the server or node is not known.

    Raises:
        UnknownLocation: There is no such node or server.
        DiscoroError: No server will come, since the set-up failed.
        ComputationClosed: The computation is closed.
        NotPicklable: The function cannot be sent.
    """
    started = start_now_at(session, where, call, acknowledge=acknowledge)
    while started is None:
        await session.until_changed()
        started = start_now_at(session, where, call, acknowledge=acknowledge)
    return started


async def until_begun(session: Session, *all_started: Submission) -> None:
    """Wait until all of them have begun, or are ready if requested; all or none survive.

    Raises:
        ServerLost: The server of one coroutine was lost before that.
        ComputationClosed: The computation was closed before that.
    """
    try:
        for started in all_started:
            await started.until_begun()
            if started.outcome is not None and started.outcome.ending is Ending.LOST:
                started.outcome.value()
    except BaseException:
        await session.cancel_and_wait(all_started, _GIVEN_UP)
        raise


async def start_each(session: Session, where: Location | str, call: Call) -> list[Submission]:
    """Start one coroutine at each place that `where` means; wait until all are there. All or none are started.

    Raises:
        ServerLost: One of the servers was lost before its coroutine existed.
        UnknownLocation, DiscoroError, ComputationClosed, NotPicklable: As for `start_at`.
    """
    session.check_open()
    servers = session.topology.each(where)
    while not servers:
        await session.until_changed()
        session.check_open()
        servers = session.topology.each(where)
    all_started: list[Submission] = []
    try:
        for server in servers:
            all_started.append(session.start_on(server, call, acknowledge=True))  # noqa: PERF401 - see below
    except BaseException:
        # Only the list knows the coroutines that were started before the failed one.
        await session.cancel_and_wait(all_started, _GIVEN_UP)
        raise
    await until_begun(session, *all_started)
    return all_started
