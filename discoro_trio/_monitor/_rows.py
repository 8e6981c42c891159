"""The monitor's records of nodes, servers, coroutines, computations and lines of output.

Values only. `_model` changes them; `_columns` defines how tables show them.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

SAMPLE_SECONDS = 5.0
"""Seconds between two points of a small graph."""
SAMPLES = 60
"""Points of a small graph: five minutes."""


# An IPv6 address without brackets has no port.
_PORT = re.compile(r"^(\[.*\]|[^:]*):\d+$")


_MOST_RECENT = 1_000
"""How many times of new failures are kept for one kind."""


def _samples() -> deque[float | None]:
    return deque(maxlen=SAMPLES)


@attrs.define
class CoroCounts:
    """The counts of coroutines of a node, a server, a computation or the cluster."""

    submitted: int = 0
    done: int = 0
    """Finished, failed, cancelled or lost."""
    failed: int = 0
    """How many of them raised or were lost."""

    def add(self, submitted: int, done: int, failed: int) -> None:
        """Add to the counts."""
        self.submitted += submitted
        self.done += done
        self.failed += failed

    @property
    def running(self) -> int:
        """Coroutines that have not ended."""
        return max(0, self.submitted - self.done)


@attrs.define
class Load:
    """The load of a machine or a process, now and in the last five minutes."""

    cpu: float | None = None
    """Percent of all processors, 0 to 100; for a process, of one processor."""
    memory: int | None = None
    """Bytes in use."""
    memory_total: int | None = None
    disk: int | None = None
    """Bytes in use."""
    disk_total: int | None = None
    cpu_history: deque[float | None] = attrs.Factory(_samples)
    memory_history: deque[float | None] = attrs.Factory(_samples)
    """Percent; for a process, MiB."""
    disk_history: deque[float | None] = attrs.Factory(_samples)
    """Percent."""

    def sample(self) -> None:
        """Keep the present values as the next point of the graphs."""
        self.cpu_history.append(rounded(self.cpu))
        if self.memory_total:
            self.memory_history.append(rounded(percent(self.memory, self.memory_total)))
        else:
            self.memory_history.append(None if self.memory is None else rounded(self.memory / 2**20))
        self.disk_history.append(rounded(percent(self.disk, self.disk_total)))


@attrs.define
class NodeRow:
    """A machine."""

    key: str
    """Its Location as text, as nodes may share an address; its address if the Location is unknown."""
    name: str = ""
    platform: str = ""
    state: str = "discovered"
    """`discovered`, `ready`, `suspended`, `ignored`, `closed` or `disconnected`."""
    cpus: int | None = None
    counts: CoroCounts = attrs.Factory(CoroCounts)
    load: Load = attrs.Factory(Load)
    servers: dict[str, None] = attrs.Factory(dict)
    """The keys of its servers, in the order in which they joined."""
    left: float | None = None
    """When its end was detected, in seconds since the epoch."""

    @property
    def addr(self) -> str:
        """Its address, without the port."""
        return self.key.rsplit(":", 1)[0].strip("[]") if _PORT.search(self.key) else self.key


@attrs.define
class ServerRow:
    """A server process, or the slot of one that was replaced."""

    key: str
    """Its location as text."""
    node: str
    name: str = ""
    state: str = "discovered"
    """`discovered`, `ready`, `unresponsive`, `ignored`, `closed` or `disconnected`."""
    pid: int | None = None
    computation: str = ""
    counts: CoroCounts = attrs.Factory(CoroCounts)
    load: Load = attrs.Factory(Load)
    running: dict[str, None] = attrs.Factory(dict)
    """The keys of the coroutines there that are listed one by one."""
    blocked_since: float | None = None
    """If its thread is blocked: since when, in seconds since the epoch; None if it answers."""
    stack: tuple[str, ...] = ()
    """The stack of its blocked thread, the outermost frame first."""


@attrs.define
class CoroutineRow:
    """A coroutine that runs, or one of the last that ended."""

    key: str
    name: str
    server: str
    start: float
    """Seconds since the epoch."""
    computation: str = ""
    end: float | None = None
    """Seconds since the epoch."""
    state: str = "running"
    """`running`, `done`, `failed`, `cancelled`, `lost` or `closed` with its server; `ended` if it is not known how."""
    error: str = ""
    """The error that it raised, in one line."""
    progress: tuple[float, float | None, str] | None = None
    """The amount done, the total, and a text."""
    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = attrs.Factory(dict)
    described: str | None = None
    """Its arguments as text, if only the text is known; None if unknown."""
    group: str = ""
    """The key of the group of failures that includes its own."""
    stack: tuple[str, ...] = ()
    """Its stack when it was last fetched, the outermost frame first."""
    waits: str = ""
    """What it waited for at that time."""
    handle: Any = None
    """Terminates it; None if that is not possible from this process."""


@attrs.define
class ComputationRow:
    """A computation: queued, running or past."""

    key: str
    name: str = ""
    owner: str = ""
    """The client's name, for display."""
    client: str = ""
    """The Location of the client, as text; empty if it is not known."""
    state: str = "queued"
    """`queued`, `running`, `detached` (its client cannot be reached) or `closed`."""
    submitted: float | None = None
    """Seconds since the epoch."""
    begin: float | None = None
    """Seconds since the epoch."""
    end: float | None = None
    """Seconds since the epoch."""
    lease: int | None = None
    """How many servers it holds."""
    place: int = 0
    """Its place in the queue, from 1; 0 if its turn has come."""
    why: str = ""
    """The reason why it waits, as text."""
    skew: tuple[str, ...] = ()
    """How nodes differ from its client in the versions of packages."""
    counts: CoroCounts = attrs.Factory(CoroCounts)


@attrs.define
class Failures:
    """A group of equal failures: of one function, with one type of error, raised at one place."""

    key: str
    computation: str = ""
    name: str = ""
    """The function."""
    kind: str = ""
    """The type of the error."""
    place: str = ""
    """Where it was raised: file and line."""
    error: str = ""
    """The text of the last one, in one line."""
    trace: str = ""
    """The traceback of one of them."""
    at: float = 0.0
    """When the last one happened, in seconds since the epoch."""
    counts: dict[str, int] = attrs.Factory(dict)
    """The counts, by server."""
    recent: deque[tuple[float, int]] = attrs.Factory(lambda: deque(maxlen=_MOST_RECENT))
    """When new failures were reported, in seconds since the epoch, and how many."""

    def since(self, time: float) -> int:
        """Return how many happened since a time, in seconds since the epoch."""
        return sum(count for at, count in self.recent if at >= time)

    @property
    def count(self) -> int:
        """How many happened."""
        return sum(self.counts.values())


@attrs.frozen
class OutputRow:
    """A line that a coroutine wrote or logged."""

    number: int
    time: float
    """Seconds since the epoch."""
    server: str
    level: str
    """`print`, or the log record's level in lower case."""
    text: str
    coroutine: str = ""
    """The key of the coroutine that wrote it; empty if it is not known."""


def percent(part: float | None, whole: float | None) -> float | None:
    """Return the used part of the whole; None if it is unknown."""
    return None if part is None or not whole else 100.0 * part / whole


def rounded(value: float | None) -> float | None:
    """Round to one digit after the point: more digits only make messages longer."""
    return None if value is None else round(value, 1)


def total(loads: Iterable[Load], name: str) -> int | None:
    """Add up one field of the rows that have it; None if no row has it."""
    known = [value for value in (getattr(load, name) for load in loads) if value is not None]
    return sum(known) if known else None
