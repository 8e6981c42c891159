"""Every error of the package, in one place.

This module owns the names and the attributes of the errors. When each is raised is said on the interface that
raises it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from ._status import Failure
    from ._values import Location


class DiscoroError(Exception):
    """The root of all errors of the package."""


class AuthenticationError(DiscoroError):
    """The peer did not prove that it knows the secret, or refused ours."""


class ProtocolError(DiscoroError):
    """The peer sent what the protocol does not allow; the connection is closed."""


class VersionMismatch(DiscoroError):
    """The peer speaks another protocol version or runs another minor version of Python."""


class PeerDisconnected(DiscoroError):
    """The connection to the peer is lost, or could not be made in time."""


class ServerLost(DiscoroError):
    """The server of a coroutine is gone; no result of it will be accepted any more.

    Attributes:
        location: Where the server listened.
        exitcode: Its exit status, if it ended by itself and that is known.
        signal: The number of the signal that ended it, if one did.
        stderr_tail: The last lines that it wrote to standard error.
        ended: Whether it is known to have ended. If not, its machine is silent, and its code may still run.
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
    """The coroutine was cancelled by someone else.

    Attributes:
        reason: What the one who cancelled gave as the reason, or None.
    """

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason if reason is not None else "the coroutine was cancelled")
        self.reason = reason


class RemoteError(DiscoroError):
    """A remote error that could not be brought here as what it was; its text says what it was."""


class ComputationClosed(DiscoroError):
    """The computation is closed: it runs nothing more, and waits for nothing more."""


class SchedulerNotFound(DiscoroError):
    """No scheduler answered in time."""


class UnknownLocation(DiscoroError):
    """The node or server is not one of the computation's; the text lists those that are."""


class UnknownCoro(DiscoroError):
    """Nobody keeps the outcome of this coroutine any more."""


class MailboxClosed(DiscoroError, trio.BrokenResourceError):
    """The coroutine has ended; it takes no more messages."""


class NameTaken(DiscoroError):
    """The name belongs to something else already; a name has one owner."""


class FileTransferError(DiscoroError):
    """The file could not be sent, received or deleted."""


class NotPicklable(DiscoroError):
    """The object cannot be sent to another process."""


class TooManyRestarts(DiscoroError):
    """The children of a supervisor failed more often than it allows.

    Attributes:
        history: The failures that led to this, the oldest first.
    """

    def __init__(self, message: str, history: tuple[Failure, ...] = ()) -> None:
        super().__init__(message)
        self.history: tuple[Failure, ...] = history


def _restore_error(kind: type[Exception], args: tuple[object, ...], state: dict[str, object]) -> Exception:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
