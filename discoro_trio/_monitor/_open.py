"""Opens the monitor: `open_http_server`, and the `HTTPServer` that it yields.

This module connects the parts: the model, its sources, the browsers and the listeners. All run in one nursery that ends
with the block. Failures in it are logged, and affect neither the block nor the cluster.
"""

from __future__ import annotations

import importlib
import logging
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio

from .. import _arguments as arguments
from .._client import Computation
from .._compat import _old_programs as migration
from .._link import EndpointOptions, OptionError
from .._process import ensure_endpoint, open_coro
from .._scopes import open_background
from ._actions import Actions
from ._broadcast import Broadcast
from ._details import Details
from ._feed import Feed
from ._guard import SHORTEST_TOKEN, is_loopback, make_guard
from ._model import Model
from ._source import Follower

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from .._process import Coro
    from ._app import MonitorParts
    from ._serving import Serving
    from ._source import HasTables

logger = logging.getLogger(__name__)

_PAUSE = 1.0
"""Seconds before a failed part is started again."""
_FAREWELL = 2.0
"""Seconds that browsers have to receive the last update."""
_MAILBOX = 10_000


@attrs.frozen
class _Flush:
    """The last message: all earlier ones have been applied."""

    all_taken: trio.Event


Part = Callable[[], Awaitable[None]]
"""A part of the monitor that runs until it is cancelled."""


