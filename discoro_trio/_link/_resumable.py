"""A connection of a link that outlives its TCP connections.

What is written stays here until the peer has confirmed it. When a connection breaks, reader and writer wait; on the
next connection each end says how many bytes of the stream it has received, and the other one goes on from there. So a
link loses nothing and delivers nothing twice, however often its connections break. Who dials, and for how long, is with
`_reconnecting`.
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

_MARK: list[Buffer] = [b""]
"""What `write_now` returns while bytes wait here: the writer passes it to `write`."""


class ResumableTransport:
    """The bytes of one link, over one connection after the other.

    Attributes:
        received: The bytes that the reader has taken.
        final: Whether the end of the connection is the end of the link: one of the two said goodbye.
        broke: Called with the reason when the connection breaks and `final` is not set.
    """

    def __init__(self, transport: Transport) -> None:
        self.received: int = 0
        self.final: bool = False
        self.broke: Callable[[str], None] | None = None
        self._inner: Transport | None = transport
        self._early: memoryview = memoryview(b"")  # what came before the connection was taken over
        self._kept: deque[tuple[int, Sequence[Buffer]]] = deque()  # each with the position of its end
        self._confirmed = 0
        self._end = 0
        self._unsent: list[Buffer] = []
        self._reading = self._writing = self._over = False
        self._changed = trio.Event()  # set when a connection is attached, or when reader or writer have left one

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
        """The bytes that were written and are not confirmed."""
        return self._end - self._confirmed

    async def until(self, *, broken: bool) -> None:
        """Wait until there is a connection, or none."""
        while self.broken is not broken:
            await self._changed.wait()

    async def until_left(self, transport: Transport) -> None:
        """Wait until a connection is not in use any more."""
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
        """Write all the buffers, in order, on as many connections as that takes.

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
        """Write what can be written without waiting; what is left stays here, for the next `write`."""
        self._keep(buffers)
        if self._inner is None:
            return _MARK
        if self._unsent:
            self._unsent = self._inner.write_now(self._unsent)
        return _MARK if self._unsent else []

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
        if self._inner is not None:  # otherwise it follows from what is kept, on the next one
            self._unsent = [*self._unsent, *buffers] if self._unsent else list(buffers)

    async def _left(self, inner: Transport, reason: str) -> None:
        """Note that reader or writer have left a connection that broke, or that another one replaces."""
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
        """Leave the present connection, if there is one; afterwards `received` is exact."""
        inner, self._inner = self._inner, None
        if inner is not None:
            await inner.aclose()
        self._early = memoryview(b"")
        while self._reading or self._writing:
            await self._changed.wait()
        self._change()

    def attach(self, transport: Transport, early: bytes, confirmed: int) -> None:
        """Go on over another connection.

        Args:
            transport: The connection.
            early: What the peer has sent already.
            confirmed: How many bytes of this end the peer has received.

        Raises:
            ProtocolError: The peer cannot have received so many, or has confirmed more before.
            trio.ClosedResourceError: The link has ended meanwhile.
        """
        if self._over:
            raise trio.ClosedResourceError
        self.confirm(confirmed)
        if confirmed < self._confirmed:
            message = f"the peer confirms {confirmed} bytes, after it has confirmed {self._confirmed}"
            raise ProtocolError(message)
        self._unsent = []
        for end, buffers in self._kept:
            self._unsent += _after(buffers, confirmed - end + sum(map(len, buffers)))
        self._inner = transport
        self._early = memoryview(early)
        self._change()

    def confirm(self, position: int) -> None:
        """Drop what the peer has received; an old confirmation may follow a newer one on another connection.

        Raises:
            ProtocolError: It cannot have received so much.
        """
        if position > self._end:
            message = f"the peer confirms {position} bytes, where {self._end} were written"
            raise ProtocolError(message)
        self._confirmed = max(position, self._confirmed)
        while self._kept and self._kept[0][0] <= position:
            self._kept.popleft()


def _after(buffers: Sequence[Buffer], skip: int) -> list[Buffer]:
    """Give the buffers without so many of their first bytes; all for a number below 0."""
    rest: list[Buffer] = []
    for buffer in buffers:
        if skip <= 0:
            rest.append(buffer)
        elif skip < len(buffer):
            rest.append(memoryview(buffer)[skip:])
        skip -= len(buffer)
    return rest
