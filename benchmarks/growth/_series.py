"""What is measured: each series has one thing that grows, and the values that are measured beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from benchmarks.growth._fit import Kind


@frozen
class Value:
    """One thing that each point of a series measures."""

    name: str
    unit: str
    meaning: str
    """A noun phrase for pages and plots."""
    kind: Kind
    """The curve that is expected."""


@frozen
class Series:
    """A range of one quantity."""

    name: str
    """Also that of the function in `point` which measures it."""
    quantity: str
    """What grows, with its unit."""
    range: tuple[int, ...]
    values: tuple[Value, ...]


_KIBI, _MEBI = 1 << 10, 1 << 20

SERIES = (
    Series(
        "servers",
        "servers of one client, all on this machine",
        (2, 4, 8, 16, 32, 64, 128, 200),
        (
            Value("start_s", "s", "start of all servers", "line"),
            Value("each_s", "s", "one coroutine on each server, and its result", "line"),
            Value("jobs_per_s", "jobs/s", "small jobs of one client", "power"),
            Value("memory_MB", "MB", "memory of all processes", "line"),
        ),
    ),
    Series(
        "clients",
        "clients of one node, each a process with one server",
        (1, 2, 4, 8),
        (Value("jobs_per_s", "jobs/s", "small jobs of all clients together", "power"),),
    ),
    Series(
        "bytes",
        "bytes of a message",
        (1, 64, 4 * _KIBI, 64 * _KIBI, _MEBI, 16 * _MEBI, 256 * _MEBI),
        (
            Value("local_s", "s", "round trip between processes of one machine", "line"),
            Value("tls_s", "s", "round trip over TLS", "line"),
        ),
    ),
    Series(
        "coroutines",
        "coroutines that wait on one server",
        (10, 100, 1_000, 10_000, 100_000),
        (
            Value("start_s", "s", "start of all coroutines", "line"),
            Value("memory_MB", "MB", "memory of the server beyond its own", "line"),
        ),
    ),
    Series(
        "subscribers",
        "subscribers of one channel, on two servers",
        (1, 3, 10, 30, 100, 300, 1_000),
        (
            Value("message_s", "s", "one message to all subscribers", "line"),
            Value("arrivals_per_s", "messages/s", "arrivals at all subscribers together", "power"),
        ),
    ),
)
