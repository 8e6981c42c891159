"""Links to processes that cannot be dialled: a process that is linked to both ends asks them to dial.

This module owns the request. The endpoint opens the links; the callers choose the process that forwards the request.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from .._config import config
from .._errors import DiscoroError, PeerDisconnected
from .._values import Location
from .._wire import Control
from ._services import FULL

if TYPE_CHECKING:
    from ._endpoint import Endpoint
    from ._link import Link

logger = logging.getLogger(__name__)

# Seconds before the peer is asked to dial. On any network that works, dialling answers sooner; otherwise packets are
# probably dropped. There is no such delay for a host that has dropped an earlier dial.
_ALONE = 0.75


class AskToDial(Control, frozen=True):
    """Asks the receiver to let a process that it can reach open a connection to the sender."""

    target: bytes
    target_addr: str
    target_port: int
    realm: bytes
    """The key to use for the connection."""
    addr: str
    """Where the sender listens."""
    port: int


class Dial(Control, frozen=True):
    """Asks the receiver to open a connection to this process, which cannot open one to the receiver."""

    process_id: bytes
    addr: str
    port: int
    realm: bytes


class DialBack:
    """Connects an endpoint to processes that it cannot dial, and answers such requests of others."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.dropping: set[str] = set()
        """Hosts that did not answer a dial but could dial themselves: a firewall drops incoming packets."""
        self._waiting: dict[bytes, trio.Event] = {}
        services = endpoint.services
        services.on_notice(AskToDial, self._asked, trust=FULL)
        services.on_notice(Dial, self._told, trust=FULL)
        services.links_made.append(self._made)

    async def link_to(
        self,
        process_id: bytes,
        location: Location,
        realm: bytes,
        *,
        via: Link | None,
        timeout: float | None = None,  # noqa: ASYNC109 - as for `Endpoint.link_to`
    ) -> Link:
        """Return the link to a process. If it cannot be dialled, ask it to dial.

        Args:
            process_id: The process's id.
            location: Where it listens.
            realm: Which key to use.
            via: A process that can reach both ends; None to dial only.
            timeout: Seconds for connecting and the handshake; `config.MsgTimeout` by default.

        Raises:
            PeerDisconnected: Neither end reached the other in time.
            AuthenticationError, VersionMismatch: As in `Endpoint.link_to`.
        """
        if via is None or via.lost:
            return await self._endpoint.link_to(process_id, location, realm, timeout=timeout)
        found: list[Link] = []
        failed: list[DiscoroError] = []
        alone = 0.0 if location.addr in self.dropping else _ALONE
        async with trio.open_nursery() as nursery:

            async def dial() -> None:
                try:
                    found.append(await self._endpoint.link_to(process_id, location, realm, timeout=timeout))
                except PeerDisconnected as error:
                    failed.append(error)
                    given_up.set()
                except DiscoroError as error:
                    failed.append(error)
                    nursery.cancel_scope.cancel()
                else:
                    nursery.cancel_scope.cancel()

            async def be_dialled() -> None:
                with trio.move_on_after(alone):
                    await given_up.wait()
                with trio.move_on_after(config.MsgTimeout if timeout is None else timeout):
                    await self._be_dialled(process_id, location, realm, via)
                link = self._endpoint.links.get(process_id)
                if link is not None:
                    if not (found or failed):
                        self.dropping.add(location.addr)
                    found.append(link)
                    nursery.cancel_scope.cancel()

            given_up = trio.Event()
            nursery.start_soon(dial)
            nursery.start_soon(be_dialled)
        if found:
            return found[0]
        raise failed[0] if failed else PeerDisconnected(f"{location} cannot be reached")

    async def _be_dialled(self, process_id: bytes, location: Location, realm: bytes, via: Link) -> None:
        here = self._endpoint.location
        made = self._waiting.setdefault(process_id, trio.Event())
        logger.debug("%s is asked through %s to dial", location, via.peer_name)
        via.notify(AskToDial(process_id, location.addr, location.port, realm, here.addr, here.port))
        try:
            await made.wait()
        finally:
            if self._waiting.get(process_id) is made:
                del self._waiting[process_id]

    def _made(self, link: Link) -> None:
        event = self._waiting.get(link.peer.process_id)
        if event is not None:
            event.set()

    def _asked(self, link: Link, asked: AskToDial) -> None:
        self._endpoint.nursery.start_soon(self._pass_on, link, asked, name="ask a process to dial another")

    async def _pass_on(self, link: Link, asked: AskToDial) -> None:
        place = Location(asked.target_addr, asked.target_port)
        try:
            target = await self._endpoint.link_to(asked.target, place, b"")
        except DiscoroError as error:
            logger.info("%s could not be asked to dial %s: %s", place, link.peer_name, error)
            return
        target.notify(Dial(link.peer.process_id, asked.addr, asked.port, asked.realm))

    def _told(self, link: Link, told: Dial) -> None:
        self._endpoint.nursery.start_soon(self._dial, link, told, name="dial as asked")

    async def _dial(self, link: Link, told: Dial) -> None:
        try:
            await self._endpoint.link_to(told.process_id, Location(told.addr, told.port), told.realm)
        except DiscoroError as error:
            logger.info("%s asked to dial %s:%d: %s", link.peer_name, told.addr, told.port, error)
