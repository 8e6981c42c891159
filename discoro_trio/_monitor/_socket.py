"""The stream of views to one browser.

A browser sends `{"watch": {…query…}}` whenever its view changes, and receives the messages of `_watched_view`. An
invalid query is answered by `{"type": "error", "text"}`; a text that is no JSON object ends the stream.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from quart import websocket

from ._broadcast import Browser
from ._json import object_untrusted, parts
from ._query import QueryError, read_query_untrusted

if TYPE_CHECKING:
    from ._connection import DirectSocket

WAY = "way"
"""The key of the `DirectSocket` in a connection's state."""
_BETWEEN_QUESTIONS = 0.03
"""Minimum seconds between two queries of a browser: making a view is costly."""
_POLICY_VIOLATION = 1008


async def stream() -> None:
    """Serve one WebSocket until it closes."""
    hub = parts().hub
    socket: Any = websocket._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - tasks below need the thing itself
    way: DirectSocket = socket.scope["state"][WAY]
    browser = Browser(way)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send, way, browser)
            await _listen(socket, browser)
            nursery.cancel_scope.cancel()
    finally:
        hub.leave(browser)


async def _send(way: DirectSocket, browser: Browser) -> None:
    """Send messages that could not be sent at once; the receiving task detects a lost connection."""
    hub = parts().hub
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            await way.send(await hub.next_message(browser))


async def _listen(socket: Any, browser: Browser) -> None:
    while True:
        text = await socket.receive()
        try:
            asked = object_untrusted(text)
        except ValueError:
            await socket.close(_POLICY_VIOLATION, "that is no JSON object")
            return
        _answer(asked, browser)
        await trio.sleep(_BETWEEN_QUESTIONS)


def _answer(asked: dict[str, Any], browser: Browser) -> None:
    wanted = asked.get("watch")
    try:
        if not isinstance(wanted, dict):
            message = "expected {'watch': {…}}"
            raise QueryError(message)  # noqa: TRY301 - answered as any other wrong question
        parts().hub.look(browser, read_query_untrusted(wanted))
    except QueryError as wrong:
        browser.put(msgspec.json.encode({"type": "error", "text": str(wrong)}))
