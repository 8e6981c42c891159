"""What the monitor knows of each thing: nodes, servers, coroutines, computations, lines of output.

Values only. Who changes them is `_model`; how they look in a table is in `_columns`.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

SAMPLE_SECONDS = 5.0
"""Between two points of a small graph."""
SAMPLES = 60
"""Points of a small graph: five minutes."""


# After an address of IPv6 without brackets, nothing is a port.
_PORT = re.compile(r"^(\[.*\]|[^:]*):\d+$")


_MOST_RECENT = 1_000
"""Times at which failures of one kind have become more."""


def _samples() -> deque[float | None]:
    return deque(maxlen=SAMPLES)


@attrs.define
class Counts:
    """Coroutines of a node, a server, a computation or all."""

    submitted: int = 0
    done: int = 0
    """Finished, failed, cancelled or lost."""
    failed: int = 0
    """Those of them that raised or were lost."""

    def add(self, submitted: int, done: int, failed: int) -> None:
        """Count so many more."""
        self.submitted += submitted
        self.done += done
        self.failed += failed

    @property
    def running(self) -> int:
        """Those that have not ended."""
        return max(0, self.submitted - self.done)


@attrs.define
class Load:
    """What a machine or a process uses, now and in the last five minutes."""

    cpu: float | None = None
    """Percent of the processors, 0 to 100; of one processor for a process."""
    memory: int | None = None
    """Bytes in use."""
    memory_total: int | None = None
    disk: int | None = None
    """Bytes in use."""
    disk_total: int | None = None
    cpu_history: deque[float | None] = attrs.Factory(_samples)
    memory_history: deque[float | None] = attrs.Factory(_samples)
    """Percent; of a process in MiB."""
    disk_history: deque[float | None] = attrs.Factory(_samples)
    """Percent."""

    def sample(self) -> None:
        """Remember the present values as the next point of the graphs."""
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
    """Its Location as text, as nodes may share an address; its address where nobody has said more."""
    name: str = ""
    platform: str = ""
    state: str = "discovered"
    """`discovered`, `ready`, `suspended`, `ignored`, `closed` or `disconnected`."""
    cpus: int | None = None
    counts: Counts = attrs.Factory(Counts)
    load: Load = attrs.Factory(Load)
    servers: dict[str, None] = attrs.Factory(dict)
    """The keys of its servers, in the order they came."""
    left: float | None = None
    """When it was seen to be gone, in seconds since the epoch."""

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
    counts: Counts = attrs.Factory(Counts)
    load: Load = attrs.Factory(Load)
    running: dict[str, None] = attrs.Factory(dict)
    """The keys of the coroutines there that are known one by one."""
    blocked_since: float | None = None
    """Since when no coroutine there reaches a checkpoint, in seconds since the epoch; None if it answers."""
    stack: tuple[str, ...] = ()
    """Where its thread is then, the outermost frame first."""


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
    """What it raised, in one line."""
    progress: tuple[float, float | None, str] | None = None
    """What is done, of how much, and a text."""
    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = attrs.Factory(dict)
    described: str | None = None
    """Its arguments as text, where that is all that is known of them; None for unknown."""
    group: str = ""
    """The key of the failures that its own is one of."""
    stack: tuple[str, ...] = ()
    """Where it was when somebody looked last, the outermost frame first."""
    waits: str = ""
    """What it waited for then."""
    handle: Any = None
    """What terminates it; None if nothing here can."""


@attrs.define
class ComputationRow:
    """A computation: queued, running or past."""

    key: str
    name: str = ""
    owner: str = ""
    """The client, for people."""
    state: str = "queued"
    """`queued`, `running`, `detached` (its client cannot be reached) or `closed`."""
    submitted: float | None = None
    """Seconds since the epoch."""
    begin: float | None = None
    """Seconds since the epoch."""
    end: float | None = None
    """Seconds since the epoch."""
    lease: int | None = None
    """The servers it holds."""
    place: int = 0
    """Its place in the queue, from 1; 0 if its turn has come."""
    why: str = ""
    """What it waits for, in words."""
    counts: Counts = attrs.Factory(Counts)


@attrs.define
class Failures:
    """Failures that are alike: of one function, with one type of error, raised at one place."""

    key: str
    computation: str = ""
    name: str = ""
    """The function."""
    kind: str = ""
    """The type of the error."""
    place: str = ""
    """Where it was raised: file and line."""
    error: str = ""
    """What the last one said, in one line."""
    trace: str = ""
    """The traceback of one of them."""
    at: float = 0.0
    """When the last one was, in seconds since the epoch."""
    counts: dict[str, int] = attrs.Factory(dict)
    """How many there were, by server."""
    recent: deque[tuple[float, int]] = attrs.Factory(lambda: deque(maxlen=_MOST_RECENT))
    """When there were more, in seconds since the epoch, and how many more."""

    def since(self, time: float) -> int:
        """Count those since a time, in seconds since the epoch."""
        return sum(count for at, count in self.recent if at >= time)

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts.values())


@attrs.frozen
class OutputRow:
    """A line that a coroutine wrote or logged."""

    number: int
    time: float
    """Seconds since the epoch."""
    server: str
    level: str
    """`print`, or that of the log record in small letters."""
    text: str
    coroutine: str = ""
    """The key of the coroutine that wrote it; empty if it is not known."""


def percent(part: float | None, whole: float | None) -> float | None:
    """Return what part of the whole is used; None if it is unknown."""
    return None if part is None or not whole else 100.0 * part / whole


def rounded(value: float | None) -> float | None:
    """Return one digit after the point: more only makes messages longer."""
    return None if value is None else round(value, 1)


def total(loads: Iterable[Load], name: str) -> int | None:
    """Add up one field of those that know it; None if nobody does."""
    known = [value for value in (getattr(load, name) for load in loads) if value is not None]
    return sum(known) if known else None
