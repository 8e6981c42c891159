"""Introductions: they let two processes without a common key connect, through processes that share a key with each.

A server has only the key of its lease; a program of another user has only the cluster's secret. To reach a process of
the other kind, a process sends `Introduce` to the peer from which it got the address. That peer forwards the request
until it arrives at a process with a link to the wanted process. The wanted process then admits the requesting process
under a key made for this purpose. Code that runs on servers is admitted only by processes in which something has a
public name: a lease authorises connections to the processes of its computation, but a handle or an address alone
authorises nothing. This module owns these requests; links and handshakes are in `_link`.
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
    """Have another process admit the requesting one; answered by `Introduction`."""

    home: bytes
    realm: bytes
    addr: str
    port: int
    asked: int
    """The number of processes that have forwarded the request."""
    by_job: bool
    """Whether the first requester is a server, where users' code runs. A process with the secret sets this for the
    processes whose requests it forwards, and is trusted about itself."""


class Introduction(Control, frozen=True):
    """The key for a link to the wanted process, valid for a short time."""

    realm: bytes
    key: bytes


class Admit(Control, frozen=True):
    """Accept a link under this key, for a short time; answered by `Done`."""

    realm: bytes
    key: bytes
    by_job: bool
    """Whether the key is for a server of another computation."""


MOST_OPEN = 1024
"""The number of unused introductions that one process keeps."""

MOST_HEARD = 65_536
"""The number of realms for which one process remembers where to request an introduction; the oldest is dropped."""

_JOBS = Trust.LEASE | Trust.CHILD
"""The trust of links to servers, which run users' code."""

_LONGEST_WAY = 4
"""The number of times that a request may be forwarded: server, client, scheduler, client, server."""


class _Target(Record, frozen=True):
    """A process to reach."""

    home: bytes
    realm: bytes
    location: Location


class Introductions:
    """Connects to processes whose key this process does not have."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._heard: dict[bytes, Link] = {}
        self._admitted: dict[bytes, bool] = {}  # the realms of introductions, and whether each is for a server
        self._open = 0  # introductions that can still be used
        services = process.endpoint.services
        services.on_request(Introduce, self._asked_to_introduce, trust=ANY)
        services.on_request(Admit, self._asked_to_admit, trust=ANY)
        services.links_lost.append(self._lost)

    def heard(self, realm: bytes, link: Link) -> None:
        """Store the link on which an address arrived, if this process does not have the key to it."""
        if realm not in self._process.endpoint.credentials:
            self._heard[realm] = link
            if len(self._heard) > MOST_HEARD:
                del self._heard[next(iter(self._heard))]

    def opened(self, link: Link) -> bool:
        """Return whether a link was made by an introduction: its peer may only use what already runs here."""
        return link.realm in self._admitted

    def of_client(self, link: Link) -> bool:
        """Return whether a link leads to the client of this server's computation; the peer must have proved that."""
        process = self._process
        proved = link.trust is Trust.KIN or link.realm == process.realm
        return proved and link.peer.process_id == process.names.client

    def check_public(self, link: Link, kind: str, serial: int) -> None:
        """Raise AuthenticationError if code of another computation requests an object without a public name."""
        if self._admitted.get(link.realm) and not self._process.names.public_here.names(kind, serial):
            text = f"this {kind} is of another computation, which has not made it public"
            raise AuthenticationError(text)

    def allows(self, link: Link, home: bytes, serial: int, *, end: bool) -> bool:
        """Return whether the peer of a link may ask how a coroutine ends, or end it.

        With an introduction, code of another computation may ask about coroutines with a public name and about its own
        calls; it may end only its own calls. A program with several computations does not let one of them end the
        coroutines of another.
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
        """Raise AuthenticationError if `allows` returns False."""
        if not self.allows(link, home, serial, end=end):
            text = "this coroutine is of another computation, which has not made it public for that"
            raise AuthenticationError(text)

    async def link_to(self, placed: Placed) -> Link:
        """Return the link to a process, made with its key or with an introduction.

        Raises:
            PeerDisconnected: The process, or one that forwards the request, could not be reached in time.
            AuthenticationError: No known process can introduce the two.
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
            message = f"this process has no key for {placed.location} and knows no process that can introduce them"
            raise AuthenticationError(message)
        place = placed.location
        reply = await link.request(Introduce(placed.home, placed.realm, place.addr, place.port, asked, by_job))
        return answered(reply, Introduction)

    def _client(self) -> Link | None:
        client = self._process.names.client
        return None if client is None else self._process.endpoint.links.get(client)

    async def _asked_to_introduce(self, asking: Link, message: Introduce) -> Introduction:
        by_job = message.by_job or asking.trust in _JOBS
        placed = _Target(message.home, message.realm, Location(message.addr, message.port))
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
            text = "only processes with the cluster's secret, or the client of the computation, can introduce others"
            raise AuthenticationError(text)
        if message.by_job and not process.names.public_here:
            text = "nothing in this process has a public name: processes of other computations cannot connect"
            raise AuthenticationError(text)
        if not message.realm or message.realm in process.endpoint.credentials:
            text = "an introduction must not replace an existing key"
            raise AuthenticationError(text)
        if self._open >= MOST_OPEN:
            text = f"{MOST_OPEN} introductions wait to be used here; try again in {config.MsgTimeout:g} s"
            raise AuthenticationError(text)
        process.endpoint.credentials[message.realm] = Credential(message.realm, message.key)
        process.endpoint.introductions.add(message.realm)
        self._admitted[message.realm] = message.by_job
        self._open += 1
        process.endpoint.nursery.start_soon(self._expire, message.realm, name="expire an introduction")
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
