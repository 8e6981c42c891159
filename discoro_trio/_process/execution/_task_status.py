"""`task_status` of a coroutine whose remote starter waits until it is ready.

This module owns the coroutine's report to its starter. `Starts` handles the report.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from ..._shipping import dumps_message
from ..._wire import Kind

if TYPE_CHECKING:
    from ..._link import Link

WITH_VALUE = 1
"""The flag of a STARTED frame that carries the value of `task_status.started(value)`."""


class RemoteTaskStatus:
    """The `task_status` of a coroutine whose starter is another process."""

    def __init__(self, link: Link, serial: int) -> None:
        self._link = link
        self._serial = serial
        self._called = False

    def started(self, value: object = None) -> None:
        """Report that the coroutine has started; its starter stops waiting.

        Args:
            value: The value for the starter.

        Raises:
            RuntimeError: It was called before.
            NotPicklable: The value cannot be sent; the starter still waits.
        """
        if self._called:
            message = "task_status.started() can be called only once"
            raise RuntimeError(message)
        body, buffers = dumps_message("the value of task_status.started()", value)
        self._called = True
        # It has the key of the outcome, which must not overtake it.
        send = partial(self._send, Kind.STARTED, self._serial, body, WITH_VALUE, buffers, (~self._serial,))
        if trio.lowlevel.in_trio_task():
            send()
        else:  # a plain function, in its worker thread
            trio.from_thread.run_sync(send)

    def _send(self, *frame: object) -> None:
        if not self._link.lost:  # the starter is gone, so the coroutine is being cancelled
            self._link.send(*frame)  # type: ignore[arg-type]
