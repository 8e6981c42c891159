"""The scheduler: it queues computations, keeps links to nodes, and grants leases.

This module carries out what `_scheduling` decides. It is not on the path of a job, a message or a result.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

import trio

from ..._compat import _old_programs as migration
from ..._config import PULSES
from ..._errors import DiscoroError, PeerDisconnected, ProtocolError
from ..._link import Endpoint
from ..._printable import printable
from ..._values import Location
from ..._wire import fingerprint
from .. import _messages as messages
from .._details import SchedulerDetails
from .._facts import Freed, NodeFacts, Over, Resources
from .._options import check_period, check_pulse_interval
from . import _events as events
from ._admin_requests import AdminAction, AdminReply, AdminRequests
from ._effects import AskGrant, AskRevoke, ClaimOver, DropNode, Happened, TellTurn
from ._overview import Overview
from ._scheduling import Rules, Scheduling
from ._stacks import ClusterStacks, ProcessStacks
from ._translation import submission, to_client
from ._waiting import named, places, waits_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from ..._link import Link
    from ..._process import Wanted
    from ..._wire import Control
    from .._details import DetailsAre, WantedOf
    from .._history import Recent
    from .._launcher import Launcher
    from .._status import ClusterStatus
    from .._status_events import StatusSubscription
    from ._effects import Effect
    from ._events import Decision, Event
    from ._observed_state import ClusterLoad

logger = logging.getLogger(__name__)

_DEMAND_INTERVAL = 0.5
"""Seconds between two reports of a client's work, if the number of nodes adapts to it."""

_MOST_HOSTS = 5
"""The most machines with another secret that a message names."""


