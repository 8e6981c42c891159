"""The options of an endpoint: their valid values, and opening an endpoint with them.

This module owns their checks and defaults. An invalid option raises an `OptionError`, one line that names the option.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from .._arguments import checked, integer, optional_path, optional_text, text, wrong_type
from .._records import Record
from .._values import MAX_PORT, Location
from .._wire import Found, fingerprint
from ._endpoint import serve_endpoint
from ._listening import is_everywhere, main_address
from ._option_error import OptionError
from .discovery._discovery import UDP_PORT, Discovery
from .secret._secret_file import load_secret, path_of, private_secret
from .secret._watching import follow_secret, stamp_of
from .tls._tls import Tls, is_loopback

if TYPE_CHECKING:
    import pathlib
    from collections.abc import AsyncIterator

    from .._wire import Credential, Role
    from ._endpoint import Endpoint

Ports = str | int | Iterable[str | int] | None
"""TCP ports: one, several, ranges such as "51351-51360", or several of these with commas; None for any that is free."""

Path = str | os.PathLike[str]

_PORTS: tuple[type, ...] = (str, int, Iterable)
_TCP_PORTS, _UDP_PORT = "tcp_ports", "udp_port"


def parse_ports(ports: Ports) -> tuple[int, ...]:
    """Read TCP ports and ranges; (0,) stands for any port.

    Raises:
        OptionError: One of them is not a port.
    """
    if ports is None:
        return (0,)
    if not isinstance(ports, _PORTS):
        wrong_type(_TCP_PORTS, ports, "a port, a text such as '51351-51360,52000', or several of them")
    parts = [ports] if isinstance(ports, str | int) else list(ports)
    texts = [one for part in parts for one in str(part).split(",")]
    found = [port for one in texts for port in _parse_range(one.strip())]
    return tuple(dict.fromkeys(found))


def _parse_range(written: str) -> range:
    first, dash, last = (part.strip() for part in written.partition("-"))
    numbers = [first, last] if dash else [first, first]
    if all(number.isascii() and number.isdigit() for number in numbers):
        low, high = (int(number) for number in numbers)
        if 0 < low <= high <= MAX_PORT:
            return range(low, high + 1)
    problem = f"expected ports and ranges, such as 51351-51360,52000, each from 1 to {MAX_PORT}, not {written!r}"
    raise OptionError(_TCP_PORTS, problem)


def _check_udp_port(name: str, value: int) -> int:
    port = integer(name, value)
    if not 0 < port <= MAX_PORT:
        raise OptionError(_UDP_PORT, f"expected a port from 1 to {MAX_PORT}, not {port!r}")
    return port


def _check_secret(_instance: object, _attribute: object, secret: Any) -> None:
    if not (secret is None or isinstance(secret, str | bytes)):
        message = "secret must be a str or bytes"  # the value is not shown, because it may still be a secret
        raise TypeError(message)


@attrs.frozen(kw_only=True)
class EndpointOptions:
    """Where a process listens, what it announces to peers, and how it proves that it belongs to the cluster."""

    ip_addr: str = attrs.field(default="127.0.0.1", validator=checked(text))
    """The address or host name of this machine to listen at; "" for all its addresses."""
    ext_ip_addr: str | None = attrs.field(default=None, validator=checked(optional_text))
    """The address that is announced to peers, if this machine is behind NAT."""
    tcp_ports: tuple[int, ...] = attrs.field(default=None, converter=parse_ports)
    """The ports to try: the process listens at the first free one."""
    udp_port: int = attrs.field(default=UDP_PORT, validator=checked(_check_udp_port))
    """The UDP port of discovery, the same for the whole cluster."""
    name: str | None = attrs.field(default=None, validator=checked(optional_text))
    """A name for people; None for the name of the host."""
    secret: str | bytes | None = attrs.field(default=None, repr=False, validator=_check_secret)
    """The cluster's secret, as `load_secret` takes it."""
    secret_file: Path | None = attrs.field(default=None, validator=checked(optional_path))
    """A file that holds the secret."""
    certfile: Path | None = attrs.field(default=None, validator=checked(optional_path))
    """The certificate to present; None for one made in memory."""
    keyfile: Path | None = attrs.field(default=None, validator=checked(optional_path))
    """The key of the certificate, if it is in a separate file."""
    cafile: Path | None = attrs.field(default=None, validator=checked(optional_path))
    """The authorities that must have signed the certificates of peers; None for no such check."""

    def credential(self, *, private: bool) -> Credential:
        """Return the secret. With `private` and no secret given, make a new one and read no file."""
        if private and self.secret is None and self.secret_file is None:
            return private_secret()
        return load_secret(self.secret, self.secret_file)

    def followed_file(self, *, private: bool) -> pathlib.Path | None:
        """Return the file that is watched for changes of the secret; None if the secret does not come from a file."""
        given = self.secret is not None or self.secret_file is not None
        return None if private and not given else path_of(self.secret, self.secret_file)


