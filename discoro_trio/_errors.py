"""Every error of the package, in one place.

This module owns the names and attributes of the errors. The functions that raise an error document when they do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from ._status import Failure
    from ._values import Location


class DiscoroError(Exception):
    """The base class of all errors of the package."""


class AuthenticationError(DiscoroError):
    """The peer did not prove that it knows the secret, or it refused the secret of this process."""


class ProtocolError(DiscoroError):
    """The peer violated the protocol; the connection is closed."""


class VersionMismatch(DiscoroError):
    """The peer uses another protocol version or another minor version of Python."""


class PeerDisconnected(DiscoroError):
    """The connection to the peer is lost, or could not be made in time."""


class ServerLost(DiscoroError):
    """The server of a coroutine is gone; no result from it is accepted any more.

    Attributes:
        location: Where the server listened.
        exitcode: Its exit status, if it ended by itself and that is known.
        signal: The number of the signal that ended it, if one did.
        stderr_tail: The last lines that it wrote to standard error.
        ended: Whether it has certainly ended. If not, its machine is unreachable, and its code may still run.
    """

    def __init__(
        self,
        message: str,
        *,
        location: Location | None = None,
        exitcode: int | None = None,
        signal: int | None = None,
        stderr_tail: str = "",
        ended: bool = True,
    ) -> None:
        super().__init__(message)
        self.location = location
        self.exitcode = exitcode
        self.signal = signal
        self.stderr_tail = stderr_tail
        self.ended = ended

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the attributes, which are keyword-only in the constructor."""
        return _restore_error, (type(self), self.args, self.__dict__)


class CoroCancelled(DiscoroError):
    """The coroutine was cancelled by another task or process.

    Attributes:
        reason: The reason that was given for cancelling, or None.
    """

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason if reason is not None else "the coroutine was cancelled")
        self.reason = reason


class RemoteError(DiscoroError):
    """A remote error whose type could not be restored in this process; the text contains the type and message."""


class ComputationClosed(DiscoroError):
    """The computation is closed: it runs no more jobs and waits for none."""


class SchedulerNotFound(DiscoroError):
    """No scheduler answered in time."""


class UnknownLocation(DiscoroError):
    """The node or server does not belong to the computation; the text lists those that do."""


class UnknownCoro(DiscoroError):
    """The outcome of this coroutine is not stored any more."""


class MailboxClosed(DiscoroError, trio.BrokenResourceError):
    """The coroutine has ended; it accepts no more messages."""


class NameTaken(DiscoroError):
    """The name is already in use; a name has one owner."""


class FileTransferError(DiscoroError):
    """The file could not be sent, received or deleted."""


class NotPicklable(DiscoroError):
    """The object cannot be sent to another process."""


class TooManyRestarts(DiscoroError):
    """The children of a supervisor failed more often than the supervisor allows.

    Attributes:
        history: The failures that led to this error, the oldest first.
    """

    def __init__(self, message: str, history: tuple[Failure, ...] = ()) -> None:
        super().__init__(message)
        self.history: tuple[Failure, ...] = history


def _restore_error(kind: type[Exception], args: tuple[object, ...], state: dict[str, object]) -> Exception:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
