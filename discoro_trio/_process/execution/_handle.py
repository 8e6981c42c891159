"""The identity of a coroutine: the part of a handle that is sent over the network.

This module owns identity and pickling. The methods of a handle are in `_coro`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from ..._config import config
from ..._values import Location

if TYPE_CHECKING:
    from ..messaging._message_sender import MessageSender
    from ._submission import Submission

R_co = TypeVar("R_co", covariant=True)


class Handle(Generic[R_co]):
    """The identity of a coroutine of this or another process; equal in every process.

    Attributes:
        home: The id of the process in which it runs.
        serial: Its number there.
        starter: The id of the process that started it and keeps its outcome.
        realm: The key for connections to its home.
        name: Its display name.
        location: The location of its home.
        mailbox_size: The number of unreceived messages that one process may have in flight.
        started: This process's record of it, if this process started it.
        sent: Whether this handle was sent to another process, which may request the coroutine's outcome.
    """

    __slots__ = (
        "__weakref__",
        "_route",
        "home",
        "location",
        "mailbox_size",
        "name",
        "realm",
        "sent",
        "serial",
        "started",
        "starter",
    )

    def __init__(  # noqa: PLR0917 - pickled by position
        self,
        home: bytes,
        serial: int,
        starter: bytes,
        realm: bytes,
        name: str,
        location: Location,
        mailbox_size: int | None = None,
        *,
        started: Submission | None = None,
    ) -> None:
        self.home: bytes = home
        self.serial: int = serial
        self.starter: bytes = starter
        self.realm: bytes = realm
        self.name: str = name
        self.location: Location = location
        self.mailbox_size: int = config.mailbox_messages if mailbox_size is None else mailbox_size
        self.started: Submission | None = started
        self.sent: bool = False
        self._route: MessageSender | None = None

    @property
    def id(self) -> str:
        """Its id, unique among all coroutines of all processes."""
        return f"{self.home.hex()}-{self.serial:x}"

    def __eq__(self, other: object) -> bool:
        """Return whether both are handles to the same coroutine."""
        if not isinstance(other, Handle):
            return NotImplemented
        return self.serial == other.serial and self.home == other.home

    def __hash__(self) -> int:
        """Hash the identity."""
        return hash((self.home, self.serial))

    def __str__(self) -> str:
        """Return its name and location."""
        return f"{self.name}/{self.serial:x} at {self.location}"

    def __repr__(self) -> str:
        """Return its name and location."""
        return f"<Coro {self}>"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle its identity, without the local record."""
        self.sent = True
        place = (self.location.addr, self.location.port)
        return _restore, (
            type(self),
            self.home,
            self.serial,
            self.starter,
            self.realm,
            self.name,
            place,
            self.mailbox_size,
        )


def _restore(  # noqa: PLR0917 - pickled by position
    kind: type[Handle[R_co]],
    home: bytes,
    serial: int,
    starter: bytes,
    realm: bytes,
    name: str,
    place: tuple[str, int],
    mailbox_size: int,
) -> Handle[R_co]:
    return kind(home, serial, starter, realm, name, Location(*place), mailbox_size)
