"""Admin requests to a scheduler: restart a server, suspend, resume or drain a node, end a computation or a coroutine.

This module owns the messages and forwards them to nodes and clients. `_scheduling` decides what they change for
leases.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import trio

from ..._arguments import not_negative, text
from ..._errors import DiscoroError, UnknownCoro, UnknownLocation
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
"""The number of leading digits that are enough to name an id, if no other id begins with them."""


class AdminAction(enum.Enum):
    """The kinds of admin request."""

    RESTART = "restart"
    """Give a server a fresh process; the target is its Location."""
    SUSPEND = "suspend"
    """Start no new coroutines at a node; the target is its address, name or Location, as for `RESUME`."""
    RESUME = "resume"
    DRAIN = "drain"
    """End the leases of a node once its running coroutines have ended; the target is as for `SUSPEND`."""
    CLOSE = "close"
    """End a computation; the target is its id."""
    TERMINATE = "terminate"
    """End a coroutine; the target is its id. The reply comes at its end, which the grace period may delay."""


class AdminRequest(Control, frozen=True):
    """An admin request to a scheduler; answered by `Done`."""

    wish: AdminAction
    what: str
    within: float | None = None
    """Seconds, for `DRAIN`."""


class RestartServer(Control, frozen=True):
    """Scheduler to node: replace a server process; answered by `Done` when the old one has ended."""

    server_id: bytes


class DrainNode(Control, frozen=True):
    """Scheduler to node: end the scheduler's leases; answered by `Done` when none of its computations has servers."""

    within: float | None
    """The most seconds that running coroutines may take; None for no limit."""


class NodeRests(Control, frozen=True):
    """Scheduler to client: start no new coroutines at a node, or start them again."""

    computation: bytes
    node_id: bytes
    rests: bool


class AdminReply:
    """The admin requests of a scheduler, local or remote."""

    async def restart_server(self, location: Location | str) -> None:
        """Replace a server process; its coroutines are lost. Returns when the old process has ended.

        Args:
            location: Where the server is: a Location, or its text.

        Raises:
            UnknownLocation: The scheduler has no server there.
            DiscoroError: Its node does not answer.

        Cancelling only stops the wait: the server is restarted all the same.
        """
        await self._steer(AdminAction.RESTART, str(as_location("location", location)))

    async def suspend_node(self, addr: Location | str) -> None:
        """Suspend a node: it gives servers to no computation and starts no coroutines; running coroutines go on.

        Args:
            addr: The address, name or Location (`addr:port`) of the node.

        Raises:
            UnknownLocation: The scheduler has no such node; the message lists those that it has.
        """
        where = node_name("addr", addr)
        await trio.lowlevel.checkpoint()
        await self._steer(AdminAction.SUSPEND, where)

    async def resume_node(self, addr: Location | str) -> None:
        """Use a suspended node again; does nothing if the node is not suspended.

        Args:
            addr: The address, name or Location (`addr:port`) of the node.

        Raises:
            UnknownLocation: As for `suspend_node`.
        """
        where = node_name("addr", addr)
        await trio.lowlevel.checkpoint()
        await self._steer(AdminAction.RESUME, where)

    async def drain(self, node: Location | str, *, within: float | None = None) -> None:
        """Free a node: start nothing new there, let running coroutines finish, and give its servers back.

        Jobs of a `map` with retries move to other servers at once. The node stays suspended until `resume_node`.

        Args:
            node: The address, name or Location of the node.
            within: The most seconds that running coroutines may take; then they are cancelled and clean up. None for
                no limit.

        Returns when the node is free.

        Raises:
            UnknownLocation: The scheduler has no such node; the message lists those that it has.
            DiscoroError: The node does not answer.

        Cancelling only stops the wait: the node stays suspended and is drained all the same.
        """
        where = node_name("node", node)
        seconds = None if within is None else not_negative("within", within)
        await trio.lowlevel.checkpoint()
        await self._steer(AdminAction.DRAIN, where, seconds)

    async def close_computation(self, computation: str) -> None:
        """End a running or waiting computation; its client receives the reason.

        Args:
            computation: Its id as in `status()`, the beginning of that id, or its name.

        Raises:
            DiscoroError: No computation matches, or more than one.
        """
        computation = text("computation", computation)
        await trio.lowlevel.checkpoint()
        await self._steer(AdminAction.CLOSE, computation)

    async def _steer(self, wish: AdminAction, what: str, within: float | None = None) -> None:
        raise NotImplementedError


class AdminRequests:
    """Carries out the admin requests of a scheduler."""

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

    async def _asked(self, link: Link, request: AdminRequest) -> Done:
        await self.do(request.wish, request.what, link.peer.process_id, within=request.within)
        return Done()

    async def do(self, wish: AdminAction, what: str, cause: bytes, *, within: float | None = None) -> None:
        """Carry out a request.

        Args:
            wish: The kind of request.
            what: The target: a Location, an address or name, or the id of a computation.
            cause: The id of the requesting process.
            within: Seconds, for `DRAIN`.

        Raises:
            UnknownLocation: There is no such node, server or computation.
            UnknownCoro: There is no such coroutine.
            DiscoroError: The node did not carry it out.
        """
        if wish is AdminAction.RESTART:
            await self._restart(what)
        elif wish is AdminAction.CLOSE:
            self._close(what, cause)
        elif wish is AdminAction.TERMINATE:
            await self._terminate(what)
        elif wish is AdminAction.DRAIN:
            await self._drain(what, cause, within)
        else:
            for node in self._nodes(what):
                self._handle(events.RestAsked(cause, node.facts.node_id, wish is AdminAction.SUSPEND))

    def _nodes(self, what: str) -> list[NodeState]:
        nodes = self._state.nodes.values()
        found = [node for node in nodes if what in _names(node)]
        if not found:
            known = ", ".join(sorted(f"{node.facts.name} at {_location(node)}" for node in nodes)) or "none"
            message = f"the scheduler has no node {what}; its nodes are: {known}"
            raise UnknownLocation(message)
        return found

    async def _drain(self, what: str, cause: bytes, within: float | None) -> None:
        nodes = self._nodes(what)
        for node in nodes:
            self._handle(events.RestAsked(cause, node.facts.node_id, rests=True))
        for node in nodes:
            link = self._endpoint.links.get(node.facts.node_id)
            if link is not None:  # otherwise the node is gone
                answered(await link.request(DrainNode(within), timeout=None), Done)

    async def _restart(self, where: str) -> None:
        found = self._observed_state.server_at(where)
        link = None if found is None else self._endpoint.links.get(found[0])
        if found is None or link is None:
            message = f"the scheduler has no server at {where}"
            raise UnknownLocation(message)
        answered(await link.request(RestartServer(found[1])), Done)

    async def _terminate(self, key: str) -> None:
        """End a coroutine: the requesting process may lack the keys of its server and of its starter."""
        handle = self._observed_state.coroutine(key)
        if handle is None:
            message = f"no coroutine {key} runs; it has ended, or its server is gone"
            raise UnknownCoro(message)
        await handle.terminate()

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
        reason = "an admin request closed it"
        self._handle(events.CloseAsked(cause, claim.computation, reason))


def _location(node: NodeState) -> Location:
    return Location(node.facts.addr, node.facts.port)


def _names(node: NodeState) -> set[str]:
    return {node.facts.addr, node.facts.name, str(_location(node))}
