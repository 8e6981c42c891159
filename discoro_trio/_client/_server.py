"""The client's record of a server of a computation.

Coroutines there report their ends to it; the session acts on them.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import msgspec
import trio

from .._errors import DiscoroError, ServerLost
from .._process import Ending, LocalOutcome
from .._records import MutableRecord
from ._load_balancer import LONG
from ._status import tell_ended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._cluster import messages
    from .._process import Host, Submission
    from .._values import Location
    from ._load_balancer import ServerLoad
    from ._session import Session

_ERROR, _LOST = Ending.ERROR, Ending.LOST  # looked up once, as this is compared for every coroutine


class LeasedServer(MutableRecord, eq=False):
    """A server of the computation."""

    server_id: bytes
    node_id: bytes
    slot: int
    """Its number at its node; a replacement has the same number."""
    location: Location
    host: Host
    session: Session
    place: ServerLoad | None = None
    """The load balancer's record of it, once it takes starts."""
    gone: trio.Event = msgspec.field(default_factory=trio.Event)
    """Set when its node has reported how it ended."""
    word: messages.ServerGone | None = None
    """The node's report."""
    withdrawn: bool = False
    """Whether it takes no more coroutines."""
    refused: bool = False
    """Whether its host answered that it does not listen any more."""

    def ended(self, started: Submission) -> None:
        """Note that one of its coroutines has ended."""
        session, place = self.session, started.place
        outcome = started.outcome
        if outcome is not None and (outcome.ending is _ERROR or outcome.ending is _LOST):
            session.failed += 1
        if place is not None:
            now = perf_counter()
            waiting = session.backlog.size  # the first of them takes the room of this one
            if started.level == LONG and started.ahead == 1:
                session.load_balancer.computed(place, started.name, now, plain=started.plain)
            session.load_balancer.ended(place, started.ahead, started.level, now, plain=started.plain, more=waiting > 1)
            started.ahead = 0
            if waiting:
                session.drain_at(place, now)
        if session.status.active:
            tell_ended(self, started)
        for journal in session.journals:
            journal.end(started)

    def begun(self, all_started: Sequence[Submission], level: int) -> None:
        """Note that some of its coroutines have begun and let others begin."""
        session, now = self.session, perf_counter()
        waiting = session.backlog.size
        more = waiting > len(all_started)  # the first of them take the room of these
        for started in all_started:
            started.call = None
            if started.ahead:
                session.load_balancer.begun(started.place, started.ahead, level, now, plain=started.plain, more=more)
                started.ahead = 0
        if waiting and self.place is not None:
            session.drain_at(self.place, now)

    def returned(self, all_started: Sequence[Submission]) -> None:
        """Note that some starts were taken back, or reached a server that ends."""
        if not all(one.revoked for one in all_started):
            error = self.host_ends("it begins nothing more")
            for one in all_started:
                if one.call is None and one.cancelled_for is None:
                    one.end(LocalOutcome.lost(error))
        self.session.start_again(all_started)

    @property
    def seen_dead(self) -> bool:
        """Whether its node, or its host's kernel, has reported that it ended."""
        return self.word is not None or self.refused

    @property
    def closed_idle(self) -> bool:
        """Whether it closed because it was idle, so that starts in transit have not begun."""
        return self.word is not None and self.word.idle

    def host_lost(self) -> None:
        """Note that the connection to it is lost."""
        self.session.members.lost(self)

    def host_ends(self, reason: str) -> DiscoroError:
        """Note that it ends in order; return the error for its coroutines, which have cleaned up."""
        if self.session.closed:
            return self.session.closed_error()
        self.session.topology.withdraw(self)
        message = f"the server at {self.location} ends: {reason}; the coroutine was cancelled, and has cleaned up"
        return ServerLost(message, location=self.location)

    async def force(self, started: Submission, grace_period: float | None) -> None:
        """End a cancelled coroutine by force after its grace period."""
        await self.session.force(started, grace_period)

    def loss(self) -> ServerLost:
        """Return a description of how it ended."""
        word = self.word
        if word is None:
            gone = "has ended, and its node as well" if self.refused else "cannot be reached any more, nor its node"
            message = f"the server at {self.location} {gone}"
            return ServerLost(message, location=self.location, ended=self.seen_dead)
        how = f"by signal {word.signal}" if word.signal is not None else f"with exit status {word.exitcode}"
        why = f" ({word.reason})" if word.reason else ""
        tail = f"; it wrote last:\n{word.stderr_tail}" if word.stderr_tail else ""
        return ServerLost(
            f"the server at {self.location} ended {how}{why}{tail}",
            location=self.location,
            exitcode=word.exitcode,
            signal=word.signal,
            stderr_tail=word.stderr_tail,
        )
