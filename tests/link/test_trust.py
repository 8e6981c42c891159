"""What a peer may ask for depends on how it has proved itself; what it may not costs it the message or the link."""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from discoro_trio import Location, PeerDisconnected, ProtocolError
from discoro_trio._cluster import messages
from discoro_trio._cluster._lease_terms import LeaseTerms, QueueEntry
from discoro_trio._cluster.isolation._users import Become, User
from discoro_trio._link import Done, Endpoint, Link, Services, Trust, answered, current_endpoint, transport_over
from discoro_trio._link._dial_back import AskToDial, Dial
from discoro_trio._link._requests import REQUEST
from discoro_trio._link._services import control
from discoro_trio._link._writer import HIGH_WATER
from discoro_trio._link.shared_memory._sharing import SharedOffer
from discoro_trio._process import current_process
from discoro_trio._process.execution._outcome_store import AskOutcome
from discoro_trio._process.execution._runner import Attach
from discoro_trio._wire import Credential, Kind, PeerIdentity, encode_header
from tests.process.worlds import open_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio._wire import Control

ID = b"i" * 16
LEASE = Credential(ID, b"l" * 32)
OTHER_LEASE = Credential(ID, b"m" * 32)
SECONDS = 60

GIVING = [
    messages.Grant(LeaseTerms(ID, ID, "name", QueueEntry(1, 1), bytes(32), 0.0, 10.0), servers=1, shared=False),
    messages.Submit(ID, "name", [], None, 10.0, None, running=False, key=b""),
    messages.AskStatus(),
    messages.NodeIs("name", "127.0.0.1", 1, 1, "linux", 1, []),
    messages.Prepare(ID, b"", [], [], 1.0, 1, forward_output=False, cleanup=True),
    messages.Release(ID),
    messages.Replace(ID, ID, "reason"),
    messages.Begin(ID, ID, bytes(32), b"", ".", [], [], 1, forward_output=False, pulse_interval=10.0),
    messages.Finish("reason", again=False),
    messages.CloseIfIdle(),
    Become(User("root", 0, 0, (), "/")),
]


async def refuse(_link: Link, _offer: SharedOffer) -> Done:
    message = "no shared memory here"
    raise discoro.DiscoroError(message)


@asynccontextmanager
async def peer_of(endpoint: Endpoint, trust: Trust, nursery: trio.Nursery) -> AsyncIterator[Link]:
    """Give a link of a peer with such trust, as the peer holds it."""
    near, far = trio.socket.socketpair()
    me = PeerIdentity(secrets.token_bytes(16), "peer", Location("127.0.0.1", 9), ID if trust is Trust.LEASE else b"")
    here = Link(transport_over(trio.SocketStream(near)), me, endpoint.services, trust)
    services = Services()
    services.on_request(SharedOffer, refuse)
    services.on_notice(SharedOffer, lambda _link, _offer: None)
    there = Link(transport_over(trio.SocketStream(far)), PeerIdentity.of(endpoint.identity), services, Trust.KIN)
    endpoint._register(here)
    for link in (here, there):
        await nursery.start(link.run)
    try:
        yield there
    finally:
        there.close("the test is over")
        await here.ended.wait()
        await there.ended.wait()


@pytest.mark.spec("B07")
@pytest.mark.parametrize("trust", [Trust.LEASE, Trust.CHILD])
async def test_code_that_runs_on_servers_gives_takes_and_asks_for_no_servers(trust: Trust) -> None:
    with trio.fail_after(SECONDS):
        async with (
            discoro.open_cluster(servers=1),
            trio.open_nursery() as nursery,
            peer_of(current_endpoint(), trust, nursery) as link,
        ):
            for message in GIVING:
                with pytest.raises(ProtocolError, match=f"may not send {type(message).__name__} here"):
                    await link.request(message)


@pytest.mark.parametrize("trust", [Trust.LEASE, Trust.CHILD])
@pytest.mark.parametrize(
    "notice",
    [
        messages.Revoke(ID),
        messages.Withdraw(ID),
        messages.Discarded(ID, "reason"),
        messages.Leased(ID, ID, "node", "127.0.0.1", 1, bytes(32)),
        AskToDial(ID, "127.0.0.1", 1, b"", "127.0.0.1", 1),
        Dial(ID, "127.0.0.1", 1, b""),
    ],
)
async def test_notices_that_are_not_for_servers_to_send_end_their_link(trust: Trust, notice: Control) -> None:
    with trio.fail_after(SECONDS):
        async with (
            discoro.open_cluster(servers=1),
            trio.open_nursery() as nursery,
            peer_of(current_endpoint(), trust, nursery) as link,
        ):
            link.notify(notice)
            await link.ended.wait()


async def test_the_key_of_one_lease_opens_no_server_of_another() -> None:
    with trio.fail_after(SECONDS):
        async with open_process(credential=LEASE) as server, open_process(credential=OTHER_LEASE) as stranger:
            with pytest.raises(discoro.AuthenticationError):
                await stranger.endpoint.link_to(server.id, server.endpoint.location, ID)
            assert not server.endpoint.links


async def test_a_server_never_holds_the_secret_so_that_its_key_opens_no_node() -> None:
    with trio.fail_after(SECONDS):
        async with open_process() as node, open_process(credential=LEASE) as server:
            with pytest.raises(discoro.AuthenticationError, match="this process has no key"):
                await server.endpoint.link_to(node.id, node.endpoint.location, b"")
            with pytest.raises(discoro.AuthenticationError):
                await server.endpoint.link_to(node.id, node.endpoint.location, ID)


