"""Limits the log lines about refused connections when there are very many of them.

The endpoint and the handshake decide why a connection is refused.
"""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

MOST_LINES = 10
"""The most refusals of one period that are logged with a line each."""

PERIOD = 60.0
"""The length of a period in seconds; one line at its end counts the other refusals."""


class RefusalLog:
    """Logs refused connections; a peer that tries thousands of times does not fill the log."""

    def __init__(self) -> None:
        self._until = float("-inf")
        self._count = 0

    def add(self, now: float, host: str, error: Exception) -> None:
        """Record a refusal.

        Args:
            now: The time of a monotonic clock, in seconds.
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
