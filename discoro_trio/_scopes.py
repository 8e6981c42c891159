"""A nursery for background tasks that does not change the body's exceptions; and flat exception groups.

`trio.open_nursery` wraps every exception of its block in a group. The blocks of this package that yield to a user must
not do that: the exception of the body passes unchanged. Blocks that are nurseries themselves raise groups, always flat.
"""

from __future__ import annotations

import logging
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

logger = logging.getLogger(__name__)


async def enter_loop() -> None:
    """Continue a notebook's cell in Trio's loop if it runs in asyncio.

    Raises:
        RuntimeError: No Trio loop runs here, or its clock jumps: other processes and sockets need real time.
    """
    if not trio.lowlevel.in_trio_run():
        from ._cells import move_to_trio  # noqa: PLC0415 - slow to import, and only needed in notebooks

        if not await move_to_trio():
            message = (
                "this needs Trio's loop, and none runs here: call it in a function that trio.run() runs. For code that "
                "is not async, use discoro.connect() or discoro.Executor, whose calls block"
            )
            raise RuntimeError(message)
    threshold = getattr(trio.lowlevel.current_clock(), "autojump_threshold", math.inf)
    if threshold < math.inf:
        message = (
            "an endpoint does not work under a MockClock that jumps by itself: every wait for another process would "
            "time out at once. Run this test with the real clock, or test its functions without a cluster"
        )
        raise RuntimeError(message)


@asynccontextmanager
async def open_background(*, shielded: bool = False) -> AsyncIterator[trio.Nursery]:
    """Open a nursery whose tasks are cancelled when the block is left.

    Args:
        shielded: Whether the tasks are cancelled only then, and not by a scope around the block. That scope cancels
            only the body, so the clean-up of the body, such as a goodbye or the end of remote coroutines, can still use
            the tasks.

    Raises:
        BaseException: The exception of the body, unchanged; or the exception of a task, not in a group, if the body
            raised nothing but the cancellation that it caused.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as around:
            nursery = await _shielded_in(around) if shielded else around
            try:
                yield nursery
            except BaseException as error:  # noqa: BLE001 - raised again below, outside the nursery
                failure = error
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        crash = first_error(group)
        if failure is None or isinstance(failure, trio.Cancelled):
            raise crash from None
        # After Ctrl-C, and a second one during the clean-up, other failures are a consequence of that.
        if not isinstance(crash, trio.Cancelled) and not isinstance(first_error(failure), KeyboardInterrupt):
            logger.error("a background task failed, too", exc_info=crash)  # noqa: TRY400 - of that task, not of this block
    if failure is not None:
        raise failure


async def _shielded_in(around: trio.Nursery) -> trio.Nursery:
    """Open a nursery in a task of another one; only its own cancel scope cancels it."""
    opened: list[trio.Nursery] = []
    ready = trio.Event()

    async def hold() -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                opened.append(nursery)
                ready.set()
                await trio.sleep_forever()

    # Not by `start`: if `start` is cancelled, it waits for the task, which is shielded from the cancellation.
    around.start_soon(hold, name="background tasks")
    with trio.CancelScope(shield=True):
        await ready.wait()
    return opened[0]


async def finish(call: Callable[..., Awaitable[None]], *args: object) -> None:
    """Await a call to its end, as a nursery awaits its tasks, despite any cancellation or interrupt.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed meanwhile; the call has still ended.
        BaseException: The call raised it.
    """

    async def run() -> None:
        with trio.CancelScope(shield=True):
            await call(*args)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
    except BaseExceptionGroup as group:
        raise first_error(group) from None


def first_error(error: BaseException) -> BaseException:
    """Return the first error of a group, however nested, that is not a cancellation; otherwise the error itself."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    errors = [first_error(member) for member in error.exceptions]
    return next((one for one in errors if not isinstance(one, trio.Cancelled)), errors[0])


def flatten(error: BaseException) -> list[BaseException]:
    """Return the errors of a group and its nested groups, each once; for any other error, the error itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    found = {id(leaf): leaf for member in error.exceptions for leaf in flatten(member)}
    return list(found.values())


def raise_flat(message: str, errors: Sequence[BaseException]) -> None:
    """Raise errors as one flat group, even a single error; raise nothing if there are none.

    If all of them are cancellations, raise a cancellation itself.
    """
    found = {id(leaf): leaf for error in errors for leaf in flatten(error)}
    leaves = list(found.values())
    if leaves and all(isinstance(leaf, trio.Cancelled) for leaf in leaves):
        raise leaves[0]
    if leaves:
        raise BaseExceptionGroup(message, leaves) from None
