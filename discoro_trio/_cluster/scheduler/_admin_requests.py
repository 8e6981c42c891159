"""What people want of a scheduler: a server restarted, a node to rest, a computation closed.

This module owns the messages of it and whom they are passed on to. What follows from them for leases is decided by
`_scheduling`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import trio

from ..._arguments import not_negative, text
from ..._errors import DiscoroError, UnknownLocation
from ..._link import Done, answered
from ..._values import Location, node_name
from ..._values import location as as_location
from ..._wire import Control
from . import _events as events

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._link import Endpoint, Link
    from ._events import Event
    from ._node_state import NodeState
    from ._observed_state import ObservedState
    from ._scheduling import Scheduling


_SHORTEST = 4
"""The digits of an id that stand for all of it, if no other begins with them."""


class AdminAction(enum.Enum):
    """What can be wanted."""

    RESTART = "restart"
    """Of a server: a fresh process; what is named is its Location."""
    SUSPEND = "suspend"
    """Of a node: no new coroutines; what is named is its address, name or Location, as for `RESUME`."""
    RESUME = "resume"
    DRAIN = "drain"
    """Of a node: its lease ended once what runs there has ended; what is named is as for `SUSPEND`."""
    CLOSE = "close"
    """Of a computation: its end; what is named is its id."""


class AdminRequest(Control, frozen=True):
    """Somebody wants something of a scheduler; answered by `Done`."""

    wish: AdminAction
    what: str
    within: float | None = None
    """Seconds, for `DRAIN`."""


class RestartServer(Control, frozen=True):
    """A scheduler wants a fresh process in the place of a server; answered by `Done` when the old one has ended."""

    server_id: bytes


class DrainNode(Control, frozen=True):
    """A scheduler wants a node free; answered by `Done` when no computation of it has servers there."""

    within: float | None
    """Seconds that running coroutines may take; None for any."""


class NodeRests(Control, frozen=True):
    """A client is to start no new coroutines at a node, or may again."""

    computation: bytes
    node_id: bytes
    rests: bool


class AdminReply:
    """What people can want of a scheduler, wherever it runs."""

    async def restart_server(self, location: Location | str) -> None:
        """Give a server a fresh process; what runs there is lost. Returns when the old one has ended.

        Args:
            location: Where the server is: a Location, or its text.

        Raises:
            UnknownLocation: The scheduler knows no server there.
            DiscoroError: Its node does not answer.

        Cancelling it, the server is restarted all the same.
        """
        await self._steer(AdminAction.RESTART, str(as_location("location", location)))

    async def suspend_node(self, addr: Location | str) -> None:
        """Give servers of a node to nobody, and let no computation start coroutines there; those that run go on.

        Args:
            addr: The address, name or Location (`addr:port`) of the node.

        Raises:
            UnknownLocation: The scheduler has no such node; the message lists those that it has.
        """
        where = node_name("addr", addr)
        await trio.lowlevel.checkpoint()
        await self._steer(AdminAction.SUSPEND, where)

    async def resume_node(self, addr: Location | str) -> None:
        """Use a suspended node again; nothing if it is not suspended.

        Args:
            addr: The address, name or Location (`addr:port`) of the node.

        Raises:
            UnknownLocation: As for `suspend_node`.
        """
        where = node_name("addr", addr)
        await trio.lowlevel.checkpoint()
        await self._steer(AdminAction.RESUME, where)

    async def drain(self, node: Location | str, *, within: float | None = None) -> None:
        """Have a node free: nothing new is started there, what runs may finish, and its servers are given back.

        Jobs of a `map` with retries go on elsewhere at once. The node stays suspended; `resume_node` uses it again.

        Args:
            node: The address, name or Location of the node.
            within: Seconds that what runs may take; then it is cancelled and cleans up. None for as long as it takes.

        Returns when the node is free.

        Raises:
            UnknownLocation: The scheduler has no such node; the message lists those that it has.
            DiscoroError: The node does not answer.

        When cancelled, the node stays suspended, and is drained all the same.
        """
        where = node_name("node", node)
        seconds = None if within is None else not_negative("within", within)
        await trio.lowlevel.checkpoint()
        await self._steer(AdminAction.DRAIN, where, seconds)

    async def close_computation(self, computation: str) -> None:
        """End a computation that runs or waits; its client is told.

        Args:
            computation: Its id, as in `status()`, the beginning of that, or its name.

        Raises:
            DiscoroError: There is none, or more than one.
        """
        text("computation", computation)
        await trio.lowlevel.checkpoint()
        await self._steer(AdminAction.CLOSE, computation)

    async def _steer(self, wish: AdminAction, what: str, within: float | None = None) -> None:
        raise NotImplementedError


class AdminRequests:
    """Does what people want of a scheduler."""

    def __init__(
        self,
        endpoint: Endpoint,
        state: Scheduling,
        observed_state: ObservedState,
        handle: Callable[[Event], object],
    ) -> None:
        self._endpoint = endpoint
        self._state = state
        self._observed_state = observed_state
        self._handle = handle
        endpoint.services.on_request(AdminRequest, self._asked)

    async def _asked(self, link: Link, steer: AdminRequest) -> Done:
        await self.do(steer.wish, steer.what, link.peer.process_id, within=steer.within)
        return Done()

    async def do(self, wish: AdminAction, what: str, cause: bytes, *, within: float | None = None) -> None:
        """Carry a request out.

        Args:
            wish: What is to be done.
            what: To what: a Location, an address or name, or a computation's id.
            cause: The id of the process that asks.
            within: Seconds, for `DRAIN`.

        Raises:
            UnknownLocation: There is no such node, server or computation.
            DiscoroError: The node did not do it.
        """
        if wish is AdminAction.RESTART:
            await self._restart(what)
        elif wish is AdminAction.CLOSE:
            self._close(what, cause)
        elif wish is AdminAction.DRAIN:
            await self._drain(what, cause, within)
        else:
            for node in self._nodes(what):
                self._handle(events.RestAsked(cause, node.facts.node_id, wish is AdminAction.SUSPEND))

    def _nodes(self, what: str) -> list[NodeState]:
        nodes = self._state.nodes.values()
        found = [node for node in nodes if what in _names(node)]
        if not found:
            known = ", ".join(sorted(str(_location(node)) for node in nodes)) or "none"
            message = f"the scheduler has no node {what}; its nodes are: {known}"
            raise UnknownLocation(message)
        return found

    async def _drain(self, what: str, cause: bytes, within: float | None) -> None:
        nodes = self._nodes(what)
        for node in nodes:
            self._handle(events.RestAsked(cause, node.facts.node_id, rests=True))
        for node in nodes:
            link = self._endpoint.links.get(node.facts.node_id)
            if link is not None:  # if not, it is gone
                answered(await link.request(DrainNode(within), timeout=None), Done)

    async def _restart(self, where: str) -> None:
        found = self._observed_state.server_at(where)
        link = None if found is None else self._endpoint.links.get(found[0])
        if found is None or link is None:
            message = f"the scheduler has no server at {where}"
            raise UnknownLocation(message)
        answered(await link.request(RestartServer(found[1])), Done)

    def _close(self, computation: str, cause: bytes) -> None:
        ids = {claim: claim.computation.hex() for claim in self._state.claims}
        found = [claim for claim, one in ids.items() if one == computation]
        found = found or [claim for claim in ids if claim.terms.name == computation]
        found = found or [
            claim for claim, one in ids.items() if len(computation) >= _SHORTEST and one.startswith(computation)
        ]
        if len(found) != 1:
            listed = ", ".join(f"{ids[claim]} ({claim.terms.name})" for claim in found or ids) or "none"
            which = "more than one computation" if found else "no computation"
            message = f"the scheduler has {which} {computation!r}: {listed}"
            raise DiscoroError(message)
        (claim,) = found
        reason = "somebody closed it by way of the scheduler"
        self._handle(events.CloseAsked(cause, claim.computation, reason))


def _location(node: NodeState) -> Location:
    return Location(node.facts.addr, node.facts.port)


def _names(node: NodeState) -> set[str]:
    return {node.facts.addr, node.facts.name, str(_location(node))}
