"""The scheduler: it queues computations, knows the nodes, and hands out leases.

This module carries out what `_scheduling` decides. It is not on the path of a job, a message or a result.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._errors import DiscoroError, PeerDisconnected
from .._values import Location
from ..link import Done
from . import _messages as messages
from ._scheduling import AskGrant, AskRevoke, NodeFacts, Scheduling, TellLeased, TellTurn

if TYPE_CHECKING:
    from collections.abc import Iterable

    import trio

    from ..link import Endpoint, Link
    from ..wire import Control
    from ._scheduling import Effect

logger = logging.getLogger(__name__)


class Scheduler:
    """A scheduler, private to this program or shared.

    Attributes:
        location: Where it listens.
    """

    def __init__(self, endpoint: Endpoint, nursery: trio.Nursery) -> None:
        self.location: Location = endpoint.location
        self._endpoint = endpoint
        self._nursery = nursery
        self._state = Scheduling()
        services = endpoint.services
        services.on_request(messages.Submit, self._submit)
        services.on_notice(messages.Withdraw, self._withdraw)
        services.on_request(messages.NodeIs, self._node_is)
        services.on_notice(messages.Freed, self._freed)
        services.links_lost.append(self._lost)

    # --- events

    async def _submit(self, link: Link, message: messages.Submit) -> messages.Queued:
        number = self._state.submitted(message.computation, link.peer.process_id, message.name)
        self._carry_out(self._state.advance())
        return messages.Queued(number)

    def _withdraw(self, _link: Link, message: messages.Withdraw) -> None:
        self._carry_out(self._state.withdrawn(message.computation))

    async def _node_is(self, link: Link, message: messages.NodeIs) -> Done:
        facts = NodeFacts(
            link.peer.process_id, message.name, message.addr, message.port, message.servers, message.platform
        )
        self._carry_out(self._state.node_joined(facts))
        return Done()

    def _freed(self, link: Link, _message: messages.Freed) -> None:
        self._carry_out(self._state.freed(link.peer.process_id))

    def _lost(self, link: Link) -> None:
        peer = link.peer.process_id
        self._state.node_left(peer)
        self._carry_out(self._state.client_left(peer))

    # --- effects

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, AskGrant):
                self._nursery.start_soon(self._ask_grant, effect, name="ask a node for its servers")
            elif isinstance(effect, AskRevoke):
                self._tell(effect.node_id, messages.Revoke(effect.computation))
            elif isinstance(effect, TellTurn):
                self._tell(effect.client_id, messages.TurnCame(effect.computation))
            else:
                self._tell(effect.client_id, _leased(effect))

    def _tell(self, process_id: bytes, message: Control) -> None:
        link = self._endpoint.links.get(process_id)
        if link is not None:
            link.notify(message)

    async def _ask_grant(self, ask: AskGrant) -> None:
        link = self._endpoint.links.get(ask.node_id)
        try:
            if link is None:
                message = "the node is gone"
                raise PeerDisconnected(message)
            await link.request(messages.Grant(ask.computation, ask.client_id, ask.epoch, ask.key))
        except DiscoroError as error:
            logger.info("a node did not give its servers: %s", error)
        else:
            self._carry_out(self._state.granted(ask.node_id, ask.computation))


def _leased(effect: TellLeased) -> messages.Leased:
    facts = effect.facts
    return messages.Leased(effect.computation, facts.node_id, facts.name, facts.addr, facts.port, effect.key)
