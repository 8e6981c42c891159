"""What the log says of connections that were refused, when there are very many of them.

This module owns that count. Why a connection is refused is with the endpoint and the handshake.
"""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

MOST_LINES = 10
"""The refusals of one period that have a line each."""

PERIOD = 60.0
"""Seconds in which so many have one; the others are counted in one line at its end."""


class RefusalLog:
    """Writes down who was refused; whoever tries thousands of times does not fill the log."""

    def __init__(self) -> None:
        self._until = float("-inf")
        self._count = 0

    def add(self, now: float, host: str, error: Exception) -> None:
        """Note a refusal.

        Args:
            now: A clock that never goes back, in seconds.
            host: Where the connection came from.
            error: Why it was refused.
        """
        if now >= self._until:
            self._end_period()
            self._until = now + PERIOD
        self._count += 1
        if self._count <= MOST_LINES:
            more = "; further ones are counted" if self._count == MOST_LINES else ""
            logger.info("a connection from %s was refused: %s%s", host, error, more)

    def _end_period(self) -> None:
        if self._count > MOST_LINES:
            logger.warning("%d further connections were refused", self._count - MOST_LINES)
        self._count = 0
