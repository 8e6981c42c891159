"""Starts at a place, at many places, and the wait until what was started has begun.

Whoever calls these owns what they give; when they raise or are cancelled, nothing that they started survives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._arguments import text, wrong_type
from .._process import Ending
from .._values import Location

if TYPE_CHECKING:
    from .._process import Call, Submission
    from ._session import Session

_GIVEN_UP = "whoever started it did not wait for it"


def check_where(where: object) -> None:
    """Raise TypeError for what is no place."""
    if not isinstance(where, (str, Location)):
        wrong_type("where", where, "a node's address or name, as text, or a server's Location")
    if isinstance(where, str):
        text("where", where)


def start_now_at(
    session: Session, where: Location | str | None, call: Call, *, acknowledge: bool = False
) -> Submission | None:
    """Start a coroutine at a place, or anywhere; None if it is not known yet which server or node that is.

    Raises:
        UnknownLocation: Nothing is known by that place.
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
    """Start a coroutine at a place, or anywhere, waiting while it is not known which server or node that is.

    Raises:
        UnknownLocation: Nothing is known by that place.
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
    """Wait until all of them have begun, or are ready if that was asked for; all or none survive.

    Raises:
        ServerLost: The server of one was lost before.
        ComputationClosed: The computation was closed before.
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
    """Start one coroutine at each place that is meant, waiting while they are not all there; all or none.

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
        # Those that were started before the one that failed are known only from the list.
        await session.cancel_and_wait(all_started, _GIVEN_UP)
        raise
    await until_begun(session, *all_started)
    return all_started
