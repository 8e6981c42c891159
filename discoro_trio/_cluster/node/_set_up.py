"""The set-up functions of a computation: which server of a node runs them, and how they are run there.

The functions come pickled from the client, pass through the node unopened, and are opened at the server, after the
components. Telling the client how it went is with the node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ..._shipping import loads, pack_error
from .. import _messages as messages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..._process import Process
    from ..._wire import Control

COMPONENTS, NODE_SETUP, SERVER_SETUP = "components", "node_setup", "server_setup"
"""The stages of a set-up, in their order."""


class NodeSetUp:
    """Sees to it that one server of a node runs `node_setup`, and that the others wait for it."""

    def __init__(self, *, wanted: bool) -> None:
        self._done = not wanted
        self._failed = False
        self._lock = trio.Lock()

    async def begin_at(self, begin: Callable[[bool], Awaitable[Control]]) -> Control | None:
        """Set one server up, and with it the node if no other server did.

        Args:
            begin: Sets the server up; told whether `node_setup` is to be run there.

        Returns:
            What the server replied; None if the node is not to be used, since `node_setup` failed.

        Raises:
            PeerDisconnected: The server ended meanwhile; `node_setup` is then run by the next one.
        """
        if not self._done:
            async with self._lock:
                if self._failed:
                    return None
                if not self._done:
                    reply = await begin(True)  # noqa: FBT003 - the callback's only argument
                    self._note(reply)
                    return reply
        return await begin(False)  # noqa: FBT003

    def _note(self, reply: Control) -> None:
        stage = reply.stage if isinstance(reply, messages.SetUpFailed) else None
        self._failed = stage == NODE_SETUP
        self._done = stage in {None, SERVER_SETUP}


def failed(stage: str, error: Exception, *, where: str) -> messages.SetUpFailed:
    """Make the reply that says which stage of a set-up failed at a server, and how."""
    body, buffers = pack_error(error, where=where)
    return messages.SetUpFailed(stage, [bytes(part) for part in (body, *buffers)])


async def run_set_up(process: Process, packed: list[bytes], stage: str) -> None:
    """Run a set-up function as a coroutine of this server; nothing if there is none.

    Args:
        process: The server.
        packed: The pickled function and its buffers; empty for none.
        stage: Its name for people.

    Raises:
        Exception: What it raised.
        CoroCancelled: The computation was closed meanwhile.
    """
    nursery = process.runner.nursery
    if not packed or nursery is None:
        return
    body, *buffers = packed
    function: Callable[[], Any] = loads(body, buffers)
    _, started = process.start_here(nursery, function, (), {}, name=stage)
    await started.until_ended()
    assert started.outcome is not None  # noqa: S101 - it has ended
    started.outcome.value()
