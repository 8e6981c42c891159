"""The queue of starts that wait at the client until a server has room for them.

This module owns their order: first come, first served. Async and plain functions have queues of their own. A server
takes starts for any node and starts for its own node.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._process import Submission


class Backlog:
    """The queues of waiting starts; starts that were cancelled meanwhile are skipped."""

    def __init__(self) -> None:
        self._queues: dict[tuple[bytes | None, bool], deque[tuple[int, Submission]]] = {}
        self.size: int = 0
        """How many starts wait, including cancelled ones that are not yet removed."""
        self._first = 0
        self._last = 0

    def put(self, started: Submission, node_id: bytes | None, *, plain: bool) -> None:
        """Queue a start for a server of one node, or of any node."""
        self._last += 1
        self.size += 1
        self._queues.setdefault((node_id, plain), deque()).append((self._last, started))

    def put_back(self, started: Submission, node_id: bytes | None, *, plain: bool) -> None:
        """Queue a start first that was sent and came back."""
        self._first -= 1
        self.size += 1
        self._queues.setdefault((node_id, plain), deque()).appendleft((self._first, started))

    def take(self, node_id: bytes, *, plain: bool) -> Submission | None:
        """Take the start that has waited longest and can go to a server of a node; None if there is none."""
        chosen: deque[tuple[int, Submission]] | None = None
        for key in ((None, plain), (node_id, plain)):
            queue = self._queues.get(key)
            while queue and queue[0][1].outcome is not None:
                queue.popleft()
                self.size -= 1
            if queue:
                if chosen is None or queue[0][0] < chosen[0][0]:
                    chosen = queue
            elif queue is not None:
                del self._queues[key]
        if not chosen:
            return None
        self.size -= 1
        return chosen.popleft()[1]

    def waits(self, node_id: bytes | None, *, plain: bool) -> bool:
        """Whether a start for a node, or for any, waits."""
        return (node_id, plain) in self._queues

    def __bool__(self) -> bool:
        """Whether any start waits."""
        return bool(self._queues)

    def __len__(self) -> int:
        """Return how many starts wait, without cancelled ones."""
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Submission]:
        """Yield all starts that wait."""
        for queue in self._queues.values():
            for _, started in queue:
                if started.outcome is None:
                    yield started

    def kinds(self) -> list[tuple[bytes | None, bool]]:
        """Return the nodes and kinds of function for which starts wait."""
        return list(self._queues)

    def clear(self) -> list[Submission]:
        """Take all starts that wait."""
        waiting = list(self)
        self._queues.clear()
        self.size = 0
        return waiting

    def take_all(self, kind: tuple[bytes | None, bool]) -> list[Submission]:
        """Take all starts that wait for one node and kind of function."""
        queue = self._queues.pop(kind, ())
        self.size -= len(queue)
        return [started for _, started in queue if started.outcome is None]
