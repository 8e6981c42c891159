"""Where `discoro top` gets its tables from: a web monitor, or a scheduler.

A web monitor sends views over its WebSocket. For a scheduler, this module runs the parts of a monitor in this process,
without a web server, so that neither an address nor a token is needed.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, wrap_client_stream

from .._errors import AuthenticationError, DiscoroError, PeerDisconnected
from .._process import ensure_endpoint
from .._scopes import open_background
from ._actions import Actions
from ._broadcast import Broadcast, Browser
from ._details import Details
from ._feed import Feed
from ._model import Model
from ._query import read_query_untrusted
from ._remote import RemoteScheduler
from ._source import Follower

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from trio_websocket import WebSocketConnection

    from .._link import EndpointOptions

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0
_SILENCE = 10.0
"""Seconds without a message after which the monitor is pinged, and in which it must answer."""
_ACTION_SECONDS = 40.0
"""Seconds that an action may take: more than the monitor waits for it."""
_UNAUTHORIZED = 401
_POLL_SECONDS = 5.0
"""Longest time between two messages of a scheduler's tables."""


class TableSource(Protocol):
    """Where the tables come from."""

    where: str
    """Its address, for display."""

    async def once(self, query: Mapping[str, object]) -> Mapping[str, Any]:
        """Return one full state of a view.

        Raises:
            DiscoroError: Nothing answers there.
        """
        ...

    async def watch(self, query: Mapping[str, object]) -> None:
        """Request another view."""
        ...

    async def run(self, take: Callable[[Mapping[str, Any]], bool], note_state: Callable[[str], None]) -> None:
        """Pass on all messages of the view, and the state of the connection, until cancelled.

        Args:
            take: Applies a message; False if the view must be requested again.
            note_state: Shows the state.

        Raises:
            DiscoroError: It can never be watched.
        """
        ...

    async def terminate(self, key: str) -> str:
        """Terminate a coroutine, and return the result for display; errors are part of it."""
        ...


class MonitorSource:
    """A web monitor.

    Args:
        url: Its address, `http://…` or `https://…`.
        token: Its token; empty if viewing requires none.
    """

    def __init__(self, url: str, token: str) -> None:
        self.where = url.rstrip("/")
        self._token = token
        self._headers = [(b"Authorization", f"Bearer {token}".encode())] if token else []
        self._query: Mapping[str, object] = {}
        self._socket: Any = None

    async def once(self, query: Mapping[str, object]) -> Mapping[str, Any]:
        """Return one full state of a view."""
        try:
            async with self._connected() as socket:
                await socket.send_message(json.dumps({"watch": query}))
                found: Mapping[str, Any] = json.loads(await socket.get_message())
        except ConnectionRejected as error:
            raise _refused(error) from error
        except (ConnectionClosed, OSError) as error:
            message = f"{self.where} cannot be reached: {error}"
            raise PeerDisconnected(message) from error
        return found

    async def watch(self, query: Mapping[str, object]) -> None:
        """Request another view."""
        self._query = query
        await self._ask()

    async def run(self, take: Callable[[Mapping[str, Any]], bool], note_state: Callable[[str], None]) -> None:
        """Pass on all messages of the view; connect again whenever the connection is lost."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with self._connected() as socket:
                    pause = _FIRST_PAUSE
                    self._socket = socket
                    await self._ask()
                    while True:
                        if not take(json.loads(await _next_message(socket))):
                            await self._ask()
            except ConnectionRejected as error:
                raise _refused(error) from error
            except (ConnectionClosed, OSError, trio.TooSlowError):
                pass
            self._socket = None
            note_state("reconnecting")
            await trio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)

    async def terminate(self, key: str) -> str:
        """Terminate a coroutine through the monitor, which requires the token."""
        return await trio.to_thread.run_sync(self._post, "terminate", key)

    def _post(self, action: str, key: str) -> str:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        request = urllib.request.Request(  # noqa: S310 - the address of the user, checked by the command
            f"{self.where}/api/v1/actions/{action}", json.dumps({"ids": [key]}).encode(), headers
        )
        try:
            with urllib.request.urlopen(request, timeout=_ACTION_SECONDS) as answer:  # noqa: S310 - as above
                (result,) = json.load(answer)["results"]
        except urllib.error.HTTPError as error:
            with error:
                return str(json.load(error).get("error", error))
        except OSError as error:
            return f"{self.where} cannot be reached: {error}"
        return f"{result['name'] or key}: {result['text']}"

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[WebSocketConnection]:
        """Connect to the monitor's stream; the socket is always closed at the end."""
        parts = urlsplit(self.where)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        stream: Any = await trio.open_tcp_stream(host, port)
        if secure:
            stream = trio.SSLStream(stream, ssl.create_default_context(), server_hostname=host, https_compatible=True)
        path = f"{parts.path}/api/v1/stream"
        try:
            async with open_background() as nursery:
                options: dict[str, Any] = {"extra_headers": self._headers}
                yield await wrap_client_stream(nursery, stream, parts.netloc, path, **options)
        finally:
            await trio.aclose_forcefully(stream)

    async def _ask(self) -> None:
        if self._socket is not None:
            try:
                await self._socket.send_message(json.dumps({"watch": self._query}))
            except ConnectionClosed:
                return  # the connection is made again, and the view requested then


