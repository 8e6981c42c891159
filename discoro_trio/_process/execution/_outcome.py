"""How a coroutine ended: a value, an error, cancelled, or lost with its server.

This module owns the four kinds and how each is returned or raised. Outcomes are kept in `_outcome_store`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

from ..._errors import CoroCancelled
from ..._shipping import loads, say_not_opened
from ..._shipping._errors_in_transit import unpack_error

if TYPE_CHECKING:
    from collections.abc import Sequence  # noqa: TC004 - what is never encoded needs no types at run time

    from ..._wire import Buffer  # noqa: TC004 - what is never encoded needs no types at run time


class Ending(enum.IntEnum):
    """The kinds of outcome; their numbers are the flags of an OUTCOME frame."""

    VALUE = 0
    ERROR = 1
    CANCELLED = 2
    LOST = 3


class Outcome(msgspec.Struct, eq=False):
    """The end of one coroutine; never changed once made."""

    ending: Ending
    """The kind of end."""

    def value(self) -> object:
        """Return the value, or raise what the coroutine raised."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """The bytes that it takes besides its object, if they are known."""
        return 0

    def error(self) -> BaseException | None:
        """Return what the coroutine raised, or None if it returned."""
        try:
            self.value()
        except Exception as error:  # noqa: BLE001 - any error is the answer
            return error.with_traceback(None)
        return None


class Arrived(Outcome, eq=False, gc=False):
    """A value from another process, which is unpickled when it is read.

    There is one for each job, so the garbage collector does not track it: it refers only to objects without references.
    """

    body: Buffer
    """The pickled value; for other endings the pickled error, or the reason of the cancellation in UTF-8."""
    buffers: Sequence[Buffer]
    """Its out-of-band buffers."""
    name: str = ""
    """The name of the coroutine, for messages."""

    @property
    def size(self) -> int:
        """The size of its data as it arrived, in bytes."""
        return len(self.body) + sum(map(len, self.buffers)) if self.buffers else len(self.body)

    def value(self) -> object:
        """Return the value; an error of unpickling it has a note with the name of the coroutine."""
        try:
            return loads(self.body, self.buffers)
        except Exception as error:
            say_not_opened(error, f"The result of {self.name or 'a coroutine'}")
            raise


class ArrivedError(Arrived, eq=False, gc=True):
    """An error or a cancellation from another process, which is unpickled when it is read."""

    opened: BaseException | None = None
    """The one object that all readers get, so that an exception group recognises the same error."""

    def value(self) -> object:
        """Raise what the coroutine raised."""
        raise self.error()

    def error(self) -> BaseException:
        """Return what the coroutine raised."""
        if self.opened is None:
            if self.ending is Ending.CANCELLED:
                self.opened = CoroCancelled(bytes(self.body).decode(errors="replace") or None)
            else:
                self.opened = unpack_error(self.body, self.buffers)
        return self.opened


def arrived(ending: Ending, body: Buffer, buffers: Sequence[Buffer], name: str = "") -> Arrived:
    """Make the outcome that another process sent."""
    return (Arrived if ending is Ending.VALUE else ArrivedError)(ending, body, buffers, name)


class LocalOutcome(Outcome, eq=False):
    """An outcome of this process, by reference."""

    result: object
    """The value, if there is one."""
    raised: BaseException | None
    """The error, if there is one."""

    def value(self) -> object:
        """Return the value, or raise what the coroutine raised."""
        if self.raised is not None:
            raise self.raised
        return self.result

    @classmethod
    def returned(cls, result: object) -> LocalOutcome:
        """Make the outcome of a coroutine that returned."""
        return cls(Ending.VALUE, result, None)

    @classmethod
    def failed(cls, error: BaseException) -> LocalOutcome:
        """Make the outcome of a coroutine that raised."""
        return cls(Ending.ERROR, None, error)

    @classmethod
    def cancelled(cls, reason: str | None) -> LocalOutcome:
        """Make the outcome of a coroutine that was cancelled."""
        return cls(Ending.CANCELLED, None, CoroCancelled(reason))

    @classmethod
    def lost(cls, error: BaseException) -> LocalOutcome:
        """Make the outcome of a coroutine whose server is gone."""
        return cls(Ending.LOST, None, error)
