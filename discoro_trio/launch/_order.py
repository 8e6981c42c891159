"""What a launcher sends to a node's process, and what the process answers.

The first line of the process's standard input is an `Order`. The process writes `JOINED` and its location to its
standard output once it has joined the scheduler, and logs to standard error. It ends when its standard input is closed.
"""

from __future__ import annotations

import msgspec

JOINED = "discoro node: joined "
"""The line that the process writes begins with it; a login shell may write others before."""

LONGEST_END = 9.0
"""Seconds that the orderly end of a node may take, including the grace period of coroutines."""


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
