"""Which peer may send which message to a scheduler, a node, a client and a server: one table, and what it forbids.

A message type that a process takes and that stands in no row of the table fails. Peers without the secret get no link
at all, which the tests of handshakes show.
"""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio import DiscoroError, ProtocolError
from discoro_trio._cluster import NodeRests, messages
from discoro_trio._cluster._lease_terms import LeaseTerms, QueueEntry
from discoro_trio._cluster.scheduler._admin_requests import DrainNode, RestartServer
from discoro_trio._cluster.server._server import ServerProgram
from discoro_trio._link import ANY, Trust, control
from discoro_trio._wire import Kind

from ..process.worlds import open_process
from .clusters import until_servers
from .shared import SECRET, client, open_shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from discoro_trio._link import Endpoint, Link
    from discoro_trio._wire import Control

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
    pytest.mark.spec("B07", "S104"),
]

FORGED = 1_000_000
HAS_SECRET = Trust.SECRET | Trust.KIN
"""Programs: clients, nodes, schedulers. Jobs do not have the secret."""

# What every process takes. Jobs may send these to it; whose coroutines, names and files they reach is decided by each
# handler (tests/process/naming/test_lease_walls.py).
ALL = (
    "Admit AskOutcome Attach AwaitCall AwaitDelivery AwaitSubscribers BeginCall BeginFile DeleteFile DropFile EndFile "
    "FilePart Introduce Locate Monitor OfferFile ReadShared Register SharedAccepted SharedDropped SharedOffer "
    "SharedReleased Subscribe Terminate Unregister Unsubscribe"
)
OF_PROGRAMS = "AskDump AskToDial Dial"
TABLE: dict[str, dict[Trust, str]] = {
    "scheduler": {
        ANY: ALL,
        HAS_SECRET: f"{OF_PROGRAMS} AdminRequest AskAround AskDetails AskNodes AskStacks AskStatus AskWait FilesStay "
        "Demand Invite NodeIs Pulse Room ServerLeft ServerReport ServerSeen ServersFreed Skew StartedThere Submit "
        "WhoIsThere Withdraw",
    },
    "node": {
        ANY: ALL,
        HAS_SECRET: f"{OF_PROGRAMS} AreYouThere AskAround AskDetails AskServers AskVersions DrainNode DropShared Grant "
        "Invite Prepare PulseSeen PutShared Release Replace RestartServer Revoke WhoIsThere",
        Trust.CHILD: "Report ServerUp",
    },
    "client": {
        ANY: f"{ALL} OutputEnds ReplaceMember ShareOfJob UnshareOfJob WatchMembers",
        HAS_SECRET: f"{OF_PROGRAMS} Discarded LeaseEnded LeaseEnding Leased News NodeRests ReadComponent "
        "ServerBlocked ServerFailed ServerGone ServerReady ServerWrote TurnCame",
    },
    "server": {
        ANY: f"{ALL} OpenShared ForgetShared ServerEnded",
        HAS_SECRET: OF_PROGRAMS,
        Trust.KIN: "AreYouThere AskOwnDetails Become Begin CloseIfIdle Finish",
    },
}
FRAMES = set(Kind) - {Kind.HELLO, Kind.CONTROL, Kind.BULK, Kind.PART, Kind.ABORT, Kind.OUTPUT}
"""The frames that a process takes; the link itself handles the others, and `OUTPUT` is for clients only."""


