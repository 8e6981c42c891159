"""Serves the application with hypercorn's Trio worker, each connection in a container of its own.

In hypercorn, an error of one connection ends the whole server (hypercorn issue 225), and the server waits for ever,
shielded from cancellation, for a peer that never reads. So this module owns the listeners and passes single connections
to hypercorn's worker. It catches the worker's errors, and breaks a stream that makes no progress.
"""

from __future__ import annotations

import errno
import logging
import ssl
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from .._link import HandshakeLimits, OptionError, peer_host
from ._connection import DirectSocket, PatientStream
from ._socket import WAY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

logger = logging.getLogger(__name__)

KIB = 1024
MOST_CONNECTIONS = 512
MOST_STRANGERS = 256
"""Maximum number of unauthenticated connections among them; beyond that the oldest is closed."""
MOST_STRANGERS_OF_ADDRESS = 64
STRANGER_SECONDS = 20.0
"""Seconds that a connection may stay unauthenticated; a browser that has loaded the pages can connect again."""
PING_INTERVAL = 20.0
"""Seconds between two pings on a WebSocket, which every live peer answers automatically."""
LONGEST_SILENCE = 50
"""Seconds without any data, including answers to pings, after which a peer counts as gone: more than two pings, and
more than the longest action takes to be answered."""


def tls_context(certfile: str | Path, keyfile: str | Path | None) -> ssl.SSLContext:
    """Make the server's side of https.

    Raises:
        OptionError: A file is missing or holds something else, or certificate and key do not belong together.
    """
    from .._link.tls._certificate import load_files  # noqa: PLC0415 - it needs cryptography, which https alone is worth

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_files(context, Path(certfile), None if keyfile is None else Path(keyfile))
    return context


async def open_listeners(host: str, port: int) -> Sequence[trio.SocketListener]:
    """Listen at a host, or at every interface if it is empty.

    Raises:
        OptionError: The host is unknown or the port taken.
    """
    try:
        return await trio.open_tcp_listeners(port, host=host or None)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            option, problem = "port", f"{port} is in use; give another one, or 0 for any"
        else:
            option, problem = "host", f"{host!r} is not an address of this machine: {error.strerror or error}"
        raise OptionError(option, problem) from error


def _config() -> Config:
    config = Config()
    config.errorlog = logger
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = 32 * KIB
    config.websocket_max_message_size = 16 * KIB
    config.websocket_ping_interval = PING_INTERVAL
    config.keep_alive_timeout = 20.0
    config.read_timeout = LONGEST_SILENCE
    return config


class Serving:
    """The connections of one monitor.

    Args:
        app: The application, as ASGI.
        tls: The server's side of https, if it is used.
    """

    def __init__(self, app: Any, tls: ssl.SSLContext | None) -> None:
        self._config = _config()
        self._app = wrap_app(app, self._config.wsgi_max_body_size, "asgi")
        self._tls = tls
        self._context = WorkerContext(None)
        self._open = 0
        self._handshake_limits = HandshakeLimits(MOST_STRANGERS, MOST_STRANGERS_OF_ADDRESS, STRANGER_SECONDS)

    async def run(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Serve until cancelled."""
        await trio.serve_listeners(
            cast("Callable[[trio.SocketStream], Awaitable[object]]", self._contained), [*listeners]
        )

    async def _contained(self, stream: trio.SocketStream) -> None:
        if self._open >= MOST_CONNECTIONS:
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            with self._handshake_limits.admit(peer_host(stream)) as scope:
                await self._serve(PatientStream(stream), partial(self._handshake_limits.know, scope))
        except Exception as error:  # noqa: BLE001 - an error of one connection must not end others
            logger.info("a connection to the monitor was ended by %s", _name(error))
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    async def _serve(self, patient: PatientStream, known: Callable[[], None]) -> None:
        stream: Any = patient
        if self._tls is not None:
            stream = trio.SSLStream(patient, self._tls, server_side=True, https_compatible=True)
        way = DirectSocket(patient if self._tls is None else None, known)
        way.server = TCPServer(self._app, self._config, self._context, ConnectionState({WAY: way}), stream)
        await way.server


def _name(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:200]
