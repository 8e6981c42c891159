"""A connection of a link that outlives its TCP connections.

Written bytes are kept here until the peer has confirmed them. When a connection breaks, reader and writer wait. On the
next connection each end reports how many bytes of the stream it has received, and the other end continues from there.
So a link loses nothing and delivers nothing twice, however often its connections break. `_reconnecting` decides which
end dials, and for how long.

If a peer confirms too little, the kept bytes are dropped, and the link ends if a connection breaks before the peer has
confirmed them. To wait for confirmations instead would block both ends: these are written after what waits to be
written.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from .._errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._wire import Buffer
    from ._transport import Transport

_MOST_KEPT = 64 * 1024 * 1024
"""Bytes kept for one link. A peer confirms after 4 MiB; the buffers of both kernels have a few more."""

_MARK: list[Buffer] = [b""]
"""`write_now` returns this while bytes wait here; the writer passes it to `write`."""


class ResumableTransport:
    """The byte stream of one link, over successive connections.

    Attributes:
        received: The bytes that the reader has taken.
        final: Whether the end of the connection ends the link, because one of the two ends said goodbye.
        broke: Called with the reason when the connection breaks and `final` is not set.
    """

    def __init__(self, transport: Transport) -> None:
        self.longest_part: int | None = transport.longest_part
        self.received: int = 0
        self.final: bool = False
        self.broke: Callable[[str], None] | None = None
        self._inner: Transport | None = transport
        self._early: memoryview = memoryview(b"")  # bytes that arrived before the connection was taken over
        self._kept: deque[tuple[int, Sequence[Buffer]]] = deque()  # each with the position of its end
        self._confirmed = 0
        self._dropped = 0  # up to this position, nothing is kept
        self._end = 0
        self._unsent: list[Buffer] = []
        self._reading = self._writing = self._over = False
        self._changed = trio.Event()  # set when a connection is attached, or when the reader or the writer leaves one

    @property
    def socket(self) -> trio.socket.SocketType | None:
        """The socket of the present connection."""
        return None if self._inner is None else self._inner.socket

    @property
    def broken(self) -> bool:
        """Whether there is no connection at present."""
        return self._inner is None

    @property
    def kept(self) -> int:
        """The number of bytes that were written and are kept until they are confirmed."""
        return self._end - max(self._confirmed, self._dropped)

    async def until(self, *, broken: bool) -> None:
        """Wait until the connection is broken, or until there is one."""
        while self.broken is not broken:
            await self._changed.wait()

    async def until_left(self, transport: Transport) -> None:
        """Wait until reader and writer no longer use a connection."""
        while self._inner is transport:
            await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # --- what a link wants of a transport

    async def receive_into(self, memory: memoryview) -> int:
        """Wait for bytes and put them into `memory`; 0 when the link has ended in order.

        Raises:
            trio.BrokenResourceError: The connection broke after a goodbye.
        """
        while True:
            inner = self._inner
            if inner is None:
                await self.until(broken=False)
                continue
            if self._early:
                count = min(len(self._early), len(memory))
                memory[:count], self._early = self._early[:count], self._early[count:]
                self.received += count
                return count
            self._reading = True
            try:
                count = await inner.receive_into(memory)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                if self.final:
                    raise
                reason = str(error)
            else:
                if count or self.final:
                    self.received += count
                    return count
                reason = "the peer closed it without a goodbye"
            finally:
                self._reading = False
            await self._left(inner, reason)

    async def write(self, buffers: Sequence[Buffer]) -> None:
        """Write all buffers, in order, over as many connections as are needed.

        Raises:
            trio.BrokenResourceError: The connection broke after a goodbye.
        """
        self._keep(buffers)
        while True:
            inner = self._inner
            if inner is None:
                await self.until(broken=False)
                continue
            if not self._unsent:
                return
            unsent, self._unsent = self._unsent, []
            self._writing = True
            try:
                await inner.write(unsent)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                if self.final:
                    raise
                reason = str(error)
            else:
                continue
            finally:
                self._writing = False
            await self._left(inner, reason)

    def write_now(self, buffers: list[Buffer]) -> list[Buffer]:
        """Write what can be written without waiting; keep the rest for the next `write`."""
        self._keep(buffers)
        if self._inner is None:
            return _MARK
        if self._unsent:
            self._unsent = self._inner.write_now(self._unsent)
            return _MARK if self._unsent else []
        return []

    async def aclose(self) -> None:
        """Close the present connection."""
        inner, self._inner = self._inner, None
        self._over = True
        self._kept.clear()
        self._change()
        if inner is not None:
            await inner.aclose()

    def _keep(self, buffers: Sequence[Buffer]) -> None:
        size = sum(map(len, buffers))
        if not size:
            return
        self._end += size
        self._kept.append((self._end, buffers))
        if self._inner is not None and self.kept > _MOST_KEPT:
            self._kept.clear()
            self._dropped = self._end
        if self._inner is not None:  # otherwise the next connection determines it from what is kept
            self._unsent = [*self._unsent, *buffers]

    async def _left(self, inner: Transport, reason: str) -> None:
        """Record that the reader or the writer has left a connection that broke or was replaced."""
        broken = self._inner is inner
        if broken:
            self._inner = None
            with trio.CancelScope(shield=True):
                await inner.aclose()
        self._change()
        if broken and self.broke is not None:
            self.broke(reason)

    # --- from one connection to the next

    async def detach(self) -> None:
        """Leave the present connection, if there is one. Afterwards `received` is exact."""
        inner, self._inner = self._inner, None
        if inner is not None:
            await inner.aclose()
        self._early = memoryview(b"")
        while self._reading or self._writing:
            await self._changed.wait()
        self._change()

    def attach(self, transport: Transport, early: bytes, confirmed: int) -> None:
        """Continue over another connection.

        Args:
            transport: The connection.
            early: The bytes that the peer has sent already.
            confirmed: The number of this end's bytes that the peer has received.

        Raises:
            ProtocolError: The peer cannot have received that many bytes, or has confirmed more before; or bytes that
                it has not received are no longer kept.
            trio.ClosedResourceError: The link has ended meanwhile.
        """
        if self._over:
            raise trio.ClosedResourceError
        self.confirm(confirmed)
        if confirmed < self._confirmed:
            message = f"the peer confirms {confirmed} bytes, but it has already confirmed {self._confirmed}"
            raise ProtocolError(message)
        if confirmed < self._dropped:
            message = f"the link cannot continue: its peer left more than {_MOST_KEPT} bytes unconfirmed"
            raise ProtocolError(message)
        self._unsent = []
        for end, buffers in self._kept:
            self._unsent += _after(buffers, confirmed - end + sum(map(len, buffers)))
        self._inner = transport
        self._early = memoryview(early)
        self._change()

    def confirm(self, position: int) -> None:
        """Drop the bytes that the peer has received. An old confirmation may follow a newer one on another connection.

        Raises:
            ProtocolError: The peer cannot have received that many bytes.
        """
        if position > self._end:
            message = f"the peer confirms {position} bytes, but only {self._end} were written"
            raise ProtocolError(message)
        self._confirmed = max(position, self._confirmed)
        while self._kept and self._kept[0][0] <= position:
            self._kept.popleft()


def _after(buffers: Sequence[Buffer], skip: int) -> list[Buffer]:
    """Return the buffers without their first `skip` bytes; all of them if `skip` is negative."""
    rest: list[Buffer] = []
    for buffer in buffers:
        if skip <= 0:
            rest.append(buffer)
        elif skip < len(buffer):
            rest.append(memoryview(buffer)[skip:])
        skip -= len(buffer)
    return rest