async def _next_message(socket: WebSocketConnection) -> str | bytes:
    """Wait for a message; while none comes, check that the monitor still answers.

    Raises:
        TooSlowError: It does not.
    """
    while True:
        with trio.move_on_after(_SILENCE):
            message: str | bytes = await socket.get_message()
            return message
        with trio.fail_after(_SILENCE):
            await socket.ping()


def _refused(error: ConnectionRejected) -> DiscoroError:
    if error.status_code == _UNAUTHORIZED:
        return AuthenticationError("the monitor requires its token, or another one than this: --token")
    return PeerDisconnected(f"this is no monitor of this kind: it answers with status {error.status_code}")


class _Queue:
    """Leaves all messages in the queue of the `Browser`, from where `run` takes them."""

    has_begun = False

    def send_now(self, _message: bytes) -> bool:
        """Send nothing at once."""
        return False


class SchedulerSource:
    """A scheduler.

    Args:
        scheduler: Its `addr:port`, or a host; None for the one on this network.
        options: The options of this process's endpoint.
    """

    def __init__(self, scheduler: str | None, options: EndpointOptions) -> None:
        self.where = scheduler or "the scheduler of this network"
        self._scheduler = scheduler
        self._options = options
        self._browser = Browser(_Queue())
        self._hub = Broadcast(Model(), poll_sec=_POLL_SECONDS)
        self._actions: Actions | None = None

    async def once(self, query: Mapping[str, object]) -> Mapping[str, Any]:
        """Return one full state of a view."""
        await self.watch(query)
        async with self._following():
            return await self._next()

    async def watch(self, query: Mapping[str, object]) -> None:
        """Request another view."""
        await trio.lowlevel.checkpoint()
        self._hub.look(self._browser, read_query_untrusted(query))

    async def run(self, take: Callable[[Mapping[str, Any]], bool], note_state: Callable[[str], None]) -> None:
        """Pass on all messages of the view; the tables show for how long the scheduler has not answered."""
        note_state("looking for the scheduler")
        async with self._following():
            while True:
                if not take(await self._next()):
                    self._browser.restart()

    async def _next(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(await self._hub.next_message(self._browser))
        return found

    async def terminate(self, key: str) -> str:
        """Terminate a coroutine."""
        if self._actions is None:
            return "the scheduler is not found yet"
        (result,) = await self._actions.terminate([key], "discoro top")
        return f"{result.name or key}: {result.text}"

    @asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        """Feed the tables from the scheduler.

        Raises:
            DiscoroError: No scheduler answers.
        """
        model = self._hub.model
        async with ensure_endpoint(self._options, private=False) as process:
            source = RemoteScheduler(process.endpoint, self._scheduler)
            follower = Follower(source, model, Feed(model))
            await follower.first_look(source)
            self._hub.flush()
            self._browser.restart()
            async with open_background() as nursery:
                self._actions = Actions(model, source, nursery)
                details = Details(self._hub, follower, source)
                for run in (self._hub.run, follower.run, details.run):
                    nursery.start_soon(partial(run))
                yield
