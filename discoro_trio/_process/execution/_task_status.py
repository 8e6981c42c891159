"""`task_status` of a coroutine that somebody elsewhere waits for to be ready.

This module owns the word from the coroutine to its starter. What the starter makes of it is with `Starts`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from ..._shipping import dumps
from ..._wire import Kind

if TYPE_CHECKING:
    from ..._link import Link

WITH_VALUE = 1
"""The flag of a STARTED frame that brings what the coroutine said it has started with."""


class RemoteTaskStatus:
    """What a coroutine is given as `task_status` when its starter is another process."""

    def __init__(self, link: Link, serial: int) -> None:
        self._link = link
        self._serial = serial
        self._called = False

    def started(self, value: object = None) -> None:
        """Say that the coroutine has started; its starter waits no longer.

        Args:
            value: What the starter gets.

        Raises:
            RuntimeError: It was called before.
            NotPicklable: The value cannot be sent; the starter still waits.
        """
        if self._called:
            message = "task_status.started() can be called only once"
            raise RuntimeError(message)
        body, buffers = dumps(value)
        self._called = True
        # The key is that of the outcome, which must not overtake this.
        send = partial(self._send, Kind.STARTED, self._serial, body, WITH_VALUE, buffers, (~self._serial,))
        if trio.lowlevel.in_trio_task():
            send()
        else:  # a plain function, in its worker thread
            trio.from_thread.run_sync(send)

    def _send(self, *frame: object) -> None:
        if not self._link.lost:  # with its starter gone, the coroutine is being cancelled
            self._link.send(*frame)  # type: ignore[arg-type]
