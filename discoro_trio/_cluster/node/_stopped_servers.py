"""Replaces servers that are stopped by a signal for five pulse intervals.

A server whose thread is blocked still runs and is left alone; a stopped server does not continue on its own.
psutil is imported on first use, because importing it would slow down every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..._config import PULSES, config
from ..._records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._server_slot import NodeServer, ServerSlot

_LOOKS_A_PULSE = 2


async def replace_stopped(slots: Iterable[ServerSlot], pulse_interval: Callable[[ServerSlot], float]) -> None:
    """Check the servers twice per pulse interval until cancelled; kill those that were stopped for five intervals.

    Args:
        slots: The server slots.
        pulse_interval: Returns the pulse interval of the computation that holds a server slot, in seconds.
    """
    looks: dict[NodeServer, _Looks] = {}
    while True:
        # Checks are counted, not seconds: time in which the node itself is stopped does not count.
        await trio.sleep(config.MinPulseInterval / _LOOKS_A_PULSE)
        before, looks = looks, {}
        for slot in slots:
            server = slot.server
            switches = _switches_if_stopped(server) if server is not None else None
            if server is None or switches is None:
                continue
            last = before.get(server)
            count = last.count + 1 if last is not None and last.switches == switches else 1
            looks[server] = now = _Looks(switches, count)
            if now.count * config.MinPulseInterval / _LOOKS_A_PULSE > PULSES * pulse_interval(slot):
                server.kill(f"it was stopped by a signal for {PULSES} pulse intervals")


class _Looks(Record, frozen=True):
    """The number of consecutive checks that found a server stopped, without a run in between."""

    switches: int
    """The number of its context switches at the last check."""
    count: int


def _switches_if_stopped(server: NodeServer) -> int | None:
    import psutil  # noqa: PLC0415 - see above

    try:
        process = psutil.Process(server.process.pid)
        return sum(process.num_ctx_switches()) if process.status() == psutil.STATUS_STOPPED else None
    except (psutil.Error, OSError):
        return None  # it has just ended, or no file can be opened at the moment
