"""`Shared`: the handle that is sent in place of a large value, and how a process finds the value.

For servers, the node puts a link to the value's memory, or a copy, in a folder. In the client's program the memory is
the process's own. `_client` shares and releases values.
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
    """The shared values of this operating-system process."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.paths: dict[bytes, str] = {}
        self.releases: dict[bytes, Callable[[], Awaitable[None]]] = {}
        self._values: dict[bytes, Any] = {}
        # Plain functions run in threads; several may need a value at the same time, but it is unpickled once.
        self._lock = threading.RLock()

    def value(self, share: bytes) -> Any:
        """Return a value; the first call unpickles it."""
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
                "a shared value is not here: it was released, its computation has ended, or this process is not one of "
                "its servers; call computation.share() for a new one, and send that"
            )
            raise DiscoroError(message)
        return path

    def forget(self, share: bytes) -> None:
        """Drop a released value; objects that still refer to it keep it."""
        self.paths.pop(share, None)
        self.releases.pop(share, None)
        self._values.pop(share, None)


shared_here = _SharedHere()


class Shared(Generic[T_co]):
    """A value that all servers of a computation have: send this handle in place of it.

    Each machine has the value once in memory, and all its servers map it. Large buffers, such as arrays and the columns
    of frames, are not copied and are read-only. Everything else is unpickled once at each server, and all jobs there
    share one object: do not change it.

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
            DiscoroError: It was released, the computation has ended, or this process is not one of its servers.
        """
        value: T_co = shared_here.value(self._share)
        return value

    async def get(self) -> T_co:
        """Return the value, as `value` does, but unpickle it in a worker thread; for async code.

        Raises:
            DiscoroError: As for `value`.

        If cancelled, the value may or may not be unpickled.
        """
        return await trio.to_thread.run_sync(lambda: self.value)

    async def release(self) -> None:
        """Free the value everywhere before the computation ends; does nothing if it was freed already.

        Jobs that use the value may continue; later calls for it raise DiscoroError.

        Raises:
            RuntimeError: This is neither the program of the client nor the server whose job shared it.

        If cancelled, the value is freed all the same.
        """
        await trio.lowlevel.checkpoint()
        release = shared_here.releases.get(self._share)
        if release is not None:
            await release()
        elif shared_here.folder is not None:
            message = (
                "only the program of the client, and the server whose job shared a value, can release it; "
                "otherwise it is freed when the computation ends"
            )
            raise RuntimeError(message)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle its identity. DiscoroError if it was released."""
        if shared_here.folder is None and self._share not in shared_here.paths:
            message = f"{self!r} was released, or its computation has ended; it cannot be sent any more"
            raise DiscoroError(message)
        return Shared, (self._share, self.size)

    def __eq__(self, other: object) -> bool:
        """Return whether two handles are of one value."""
        return isinstance(other, Shared) and self._share == other._share

    def __hash__(self) -> int:
        """Return the same hash for all handles of one value."""
        return hash(self._share)

    def __repr__(self) -> str:
        """Return the id and the size of the value as text."""
        return f"<Shared {self._share.hex()[:8]}, {self.size} bytes>"
