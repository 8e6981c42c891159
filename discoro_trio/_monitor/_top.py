"""`discoro top`: the monitor's tables on a terminal.

They come from a web monitor, over its WebSocket, or directly from a scheduler; `_top_sources` connects to either, and
connects again automatically. `_screen` draws the screen, `_received_view` holds the received data.
"""

from __future__ import annotations

import os
import re
import sys
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio
from rich.live import Live

from ._received_view import ReceivedView
from ._screen import Screen, draw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from rich.console import Console

    from ._top_sources import TableSource

_KEYS = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1b[5~": "pageup",
    b"\x1b[6~": "pagedown",
    b"\x1b": "escape",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "backspace",
    b"\x08": "backspace",
}
_ONE_KEY = re.compile(rb"\x1b\[[0-9;]*[A-Za-z~]|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f]+")
_ALL_ROWS = 520
"""The height that shows all rows of a page, in lines."""


class Top:
    """A terminal viewer of a cluster.

    Args:
        source: Where its tables come from.
        console: The console that shows them.
    """

    def __init__(self, source: TableSource, console: Console) -> None:
        self._source = source
        self._console = console
        self._screen = Screen()
        self._seen = ReceivedView()
        self._state = "connecting"
        self._changed = trio.Event()

    async def once(self) -> None:
        """Show the present state of the cluster once, and return.

        Raises:
            AuthenticationError: The monitor requires a token, or another one.
            DiscoroError: No monitor or no scheduler answers there.
        """
        self._screen.width, self._screen.height = self._console.width, _ALL_ROWS
        self._take(await self._source.once(self._screen.query()))
        self._console.print(draw(self._screen, self._seen, url=self._source.where, state="live", row=False))

    async def run(self) -> None:
        """Show the cluster until the user presses `q`.

        Raises:
            AuthenticationError, DiscoroError: As `once`.
        """
        self._fit()
        with _keys_unbuffered(), Live(console=self._console, screen=True, auto_refresh=False) as live:
            async with trio.open_nursery() as nursery:
                await self._source.watch(self._screen.query())
                nursery.start_soon(self._source.run, self._take, self._note_state)
                nursery.start_soon(self._press_keys, nursery)
                while True:
                    before = self._screen.query()
                    self._fit()
                    if self._screen.query() != before:
                        await self._source.watch(self._screen.query())
                    live.update(self._drawing(), refresh=True)
                    with trio.move_on_after(1):
                        await self._changed.wait()
                    self._changed = trio.Event()

    def _drawing(self) -> Any:
        return draw(self._screen, self._seen, url=self._source.where, state=self._state)

    def _take(self, message: Mapping[str, Any]) -> bool:
        """Apply a message; False if the view must be requested again."""
        self._note_state("live")
        if message.get("type") == "full" and message["view"] != self._screen.view:
            return True  # of the view before
        return self._seen.take(dict(message))

    def _note_state(self, state: str) -> None:
        self._state = state
        self._changed.set()

    # --- the terminal

    def _fit(self) -> None:
        self._screen.width, self._screen.height = self._console.width, self._console.height

    async def _press_keys(self, nursery: trio.Nursery) -> None:
        async for key in _keys():
            before, place = self._screen.query(), self._screen.place
            command = self._screen.press(key, self._seen)
            if command == "quit":
                nursery.cancel_scope.cancel()
                return
            if command:
                self._screen.message = "terminating …"
                nursery.start_soon(self._terminate, command.removeprefix("terminate "))
            if self._screen.place != place:  # its rows have other fields
                self._seen = ReceivedView(head={"summary": self._seen.head.get("summary")}, now=self._seen.now)
            if self._screen.query() != before:
                await self._source.watch(self._screen.query())
            self._changed.set()

    async def _terminate(self, key: str) -> None:
        self._screen.message = await self._source.terminate(key)
        self._changed.set()


async def _keys() -> AsyncIterator[str]:
    """Yield the keys that are pressed, one by one."""
    descriptor = sys.stdin.fileno()
    while True:
        await trio.lowlevel.wait_readable(descriptor)
        pressed = os.read(descriptor, 64)
        if not pressed:
            return
        for key in _ONE_KEY.findall(pressed):
            if key in _KEYS:
                yield _KEYS[key]
            elif not key.startswith(b"\x1b"):
                for char in key.decode(errors="ignore"):
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
