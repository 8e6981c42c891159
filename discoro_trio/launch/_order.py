"""What a launcher sends to a node's process, and what the process answers.

A node that is a child process of the launcher reads its `Order` as the first line of its standard input, and ends when
that is closed. A node in a job of a batch system reads its order from a file, `ORDER_FILE`, in the run's folder, which
only the user can read; marker files in that folder ask it to drain or to end.

The process writes the lines below to its standard output, and logs to standard error.
"""

from __future__ import annotations

import msgspec

JOINED = "discoro node: joined "
"""It has joined the scheduler; its location follows. A login shell may write other lines before."""
DRAINING_FOR_TIME = "discoro node: draining, the time of its job ends"
DRAINING_FOR_SIGNAL = "discoro node: draining after a signal"
ENDED = "discoro node: ended with status "
"""The job's script adds the status."""

LONGEST_END = 9.0
"""Seconds that the orderly end of a node may take, including the grace period of coroutines."""

ORDER_FILE = "order"
END_ALL = "end"
"""The marker file that asks all nodes of the run to end."""


def end_marker(name: str) -> str:
    """Return the name of the marker file that asks one node to end."""
    return f"{name}.end"


def drain_marker(job: str) -> str:
    """Return the name of the marker file that asks the nodes of a job to drain, because its time ends."""
    return f"{job}.drain"


class Order(msgspec.Struct, frozen=True):
    """How to run a node."""

    secret: str
    addr: str
    """Address of the scheduler."""
    port: int
    """TCP port of the scheduler."""
    name: str
    cpus: int
    """As for `open_node`."""
    tcp_ports: str | None = None
    """As for `open_node`: the ports that are forwarded to the program and to the other nodes."""
    lasts: float | None = None
    """Seconds after its start at which it drains, because the time of its job ends; None if only a marker file reports
    that."""
    notice: float = 0.0
    """Seconds between that report and the end of the job's time."""
    kill_wait: float = 0.0
    """Seconds between SIGTERM and SIGKILL."""

    def __repr__(self) -> str:
        """Leave the secret out."""
        return f"Order(name={self.name!r})"

    def encode(self) -> bytes:
        """Return the line to send."""
        return msgspec.json.encode(self) + b"\n"


def decode(line: bytes) -> Order:
    """Read a line that `encode` has made.

    Raises:
        msgspec.MsgspecError: It is something else.
    """
    return msgspec.json.decode(line, type=Order)
