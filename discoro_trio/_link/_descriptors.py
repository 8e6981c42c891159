"""The descriptors that this process may open: with few of them left, no further connection is accepted.

What is under way needs some: to start a server, to read what the kernel says of one, to connect to another process.
"""

from __future__ import annotations

import logging
import math
import resource

from .._file_limit import raise_limit
from ._option_error import OptionError

logger = logging.getLogger(__name__)

KEPT = 32
"""The descriptors that are kept for what is under way; an eighth of all, if that is less."""
_PAUSE = 60.0
"""Seconds between two warnings."""
_SERVERS = "servers"


_FEWEST, _FOR_SERVER = 24, 4
"""What a process with a node and a client has open beside servers, and for each."""
_STARTING = 4
"""What each takes while it starts, besides."""


def check_descriptors(servers: int) -> None:
    """Refuse more servers than there are descriptors for, and warn if there are few.

    Raises:
        OptionError: They cannot all run.
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
    """Says when descriptors are scarce."""

    def __init__(self) -> None:
        self._next = -math.inf

    def are_scarce(self, newest: int) -> bool:
        """Tell whether only those are left that are kept.

        Args:
            newest: One that was just opened: the kernel gives the lowest number that is free.
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
