"""Cancel scopes that serve one coroutine after the other.

Every coroutine can be cancelled alone, so each needs a scope of its own. To make, enter and leave one takes longer
than everything else that happens to a short coroutine at its server. So nurseries are kept open, each for one
coroutine at a time: their scopes are used again, as long as nobody cancels them.

This module owns those nurseries and which of them are free. The coroutines in them are with `_runner`.
"""

from __future__ import annotations

import trio

MOST = 256
"""Nurseries that are kept. A coroutine beyond that many at once, one of thousands that wait, gets a new scope."""


class Berths:
    """The nurseries of one process that are kept open for its coroutines."""

    __slots__ = ("_count", "_free")

    def __init__(self) -> None:
        self._free: list[trio.Nursery] = []
        self._count = 0

    def take(self, nursery: trio.Nursery) -> trio.Nursery | None:
        """Give a nursery for one coroutine, to be given back when that has ended.

        Args:
            nursery: Where the task lives that holds a new one open.

        Returns:
            A nursery that has nothing in it and is not cancelled; None if there is none yet.
        """
        if self._free:
            return self._free.pop()
        if self._count < MOST:
            self._count += 1
            nursery.start_soon(self._hold, name="berth")
        return None

    def give_back(self, berth: trio.Nursery) -> None:
        """Take back a nursery whose coroutine has ended; one that was cancelled closes by itself."""
        if not berth.cancel_scope.cancel_called:
            self._free.append(berth)

    async def _hold(self) -> None:
        """Hold a nursery open until it is cancelled."""
        async with trio.open_nursery() as berth:
            self._free.append(berth)
            try:
                await trio.sleep_forever()
            finally:
                self._count -= 1
                # If not itself but what surrounds it is cancelled, it can be among the free ones.
                if berth in self._free:
                    self._free.remove(berth)
