"""How a coroutine ended: a value, an error, cancelled, or lost with its server.

This module owns the four kinds and how each is given to whoever asks. Where outcomes are kept is with `_records`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from .._errors import CoroCancelled
from ..wire import loads
from ._transported import unpack_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..wire import Buffer


class Ending(enum.IntEnum):
    """The kinds of outcome; their numbers are the flags of an OUTCOME frame."""

    VALUE = 0
    ERROR = 1
    CANCELLED = 2
    LOST = 3


class Outcome:
    """The end of one coroutine; never changed once made.

    Attributes:
        ending: Which kind of end.
    """

    __slots__ = ("ending",)

    ending: Ending

    def value(self) -> object:
        """Give the value, or raise what the coroutine raised."""
        raise NotImplementedError

    def error(self) -> BaseException | None:
        """Give what the coroutine raised, or None if it returned."""
        try:
            self.value()
        except Exception as error:  # noqa: BLE001 - whatever it was is the answer
            return error.with_traceback(None)
        return None


class Arrived(Outcome):
    """An outcome from another process, opened only by who asks for it.

    Attributes:
        body: The pickled value or error, or the reason of the cancelling in UTF-8.
        buffers: Its out-of-band buffers.
    """

    # A plain class, as there is one for each job: a frozen one of attrs takes four times as long to make.
    __slots__ = ("_error", "body", "buffers")

    def __init__(self, ending: Ending, body: Buffer, buffers: Sequence[memoryview]) -> None:
        self._error: BaseException | None = None
        self.ending = ending
        self.body = body
        self.buffers = buffers

    def value(self) -> object:
        """Give the value, or raise what the coroutine raised."""
        if self.ending is Ending.VALUE:
            return loads(self.body, self.buffers)
        raise self._opened()

    def error(self) -> BaseException | None:
        """Give what the coroutine raised, or None if it returned."""
        return None if self.ending is Ending.VALUE else self._opened()

    def _opened(self) -> BaseException:
        # One object for all who ask, so that a group can tell that they got the same error.
        if self._error is None:
            if self.ending is Ending.CANCELLED:
                self._error = CoroCancelled(bytes(self.body).decode(errors="replace") or None)
            else:
                self._error = unpack_error(self.body, self.buffers)
        return self._error


class Here(Outcome):
    """An outcome of this very process, by reference.

    Attributes:
        result: The value, if there is one.
        raised: The error, if there is one.
    """

    __slots__ = ("raised", "result")

    def __init__(self, ending: Ending, result: object, raised: BaseException | None) -> None:
        self.ending = ending
        self.result: object = result
        self.raised: BaseException | None = raised

    def value(self) -> object:
        """Give the value, or raise what the coroutine raised."""
        if self.raised is not None:
            raise self.raised
        return self.result

    @classmethod
    def returned(cls, result: object) -> Here:
        """Make the outcome of a coroutine that returned."""
        return cls(Ending.VALUE, result, None)

    @classmethod
    def failed(cls, error: BaseException) -> Here:
        """Make the outcome of a coroutine that raised."""
        return cls(Ending.ERROR, None, error)

    @classmethod
    def cancelled(cls, reason: str | None) -> Here:
        """Make the outcome of a coroutine that was cancelled."""
        return cls(Ending.CANCELLED, None, CoroCancelled(reason))

    @classmethod
    def lost(cls, error: BaseException) -> Here:
        """Make the outcome of a coroutine whose server is gone."""
        return cls(Ending.LOST, None, error)