class World:
    """A scheduler with two nodes and two clients that have a server each of the first node; and further programs."""

    def __init__(self, scheduler: Any, nodes: list[Any], computations: tuple[Any, Any], program: Endpoint) -> None:
        (node, other_node), (own, other) = nodes, computations
        self.scheduler = scheduler
        self.node = node
        self.own = own
        self.other = other
        self.endpoints: dict[str, Endpoint] = {
            "its scheduler": scheduler._endpoint,
            "its node": node.endpoint,
            "another node": other_node.endpoint,
            "its client": own._session._process.endpoint,
            "another client": other._session._process.endpoint,
            "another program": program,
        }

        self._server_id: bytes = self.server.server_id

    @property
    def computation(self) -> bytes:
        found: bytes = self.own._session.set_up.computation
        return found

    @property
    def server(self) -> Any:
        (found,) = self.own._session.servers.values()
        return found

    def receiver(self, role: str) -> Endpoint:
        return self.endpoints[{"scheduler": "its scheduler", "node": "its node", "client": "its client"}[role]]

    async def link(self, peer: str, role: str) -> Link:
        """Give the link of a peer to the receiver."""
        target = self.receiver(role)
        return await self.endpoints[peer].link_to(target.id, target.location, b"")

    async def flushed(self, peer: str, role: str) -> None:
        """Wait until what a peer has sent before was handled."""
        link = await self.link(peer, role)
        with pytest.raises(DiscoroError):  # nobody answers that, in any process
            await link.request(messages.Finish("", again=False))

    def state(self) -> dict[str, object]:
        """Give what an ignored message must not have changed."""
        session = self.own._session
        node, scheduler = self.node._leasing, self.scheduler._state
        observed = self.scheduler._overview.observed_state
        return {
            "leases": {lease.terms.name: (lease.slots, lease.over) for lease in node._holding.leases.values()},
            "claims": {claim.terms.name: (claim.running, set(claim.nodes)) for claim in scheduler.claims},
            "grants": {
                node_id: {key: (one.servers, one.asked) for key, one in state.leases.items()}
                for node_id, state in scheduler.nodes.items()
            },
            "room": {node_id: state.left for node_id, state in scheduler.nodes.items()},
            "forged": [one.jobs for one in observed._demands.values() if one.jobs == FORGED]
            + [lines for lines in observed._skew.values() if str(FORGED) in lines],
            "seen": (seen := observed._servers.get(self._server_id)) and (seen.files, seen.node_id, seen.seen),
            "closed": session.closed,
            "servers": set(session.servers),
            "alive": [server.word is None for server in session.servers.values()],
            "leaving": [node.leaving for node in session.nodes.values()],
            "nodes": set(session.nodes),
            "suspended": set(session.load_balancer.suspended),
            "keys": session._process.endpoint.credentials[session.set_up.computation],
        }

    def changed(self, before: dict[str, object]) -> dict[str, object]:
        """Give what is not as it was, as it was and as it is."""
        return {name: (before[name], value) for name, value in self.state().items() if value != before[name]}


async def wait() -> None:
    await trio.sleep_forever()


async def ask(target: bytes, message: bytes, kind: str) -> str:
    """Send a request to the node from within a job; give the answer's name, or that of the error."""
    import importlib  # noqa: PLC0415 - this runs at a server

    from discoro_trio import DiscoroError as Refused  # noqa: PLC0415
    from discoro_trio._link import control as codec  # noqa: PLC0415
    from discoro_trio._process._current import current_process  # noqa: PLC0415

    importlib.import_module(kind)
    link = current_process().endpoint.links[target]
    try:
        return type(await link.request(codec.decode(message))).__name__
    except Refused as error:
        return type(error).__name__


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    part = [discoro.NodeAllocation("n1", cpus=1)]
    async with open_shared() as cluster:
        scheduler = await cluster.scheduler(shared=True, settle=False)
        nodes = [await cluster.node(name, scheduler, servers=count) for name, count in (("n1", 2), ("n2", 1))]
        program = await cluster.open("program", lambda: discoro.open_endpoint(secret=SECRET))
        async with (
            client(scheduler, wait, ask, name="own", node_allocations=part) as own,
            client(scheduler, wait, ask, name="other", node_allocations=part) as other,
        ):
            await until_servers(own, 1)
            await until_servers(other, 1)
            yield World(scheduler, nodes, (own, other), program)


# --- the kinds of trust


@asynccontextmanager
async def open_role(role: str) -> AsyncIterator[Endpoint]:
    if role == "server":
        async with open_process() as process, trio.open_nursery() as nursery:
            with open(os.devnull, "wb") as tail:  # noqa: ASYNC230, PTH123 - nothing waits for it
                ServerProgram(process.endpoint, process, nursery, tail.fileno())
                yield process.endpoint
        return
    async with open_world() as world:
        yield world.receiver(role)


@pytest.mark.parametrize("role", TABLE)
async def test_every_message_that_a_process_takes_has_a_row_and_is_refused_to_all_other_peers(role: str) -> None:
    expected = {name: trust for trust, names in TABLE[role].items() for name in names.split()}
    async with open_role(role) as endpoint:
        services = endpoint.services
        taken: dict[Any, Any] = dict.fromkeys(services._requests, services.request_handler)
        taken |= dict.fromkeys(services._notices, services.notice_handler)
        assert {kind.__name__ for kind in taken} == set(expected)
        for kind, handler in taken.items():
            for trust in (Trust.LEASE, Trust.SECRET, Trust.KIN, Trust.CHILD):
                peer: Any = SimpleNamespace(trust=trust, peer_name="a peer")
                message = kind(*[None] * len(kind.__struct_fields__))
                if trust in expected[kind.__name__]:
                    handler(peer, message)
                else:
                    with pytest.raises(ProtocolError, match=f"may not send {kind.__name__}"):
                        handler(peer, message)
        handled = {Kind(number) for number, one in enumerate(services.frames) if one.__name__ != "_ignore"}
        assert handled == (FRAMES | {Kind.OUTPUT} if role == "client" else FRAMES)


