"""Servers whose thread is blocked by the code that runs there: their node asks them twice a pulse, and counts.

Nothing follows from it but that schedulers are told: slow is not dead. Whom somebody stopped is with
`_stopped_servers`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from ..._config import config
from ..._errors import DiscoroError
from .. import _messages as messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._server_slot import NodeServer

_ASKED_A_PULSE = 2


class Checkups:
    """Which servers of a node answer.

    Args:
        servers: Gives those that there are.
    """

    def __init__(self, servers: Callable[[], Iterable[NodeServer]]) -> None:
        self._servers = servers
        self._missed: dict[NodeServer, int] = {}

    async def run(self) -> None:
        """Ask the servers until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(_pause())
                for server in self._servers():
                    if server in self._missed:
                        # Counted, not timed: a node that could not read an answer does not hold it against the server.
                        self._missed[server] += 1
                    else:
                        self._missed[server] = 0
                        nursery.start_soon(self._ask, server, name=f"check of {server.link.peer.name}")

    async def _ask(self, server: NodeServer) -> None:
        with suppress(DiscoroError):
            await server.request(messages.AreYouThere())
        del self._missed[server]

    def blocked(self) -> dict[bytes, float]:
        """Tell which servers do not answer, and for how many seconds at least."""
        return {server.process_id: missed * _pause() for server, missed in self._missed.items() if missed}


def _pause() -> float:
    return config.MinPulseInterval / _ASKED_A_PULSE
