"""TLS on every connection that leaves the machine, with a certificate that needs no setup.

This module decides whether a connection is encrypted, and runs the TLS handshake; certificates are in `_certificate`.
The handshake of `_wire` then proves the identity of the peer, over the encrypted connection.

The certificate is made in memory by default, and no authority has signed it. None is needed: both ends include the
SHA-256 of the server's certificate in what they authenticate with the secret (`Binding`). An attacker in between has
to present its own certificate, whose private key it has. Then the two ends see different certificates, and neither
accepts the other. So the client checks no signature of an authority, unless one is configured.

Both ends decide only by the addresses of the connection, before the first byte, so no byte of an attacker can disable
encryption.

Before TLS the client sends `PREFACE`, which is always the same. A server answers the first message of TLS with its
certificates, which are longer than that message. So a client that has not sent the preface gets no answer, and one
that has gets less than it sent. The preface also shows that the client is not a scanner or browser, so a key operation
is worthwhile.
"""

from __future__ import annotations

import functools
import hashlib
import ssl
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import TYPE_CHECKING

import trio

from ..._errors import AuthenticationError, ProtocolError
from ..._wire import Binding
from .._option_error import OptionError
from .._transport import Transport, transport_over
from ._transport import TlsTransport

if TYPE_CHECKING:
    import os

Wrapped = tuple[Transport, Binding]
"""A connection for the handshake, and its channel binding."""

PREFACE = b"discoro_trio under TLS 1.3\n".ljust(8192, b"\0")
"""The bytes that a client sends before TLS begins."""

LONGEST_CHAIN = 7000
"""The most bytes of the certificates that a server presents; its other data is shorter than 1,200 bytes."""

_ServerSide = tuple[ssl.SSLContext, bytes]  # with the SHA-256 of the certificate that the context presents

_CERTFILE, _KEYFILE, _CAFILE = "certfile", "keyfile", "cafile"  # the options

_REFUSED_SECONDS = 1.0
_ABOUT_CERTIFICATES = "CERTIFICATE", "UNKNOWN_CA"

_NO_TLS = (
    "the peer does not speak TLS 1.3, which every connection does that is not loopback at both ends; "
    "is something between them that turns one kind of address into the other?"
)


class Tls:
    """Encrypts the connections of one endpoint.

    Args:
        certfile: The certificate to present, in PEM form, and those that signed it; None for one made in memory.
        keyfile: Its private key, unencrypted; None if `certfile` contains it, too.
        cafile: The authorities that must have signed the certificates of peers, whichever end opens the connection;
            None to bind any certificate.
        always: Whether connections that stay on this machine are encrypted too.

    Raises:
        OptionError: A file cannot be used: it is missing, unreadable, expired, or the key is of another certificate.
    """

    def __init__(
        self,
        *,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        cafile: str | os.PathLike[str] | None = None,
        always: bool = False,
    ) -> None:
        if keyfile is not None and certfile is None:
            raise OptionError(_KEYFILE, "a key needs its certificate; give certfile too")
        self._certfile = None if certfile is None else Path(certfile)
        self._keyfile = None if keyfile is None else Path(keyfile)
        self._cafile = None if cafile is None else Path(cafile)
        self._always = always
        if certfile is not None:
            self._server  # noqa: B018 - fails now, not at the first connection
        if cafile is not None:
            self._client  # noqa: B018 - fails now, not at the first connection

    async def wrap_server(self, stream: trio.abc.Stream) -> Wrapped:
        """Encrypt an accepted connection, unless it stays on this machine.

        Raises:
            AuthenticationError: None of the authorities has signed the client's certificate, or it has none.
            ProtocolError: The client does not speak TLS 1.3.
            trio.BrokenResourceError: The connection broke.

        Cancelling leaves the connection unusable; closing it is with the caller, here as after any error.
        """
        if not self._leaves_machine(stream):
            return transport_over(stream), Binding()
        below = transport_over(stream)
        await _receive_preface_untrusted(below)
        context, fingerprint = self._server
        transport = TlsTransport(below, context, server_side=True)
        try:
            await _shake_hands(transport)
        except AuthenticationError:
            await _read_on(below)
            raise
        return transport, Binding(tls=True, fingerprint=fingerprint)

    async def wrap_client(self, stream: trio.abc.Stream) -> Wrapped:
        """Encrypt a connection that this process opened, unless it stays on this machine.

        Raises:
            AuthenticationError: None of the authorities has signed the server's certificate.
            ProtocolError: The server does not speak TLS 1.3.
            trio.BrokenResourceError: The connection broke.

        Cancelling leaves the connection unusable; closing it is with the caller, here as after any error.
        """
        if not self._leaves_machine(stream):
            return transport_over(stream), Binding()
        below = transport_over(stream)
        await below.write([PREFACE])
        transport = TlsTransport(below, self._client, server_side=False)
        await _shake_hands(transport)
        return transport, Binding(tls=True, fingerprint=hashlib.sha256(transport.certificate).digest())

    def prepare(self) -> None:
        """Make the certificate now, which takes about 0.1 s, so that the first peer does not wait for it."""
        self._server  # noqa: B018 - it is cached

    @functools.cached_property
    def _server(self) -> _ServerSide:
        context, fingerprint = _server_side(self._certfile, self._keyfile)
        if self._cafile is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            _load_authorities(context, self._cafile)
        return context, fingerprint

    @functools.cached_property
    def _client(self) -> ssl.SSLContext:
        context = _context(ssl.PROTOCOL_TLS_CLIENT)
        # Nodes are known by address, and prove their process id in the handshake; host names prove nothing here.
        context.check_hostname = False
        if self._cafile is None:
            context.verify_mode = ssl.CERT_NONE
        else:
            _load_authorities(context, self._cafile)
        if self._certfile is not None:
            from . import _certificate  # noqa: PLC0415 - slow to import

            _certificate.load_files(context, self._certfile, self._keyfile)
        return context

    def _leaves_machine(self, stream: trio.abc.Stream) -> bool:
        return self._always or (isinstance(stream, trio.SocketStream) and not is_local(stream))


