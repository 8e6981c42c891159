"""Servers that were stopped by a signal: a node replaces one that stays so for five pulses.

A server whose thread is blocked runs, and is never touched here; one that is stopped will not run again by itself.
psutil is imported where it is first needed: it would cost every start.
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
    """Look at the servers twice a pulse, and end those that were stopped for five pulses, until cancelled.

    Args:
        slots: Where the servers are.
        pulse_interval: Gives the seconds between the pulses of whoever uses a server slot.
    """
    looks: dict[NodeServer, _Looks] = {}
    while True:
        # Looks are counted, not seconds: while the node itself is stopped, nobody could have continued a server.
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
                server.kill(f"it was stopped by a signal for {PULSES} pulses")


class _Looks(Record, frozen=True):
    """How often a server was found stopped, without having run in between."""

    switches: int
    """How often it had been given and had left the processor."""
    count: int


def _switches_if_stopped(server: NodeServer) -> int | None:
    import psutil  # noqa: PLC0415 - see above

    try:
        process = psutil.Process(server.process.pid)
        return sum(process.num_ctx_switches()) if process.status() == psutil.STATUS_STOPPED else None
    except (psutil.Error, OSError):
        return None  # it has just ended, or nothing can be opened at the moment
