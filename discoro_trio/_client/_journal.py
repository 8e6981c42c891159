"""The journal of a computation: what happened to its coroutines since the last look. Monitors read it.

A reader polls the journal at its own pace; nothing is pushed. A coroutine costs two small notes, however many readers
there are. All coroutines are counted. Of those that began and ended between two looks, only a few hundred per second,
evenly picked, are listed one by one. Reading the journal does not count as receiving an error.
"""

from __future__ import annotations

from itertools import islice
from time import time
from typing import TYPE_CHECKING, Any

from .._process import Ending
from .._records import Record
from ._server import LeasedServer
from ._snapshot import server_status, snapshot_of

if TYPE_CHECKING:
    from .._cluster import ClusterStatus, ServerStatus
    from .._process import Call, Coro, Outcome, Submission
    from ._session import Session

MOST_BEGUN = 2_000
"""How many coroutines one look lists as begun; the next look lists the others."""
MOST_SHORT = 32
"""How many coroutines that began and ended between two looks are all listed; beyond that every second one is, then
every fourth. As many are listed that began after the last look; the others are listed if the next look finds them."""

_VALUE = Ending.VALUE
_FAILURES = frozenset({Ending.ERROR, Ending.LOST})


class RecordedCoro:
    """Terminates a coroutine of the journal; the handle to it is made on demand."""

    __slots__ = ("_session", "_started")

    def __init__(self, session: Session, started: Submission) -> None:
        self._session = session
        self._started = started

    async def terminate(self) -> None:
        """Cancel the coroutine, wait for its clean-up, and end it by force after the grace period."""
        coro: Coro[Any] = self._session.handle(self._started)
        await coro.terminate()


class Begun(Record, frozen=True, kw_only=True):
    """A coroutine that was started."""

    key: str
    """Its unique id, as in `Coro.id`."""
    name: str
    server: str
    """The Location of its server, as text."""
    computation: str
    """The id of its computation."""
    start: float
    """Seconds since the epoch; if it ran before the journal was opened, when the journal was opened."""
    args: tuple[object, ...]
    """Empty if it ran before the journal was opened; so is `kwargs`."""
    kwargs: dict[str, object]
    handle: RecordedCoro


class Ended(Record, frozen=True, kw_only=True):
    """A coroutine that has ended."""

    key: str
    at: float
    """Seconds since the epoch."""
    ending: Ending
    outcome: Outcome | None
    """The error that it raised; None for a value."""
    begun: Begun | None
    """The entry of its start, if no look listed that before."""


class Look(Record, frozen=True, kw_only=True):
    """The result of one look."""

    closed: list[ClusterStatus]
    """The computation's tables at its close; one entry for each time that it was closed."""
    tables: ClusterStatus | None
    """The computation's present tables, if it is scheduled."""
    begun: list[Begun]
    ended: list[Ended]
    gone: list[ServerStatus]
    """Servers that have ended, in their last state."""
    failed: dict[str, int]
    """How many more coroutines have failed, by the Location of their server as text."""
    one_in: int
    """Of coroutines that began and ended between two looks, one in this many is listed."""


class Journal:
    """The notes about one computation for one reader, over all times that it is scheduled."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._closed: list[ClusterStatus] = []
        self._begun: dict[Submission, tuple[float, tuple[object, ...], dict[str, object]]] = {}
        self._told: dict[Submission, str] = {}
        self._ended: list[Ended] = []
        self._gone: list[ServerStatus] = []
        self._failed: dict[str, int] = {}
        self._one_in = self._until_next = 1
        self._short = 0
        self._looked = 0.0

    # --- called by sessions

    def open(self, session: Session) -> None:
        """Follow a session from now on."""
        self._session = session
        now = self._looked = time()
        for server in session.servers.values():
            for started in server.host.started.values():
                self._begun[started] = (now, (), {})

    def begin(self, started: Submission, call: Call) -> None:
        """Note that a coroutine was started."""
        self._begun[started] = (time(), call.args, call.kwargs)

    def end(self, started: Submission) -> None:
        """Note that a coroutine has ended."""
        outcome = started.outcome
        begun = self._begun.pop(started, None)
        # Nearly all of very many jobs take this path, so its cost counts.
        if begun is not None and self._until_next > 1 and outcome is not None and outcome.ending is _VALUE:
            self._until_next -= 1
        elif outcome is not None and self._session is not None:
            self._end(self._session, started, outcome, begun)

    def _end(
        self,
        session: Session,
        started: Submission,
        outcome: Outcome,
        begun: tuple[float, tuple[object, ...], dict[str, object]] | None,
    ) -> None:
        if outcome.ending in _FAILURES:
            where = self._server_of(started)
            self._failed[where] = self._failed.get(where, 0) + 1
        if begun is None:
            key = self._told.pop(started, None)
            if key is not None:
                self._note_end(key, outcome, None)
            return
        self._until_next -= 1
        if self._until_next:
            return
        self._short += 1
        if self._short == MOST_SHORT:
            self._one_in *= 2
            self._short //= 2
        self._until_next = self._one_in
        told = self._begin_of(session, started, *begun)
        self._note_end(told.key, outcome, told)

    def server_gone(self, server: LeasedServer) -> None:
        """Note that a server has ended and is removed."""
        if self._session is not None:
            self._gone.append(server_status(server, self._session))

    def close(self) -> None:
        """Note that the session is over."""
        if self._session is not None:
            self._closed.append(snapshot_of(self._session))
            self._session = None
            self._begun.clear()
            self._told.clear()

    # --- called by the reader

    @property
    def session(self) -> Session | None:
        """The session that is followed now."""
        return self._session

    def look(self) -> Look:
        """Return what has happened since the last look."""
        look = Look(
            closed=self._closed,
            tables=None if self._session is None else snapshot_of(self._session),
            begun=self._take_begun(),
            ended=self._ended,
            gone=self._gone,
            failed=self._failed,
            one_in=self._one_in,
        )
        self._closed, self._ended, self._gone, self._failed = [], [], [], {}
        if self._short < MOST_SHORT // 2:
            self._one_in = self._until_next = max(1, self._one_in // 2)
        self._short = 0
        return look

    def _take_begun(self) -> list[Begun]:
        session = self._session
        if session is None:
            return []
        found = []
        before, self._looked = self._looked, time()
        young = 0
        for started, begun in list(islice(self._begun.items(), MOST_BEGUN)):
            young += begun[0] > before
            if young > MOST_SHORT:
                break
            del self._begun[started]
            told = self._begin_of(session, started, *begun)
            self._told[started] = told.key
            found.append(told)
        return found

    def _begin_of(
        self,
        session: Session,
        started: Submission,
        start: float,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> Begun:
        return Begun(
            key=f"{started.home.hex()}-{started.serial:x}",
            name=started.name,
            server=self._server_of(started),
            computation=session.set_up.computation.hex(),
            start=start,
            args=args,
            kwargs=kwargs,
            handle=RecordedCoro(session, started),
        )

    @staticmethod
    def _server_of(started: Submission) -> str:
        # By its host: a lost server is removed before its coroutines are.
        owner = None if started.host is None else started.host.owner
        return str(owner.location) if isinstance(owner, LeasedServer) else ""

    def _note_end(self, key: str, outcome: Outcome, begun: Begun | None) -> None:
        ending = outcome.ending
        kept = None if ending is Ending.VALUE else outcome
        self._ended.append(Ended(key=key, at=time(), ending=ending, outcome=kept, begun=begun))
