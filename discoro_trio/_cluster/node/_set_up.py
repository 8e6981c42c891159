"""The set-up functions of a computation: which server of a node runs them, and how.

The functions are pickled by the client, pass through the node unopened, and are unpickled at the server, after the
components. The node reports the result to the client.
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
"""The stages of a set-up, in order."""


class NodeSetUp:
    """Ensures that one server of a node runs `node_setup` and that the others wait for it."""

    def __init__(self, *, wanted: bool) -> None:
        self._done = not wanted
        self._failed = False
        self._lock = trio.Lock()

    async def begin_at(self, begin: Callable[[bool], Awaitable[Control]]) -> Control | None:
        """Set a server up, and the node with it if no other server did.

        Args:
            begin: Sets the server up; its argument is whether `node_setup` runs there.

        Returns:
            The server's reply; None if the node must not be used, because `node_setup` failed.

        Raises:
            PeerDisconnected: The server ended meanwhile; then the next server runs `node_setup`.
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
    """Make the reply that reports which stage of a set-up failed at a server, and the error."""
    body, buffers = pack_error(error, where=where)
    return messages.SetUpFailed(stage, [bytes(part) for part in (body, *buffers)])


async def run_set_up(process: Process, packed: list[bytes], stage: str) -> None:
    """Run a set-up function as a coroutine of this server; does nothing if there is no function.

    Args:
        process: The server.
        packed: The pickled function and its buffers; empty for none.
        stage: The name of the stage, for display.

    Raises:
        Exception: The error of the function.
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
