"""Records when programs requested tables, so that a polling program gets the last state, too."""

from __future__ import annotations

import math

import trio


class RequestTimes:
    """The times of requests by polling programs."""

    def __init__(self) -> None:
        self._last = -math.inf
        self._asked = trio.Event()

    def note(self) -> None:
        """Note a request."""
        self._last = trio.current_time()
        self._asked.set()

    async def until_asked_again(self, seconds: float) -> None:
        """If there was a request lately, wait for the next one and for its answer.

        Args:
            seconds: The maximum age of the last request, and the maximum wait, in seconds.
        """
        if trio.current_time() - self._last > seconds:
            return
        self._asked = trio.Event()
        with trio.move_on_after(seconds):
            await self._asked.wait()
            await trio.sleep(_TO_ANSWER)


_TO_ANSWER = 0.1
"""Seconds for an answer to be sent."""
