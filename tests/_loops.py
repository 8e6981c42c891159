"""The loops of blocking clients and executors, which end after the last reference to their owners."""

from __future__ import annotations

import gc
import threading

SECONDS = 120.0


def until_closed() -> None:
    """Wait for the loops of executors and clients that nothing refers to any more."""
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "discoro loop":
            thread.join(SECONDS)
            assert not thread.is_alive(), "an executor without references goes on"