def is_local(stream: trio.SocketStream) -> bool:
    """Return whether both ends of a connection are on this machine, by its addresses.

    Raises:
        trio.BrokenResourceError: The connection is already broken.
    """
    if stream.socket.family not in (AF_INET, AF_INET6):
        return True
    try:
        ends = stream.socket.getsockname(), stream.socket.getpeername()
    except OSError as error:
        raise trio.BrokenResourceError(str(error)) from error
    return all(is_loopback(end[0]) for end in ends)


def is_loopback(host: str) -> bool:
    """Return whether an IP address belongs to the loopback interface."""
    address = ip_address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback


async def _receive_preface_untrusted(below: Transport) -> None:
    memory, count = memoryview(bytearray(len(PREFACE))), 0
    while count < len(PREFACE):
        more = await below.receive_into(memory[count:])
        if not more:
            message = "the peer closed the connection before TLS began"
            raise trio.BrokenResourceError(message)
        count += more
        if memory[:count] != PREFACE[:count]:
            raise ProtocolError(_NO_TLS)


async def _read_on(below: Transport) -> None:
    """Wait until the peer has closed the connection; TLS sends it the reason for the refusal.

    Closing while it still sends would reset the connection and discard that reason.
    """
    memory = memoryview(bytearray(1024))
    with trio.move_on_after(_REFUSED_SECONDS):
        while await below.receive_into(memory):
            pass


def refusal_of(error: BaseException) -> AuthenticationError | None:
    """Return the error for a connection that broke because the peer refuses this process's certificate.

    A client finishes its side of the handshake before the server checks its certificate.
    """
    cause = error.__cause__
    return _refusal(cause) if isinstance(cause, ssl.SSLError) else None


def _refusal(error: ssl.SSLError) -> AuthenticationError | None:
    """Return the error for an alert by which the peer refuses this process's certificate; None for other alerts."""
    reason = error.reason or ""
    if "ALERT" not in reason or not any(word in reason for word in _ABOUT_CERTIFICATES):
        return None
    why = reason.partition("ALERT_")[2].replace("_", " ").lower()
    return AuthenticationError(
        f"the peer does not accept the certificate of this process ({why}); "
        "give certfile, with a certificate that an authority in the peer's cafile has signed"
    )


async def _shake_hands(transport: TlsTransport) -> None:
    try:
        await transport.shake_hands()
    except ssl.SSLCertVerificationError as error:
        message = f"no authority in cafile vouches for the peer's certificate: {error.verify_message}"
        raise AuthenticationError(message) from error
    except ssl.SSLError as error:
        if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            message = "the peer shows no certificate, and cafile demands one; start it with a certfile, too"
            raise AuthenticationError(message) from error
        raise _refusal(error) or ProtocolError(_NO_TLS) from error


def _context(protocol: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _server_side(certfile: Path | None = None, keyfile: Path | None = None) -> _ServerSide:
    from . import _certificate  # noqa: PLC0415 - slow to import, and only for connections that leave the machine

    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # connections live long; TLS sessions are never resumed
    if certfile is None:
        return context, _certificate.load_made_here(context)
    fingerprint = _certificate.load_files(context, certfile, keyfile)
    size = _certificate.chain_size(certfile)
    if size > LONGEST_CHAIN:
        problem = f"the certificates in {certfile} have {size} bytes; at most {LONGEST_CHAIN} are sent"
        raise OptionError(_CERTFILE, f"{problem}, so remove the authorities that peers have in cafile")
    return context, fingerprint


def _load_authorities(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise OptionError(_CAFILE, f"{file} holds no certificate in PEM form") from error
    except OSError as error:
        raise OptionError(_CAFILE, f"{file} cannot be read: {error.strerror}") from error
