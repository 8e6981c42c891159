"""A computation's place in its scheduler's queue: it submits the computation, and returns to its place after a loss.

The loss of a scheduler closes nothing: the computation tries to reach it again, with growing pauses, and then presents
its queue entry. Its coroutines run on meanwhile.
"""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from .._cluster import messages
from .._config import PULSES
from .._errors import DiscoroError, PeerDisconnected, SchedulerNotFound
from .._link import answered
from .._printable import printable
from .._process import names_of
from .._records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._cluster._lease_terms import QueueEntry
    from .._link import Endpoint, Link
    from .._status import NodeAllocation
    from .._values import Location
    from ._scheduler_path import SchedulerPath
    from ._session import Session

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1


_FIRST_WORD, _LONGEST_SILENCE = 2.0, 60.0
"""Seconds until the log first reports what the computation waits for, and the maximum between two such lines."""
_LONGEST_NAME = 60
"""Maximum length of each name: user, host and program."""


class Asked(Record, frozen=True, kw_only=True):
    """A computation's request to its scheduler."""

    name: str
    allocations: tuple[NodeAllocation, ...]
    zombie_period: float | None
    """Seconds."""
    pulse_interval: float
    """Seconds."""

    def wishes(self) -> list[messages.Allocation]:
        """Return the allocations in the form in which they are sent."""
        return [messages.Allocation(one.node, one.platform, one.cpus, one.memory, one.disk) for one in self.allocations]


class Queueing:
    """The place of one session in the queue."""

    def __init__(self, session: Session, endpoint: Endpoint, asked: Asked, path: SchedulerPath) -> None:
        self._session = session
        self._endpoint = endpoint
        self._asked = asked
        self._path = path
        self._queue_entry: QueueEntry | None = None
        self._demand_interval = 0.0

    async def take(self, nursery: trio.Nursery) -> None:
        """Submit the computation and wait for its turn; keep its place until the nursery ends.

        Raises:
            SchedulerNotFound: No scheduler answered in time.
            ComputationClosed: An admin request closed it while it waited.
        """
        link = await self._hand_in()
        nursery.start_soon(self._keep, link, name="keep the place in the queue")
        nursery.start_soon(self._say_what_it_waits_for, name="log what the computation waits for")
        nursery.start_soon(self._report_demand, name="report the work of the computation")
        await self._session.turn.wait()
        self._session.check_open()

    async def _say_what_it_waits_for(self) -> None:
        """Log what the computation waits for, with growing pauses, until it has its first server."""
        began = trio.current_time()
        for pause in _pauses():
            await trio.sleep(pause)
            session = self._session
            if session.servers or session.closed:
                return
            reason = await self._reason()
            if reason:
                waited = trio.current_time() - began
                logger.info("the computation %s has waited for %.0f s: %s", printable(self._asked.name), waited, reason)

    async def _reason(self) -> str:
        link = self._session.scheduler
        if link is None or link.lost:
            return "its scheduler cannot be reached"
        try:
            reply = await link.request(messages.AskWait(self._session.set_up.computation))
            reason = answered(reply, messages.WaitIs).reason
        except DiscoroError:
            return "its scheduler cannot be reached"
        return reason or "its servers are being set up"

    async def _hand_in(self) -> Link:
        """Find the scheduler and queue the computation. If the scheduler ends meanwhile, look for a restarted one."""
        latest = trio.current_time() + self._session.timeout
        while True:
            link = await self._path.find()
            try:
                await self._submit(link)
            except PeerDisconnected as error:
                if trio.current_time() + _FIRST_PAUSE >= latest:
                    message = f"the scheduler at {link.peer.location} did not answer: {error}"
                    raise SchedulerNotFound(message) from error
                await trio.sleep(_FIRST_PAUSE)
            else:
                return link

    async def _submit(self, link: Link) -> None:
        session, asked = self._session, self._asked
        computation = session.set_up.computation
        known = self._endpoint.credentials.get(computation)
        session.scheduler = link
        queued = await link.request(
            messages.Submit(
                computation,
                asked.name,
                asked.wishes(),
                asked.zombie_period,
                asked.pulse_interval,
                self._queue_entry,
                session.turn.is_set(),
                known.key if known is not None else b"",
                _owner(),
            ),
            timeout=session.timeout,
        )
        queued = answered(queued, messages.Queued)
        self._queue_entry = queued.queue_entry
        self._demand_interval = queued.demand_interval
        session.set_up = msgspec.structs.replace(session.set_up, pulse_interval=queued.pulse_interval)

    async def _report_demand(self) -> None:
        """Report how much work there is, if the scheduler needs it to decide the number of nodes."""
        session, reported, reported_to = self._session, (0, 0), self._session.scheduler
        while self._demand_interval:
            demand = session.demand()
            if demand != reported or session.scheduler is not reported_to:
                link = session.scheduler
                if link is not None and not link.lost:
                    link.notify(messages.Demand(session.set_up.computation, *demand))
                reported, reported_to = demand, link
            await trio.sleep(self._demand_interval)

    async def _keep(self, link: Link) -> None:
        while True:
            await link.ended.wait()
            if self._session.closed:
                return
            last = link.peer.location
            logger.info(
                "the connection to the scheduler at %s is lost; the computation goes on, and looks for the scheduler",
                last,
            )
            link = await self._come_back(last)
            logger.info("the computation is back at the scheduler at %s", link.peer.location)
            names_of(self._endpoint).rejoined()

    async def _come_back(self, last: Location) -> Link:
        """Find the scheduler again and return to the place in its queue; there is no timeout."""
        lost_at, interval = trio.current_time(), self._asked.pulse_interval
        pause = _FIRST_PAUSE
        while True:
            # A scheduler of another host may be another user's, so one restarted at the old place comes first.
            elsewhere = trio.current_time() - lost_at >= PULSES * interval
            try:
                link = await self._path.find_again(last, max(interval, self._session.timeout), elsewhere=elsewhere)
                await self._submit(link)
            except DiscoroError as error:
                # A scheduler that was just started may listen already, and not yet accept computations.
                logger.debug("the scheduler cannot be reached yet: %s", error)
                await trio.sleep(pause)
                pause = min(2 * pause, interval)
            else:
                return link


def _pauses() -> Iterator[float]:
    pause = _FIRST_WORD
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_SILENCE)


def _owner() -> str:
    """Return the owner of this process's computations, for display: user, host and program."""
    import getpass  # noqa: PLC0415 - programs that only run coroutines do not need it

    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # the user has no name
        user = "?"
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] not in {"", "-c", "-m"} else "python"
    return f"{user[:_LONGEST_NAME]}@{socket.gethostname()[:_LONGEST_NAME]} {program[:_LONGEST_NAME]}"
