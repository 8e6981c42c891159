"""The public values that every process knows: places, and how coroutines end.

This module owns their fields and text forms. What clients alone are told and ask for is with `_status`, so that no
server waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from ._process import Coro

MAX_PORT = 65535


@attrs.frozen(order=True)
class Location:
    """Where a process listens. For people and for finding; identity is the process's own id."""

    addr: str
    """An IP address or host name, IPv6 without brackets."""
    port: int
    """A TCP port, 0 to 65535."""

    @classmethod
    def parse(cls, text: str) -> Location:
        """Read `addr:port` or `[IPv6]:port`.

        Args:
            text: What `str()` of a Location gives.

        Returns:
            The Location.

        Raises:
            ValueError: The text has another form; the message says which is expected.
        """
        addr, colon, port = text.strip().rpartition(":")
        bracketed = addr.startswith("[") and addr.endswith("]")
        bare = addr[1:-1] if bracketed else addr
        ascii_digits = port.isascii() and port.isdigit()
        if not colon or not bare or not ascii_digits or int(port) > MAX_PORT or (":" in bare and not bracketed):
            message = f"expected 'addr:port' or '[IPv6]:port', not {text!r}"
            raise ValueError(message)
        return cls(bare, int(port))

    def __str__(self) -> str:
        """Give `addr:port`, an IPv6 address in brackets."""
        return f"[{self.addr}]:{self.port}" if ":" in self.addr else f"{self.addr}:{self.port}"


@attrs.frozen
class MonitorException:
    """The end of a coroutine; `error is None` decides whether it gave a value."""

    coro: Coro[Any]
    """The coroutine that ended."""
    value: Any
    """What it returned."""
    error: BaseException | None
    """What it raised."""