@asynccontextmanager
async def open_with(options: EndpointOptions, *, private: bool = False) -> AsyncIterator[Endpoint]:
    """Open an endpoint with options.

    Args:
        options: The options.
        private: Whether it belongs to a cluster that exists only in this program.

    Raises:
        OptionError: One of the options is invalid.
    """
    tls = Tls(certfile=options.certfile, keyfile=options.keyfile, cafile=options.cafile)
    path = options.followed_file(private=private)
    stamp = stamp_of(path) if path is not None else None
    credential = options.credential(private=private)
    async with serve_endpoint(
        bind=options.ip_addr, ports=options.tcp_ports, ext_addr=options.ext_ip_addr, name=options.name, tls=tls
    ) as endpoint:
        endpoint.options = options
        endpoint.credentials[credential.realm] = credential
        endpoint.discovery = Discovery(
            credential=credential,
            process_id=endpoint.id,
            udp_port=options.udp_port,
            loopback=is_loopback(endpoint.bound),
        )
        if path is not None:
            endpoint.nursery.start_soon(follow_secret, endpoint, path, stamp, name="follow the secret's file")
        yield endpoint


def fingerprint_of(endpoint: Endpoint) -> str:
    """Return the fingerprint of an endpoint's secret, which may be shown."""
    return fingerprint(endpoint.credentials[b""].key)


def presence_of(endpoint: Endpoint, role: Role) -> Found:
    """Return what an endpoint announces by discovery.

    An endpoint that listens at all its addresses, without `ext_addr`, leaves the address open. The process that finds
    it uses the address from which the answer came, which is certainly in a network that both are part of.
    """
    addr = endpoint.location.addr
    open_to_all = is_everywhere(endpoint.bound) and addr == main_address()
    location = Location("" if open_to_all else addr, endpoint.location.port)
    return Found(endpoint.id, role, endpoint.identity.name, location)


class Peers(Record, frozen=True):
    """Processes to contact, as the user has named them."""

    hosts: tuple[str, ...]
    """Machines that are searched by discovery."""
    locations: tuple[Location, ...]
    """Processes that are dialled."""


async def resolve_peers(option: str, peers: Iterable[str | Location]) -> Peers:
    """Separate hosts from locations, and check that each exists.

    Args:
        option: The option that they come from.
        peers: "host" or "host:port", IPv6 in brackets before a port, or Locations.

    Raises:
        OptionError: A host name is unknown.
    """
    hosts: list[str] = []
    locations: list[Location] = []
    for peer in peers:
        if not isinstance(peer, str | Location):
            wrong_type("nodes", peers, "addresses, as text, or Locations")
        try:
            location = peer if isinstance(peer, Location) else Location.parse(peer)
        except ValueError:
            hosts.append(str(peer).strip("[]"))
        else:
            locations.append(location)
    for host in [*hosts, *(location.addr for location in locations)]:
        try:
            await trio.socket.getaddrinfo(host, None)
        except OSError as error:
            raise OptionError(option, f"{host!r} is not an address or host name: {error.strerror}") from error
    return Peers(tuple(hosts), tuple(locations))
