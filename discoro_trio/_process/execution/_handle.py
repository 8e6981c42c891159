"""What names a coroutine: the part of a handle that crosses the network.

This module owns identity and pickling. What can be done with a handle is in `_coro`.
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
    """The name of a coroutine, here or elsewhere; the same wherever it is sent.

    Attributes:
        home: The id of the process that it runs in.
        serial: Its number there.
        starter: The id of the process that started it and keeps its outcome.
        realm: The key that opens a connection to its home.
        name: For people.
        location: Where its home listens.
        mailbox_size: The messages that one process may send ahead of what it receives.
        started: What this process knows of it, if it started it.
        sent: Whether this handle was sent to another process, which may ask how the coroutine ended.
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
        """Its name among all coroutines of all processes, ever."""
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
        """Give its name and where it runs."""
        return f"{self.name}/{self.serial:x} at {self.location}"

    def __repr__(self) -> str:
        """Give its name and where it runs."""
        return f"<Coro {self}>"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle what names it; what this process knows of it stays here."""
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
