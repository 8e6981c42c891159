"""The access rules for viewing and for actions: decisions about tokens, Host and Origin, without any I/O.

Viewing requires the token unless the monitor listens on loopback only. Actions always require it, and the request must
come from the monitor's own pages or from a program that sends the token itself. A request with a foreign Host is
refused, so a foreign name that resolves to this address (DNS rebinding) reaches nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

from .._link import host_and_network

if TYPE_CHECKING:
    from werkzeug.datastructures import Headers

SHORTEST_TOKEN = 8
GUESSES_AT_ONCE = 5
"""How many wrong tokens one address may send in a row; one of them expires each second."""
MOST_GUESSERS = 4096
"""How many addresses are kept that sent wrong tokens; the oldest are dropped first."""


@attrs.frozen
class Refusal:
    """The reason why a request is refused."""

    status: int
    text: str


@attrs.frozen
class Guard:
    """The rules of one monitor."""

    token: str
    open_to_all: bool
    """Whether viewing requires no token: only on loopback."""
    names: frozenset[str]
    """The host names that it accepts, besides addresses."""
    addresses: bool
    """Whether it accepts any IP address instead of a name; on loopback, only loopback addresses."""
    scheme: str = "http"
    read_only: bool = False

    @property
    def session(self) -> str:
        """The value of a signed-in browser's cookie: not the token, but a proof of it."""
        return hmac.new(self.token.encode(), b"discoro monitor session", hashlib.sha256).hexdigest()

    # --- permissions of a request

    def check_host(self, host: str | None) -> Refusal | None:
        """Refuse a foreign Host header."""
        name = _host_name(host or "")
        if name is None or not self._is_own(name):
            return Refusal(400, "this monitor does not accept that Host")
        return None

    def check_origin(self, headers: Headers, host: str) -> Refusal | None:
        """Refuse requests from another site's pages. Programs send no Origin."""
        origin = headers.get("Origin")
        if origin is not None and origin.casefold() != f"{self.scheme}://{host}".casefold():
            return Refusal(403, "the request comes from another site")
        if headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            return Refusal(403, "the request comes from another site")
        return None

    def shows_token(self, headers: Headers, cookie: str | None) -> bool:
        """Return whether a request has a token, right or wrong."""
        return cookie is not None or "Authorization" in headers

    def may_look(self, headers: Headers, cookie: str | None) -> bool:
        """Return whether the tables may be seen."""
        return self.open_to_all or self.has_token(headers, cookie)

    def check_action(self, headers: Headers, cookie: str | None, host: str) -> Refusal | None:
        """Refuse an action unless it comes from a signed-in person's page or from a program with the token."""
        refusal = self.check_origin(headers, host)
        if refusal is not None:
            return refusal
        if not self.has_token(headers, cookie):
            return Refusal(401, "this needs the monitor's token")
        if self.read_only:
            return Refusal(403, "this monitor is read-only")
        if not self._has_bearer(headers) and "Origin" not in headers:
            return Refusal(403, "a request with a cookie must have an Origin header")
        return None

    def has_token(self, headers: Headers, cookie: str | None) -> bool:
        """Return whether the request proves the token, by header or by cookie."""
        return self._has_bearer(headers) or (cookie is not None and _same(cookie, self.session))

    def is_token(self, text: str) -> bool:
        """Return whether a text is the token."""
        return _same(text, self.token)

    def _has_bearer(self, headers: Headers) -> bool:
        kind, _, value = headers.get("Authorization", "").partition(" ")
        return kind.casefold() == "bearer" and _same(value.strip(), self.token)

    def _is_own(self, name: str) -> bool:
        if name.casefold() in self.names:
            return True
        address = _address(name)
        return address is not None and (self.addresses or address.is_loopback)


class Guesses:
    """How many wrong tokens each address has sent lately."""

    def __init__(self) -> None:
        self._spent: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        """Return how many addresses are kept."""
        return len(self._spent)

    def may_try(self, now: float, address: str) -> bool:
        """Return whether to check a token from an address; if not, the request is refused without a check.

        Args:
            now: Seconds of a monotonic clock.
            address: The address of the sender; an IPv6 /64 network counts as one.
        """
        return self._left(now, host_and_network(address)[0]) <= GUESSES_AT_ONCE - 1

    def wrong(self, now: float, address: str) -> None:
        """Note that an address has sent a wrong token."""
        host = host_and_network(address)[0]
        spent = self._left(now, host) + 1
        self._spent.pop(host, None)
        self._spent[host] = now, spent
        if len(self._spent) > MOST_GUESSERS:
            del self._spent[next(iter(self._spent))]

    def _left(self, now: float, host: str) -> float:
        """Return the number of an address's wrong tokens that still count: one less each second."""
        since, spent = self._spent.get(host, (now, 0.0))
        return max(0.0, spent - (now - since))


def make_guard(*, host: str, token: str, scheme: str, read_only: bool = False, open_to_all: bool) -> Guard:
    """Make the rules for a monitor that listens at `host`."""
    own = {"localhost", host.casefold()} - {""}
    if not open_to_all:
        own |= {socket.gethostname().casefold(), socket.getfqdn().casefold()}
    return Guard(token, open_to_all, frozenset(own), not open_to_all, scheme, read_only)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach that host; an empty one means all interfaces."""
    address = _address(host)
    return host.casefold() == "localhost" or (address is not None and address.is_loopback)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _host_name(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises if it is no number
    except ValueError:
        return None
    if parts.netloc != host or "@" in host or not host:
        return None
    return parts.hostname


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