async def environment() -> dict[str, str]:
    return dict(os.environ)


async def test_a_server_does_not_inherit_the_secret_of_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORO_SECRET", "what nobody on a server is to know")
    monkeypatch.setenv("DISCORO_OF_THE_TEST", "arrives")
    with trio.fail_after(SECONDS):
        async with discoro.open_cluster(servers=1), discoro.Computation([environment]).schedule() as computation:
            there = await computation.run_result(environment)
    assert there["DISCORO_OF_THE_TEST"] == "arrives"
    assert "what nobody on a server is to know" not in there.values()


async def realm_of_this_server() -> tuple[list[bytes], str]:
    """Try, on a server, what its lease does not allow."""
    endpoint = current_process().endpoint
    node = next(link for link in endpoint.links.values() if link.trust is Trust.KIN)
    try:
        terms = LeaseTerms(b"x" * 16, endpoint.id, "mine", QueueEntry(1, 9), bytes(32), 0.0, 10.0)
        await node.request(messages.Grant(terms, servers=1, shared=False))
    except discoro.DiscoroError as error:
        return list(endpoint.credentials), str(error)
    return [], "it was granted"


async def test_a_job_that_uses_the_socket_of_its_server_gets_no_other_servers() -> None:
    with trio.fail_after(SECONDS):
        async with (
            discoro.open_cluster(servers=1),
            discoro.Computation([sys.modules[__name__]]).schedule() as computation,
        ):
            realms, said = await computation.run_result(realm_of_this_server)
    assert b"" not in realms
    assert "may not send Grant here" in said


# --- malformed, from those who may


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.CREDIT, b"123"),
        (Kind.READY, b"123"),
        (Kind.START, b""),
        (Kind.DEFINE, b"a function of nobody"),
        (Kind.OUTCOME, b""),
        (Kind.STARTED, b""),
        (Kind.FETCH, b""),
        (Kind.CONTROL, b"\xc1"),
    ],
)
async def test_a_malformed_frame_ends_the_connection_that_it_came_by(kind: Kind, body: bytes) -> None:
    with trio.fail_after(SECONDS):
        async with (
            open_process() as process,
            trio.open_nursery() as nursery,
            peer_of(process.endpoint, Trust.SECRET, nursery) as link,
        ):
            (near,) = process.endpoint.links.values()
            link.send(kind, 1 << 40 | 1, body)
            await link.ended.wait()
            assert isinstance(near.error, ProtocolError)


@pytest.mark.parametrize(
    "place", [("", -1), ("\0", 1), ("a" * 300 + ".example", 1), ("127.0.0.1", 1 << 40), ("\ud7ff.", 5)]
)
async def test_a_place_that_cannot_be_is_no_place_to_dial(place: tuple[str, int]) -> None:
    with trio.fail_after(SECONDS):
        async with open_process() as process, trio.open_nursery() as nursery:
            with pytest.raises(PeerDisconnected, match="cannot be reached"):
                await process.endpoint.link_to(ID, Location(*place), b"")
            async with peer_of(process.endpoint, Trust.SECRET, nursery) as link:
                link.notify(Dial(ID, *place, b""))
                link.notify(AskToDial(ID, *place, b"", *place))
                with pytest.raises(ProtocolError, match="no coroutines can be started"):
                    await link.request(Attach())


async def test_a_fault_in_a_handler_fails_the_request_and_not_the_process(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_link: Link, _message: Attach) -> Done:
        missing: dict[str, Done] = {}
        return missing["reply"]

    with trio.fail_after(SECONDS):
        async with open_process() as process, trio.open_nursery() as nursery:
            process.endpoint.services.on_request(Attach, fail)
            async with peer_of(process.endpoint, Trust.SECRET, nursery) as link:
                with pytest.raises(ProtocolError, match="could not be handled: KeyError"):
                    await link.request(Attach())
                with pytest.raises(discoro.UnknownCoro):
                    await link.request(AskOutcome(ID, 1, process.id, heard=True))
    assert "a Attach of peer" in caplog.text


@pytest.mark.fault("F16")
@pytest.mark.parametrize("fails", [False, True])
async def test_replies_to_a_peer_that_does_not_read_them_are_bounded_and_all_arrive_when_it_does(
    *, fails: bool
) -> None:
    count, size = 300, 1 << 18

    async def reply(_link: Link, _message: Attach) -> Control:
        if fails:
            raise discoro.DiscoroError("x" * size)
        return messages.StatusIs(bytes(size))

    services = Services()
    services.on_request(Attach, reply)
    near, far = trio.socket.socketpair()
    me = PeerIdentity(secrets.token_bytes(16), "peer", Location("127.0.0.1", 9), b"")
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery, trio.SocketStream(far) as peer:
            here = Link(transport_over(trio.SocketStream(near)), me, services, Trust.SECRET)
            await nursery.start(here.run)
            request = control.encode(Attach())
            for number in range(1, count + 1):
                await peer.send_all(encode_header(Kind.CONTROL, REQUEST, number, len(request)) + request)
            await trio.testing.wait_all_tasks_blocked()
            assert HIGH_WATER < here._writer.outbox.queued_bytes < HIGH_WATER + 2 * size
            received = 0
            while received < count * size:
                received += len(await peer.receive_some())
            await peer.aclose()
            await here.ended.wait()


def test_a_reply_of_another_kind_is_a_protocol_error() -> None:
    assert answered(Done(), Done) == Done()
    with pytest.raises(ProtocolError, match="the reply is a Done, but only Attach is valid"):
        answered(Done(), Attach)
