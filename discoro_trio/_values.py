"""The public values that every process uses: locations, and the outcomes of coroutines.

This module owns their fields and text forms. Values that only clients use are in `_status`, so that servers need not
load them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from ._arguments import integer, text, wrong_type

if TYPE_CHECKING:
    from ._process import Coro

MAX_PORT = 65535


@attrs.frozen(order=True)
class Location:
    """Where a process listens. For people and for connecting; the process id is what identifies a process."""

    addr: str
    """An IP address or host name, IPv6 without brackets."""
    port: int
    """A TCP port, 0 to 65535."""

    def __attrs_post_init__(self) -> None:
        """Check the types; a port that is out of range is refused when it is used."""
        if type(self.addr) is not str or type(self.port) is not int:
            object.__setattr__(self, "addr", text("addr", self.addr))
            object.__setattr__(self, "port", integer("port", self.port))

    @classmethod
    def parse(cls, text: str) -> Location:
        """Read `addr:port` or `[IPv6]:port`.

        Args:
            text: A Location as text, as returned by `str()`.

        Returns:
            The Location.

        Raises:
            TypeError: It is not a str.
            ValueError: The text has another form; the message shows the expected one.
        """
        addr, colon, port = _text(text).strip().rpartition(":")
        bracketed = addr.startswith("[") and addr.endswith("]")
        bare = addr[1:-1] if bracketed else addr
        ascii_digits = port.isascii() and port.isdigit()
        if not colon or not bare or not ascii_digits or int(port) > MAX_PORT or (":" in bare and not bracketed):
            message = f"expected 'addr:port' or '[IPv6]:port', not {text[:200]!r}"
            raise ValueError(message)
        return cls(bare, int(port))

    def __str__(self) -> str:
        """Return `addr:port`, with an IPv6 address in brackets."""
        return f"[{self.addr}]:{self.port}" if ":" in self.addr else f"{self.addr}:{self.port}"


def _text(value: str) -> str:
    return text("text", value)


def location(name: str, value: Location | str) -> Location:
    """Check where a process listens: a Location, or its text."""
    if isinstance(value, Location):
        return value
    if not isinstance(value, str):
        wrong_type(name, value, "a Location, or a text such as 'addr:port' or 'name:port'")
    try:
        return Location.parse(value)
    except ValueError as error:
        message = f"{name}: {error}"
        raise ValueError(message) from None


def node_name(name: str, value: Location | str) -> str:
    """Check the address, name or Location of a node and return it as a str."""
    if isinstance(value, Location):
        return str(value)
    if not isinstance(value, str):
        wrong_type(name, value, "a node's address or name, as text, or its Location")
    return text(name, value)


def optional_location(name: str, value: Location | str | None) -> Location | None:
    """Check where a process listens, or None."""
    return None if value is None else location(name, value)


@attrs.frozen
class MonitorException:
    """The end of a coroutine; it returned a value if `error is None`."""

    coro: Coro[Any]
    """The coroutine that ended."""
    value: Any
    """The value that it returned."""
    error: BaseException | None
    """The error that it raised."""
