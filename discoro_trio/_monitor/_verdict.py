"""The health of a cluster: a sentence, and the present problems with links to the pages that show them.

Pure functions of the model and the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ._rows import percent
from ._topology_rows import GONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._model import Model
    from ._rows import ServerRow

WINDOW = 300.0
"""Seconds for which failures and losses count as present."""
FULL = 95.0
"""Percent of used disk or memory from which it is a problem."""
MOST = 20
"""How many problems are shown; the others are only counted."""


@attrs.frozen
class Problem:
    """One problem."""

    level: str
    """`bad` or `warn`."""
    text: str
    link: dict[str, str]
    """The query of the page that shows it."""


def problems(model: Model, now: float) -> list[Problem]:
    """Return the problems, the worst first."""
    found = [
        *_stale(model),
        *_blocked(model, now),
        *_circle(model),
        *_failures(model, now),
        *_gone(model, now),
        *_full(model),
        *_waiting(model, now),
    ]
    return sorted(found, key=lambda one: one.level != "bad")


def verdict(model: Model, now: float) -> dict[str, object]:
    """Return the verdict for a page: a level, a sentence, and the problems."""
    found = problems(model, now)
    return {
        "level": "bad" if any(one.level == "bad" for one in found) else "warn" if found else _level(model),
        "text": f"{_sentence(model, found)}. {model.scaling}" if model.scaling else _sentence(model, found),
        "problems": [attrs.asdict(one) for one in found[:MOST]],
        "more": max(0, len(found) - MOST),
    }


def _level(model: Model) -> str:
    return "good" if model.alive() else ""


def _sentence(model: Model, found: list[Problem]) -> str:
    if found:
        return f"{len(found)} problem{'s' if len(found) > 1 else ''}"
    alive = model.alive()
    if not alive:
        return "No node is connected yet"
    running = sum(server.counts.running for server in model.servers.values() if server.state not in GONE)
    servers = sum(model.serving(node) for node in alive)
    return f"All is well: {_number(servers, 'server')}, {_number(running, 'coroutine')} running"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _stale(model: Model) -> Iterator[Problem]:
    if model.stale is not None:
        text = f"The scheduler has not answered for {duration(model.stale)}; this page shows the last known state"
        yield Problem("bad", text, {})


def _blocked(model: Model, now: float) -> Iterator[Problem]:
    for server in model.servers.values():
        if server.state == "unresponsive" and server.blocked_since is not None:
            text = f"{title(server)} has been blocked for {duration(now - server.blocked_since)}"
            where = blocked_in(server)
            yield Problem("bad", f"{text} in {where}" if where else text, {"view": "server", "key": server.key})


def _circle(model: Model) -> Iterator[Problem]:
    if model.circle:
        text = f"{len(model.circle)} coroutines wait for each other for ever: {model.circle[0]}"
        yield Problem("bad", text, {"view": "tree"})


def blocked_in(server: ServerRow) -> str:
    """Return the user's outermost function that blocks a server's thread; empty if it is not known."""
    return server.stack[0].rpartition(" in ")[2] if server.stack else ""


def title(server: ServerRow) -> str:
    """Return a server's display name: its node's name and its number, or its Location."""
    node, _, number = server.name.rpartition(" server ")
    return f"Server {number} of {node}" if node and number else f"Server {server.key}"


def _failures(model: Model, now: float) -> Iterator[Problem]:
    recent = [(failures, failures.since(now - WINDOW)) for failures in model.failures.values()]
    for failures, count in sorted(recent, key=lambda one: -one[1]):
        if count:
            text = f"{count:,} {failures.name} failed in {duration(WINDOW)}: {failures.error}"
            yield Problem("bad", text, {"view": "function", "key": failures.name})


def _gone(model: Model, now: float) -> Iterator[Problem]:
    for node in model.nodes.values():
        if node.state == "disconnected" and node.left is not None and now - node.left < WINDOW:
            text = f"Node {node.name or node.key} was lost {duration(now - node.left)} ago"
            yield Problem("bad", text, {"view": "node", "key": node.key})
    lost = [one for one in reversed(model.lost) if now - one[0] < WINDOW]
    if lost:
        count = f"{len(lost)} coroutines were" if len(lost) > 1 else "1 coroutine was"
        text = f"{count} lost in {duration(WINDOW)}: {lost[0][1]}"
        yield Problem("bad", text, {"view": "coroutines", "state": "lost"})


def _full(model: Model) -> Iterator[Problem]:
    for node in model.alive():
        for what in ("disk", "memory"):
            part = percent(getattr(node.load, what), getattr(node.load, f"{what}_total"))
            if part is not None and part >= FULL:
                text = f"The {what} of {node.name or node.key} is {part:.0f} % full"
                yield Problem("warn", text, {"view": "node", "key": node.key})


def _waiting(model: Model, now: float) -> Iterator[Problem]:
    for one in model.computations.values():
        if one.why and not one.why.startswith("place "):  # waiting for a turn in the queue is no problem
            name = one.name or one.key[:8]
            since = f" for {duration(now - one.submitted)}" if one.submitted is not None else ""
            yield Problem("warn", f"Computation {name} has waited{since}: {one.why}", {"view": "computations"})
    for one in model.computations.values():
        for line in one.skew:
            text = f"Other versions than those of computation {one.name or one.key[:8]} at {line}"
            yield Problem("warn", text, {"view": "computations"})
        if one.state == "detached":
            text = f"The client of computation {one.name or one.key[:8]} cannot be reached"
            yield Problem("warn", text, {"view": "computations"})


def duration(seconds: float) -> str:
    """Return a span of time for a sentence."""
    seconds = max(0.0, seconds)
    if seconds < 90:  # noqa: PLR2004 - a minute and a half
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"  # noqa: PLR2004 - as above
