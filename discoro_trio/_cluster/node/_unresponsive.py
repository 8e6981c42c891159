"""Finds servers whose thread is blocked by user code: the node checks them twice per pulse interval.

The result is only reported to schedulers, because a slow server is not dead. Servers that were stopped by a signal are
handled by `_stopped_servers`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from ..._config import config
from ..._errors import DiscoroError
from .. import _messages as messages
from ..server._stack_dump import dumped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from ._server_slot import NodeServer

_ASKED_A_PULSE = 2
_MOST_FRAMES = 30


class Checkups:
    """Checks which servers of a node answer.

    Args:
        servers: Returns the present servers.
        dump: Requests the stack of a server's thread; it is called once for a server that does not answer, and again
            after pauses that double.
    """

    def __init__(
        self, servers: Callable[[], Iterable[NodeServer]], dump: Callable[[NodeServer], Awaitable[list[str]]] = dumped
    ) -> None:
        self._servers = servers
        self._dump = dump
        self._missed: dict[NodeServer, int] = {}
        self._stacks: dict[NodeServer, list[str]] = {}

    async def run(self) -> None:
        """Check the servers until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(_pause())
                for server in self._servers():
                    if server in self._missed:
                        # Counted, not timed: time in which the node could not read an answer does not count.
                        self._missed[server] += 1
                        if self._missed[server].bit_count() == 1:
                            nursery.start_soon(self._look, server, name=f"stack of {server.link.peer.name}")
                    else:
                        self._missed[server] = 0
                        nursery.start_soon(self._ask, server, name=f"check of {server.link.peer.name}")

    async def _ask(self, server: NodeServer) -> None:
        with suppress(DiscoroError):
            await server.request(messages.AreYouThere())
        del self._missed[server]
        self._stacks.pop(server, None)

    async def _look(self, server: NodeServer) -> None:
        with suppress(OSError):  # it is just ending, and its file is gone
            stack = await self._dump(server)
            if server in self._missed:
                self._stacks[server] = stack[-_MOST_FRAMES:]

    def blocked(self) -> dict[bytes, messages.Blocked]:
        """Return the servers that do not answer, each with the least number of seconds and its thread's stack."""
        return {
            server.process_id: messages.Blocked(missed * _pause(), self._stacks.get(server, []))
            for server, missed in self._missed.items()
            if missed
        }


def _pause() -> float:
    return config.MinPulseInterval / _ASKED_A_PULSE
