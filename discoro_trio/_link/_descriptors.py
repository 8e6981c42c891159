"""The limit of open descriptors: if few are left, no further connection is accepted.

Running work needs some: to start a server, to read its state from the kernel, to connect to another process.
"""

from __future__ import annotations

import logging
import math
import resource

from .._file_limit import raise_limit
from ._option_error import OptionError

logger = logging.getLogger(__name__)

KEPT = 32
"""The descriptors reserved for running work; an eighth of all, if that is less."""
_PAUSE = 60.0
"""Seconds between two warnings."""
_SERVERS = "servers"


_FEWEST, _FOR_SERVER = 24, 4
"""Open descriptors of a process with a node and a client: without servers, and for each server."""
_STARTING = 4
"""Additional descriptors of each server while it starts."""


def check_descriptors(servers: int) -> None:
    """Refuse more servers than there are descriptors for, and warn if there are few.

    Raises:
        OptionError: The hard limit is too low for this many servers.
    """
    raise_limit()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    needed = _FEWEST + KEPT + (_FOR_SERVER + _STARTING) * servers
    if most == resource.RLIM_INFINITY or most >= needed:
        return
    problem = (
        f"{servers} servers need {needed} descriptors, and the hard limit of this process is {most}; "
        "raise it (ulimit -Hn, LimitNOFILE= of systemd) or start fewer servers"
    )
    if most < _FEWEST + _FOR_SERVER * servers:
        raise OptionError(_SERVERS, problem)
    logger.warning("%s", problem)


class Descriptors:
    """Detects and reports that descriptors are scarce."""

    def __init__(self) -> None:
        self._next = -math.inf

    def are_scarce(self, newest: int) -> bool:
        """Return whether only the reserved descriptors are left.

        Args:
            newest: A descriptor that was just opened: the kernel assigns the lowest free number.
        """
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return most != resource.RLIM_INFINITY and newest >= most - min(KEPT, most // 8)

    def say(self, now: float) -> None:
        """Warn, once a minute, that connections are refused."""
        if now >= self._next:
            self._next = now + _PAUSE
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            logger.warning(
                "connections are refused: nearly all of the %d descriptors of this process are open; "
                "raise the limit (ulimit -n, LimitNOFILE= of systemd)",
                most,
            )
