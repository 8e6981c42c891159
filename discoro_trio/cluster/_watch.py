"""A server watches its node: it ends itself when the node does not answer for it any more.

Servers that somebody stopped are with `_stopped`, those whose thread is blocked with `_blocked`.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import trio

from .._errors import DiscoroError
from ..link import Done
from ..wire import Control
from ._facts import PULSES

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..link import Link

logger = logging.getLogger(__name__)


class AreYouThere(Control, frozen=True):
    """A server asks its node, and a node its servers; answered by `Done` once the thread of who is asked is free."""


async def say_so(_link: Link, _question: AreYouThere) -> Done:
    """Say that this process is there."""
    return Done()


class NodeWatch:
    """Ends the server that this process is when its node is silent.

    What counts is the number of questions without an answer, not the time: a server that was stopped has asked none
    meanwhile, and reads the answers that wait before it judges.

    Args:
        link: The connection to the node.
        interval: Gives the seconds between questions.
    """

    def __init__(self, link: Link, interval: Callable[[], float]) -> None:
        self._link = link
        self._interval = interval
        self.missed = 0

    async def run(self) -> None:
        """Ask until cancelled; end the process when the node was silent for too long."""
        async with trio.open_nursery() as nursery:
            while self.missed < PULSES:
                self.missed += 1
                nursery.start_soon(self._ask)
                await trio.sleep(self._interval())
            # The node's side of the connection may be open for ever, and nobody answers for this server any more.
            os._exit(1)

    async def _ask(self) -> None:
        try:
            await self._link.request(AreYouThere(), timeout=self._interval() * PULSES)
        except DiscoroError:
            return
        self.missed = 0
