"""When programs have asked for tables, so that one that asks again and again gets the last state, too."""

from __future__ import annotations

import math

import trio


class Requests:
    """The requests of programs that look by themselves, as browsers do not."""

    def __init__(self) -> None:
        self._last = -math.inf
        self._asked = trio.Event()

    def note(self) -> None:
        """Note that somebody asks."""
        self._last = trio.current_time()
        self._asked.set()

    async def until_asked_again(self, seconds: float) -> None:
        """Wait for the next request if there was one in the last seconds; then it is answered soon.

        Args:
            seconds: How long ago the last request may be, and how long this waits at most.
        """
        if trio.current_time() - self._last > seconds:
            return
        self._asked = trio.Event()
        with trio.move_on_after(seconds):
            await self._asked.wait()
            await trio.sleep(_TO_ANSWER)


_TO_ANSWER = 0.1
"""Seconds that an answer has to leave."""