# --- peers of one kind of trust: who of them is meant

REQUESTS: dict[str, tuple[str, Callable[[World], Control], set[str]]] = {
    "prepare": (
        "node",
        lambda world: messages.Prepare(world.computation, b"", [], [], 1.0, 1, forward_output=False, cleanup=True),
        set(),  # "its client", which has done so
    ),
    "release": ("node", lambda world: messages.Release(world.computation), {"its client"}),
    "replace": ("node", lambda world: messages.Replace(world.computation, world.server.server_id, "x"), {"its client"}),
    "put a shared value": ("node", lambda world: messages.PutShared(world.computation, b"s" * 16, 1, [], -1), set()),
    "drop a shared value": ("node", lambda world: messages.DropShared(world.computation, b"s" * 16), {"its client"}),
    "restart a server": ("node", lambda world: RestartServer(world.server.server_id), {"its scheduler"}),
    "submit it again": (
        "scheduler",
        lambda world: messages.Submit(world.computation, "stolen", [], None, 10.0, None, running=True, key=b""),
        set(),  # "its client", which has done so
    ),
    "end a node's servers": (
        "client",
        lambda world: messages.LeaseEnding(world.computation, world.node.endpoint.id, "x", finishes=False),
        {"its node"},
    ),
    "read its components": ("client", lambda world: messages.ReadComponent(world.computation, 0, 0, 1), {"its node"}),
    "watch its servers": ("client", lambda world: messages.WatchMembers(world.computation), set()),
    "replace by a job": (
        "client",
        lambda world: messages.ReplaceMember(world.computation, world.server.server_id, "x"),
        set(),
    ),
    "share by a job": (
        "client",
        lambda world: messages.ShareOfJob(world.computation, b"s" * 16, 1, -1, early=False),
        set(),
    ),
    "unshare by a job": ("client", lambda world: messages.UnshareOfJob(world.computation, b"s" * 16), set()),
}
"""Requests about a computation: receiver, message, and those who may make it; "its client" where that ends nothing."""


def _kind(world: World) -> bytes:
    identity: bytes = world.node.endpoint.id
    return identity


NOTICES: dict[str, tuple[str, Callable[[World], Control], str]] = {
    "revoke": ("node", lambda world: messages.Revoke(world.computation), "its scheduler"),
    "withdraw": ("scheduler", lambda world: messages.Withdraw(world.computation), "its client"),
    "servers are free": (
        "scheduler",
        lambda world: messages.ServersFreed(world.computation, 1, "released", 1),
        "its node",
    ),
    "a server has ended": (
        "scheduler",
        lambda world: messages.ServerLeft(world.server.server_id, wanted=True, over=True, reason="x"),
        "its node",
    ),
    "there is work": ("scheduler", lambda world: messages.Demand(world.computation, FORGED, 0), "its client"),
    "versions differ": ("scheduler", lambda world: messages.Skew(world.computation, [str(FORGED)]), "its client"),
    "started there": (
        "scheduler",
        lambda world: messages.StartedThere(world.computation, world.server.server_id, {FORGED: ("x", None)}),
        "its client",
    ),
    "files stay": (
        "scheduler",
        lambda world: messages.FilesStay(world.server.server_id, "/elsewhere"),
        "its node",
    ),
    "a server is seen": (
        "scheduler",
        lambda world: messages.ServerSeen(world.server.server_id, "stolen", "127.0.0.1", 1),
        "its node",
    ),
    "discarded": ("client", lambda world: messages.Discarded(world.computation, "x"), "its scheduler"),
    "leased": (
        "client",
        lambda world: messages.Leased(world.computation, b"n" * 16, "stolen", "127.0.0.1", 1, b"k" * 32),
        "its scheduler",
    ),
    "a node rests": ("client", lambda world: NodeRests(world.computation, _kind(world), rests=True), "its scheduler"),
    "a server is ready": (
        "client",
        lambda world: messages.ServerReady(world.computation, b"s" * 16, _kind(world), 9, "127.0.0.1", 1),
        "its node",
    ),
    "a server has failed": (
        "client",
        lambda world: messages.ServerFailed(
            world.computation, b"s" * 16, _kind(world), 1, "x", "127.0.0.1", 1, "node_setup", [b""]
        ),
        "its node",
    ),
    "a server is gone": (
        "client",
        lambda world: messages.ServerGone(
            world.computation, world.server.server_id, "127.0.0.1", 1, 1, None, "", "stolen", idle=False
        ),
        "its node",
    ),
    "the lease has ended": ("client", lambda world: messages.LeaseEnded(world.computation, _kind(world)), "its node"),
}
"""Notices about a computation or a server: receiver, message, and the one peer that is heeded."""


