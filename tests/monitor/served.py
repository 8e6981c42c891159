"""A monitor that shows a given model, served over TCP, with nothing else behind it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from discoro_trio._monitor._actions import Actions
from discoro_trio._monitor._app import MonitorParts, make_app
from discoro_trio._monitor._broadcast import Broadcast
from discoro_trio._monitor._details import Details
from discoro_trio._monitor._feed import Feed
from discoro_trio._monitor._guard import make_guard
from discoro_trio._monitor._serving import Serving, open_listeners
from discoro_trio._monitor._source import Follower

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio._monitor._model import Model

TOKEN = "a-token-for-tests"


@attrs.frozen
class Served:
    """A monitor that is being served."""

    url: str
    port: int
    hub: Broadcast
    model: Model


def make_parts(
    model: Model,
    nursery: trio.Nursery,
    *,
    target: object = None,
    read_only: bool = False,
    open_to_all: bool = True,
    poll_sec: float = 10,
) -> MonitorParts:
    """Put the parts of a monitor together."""
    guard = make_guard(host="127.0.0.1", token=TOKEN, scheme="http", read_only=read_only, open_to_all=open_to_all)
    hub = Broadcast(model, poll_sec=poll_sec)
    follower = Follower(None, model, Feed(model))
    details = Details(hub, follower, None)
    return MonitorParts(hub, guard, Actions(model, target, nursery), details, follower, "discoro_test")


@asynccontextmanager
async def serve(
    model: Model, *, port: int = 0, target: object = None, open_to_all: bool = True, poll_sec: float = 10
) -> AsyncIterator[Served]:
    """Serve a model on loopback while the block lasts."""
    listeners = await open_listeners("127.0.0.1", port)
    bound = listeners[0].socket.getsockname()[1]
    try:
        async with trio.open_nursery() as nursery:
            parts = make_parts(model, nursery, target=target, open_to_all=open_to_all, poll_sec=poll_sec)
            nursery.start_soon(parts.hub.run)
            nursery.start_soon(Serving(make_app(parts), None).run, listeners)
            yield Served(f"http://127.0.0.1:{bound}/", bound, parts.hub, model)
            nursery.cancel_scope.cancel()
    finally:
        for listener in listeners:
            listener.socket.close()
