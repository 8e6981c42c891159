"""Tickets: how two processes that share no key get to a link, through others that share one with each.

A server knows the key of its lease only, a program of another user of the cluster its secret only. Who wants to reach
the other kind asks whoever told it of that key's processes; that one asks on, until one is reached that has a link to
the wanted process, which then admits the asking one under a key made for the purpose. Code that runs on servers is
admitted only where something has a public name: a lease opens the processes of its computation, and a handle or an
address that such code has come by opens nothing. This module owns those questions; links and handshakes are with
`_link`.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import trio

from ..._config import config
from ..._errors import AuthenticationError
from ..._link import ANY, Done, Trust, answered
from ..._records import Record
from ..._values import Location
from ..._wire import Control, Credential
from ._name_registry import CORO

if TYPE_CHECKING:
    from ..._link import Link
    from .._process import Process
    from ._addresses import Placed

_REALM, _KEY = 16, 32  # bytes


class Introduce(Control, frozen=True):
    """Get the asking process admitted by another one; answered by `Introduction`."""

    home: bytes
    realm: bytes
    addr: str
    port: int
    asked: int
    """How many processes have passed the question on."""
    by_job: bool
    """Whether the first who asked is a server, where users' code runs. Who has the secret says so of those who asked
    it, and is believed of itself."""


class Introduction(Control, frozen=True):
    """What opens a link to the wanted process, for a short time."""

    realm: bytes
    key: bytes


class Admit(Control, frozen=True):
    """Take a link under this key, for a short time; answered by `Done`."""

    realm: bytes
    key: bytes
    by_job: bool
    """Whether it is for a server of another computation."""


MOST_OPEN = 1024
"""The tickets that may wait to be used at one process."""

_JOBS = Trust.LEASE | Trust.CHILD
"""The trust of links to servers, whose code is that of users."""

_LONGEST_WAY = 4
"""The processes that a question may pass: server, client, scheduler, client, server."""


class _Place(Record, frozen=True):
    """A process that is to be reached."""

    home: bytes
    realm: bytes
    location: Location


class Introductions:
    """The way to processes whose key this one has not got."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._heard: dict[bytes, Link] = {}
        self._admitted: dict[bytes, bool] = {}  # the realms of tickets, and whether each is for a job
        self._open = 0  # tickets that still let somebody in
        services = process.endpoint.services
        services.on_request(Introduce, self._asked_to_introduce, trust=ANY)
        services.on_request(Admit, self._asked_to_admit, trust=ANY)
        services.links_lost.append(self._lost)

    def heard(self, realm: bytes, link: Link) -> None:
        """Note who told of processes with a key that this one may not have."""
        if realm not in self._process.endpoint.credentials:
            self._heard[realm] = link

    def opened(self, link: Link) -> bool:
        """Tell whether the peer of a link has come by a ticket: it may talk to what runs here, and no more."""
        return link.realm in self._admitted

    def of_client(self, link: Link) -> bool:
        """Tell whether a link leads to the client of this server's computation, as what that can prove says."""
        process = self._process
        proved = link.trust is Trust.KIN or link.realm == process.realm
        return proved and link.peer.process_id == process.names.client

    def check_public(self, link: Link, kind: str, serial: int) -> None:
        """Raise AuthenticationError if code of another computation wants what has no public name here."""
        if self._admitted.get(link.realm) and not self._process.names.public_here.names(kind, serial):
            text = f"this {kind} is of another computation, which has not made it public"
            raise AuthenticationError(text)

    def allows(self, link: Link, home: bytes, serial: int, *, end: bool) -> bool:
        """Tell whether the peer of a link may ask how a coroutine ends, or end it.

        With a ticket, code of another computation may ask of what has a public name, and of calls that it has made
        itself; only the latter it may end. A program that has several computations does not end for one of them what
        it has started for another.
        """
        if not self._admitted.get(link.realm):
            started = self._process.outcome_store.found(home, serial) if end and link.trust in _JOBS else None
            return started is None or started.host is None or started.host.link.realm == link.realm
        if home != self._process.id:
            return False
        return self._process.offered_functions.calls(link, serial) or (
            not end and self._process.names.public_here.names(CORO, serial)
        )

    def check(self, link: Link, home: bytes, serial: int, *, end: bool) -> None:
        """Raise AuthenticationError where `allows` says no."""
        if not self.allows(link, home, serial, end=end):
            text = "this coroutine is of another computation, which has not made it public for that"
            raise AuthenticationError(text)

    async def link_to(self, placed: Placed) -> Link:
        """Give the link to a process, with its own key or with a ticket.

        Raises:
            PeerDisconnected: It could not be reached in time, or nobody on the way to it.
            AuthenticationError: Nobody is known who could introduce the two.
        """
        endpoint, process = self._process.endpoint, self._process
        link = endpoint.links.get(placed.home)
        if link is not None and not link.lost:
            return link
        if placed.realm in endpoint.credentials or placed.home in {process.id, process.names.client}:
            known = placed.realm in endpoint.credentials
            return await endpoint.link_to(placed.home, placed.location, placed.realm if known else process.realm)
        introduction = await self._introduction(placed, asked=0, by_job=process.names.client is not None)
        endpoint.credentials[introduction.realm] = Credential(introduction.realm, introduction.key)
        endpoint.introductions.add(introduction.realm)
        try:
            return await endpoint.link_to(placed.home, placed.location, introduction.realm)
        finally:
            del endpoint.credentials[introduction.realm]
            if placed.home not in endpoint.links:
                self._forget(introduction.realm)

    async def _introduction(self, placed: Placed, *, asked: int, by_job: bool) -> Introduction:
        link = self._heard.get(placed.realm) or self._client()
        if link is None or asked >= _LONGEST_WAY:
            message = f"no key here opens a connection to {placed.location}, and nobody is known who could introduce us"
            raise AuthenticationError(message)
        place = placed.location
        reply = await link.request(Introduce(placed.home, placed.realm, place.addr, place.port, asked, by_job))
        return answered(reply, Introduction)

    def _client(self) -> Link | None:
        client = self._process.names.client
        return None if client is None else self._process.endpoint.links.get(client)

    async def _asked_to_introduce(self, asking: Link, message: Introduce) -> Introduction:
        by_job = message.by_job or asking.trust in _JOBS
        placed = _Place(message.home, message.realm, Location(message.addr, message.port))
        link = self._process.endpoint.links.get(message.home)
        if link is None and message.realm not in self._process.endpoint.credentials:
            return await self._introduction(placed, asked=message.asked + 1, by_job=by_job)
        link = await self.link_to(placed)
        introduction = Introduction(secrets.token_bytes(_REALM), secrets.token_bytes(_KEY))
        await link.request(Admit(introduction.realm, introduction.key, by_job))
        return introduction

    async def _asked_to_admit(self, link: Link, message: Admit) -> Done:
        process = self._process
        if link.trust in _JOBS and not self.of_client(link):
            text = "only who has the cluster's secret, or the client of the computation, introduces others"
            raise AuthenticationError(text)
        if message.by_job and not process.names.public_here:
            text = "nothing here has a public name: processes of other computations have no business here"
            raise AuthenticationError(text)
        if not message.realm or message.realm in process.endpoint.credentials:
            text = "a ticket must not stand for a key that is known by that name"
            raise AuthenticationError(text)
        if self._open >= MOST_OPEN:
            text = f"{MOST_OPEN} tickets wait to be used here; try again in {config.MsgTimeout:g} s"
            raise AuthenticationError(text)
        process.endpoint.credentials[message.realm] = Credential(message.realm, message.key)
        process.endpoint.introductions.add(message.realm)
        self._admitted[message.realm] = message.by_job
        self._open += 1
        process.endpoint.nursery.start_soon(self._expire, message.realm, name="end of a ticket")
        return Done()

    async def _expire(self, realm: bytes) -> None:
        endpoint = self._process.endpoint
        await trio.sleep(config.MsgTimeout)
        self._open -= 1
        endpoint.credentials.pop(realm, None)
        if all(link.realm != realm for link in endpoint.links.values()):
            self._forget(realm)

    def _forget(self, realm: bytes) -> None:
        self._admitted.pop(realm, None)
        self._process.endpoint.introductions.discard(realm)

    def _lost(self, link: Link) -> None:
        for realm in [realm for realm, other in self._heard.items() if other is link]:
            del self._heard[realm]
        if link.realm not in self._process.endpoint.credentials:
            self._forget(link.realm)
