"""Finds large arguments that are sent again and again, and warns once how to share them instead.

A value counts as sent before if its size and samples of its pickled bytes are the same.
"""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._config import MIB
from .._errors import DiscoroError
from .._process import Pickled
from .._shipping import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .._process import Call
    from .._shipping import Shipped

LARGE = 10_000_000
"""Size of an argument, in bytes, from which it is checked."""

_OFTEN = 3
"""The number of sends from which sharing is better."""

_MOST_LOOKS = 32
"""How many large calls of a computation are checked: a check takes about as long as pickling the arguments."""

_SAMPLE = 1024
_SAMPLES = 64


class RepeatedArguments:
    """The large arguments of one computation's calls."""

    def __init__(self) -> None:
        self._looks = _MOST_LOOKS
        self._sent: Counter[tuple[str, str, bytes]] = Counter()
        self._last: Call | None = None

    def note(self, call: Call, shipped: Shipped) -> None:
        """Check a call that is being sent; warn if one of its large arguments was already sent twice."""
        if not self._looks or call is self._last or call.size < LARGE:  # one call can be sent to many servers
            return
        self._looks -= 1
        self._last = call if self._looks else None
        for name, value in _arguments(call):
            with suppress(DiscoroError):
                body, buffers = dumps(value, shipped)
                views = [memoryview(piece).cast("B") for piece in (body, *buffers)]
                size = sum(map(len, views))
                if size >= LARGE:
                    self._count(call.name, name, size, _sampled(views))

    def _count(self, function: str, name: str, size: int, digest: bytes) -> None:
        key = function, name, digest
        self._sent[key] += 1
        if self._sent[key] == _OFTEN:
            self._looks = 0
            self._sent.clear()
            self._last = None
            text = (
                f"the argument {name} of {function} has {size / MIB:.0f} MiB and is sent again and again. Share it "
                "once with `shared = await computation.share(value)`, send `shared`, and use `shared.value` in the job"
            )
            warnings.warn(text, UserWarning, stacklevel=2)


def _arguments(call: Call) -> Iterator[tuple[str, Any]]:
    function = call.function.function if isinstance(call.function, Pickled) else call.function
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some that are written in C have none
        names = []
    for index, value in enumerate(call.args):
        yield names[index] if index < len(names) else f"number {index + 1}", value
    yield from call.kwargs.items()


def _sampled(pieces: Sequence[memoryview]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        size = len(piece)
        digest.update(size.to_bytes(8, "big"))
        for index in range(_SAMPLES):
            start = index * size // _SAMPLES
            digest.update(piece[start : start + _SAMPLE])
        digest.update(piece[-_SAMPLE:])
    return digest.digest()