@migration.made_by("async with open_http_server(computation)", str)
class HTTPServer:
    """A running monitor.

    Attributes:
        url: The address of the pages, without the token.
        token: Required for actions, and for viewing unless it listens on loopback only.
                status_coro: Receives status messages: pass it to a Computation, or relay messages to it.
    """

    def __init__(self, url: str, token: str, status_coro: Coro[Any], parts: MonitorParts) -> None:
        self.url = url
        self.token = token
        self.status_coro = status_coro
        self._parts = parts
        self._scope = trio.CancelScope()
        self._over = trio.Event()

    async def shutdown(self, *, wait: bool = True) -> None:
        """Stop serving; `status_coro` receives messages until the block is left.

        Args:
            wait: Whether connected browsers, and programs with recent requests, first get the last update, within
                two seconds.

        Cancelling it stops the waiting; the monitor ends.
        """
        arguments.flag("wait", wait)
        try:
            await trio.lowlevel.checkpoint()
            if wait and not self._over.is_set():
                with trio.move_on_after(_FAREWELL):
                    await self._say_goodbye()
        finally:
            self._scope.cancel()
        await self._over.wait()

    async def _say_goodbye(self) -> None:
        """Apply all events up to now and send them to all viewers."""
        all_taken = trio.Event()
        await self.status_coro.send(_Flush(all_taken))
        await all_taken.wait()
        await self._parts.follower.last_look()
        hub = self._parts.hub
        hub.flush()
        await hub.until_told()
        await self._parts.requests.until_asked_again(_FAREWELL)

    async def _run(self, parts: Mapping[str, Part]) -> None:
        """Keep the parts of the monitor running until it is shut down."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for name, run in parts.items():
                        nursery.start_soon(_kept_up, name, run, name=f"monitor: {name}")
        finally:
            self._over.set()


@asynccontextmanager
async def open_http_server(
    source: Computation | HasTables | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8181,
    poll_sec: float = 10,
    document_root: str | Path | None = None,
    certfile: str | Path | None = None,
    keyfile: str | Path | None = None,
    token: str | None = None,
    read_only: bool = False,
    event_file: str | Path | None = None,
) -> AsyncIterator[HTTPServer]:
    """Serve the web monitor while the block lasts.

    Args:
        source: The Scheduler or Computation to watch; without one, `status_coro` receives the status messages.
        host: The address to listen on; empty for all interfaces, which requires a token.
        port: The TCP port; 0 for any free port.
        poll_sec: The longest time between two updates of a page, in seconds.
        document_root: The folder of the pages; by default the packaged ones.
        certfile: A certificate for https, in PEM form; it may hold the key too.
        keyfile: The certificate's key.
        token: Required for actions, and for viewing unless it listens on loopback only; by default a new random
            one, which is part of the address that is printed at the start.
        read_only: Whether all actions are refused.
        event_file: A file that keeps the last events, such as lost nodes, for the next monitor; None for none.

    Yields:
        The server, with its `url` and `status_coro`.

    Raises:
        ValueError: An option is invalid; the text names the option and the reason.
        ImportError: The web server is not installed; the text has the command that installs it.

    A failure of the monitor does not affect the block. Leaving the block closes all connections.
    """
    if not (source is None or callable(getattr(source, "status", None)) or isinstance(source, Computation)):
        arguments.wrong_type("source", source, "a Scheduler or a Computation")
    arguments.integer("port", port, least=0)
    for option, path in (("document_root", document_root), ("certfile", certfile), ("keyfile", keyfile)):
        arguments.optional_path(option, path)
    arguments.flag("read_only", read_only)
    check_options(
        arguments.text("host", host), arguments.number("poll_sec", poll_sec), arguments.optional_text("token", token)
    )
    await _import_web_server()
    from ._app import MonitorParts, make_app  # noqa: PLC0415 - imported above, in a thread
    from ._metrics import keep_measuring  # noqa: PLC0415 - as above
    from ._serving import Serving, open_listeners, tls_context  # noqa: PLC0415 - as above

    tls = None if certfile is None else tls_context(certfile, keyfile)
    secret = token or secrets.token_urlsafe(24)
    listeners = await open_listeners(host, port)
    bound = listeners[0].socket.getsockname()[1]
    scheme = "http" if tls is None else "https"
    guard = make_guard(host=host, token=secret, scheme=scheme, read_only=read_only, open_to_all=is_loopback(host))
    model = Model()
    if event_file is not None:
        model.log.keep_in(Path(event_file))
        model.log.add(time.time(), "", "The monitor was started")
    hub, feed = Broadcast(model, poll_sec=float(poll_sec)), Feed(model)
    follower = Follower(source, model, feed)
    place = EndpointOptions(ip_addr="")
    async with _closing(listeners), ensure_endpoint(place, private=False), open_background() as nursery:
        details = Details(hub, follower, source)
        actions = Actions(model, source, nursery)
        parts = MonitorParts(hub, guard, actions, details, follower, f"discoro_{bound}")
        serving = Serving(make_app(parts, document_root), tls)
        status_coro: Coro[Any] = await nursery.start(_take_messages, feed)
        server = HTTPServer(f"{scheme}://{_shown_host(host)}:{bound}/", secret, status_coro, parts)
        tasks: Mapping[str, Part] = {
            "views": hub.run,
            "source": follower.run,
            "details": details.run,
            "metrics": partial(keep_measuring, model),
            "listeners": partial(_serve, serving, listeners),
        }
        nursery.start_soon(server._run, tasks)  # noqa: SLF001 - users see `shutdown` only
        await follower.begun.wait()
        if token is None:
            _announce(server.url, secret)
        yield server


async def _import_web_server() -> None:
    """Import Quart and hypercorn in a thread: it takes a second, which would delay heartbeats in the event loop.

    Raises:
        ImportError: One of them is not installed.
    """
    try:
        for name in ("_app", "_serving"):
            await trio.to_thread.run_sync(importlib.import_module, f"{__package__}.{name}")
    except ModuleNotFoundError as error:
        message = f"the monitor needs {error.name}, which is not installed: pip install 'discoro_trio[monitor]'"
        raise ImportError(message) from error


def check_options(host: str, poll_sec: float, token: str | None) -> None:
    """Check the options before anything is opened.

    Raises:
        OptionError: An option is invalid.
    """
    option, problem = "token", ""
    if not poll_sec > 0:
        option, problem = "poll_sec", f"must be more than 0, not {poll_sec!r}"
    elif token is None and not is_loopback(host):
        problem = f"host={host!r} can be reached by others; give a token of {SHORTEST_TOKEN} characters or more"
    elif token is not None and len(token) < SHORTEST_TOKEN:
        problem = f"must have {SHORTEST_TOKEN} characters or more"
    if problem:
        raise OptionError(option, problem)


@asynccontextmanager
async def _closing(listeners: Sequence[trio.SocketListener]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for listener in listeners:
            listener.socket.close()


async def _serve(serving: Serving, listeners: Sequence[trio.SocketListener]) -> None:
    try:
        await serving.run(listeners)
    except trio.Cancelled:
        # No connection is accepted while the monitor is not running.
        for listener in listeners:
            listener.socket.close()
        raise


async def _kept_up(name: str, run: Part) -> None:
    """Run a part of the monitor, and run it again when it fails; other parts go on."""
    while True:
        try:
            await run()
        except Exception:
            logger.exception("the monitor's %s failed and will start again", name)
        else:
            return
        await trio.sleep(_PAUSE)


async def _take_messages(feed: Feed, task_status: trio.TaskStatus[Coro[Any]]) -> None:
    async with open_coro("monitor", mailbox_size=_MAILBOX) as coro:
        task_status.started(coro)
        while True:
            try:
                message = await coro.receive()
                if isinstance(message, _Flush):
                    message.all_taken.set()
                else:
                    feed.apply(message)
            except Exception:
                logger.exception("a status message could not be read")


def _shown_host(host: str) -> str:
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - named in an address for people, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _announce(url: str, token: str) -> None:
    """Show, once and only in a terminal, the address with the new token; what follows a `#` is never sent."""
    if sys.stderr.isatty():
        text = f"monitor: {url}#token={token}"
    else:  # a file would keep the token, and others might read it
        text = f"monitor: {url} (its token is shown in a terminal only; choose one with --http_token or token=)"
    print(text, file=sys.stderr)  # noqa: T201 - a log would keep the token
