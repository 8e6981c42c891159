"""`discoro top`: the monitor's tables on a terminal, over its WebSocket; it reconnects automatically.

`_screen` draws the screen, `_received_view` holds the received data.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import termios
import tty
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trio
from rich.live import Live
from trio_websocket import ConnectionClosed, ConnectionRejected, wrap_client_stream

from .._errors import AuthenticationError, DiscoroError, PeerDisconnected
from .._scopes import open_background
from ._received_view import ReceivedView
from ._screen import AROUND, Screen, draw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from rich.console import Console
    from trio_websocket import WebSocketConnection

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0
_SILENCE = 10.0
"""Seconds without a message after which the monitor is pinged, and in which it must answer."""
_ARROWS = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left"}
_UNAUTHORIZED = 401


class Top:
    """A terminal viewer of a monitor.

    Args:
        url: The monitor's address, `http://…` or `https://…`.
        token: Its token; empty if viewing requires none.
        console: The console that shows it.
    """

    def __init__(self, url: str, token: str, console: Console) -> None:
        self._url = url.rstrip("/")
        self._headers = [(b"Authorization", f"Bearer {token}".encode())] if token else []
        self._console = console
        self._screen = Screen()
        self._seen = ReceivedView()
        self._state = "connecting"
        self._changed = trio.Event()
        self._socket: Any = None

    async def once(self) -> None:
        """Show the present state of the cluster once, and return.

        Raises:
            AuthenticationError: The monitor requires a token, or another one.
            PeerDisconnected: No monitor answers there.
        """
        self._screen.rows = 500
        try:
            async with self._connected() as socket:
                await socket.send_message(json.dumps({"watch": self._screen.query()}))
                self._take(await socket.get_message())
        except ConnectionRejected as error:
            raise _refused(error) from error
        except (ConnectionClosed, OSError) as error:
            message = f"{self._url} cannot be reached: {error}"
            raise PeerDisconnected(message) from error
        self._state = "live"
        self._console.print(self._drawing())

    async def run(self) -> None:
        """Show the cluster until the user presses `q`."""
        with _keys_unbuffered(), Live(console=self._console, screen=True, auto_refresh=False) as live:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stay_connected)
                nursery.start_soon(self._press_keys, nursery.cancel_scope)
                while True:
                    self._fit()
                    live.update(self._drawing(), refresh=True)
                    with trio.move_on_after(1):
                        await self._changed.wait()
                    self._changed = trio.Event()

    def _drawing(self) -> Any:
        return draw(self._screen, self._seen, url=self._url, state=self._state)

    # --- the connection

    async def _stay_connected(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                async with self._connected() as socket:
                    pause = _FIRST_PAUSE
                    self._socket = socket
                    await self._ask()
                    while True:
                        if not self._take(await _next_message(socket)):
                            await self._ask()
            except ConnectionRejected as error:
                raise _refused(error) from error
            except (ConnectionClosed, OSError, trio.TooSlowError):
                pass
            self._socket = None
            self._state = "reconnecting"
            self._changed.set()
            await trio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[WebSocketConnection]:
        """Connect to the monitor's stream; the socket is always closed at the end."""
        parts = urlsplit(self._url)
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
            await self._socket.send_message(json.dumps({"watch": self._screen.query()}))

    def _take(self, text: str | bytes) -> bool:
        """Apply a message; False if the view must be requested again."""
        self._state = "live"
        self._changed.set()
        return self._seen.take(json.loads(text))

    # --- the terminal

    def _fit(self) -> None:
        self._screen.rows = max(1, self._console.height - AROUND)

    async def _press_keys(self, scope: trio.CancelScope) -> None:
        async for key in _keys():
            before = self._screen.query()
            if not self._screen.press(key, self._seen.total):
                scope.cancel()
                return
            if self._screen.query() != before:
                try:
                    await self._ask()
                except ConnectionClosed:
                    continue  # the next connection sends the query
            self._changed.set()


async def _next_message(socket: WebSocketConnection) -> str | bytes:
    """Wait for a message while the monitor is alive.

    Raises:
        TooSlowError: The monitor does not answer; a silently cut connection raises no other error.
    """
    while True:
        with trio.move_on_after(_SILENCE):
            return await socket.get_message()
        with trio.fail_after(_SILENCE):
            await socket.ping()


def _refused(error: ConnectionRejected) -> DiscoroError:
    if error.status_code == _UNAUTHORIZED:
        return AuthenticationError("the monitor requires its token, or another one than this: --token")
    return PeerDisconnected(f"this is no monitor of this kind: it answers with status {error.status_code}")


async def _keys() -> AsyncIterator[str]:
    """Yield the keys that are pressed, one by one."""
    descriptor = sys.stdin.fileno()
    while True:
        await trio.lowlevel.wait_readable(descriptor)
        pressed = os.read(descriptor, 64)
        if not pressed:
            return
        if pressed in _ARROWS:
            yield _ARROWS[pressed]
        else:
            for char in pressed.decode(errors="ignore"):
                yield char


@contextmanager
def _keys_unbuffered() -> Iterator[None]:
    """Read keys without Enter, and without echo."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