@migration.made_by("async with open_scheduler(), or open_cluster() for this machine alone", Endpoint)
@migration.answers_for(migration.SCHEDULER)
class Scheduler(AdminReply):
    """A scheduler, private to this program or shared.

    Attributes:
        location: Where it listens.
        own_servers: How many servers the node has that `open_cluster` opened with it; 0 without such a node.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        nursery: trio.Nursery,
        *,
        shared: bool = False,
        settle: bool | None = None,
        zombie_period: float | None = None,
        pulse_interval: float | None = None,
    ) -> None:
        self.location: Location = endpoint.location
        self.own_servers: int = 0
        self._endpoint = endpoint
        self._nursery = nursery
        pulse = check_pulse_interval(pulse_interval)
        # A shared scheduler may have been restarted: nodes need time to report their leases.
        settled_at = trio.current_time() + PULSES * pulse if shared and settle is not False else trio.current_time()
        self._rules = Rules(
            epoch=time.time_ns(),
            shared=shared,
            zombie_period=check_period("zombie_period", zombie_period),
            pulse_interval=pulse,
            settled_at=settled_at,
            restarted=settle is True,
            validate=logger.isEnabledFor(logging.DEBUG),
        )
        self._state = Scheduling(self._rules)
        self._answered = trio.lowlevel.ParkingLot()
        self._logged: dict[bytes, tuple[str, bool]] = {}  # how the log names a computation, and whether it runs
        self._overview = Overview(endpoint, self._state)
        self._stacks = ClusterStacks(endpoint, self._overview)
        self._details = SchedulerDetails(endpoint, self._overview.observed_state)
        services = endpoint.services
        services.on_request(messages.Submit, self._submit)
        services.on_request(messages.AskNodes, self._ask_nodes)
        services.on_request(messages.AskWait, self._ask_wait)
        services.on_notice(messages.Withdraw, self._withdraw)
        services.on_request(messages.NodeIs, self._node_is)
        services.on_notice(messages.Pulse, self._pulsed)
        services.on_notice(messages.ServersFreed, self._freed)
        services.on_notice(messages.Room, self._room)
        services.links_lost.append(self._lost)
        self._admin_requests = AdminRequests(endpoint, self._state, self._overview.observed_state, self._handle)
        endpoint.keepalive.pulse_intervals.append(lambda link: self._state.pulse_interval_with(link.peer.process_id))
        nursery.start_soon(self._keep_time, name="scheduler's clock")

    # --- status

    @property
    def launcher(self) -> Launcher | None:
        """What starts nodes for it."""
        return self._overview.launcher

    @launcher.setter
    def launcher(self, launcher: Launcher | None) -> None:
        self._overview.launcher = launcher

    @property
    def idle(self) -> bool:
        """Whether no computation runs or waits."""
        return not self._state.claims

    async def status(self) -> ClusterStatus:
        """Return the current tables of nodes, servers and computations; cancelling it changes nothing."""
        await trio.lowlevel.checkpoint()
        return self._overview.tables()

    def node_locations(self) -> dict[str, Location]:
        """Return where the nodes listen, by name."""
        facts = [node.facts for node in self._state.nodes.values()]
        return {one.name: Location(one.addr, one.port) for one in facts}

    def load(self) -> ClusterLoad:
        """Return the work of the cluster, for launchers that adapt the number of nodes."""
        return self._overview.load()

    async def look(self, seen: int) -> tuple[ClusterStatus, Recent]:
        """Return the tables and the coroutines that ended since an earlier call, for monitors.

        Cancelling it changes nothing.

        Args:
            seen: `Recent.last` of the earlier call; 0 for all entries that are kept.
        """
        await trio.lowlevel.checkpoint()
        return self._overview.look(seen)

    async def details(self, wanted: Sequence[WantedOf]) -> DetailsAre:
        """Ask servers for arguments and output, for monitors; cancelling it changes nothing.

        Args:
            wanted: The details wanted of each server.

        Returns:
            The servers' answers; servers that did not answer in time are left out.
        """
        return await self._details.fetch(wanted)

    async def stacks(self, wanted: Wanted) -> list[ProcessStacks]:
        """Return the tasks and stacks of the cluster's processes, for monitors; cancelling it changes nothing.

        Args:
            wanted: Which processes.
        """
        return await self._stacks.gather(wanted)

    def subscribe(self) -> AbstractAsyncContextManager[StatusSubscription]:
        """Subscribe to the status events of nodes, servers and computations.

        Yields:
            A receive channel of `DiscoroStatus` and, for a subscriber that is `config.status_backlog` events behind,
            `StatusLagged`.
        """
        return self._overview.publisher.subscribed()

    async def _steer(self, wish: AdminAction, what: str, within: float | None = None) -> None:
        await self._admin_requests.do(wish, what, self._endpoint.id, within=within)

    # --- events

    async def _submit(self, link: Link, message: messages.Submit) -> messages.Queued:
        try:
            self._overview.client_is(link)
            handed_in = submission(link, message, self._rules.pulse_interval)
            known = self._state.claims.get(handed_in.computation) is not None
            decision = self._handle(events.Submitted(link.peer.process_id, handed_in))
        except ValueError as error:
            raise DiscoroError(str(error)) from error
        assert decision.queue_entry is not None  # noqa: S101 - a computation that is not refused has one
        if not known:
            self._log_wait(handed_in.computation)
        adapts = self.launcher is not None and self.launcher.adapts
        return messages.Queued(decision.queue_entry, handed_in.pulse_interval, _DEMAND_INTERVAL if adapts else 0.0)

    def _withdraw(self, link: Link, message: messages.Withdraw) -> None:
        self._handle(events.Withdrawn(link.peer.process_id, message.computation))

    async def _node_is(self, link: Link, message: messages.NodeIs) -> messages.Welcome:
        facts = NodeFacts(
            link.peer.process_id, message.name, message.addr, message.port, max(message.servers, 0), message.platform
        )
        joined = events.NodeJoined(link.peer.process_id, facts, message.free, tuple(message.held))
        adopted = self._handle(joined).adopted
        return messages.Welcome(list(adopted), self._rules.pulse_interval, self._rules.shared)

    def _pulsed(self, link: Link, pulse: messages.Pulse) -> None:
        for client_id, request in self._overview.node_pulsed(link, pulse):
            self._tell(client_id, request)
        resources = Resources(pulse.memory_available, pulse.disk_available)
        self._handle(events.Pulsed(link.peer.process_id, resources))
        link.notify(messages.PulseSeen())

    def _freed(self, link: Link, message: messages.ServersFreed) -> None:
        try:
            over = Over(message.over)
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        freed = Freed(message.computation, message.servers, over, message.free)
        self._handle(events.FreedReported(link.peer.process_id, freed))

    def _room(self, link: Link, message: messages.Room) -> None:
        self._handle(events.RoomReported(link.peer.process_id, message.free))

    def _lost(self, link: Link) -> None:
        if self._ends():
            return
        peer = link.peer.process_id
        newer = self._endpoint.links.get(peer)
        if newer is not None and newer is not link:
            return
        if peer in self._state.nodes:
            self._log("the node %s %s", link.peer_name, "has left" if link.orderly else "is lost")
        self._overview.node_lost(peer, "its node has left" if link.orderly else "the connection to its node is lost")
        self._handle(events.NodeLeft(peer, link.orderly))
        self._handle(events.ClientLeft(peer, link.orderly))

    def _ends(self) -> bool:
        """Return whether this scheduler ends, and not its peer: then no computation's turn comes."""
        return self._nursery.cancel_scope.cancel_called or trio.current_effective_deadline() == -math.inf

    async def _keep_time(self) -> None:
        """Pass the time to the state machine whenever that can have an effect."""
        while True:
            now = trio.current_time()
            due = min(max(self._state.next_tick(), now), now + self._rules.pulse_interval)
            await trio.sleep_until(due)
            now = trio.current_time()
            if now - due > self._rules.pulse_interval / 2:
                self._handle(events.Stalled())
            self._handle(events.Ticked())

    async def _ask_wait(self, _link: Link, ask: messages.AskWait) -> messages.WaitIs:
        now, found = trio.current_time(), places(self._state)
        reason = next((waits_for(at, self._state, now) for at in found if at.claim.computation == ask.computation), "")
        if reason and not self._state.nodes:
            launched = "" if self.launcher is None else self.launcher.explanation
            reason = f"{reason}; {launched}" if launched else f"{reason}{self._foreign()}"
        return messages.WaitIs(reason)

    def _foreign(self) -> str:
        """Describe which machines use another secret; empty if none are known."""
        discovery = self._endpoint.discovery
        hosts = [] if discovery is None else discovery.foreign
        if discovery is None or not hosts:
            return ""
        here = fingerprint(discovery.credential.key)
        return (
            f"; processes at {', '.join(hosts[:_MOST_HOSTS])} use another secret than this scheduler, whose secret has "
            f"the fingerprint {here}"
        )

    async def _ask_nodes(self, _link: Link, ask: messages.AskNodes) -> messages.NodesAre:
        givers = self._state.givers(ask.computation)
        while givers is None:
            await self._answered.park()
            givers = self._state.givers(ask.computation)
        return messages.NodesAre(givers)

    # --- effects

    def _handle(self, event: Event) -> Decision:
        decision = self._state.handle(trio.current_time(), event)
        self._carry_out(decision.effects)
        return decision

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        self._answered.unpark_all()
        for effect in effects:
            if isinstance(effect, AskGrant):
                self._nursery.start_soon(self._ask_grant, effect, name="ask a node for its servers")
            elif isinstance(effect, AskRevoke):
                self._tell(effect.node_id, messages.Revoke(effect.computation))
            elif isinstance(effect, DropNode):
                self._drop(effect.node_id, f"it sent no heartbeat for {PULSES} pulse intervals")
            elif isinstance(effect, Happened):
                self._happened(effect)
            elif isinstance(effect, ClaimOver):
                self._overview.over(effect)
                name, _runs = self._logged.pop(effect.computation, (effect.computation.hex()[:8], False))
                self._log("the computation %s %s", name, "is over" if effect.ran else "has left the queue")
            else:
                if isinstance(effect, TellTurn):
                    self._overview.turn(effect)
                    self._log_turn(effect.computation)
                self._tell(effect.client_id, to_client(effect))

    # --- the log of a shared scheduler

    def _log(self, text: str, *args: object) -> None:
        if self._rules.shared:
            logger.info(text, *args)

    def _log_wait(self, computation: bytes) -> None:
        """Log what a new computation waits for; nothing if it runs."""
        at = next((one for one in places(self._state) if one.claim.computation == computation), None)
        if at is not None and not at.claim.running:
            name, reason = printable(named(at.claim)), printable(waits_for(at, self._state, trio.current_time()))
            self._logged[computation] = name, False
            self._log("the computation %s waits: %s", name, reason)

    def _log_turn(self, computation: bytes) -> None:
        """Log that a computation runs; nothing if its client was notified again."""
        claim, (_name, runs) = self._state.claims.get(computation), self._logged.get(computation, ("", False))
        if claim is not None and not runs:
            name = printable(named(claim))
            self._logged[computation] = name, True
            self._log("the computation %s runs", name)

    def _happened(self, effect: Happened) -> None:
        if effect.computation is not None and effect.client_id is not None:
            news = messages.News(effect.computation, effect.status.value, effect.addr, effect.port)
            self._tell(effect.client_id, news)
        else:
            self._overview.publisher.tell(effect.status, effect.addr)

    def _tell(self, process_id: bytes, message: Control) -> None:
        link = self._endpoint.links.get(process_id)
        if link is not None:
            link.notify(message)

    def _drop(self, process_id: bytes, reason: str) -> None:
        link = self._endpoint.links.get(process_id)
        if link is not None:
            logger.warning("closing the connection to %s: %s", link.peer_name, reason)
            link.fail(PeerDisconnected(reason))

    async def _ask_grant(self, ask: AskGrant) -> None:
        link = self._endpoint.links.get(ask.node_id)
        if link is None:
            return  # the loss of the link is handled elsewhere
        grant = messages.Grant(ask.terms, ask.servers, self._rules.shared)
        computation = ask.terms.computation
        try:
            reply = await link.request(grant)
        except DiscoroError as error:
            # It is not known whether the node gave them: when it joins again, it reports its leases.
            self._drop(ask.node_id, f"it did not answer the request for its servers: {error}")
            return
        if isinstance(reply, messages.Granted):
            name = printable(ask.terms.name or computation.hex()[:8])
            self._log("%s granted %d of its servers to the computation %s", link.peer_name, reply.servers, name)
            self._handle(events.GrantGiven(ask.node_id, computation, reply.servers, reply.free))
        elif isinstance(reply, messages.NotGranted):
            self._handle(events.GrantRefused(ask.node_id, computation, tuple(reply.held)))
