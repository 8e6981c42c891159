"""`Shared`: the handle that is sent in place of a large value, and where a process finds the value.

At a server the node has put a link to the value's memory, or a copy, in a folder. In the program that shared it, and in
an embedded node's, the memory is the process's own. Who shares and releases is in `_client`.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from ..._errors import DiscoroError
from ._blob import load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T_co = TypeVar("T_co", covariant=True)


class _SharedHere:
    """What this process, in the system's sense, knows of shared values."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.paths: dict[bytes, str] = {}
        self.releases: dict[bytes, Callable[[], Awaitable[None]]] = {}
        self._values: dict[bytes, Any] = {}
        # Plain functions run in threads; several may want a value at once, which is opened once.
        self._lock = threading.RLock()

    def value(self, share: bytes) -> Any:
        """Return a value, opened when it is first wanted."""
        with self._lock:
            if share not in self._values:
                self._values[share] = load(self._path(share))
            return self._values[share]

    def _path(self, share: bytes) -> str:
        path = self.paths.get(share)
        if path is not None:
            return path
        path = None if self.folder is None else str(self.folder / share.hex())
        if path is None or not Path(path).exists():
            message = (
                "a shared value is not here: it was released, its computation has ended, or this process is none of "
                "its servers; call computation.share() for a new one, and send that"
            )
            raise DiscoroError(message)
        return path

    def forget(self, share: bytes) -> None:
        """Drop a value that is released; what still refers to it keeps it."""
        self.paths.pop(share, None)
        self.releases.pop(share, None)
        self._values.pop(share, None)


shared_here = _SharedHere()


class Shared(Generic[T_co]):
    """A value that all servers of a computation have: send this handle in place of it.

    Each machine has the value once in memory, and all its servers map it. Large buffers, such as arrays and the columns
    of frames, are not copied and are read-only. All else is unpickled once at each server, and is one object for all
    jobs there: do not change it.

    `Computation.share` makes it. The value is freed with the computation, or earlier by `release`.

    Attributes:
        size: The bytes of the value as it is shared.
    """

    __slots__ = ("_share", "size")

    def __init__(self, share: bytes, size: int) -> None:
        self._share = share
        self.size: int = size

    @property
    def value(self) -> T_co:
        """The value, at the servers of the computation and in the program that shared it.

        Raises:
            DiscoroError: It was released, the computation has ended, or this process is none of its servers.
        """
        value: T_co = shared_here.value(self._share)
        return value

    async def get(self) -> T_co:
        """Return the value: `value` for async code, which opens it in a worker thread.

        Raises:
            DiscoroError: As `value`.

        When cancelled, the value may be opened or not.
        """
        return await trio.to_thread.run_sync(lambda: self.value)

    async def release(self) -> None:
        """Free the value everywhere, before the computation ends; nothing if it was freed already.

        Jobs that use the value may go on; those that ask for it afterwards get a DiscoroError.

        Raises:
            RuntimeError: This is not the program that shared it.

        Cancelling it, the value is freed all the same.
        """
        await trio.lowlevel.checkpoint()
        release = shared_here.releases.get(self._share)
        if release is not None:
            await release()
        elif shared_here.folder is not None:
            message = "only the program that shared a value releases it; its servers cannot"
            raise RuntimeError(message)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle what names it. DiscoroError if it was released."""
        if shared_here.folder is None and self._share not in shared_here.paths:
            message = f"{self!r} was released, or its computation has ended; it cannot be sent any more"
            raise DiscoroError(message)
        return Shared, (self._share, self.size)

    def __eq__(self, other: object) -> bool:
        """Return whether two handles are of one value."""
        return isinstance(other, Shared) and self._share == other._share

    def __hash__(self) -> int:
        """Give the same for all handles of one value."""
        return hash(self._share)

    def __repr__(self) -> str:
        """Show which value it is of."""
        return f"<Shared {self._share.hex()[:8]}, {self.size} bytes>"
