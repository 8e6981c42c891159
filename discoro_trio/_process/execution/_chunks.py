"""What a server runs for several calls at once: chunks of a map or of an executor, and batches of joblib.

The starters' sides are in `_client`, which servers need not import for this: it takes longer than most chunks. Most
chunks of a map have no failed item, so the outcome states whether there are any: then the client need not look at each
result.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from ..._errors import NotPicklable
from ..._shipping import dumps, dumps_message, pack_error, unpack_error
from .._current import current_coro
from ..messaging._forwarded import ForwardedMessage
from ._callables import describe, named_by_its_first_argument

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..sharing._shared import Shared


class FailedItem(msgspec.Struct, frozen=True):
    """The error of one item of a chunk on its way to the client."""

    body: bytes
    buffers: list[bytearray]

    def opened(self) -> BaseException:
        """Return the error."""
        return unpack_error(self.body, self.buffers)

    @classmethod
    def of(cls, error: BaseException, name: str) -> FailedItem:
        """Pack an error; `name` is that of the function."""
        body, buffers = pack_error(error, where=f"{name} at {current_coro().location}")
        return cls(body, [bytearray(buffer) for buffer in buffers])


ChunkOutcome = tuple[bool, float, Any]
"""What a job for a chunk returns: whether an item failed, the seconds it took, and the results.

The results are a list, which has a `FailedItem` for each item that failed, or a `ForwardedMessage` with that list."""


@named_by_its_first_argument
async def run_chunk(function: Callable[..., Any], star: bool, stop: bool, chunk: list[Any]) -> ChunkOutcome:  # noqa: FBT001
    """Call an async function for each item of a chunk, one after the other, at a server.

    Args:
        function: The function.
        star: Whether each item is spread over the arguments.
        stop: Whether the first error ends it.
        chunk: The items.
    """
    began = perf_counter()
    described = describe(function)
    call = described.bound_to(current_coro())
    results: list[Any] = []
    failed = False
    for item in chunk:
        try:
            results.append(await (call(*item) if star else call(item)))
        except Exception as error:  # noqa: BLE001 - it belongs to its item
            failed = True
            results.append(FailedItem.of(error, described.name))
            if stop:
                break
    return _outcome(began, results, described.name, failed=failed, stop=stop)


@named_by_its_first_argument
def run_plain_chunk(function: Callable[..., Any], star: bool, stop: bool, chunk: list[Any]) -> ChunkOutcome:  # noqa: FBT001
    """Call a plain function for each item of a chunk, in a worker thread of a server; else as `run_chunk`."""
    began = perf_counter()
    described = describe(function)
    call = described.bound_to(current_coro())
    results: list[Any] = []
    failed = False
    for item in chunk:
        try:
            results.append(call(*item) if star else call(item))
        except Exception as error:  # noqa: BLE001 - it belongs to its item
            failed = True
            results.append(FailedItem.of(error, described.name))
            if stop:
                break
    return _outcome(began, results, described.name, failed=failed, stop=stop)


def _outcome(began: float, results: list[Any], name: str, *, failed: bool, stop: bool) -> ChunkOutcome:
    if stop:  # a result that cannot be sent ends the map, too
        return failed, perf_counter() - began, results
    # Packed here, as one result that cannot be sent must not cost the others.
    try:
        packed = ForwardedMessage.of(results)
    except NotPicklable:
        failed = True
        packed = ForwardedMessage(*dumps([_sendable_item(result, name) for result in results]))
    return failed, perf_counter() - began, packed


def _sendable_item(result: object, name: str) -> object:
    try:
        dumps_message(f"the outcome of {name}", result)
    except NotPicklable as error:
        return FailedItem.of(error.with_traceback(None), name)
    return result


@named_by_its_first_argument
def run_items(fn: Callable[..., Any], chunk: tuple[Any, ...]) -> list[Any]:
    """Call a plain function for all items of an executor's chunk."""
    return [fn(*args) for args in chunk]


@named_by_its_first_argument
async def run_async_items(fn: Callable[..., Any], chunk: tuple[Any, ...]) -> list[Any]:
    """Call an async function for all items of an executor's chunk."""
    return [await fn(*args) for args in chunk]


class SharedArgument:
    """Replaces a large argument of a batch on the way to a server."""

    def __init__(self, shared: Shared[Any]) -> None:
        self.shared = shared


@named_by_its_first_argument
def run_batch(_function: Callable[..., Any], batch: Any) -> Any:
    """Run a batch of joblib, which is shown with the name of its first function."""
    batch.items = [
        (function, tuple(map(_opened, args)), {key: _opened(value) for key, value in kwargs.items()})
        for function, args, kwargs in batch.items
    ]
    return batch()


def _opened(value: Any) -> Any:
    return value.shared.value if type(value) is SharedArgument else value
