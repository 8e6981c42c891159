"""The limit of open descriptors of this process."""

from __future__ import annotations

import resource
from contextlib import suppress


def raise_limit() -> None:
    """Raise the soft limit of open descriptors to the hard one: a cluster needs several for each server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # some systems allow fewer than they report
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
