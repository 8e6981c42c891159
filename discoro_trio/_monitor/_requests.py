"""Records when programs requested tables, so that a polling program gets the last state, too."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator


class RequestTimes:
    """The times of requests by polling programs, and the requests that are not answered yet."""

    def __init__(self) -> None:
        self._last = -math.inf
        self._asked = trio.Event()
        self._open: set[trio.Event] = set()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Enter around each request until its answer was sent."""
        answered = trio.Event()
        self._open.add(answered)
        try:
            yield
        finally:
            self._open.remove(answered)
            answered.set()

    def note(self) -> None:
        """Note a request for the state."""
        self._last = trio.current_time()
        self._asked.set()

    async def until_asked_again(self, seconds: float) -> None:
        """If there was a request lately, wait for the next one and until it is answered.

        Args:
            seconds: The maximum age of the last request, and the maximum wait, in seconds.
        """
        if trio.current_time() - self._last > seconds:
            return
        self._asked = trio.Event()
        with trio.move_on_after(seconds):
            await self._asked.wait()
            for answered in tuple(self._open):
                await answered.wait()