async def test_requests_about_a_computation_are_refused_to_all_but_those_concerned() -> None:
    async with open_world() as world:
        before = world.state()
        for name, (role, make, allowed) in REQUESTS.items():
            for peer in sorted(set(world.endpoints) - allowed - {"its client" if role != "client" else ""}):
                if world.endpoints[peer] is world.receiver(role):
                    continue
                link = await world.link(peer, role)
                with pytest.raises(DiscoroError) as refusal:
                    pytest.fail(f"{peer}: {name}: {await link.request(make(world))}")
                assert not isinstance(refusal.value, discoro.FileTransferError), f"{peer}: {name}: it was looked at"
                assert world.changed(before) == {}, f"{peer}: {name}"


async def test_requests_of_jobs_are_refused_by_their_node() -> None:
    async with open_world() as world:
        before = world.state()
        for computation in (world.own, world.other):
            for name, (role, make, _allowed) in REQUESTS.items():
                if role == "node":
                    message = make(world)
                    answer = await computation.run_result(
                        ask, world.node.endpoint.id, control.encode(message), type(message).__module__
                    )
                    assert answer == "ProtocolError", name
            message = messages.Grant(
                LeaseTerms(b"c" * 16, b"x" * 16, "stolen", QueueEntry(1, 1), b"k" * 32, 0.0, 10.0), 1, shared=False
            )
            answer = await computation.run_result(
                ask, world.node.endpoint.id, control.encode(message), type(message).__module__
            )
            assert answer == "ProtocolError"
        assert world.changed(before) == {}


async def test_notices_about_a_computation_are_heeded_only_if_they_come_from_where_they_must() -> None:
    async with open_world() as world:
        before = world.state()
        for name, (role, make, allowed) in NOTICES.items():
            for peer in sorted(set(world.endpoints) - {allowed}):
                if world.endpoints[peer] is world.receiver(role):
                    continue
                (await world.link(peer, role)).notify(make(world))
                await world.flushed(peer, role)
                assert world.changed(before) == {}, f"{peer}: {name}"


@pytest.mark.parametrize(
    "name", ["revoke", "withdraw", "there is work", "versions differ", "discarded", "a node rests", "a server is gone"]
)
async def test_a_notice_from_where_it_must_come_is_heeded(name: str) -> None:
    role, make, allowed = NOTICES[name]
    async with open_world() as world:
        before = world.state()
        (await world.link(allowed, role)).notify(make(world))
        await world.flushed(allowed, role)
        while not world.changed(before):  # noqa: ASYNC110 - what follows differs from notice to notice
            await trio.sleep(0.01)


async def test_only_the_leases_of_a_scheduler_are_drained_for_it() -> None:
    async with open_world() as world:
        before = world.state()
        for peer in ("another client", "another program", "another node"):
            await (await world.link(peer, "node")).request(DrainNode(0.0))
            assert world.changed(before) == {}, peer
        await (await world.link("its scheduler", "node")).request(DrainNode(0.0))
        while set(world.own._session.servers) & before["servers"]:  # type: ignore[operator]  # noqa: ASYNC110 - as above
            await trio.sleep(0.01)


async def test_a_client_and_a_scheduler_may_do_what_others_may_not() -> None:
    async with open_world() as world:
        own = await world.link("its client", "node")
        await own.request(messages.DropShared(world.computation, b"s" * 16))
        scheduler = await world.link("its scheduler", "node")
        await scheduler.request(RestartServer(world.server.server_id))
        await until_servers(world.own, 1)
        await own.request(messages.Release(world.computation))
        assert list(world.state()["leases"]) == ["other"]  # type: ignore[call-overload]
