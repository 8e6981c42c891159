"""Who knows one key does not pose as a process that has proved another."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from discoro_trio import AuthenticationError, DiscoroError, PeerDisconnected
from discoro_trio._link import Trust, serve_endpoint
from discoro_trio._wire import Credential, PeerIdentity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio._link import Endpoint

SECRET = Credential(b"", b"s" * 32)
LEASE = Credential(b"l" * 16, b"l" * 32)
TICKET = Credential(b"t" * 16, b"t" * 32)
OTHER_TICKET = Credential(b"u" * 16, b"u" * 32)
VICTIM = b"v" * 16
SECONDS = 60


@asynccontextmanager
async def open_target() -> AsyncIterator[Endpoint]:
    with trio.fail_after(SECONDS):
        async with serve_endpoint() as target:
            for one in (SECRET, LEASE, TICKET, OTHER_TICKET):
                target.credentials[one.realm] = one
            target.introductions = {TICKET.realm, OTHER_TICKET.realm}
            yield target


@asynccontextmanager
async def open_under(credential: Credential) -> AsyncIterator[Endpoint]:
    """Open an endpoint that says it is the victim, and knows one key."""
    async with serve_endpoint(process_id=VICTIM) as endpoint:
        endpoint.credentials[credential.realm] = credential
        yield endpoint


@pytest.mark.fault("F14")
@pytest.mark.parametrize(
    ("key", "of_impostor"),
    [(SECRET, LEASE), (SECRET, TICKET), (LEASE, TICKET), (LEASE, SECRET)],
    ids=["secret, lease", "secret, ticket", "lease, ticket", "lease, secret"],
)
async def test_who_knows_another_key_does_not_take_the_place_of_a_process(
    key: Credential, of_impostor: Credential
) -> None:
    async with open_target() as target, open_under(key) as victim, open_under(of_impostor) as impostor:
        link = await victim.link_to(target.id, target.location, key.realm)
        there = target.links[VICTIM]
        with pytest.raises((AuthenticationError, PeerDisconnected)):
            await impostor.link_to(target.id, target.location, of_impostor.realm)
        assert target.links[VICTIM] is there
        assert not link.lost


@pytest.mark.parametrize(
    ("key", "again"),
    [(LEASE, LEASE), (TICKET, OTHER_TICKET), (TICKET, LEASE), (TICKET, SECRET)],
    ids=["the same", "another ticket", "a lease", "the secret"],
)
async def test_who_comes_again_with_no_worse_a_key_takes_its_own_place(key: Credential, again: Credential) -> None:
    async with open_target() as target, open_under(key) as before, open_under(again) as after:
        await before.link_to(target.id, target.location, key.realm)
        there = target.links[VICTIM]
        await after.link_to(target.id, target.location, again.realm)
        assert target.links[VICTIM].realm == again.realm
        await there.ended.wait()


@pytest.mark.fault("F14")
async def test_nobody_takes_the_place_of_a_server_that_the_node_has_started() -> None:
    async with open_target() as target, open_under(SECRET) as impostor, trio.open_nursery() as nursery:
        ours, theirs = trio.socket.socketpair()
        peer = PeerIdentity(VICTIM, "server", target.location, b"")
        with theirs:
            link = await target.adopt(trio.SocketStream(ours), peer, nursery=nursery, trust=Trust.CHILD)
            with pytest.raises(DiscoroError):
                await impostor.link_to(target.id, target.location, b"")
            assert target.links[VICTIM] is link
            nursery.cancel_scope.cancel()
