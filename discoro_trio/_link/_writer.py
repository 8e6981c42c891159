"""The writing half of a link: gathers frames, and writes what has gathered.

This module owns the outbox, when it is written, and how long senders wait for room in it. The order of frames is
decided by `wire.Outbox`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._config import MIB
from .._wire import MOST_VALUES, Kind, Outbox
from ._wakeup import Wakeup

if TYPE_CHECKING:
    from .._wire import Buffer
    from ._transport import Transport

HIGH_WATER = 8 * MIB
"""A sender that can wait does so above this many bytes not yet written.

It bounds what a stalled peer costs, and is large enough that a fast one is never short of work.
"""

# So many frames are written at once, without waiting for the writer's turn. The tasks that run before it may be
# hundreds, and the peer would have nothing to do meanwhile. (Measured at 256 jobs in flight: with 16 to 100 there are
# more jobs a second than without a bound; each call into the kernel costs as much as some jobs do.)
_MOST_GATHERED = 64

# After a turn of the writer with no more frames and short values than this the next frame is written as it comes:
# nothing is likely to follow that it could go together with, and the peer has it a turn earlier. A clock would not do:
# where calls into the kernel are slow, frames come slowly because each is written alone.
_FEW = 4

# With so many short values the writer does not wait for more of a sender that has sent as many as it may in a turn, and
# will go on in the next one. (Measured: a call into the kernel at both ends takes as long as 10 to 20 of them.)
_ENOUGH_VALUES = 4 * MOST_VALUES

# Credit is not waited for; it goes with what the receiver sends next.
_CREDIT = int(Kind.CREDIT)


class Writer:
    """Writes the frames of one link.

    Attributes:
        outbox: What is still to be written.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.outbox: Outbox = Outbox()
        self._wakeup = Wakeup()
        self._idle = True
        self._gathered = 0
        self._earlier = 0  # the frames that were written since the writer last waited
        self._eager = True
        self._rest: list[Buffer] = []
        self._writing = False
        self._finish = False
        self._room: trio.Event | None = None

    def added(self, kind: int) -> None:
        """See that a frame of this kind, which was just put into the outbox, is written; never waits."""
        self._gathered += 1
        if not self._writing and kind != _CREDIT and (self._eager or self._gathered >= _MOST_GATHERED):
            self._write_now()
        if self._idle:  # also if all is written: at its turn the writer sees how much came
            self._idle = False
            self._wakeup.ring()

    def flush(self) -> None:
        """Write at once what the kernel takes, unless a write is under way."""
        if not self._writing and self.outbox.pending:
            self._write_now()

    def abort_start(self, target: int) -> bool:
        """Drop a start that is not yet completely sent; tell whether there was one."""
        dropped = self.outbox.abort_start(target)
        if dropped and self._idle:
            self._idle = False
            self._wakeup.ring()
        return dropped

    def resume(self) -> None:
        """Let what was written before go out again: the transport has another connection."""
        self._rest = self._rest or [b""]
        self._idle = False
        self._wakeup.ring()

    def finish(self) -> None:
        """Let `run` return when all is written."""
        self._finish = True
        self._wakeup.ring()

    @property
    def full(self) -> bool:
        """Whether a sender that can wait should."""
        return self.outbox.queued_bytes > HIGH_WATER

    async def room(self) -> None:
        """Wait while more than `HIGH_WATER` bytes are not yet written, or until `release`."""
        while self.outbox.queued_bytes > HIGH_WATER:
            if self._room is None:
                self._room = trio.Event()
            room = self._room
            await room.wait()
            if self._room is room:  # released, for there will be no more room
                return

    def release(self) -> None:
        """Let all who wait for room go on: nothing is written any more."""
        if self._room is not None:
            self._room.set()

    def _write_now(self) -> None:
        """Write what the kernel takes at once; the writer's task sees to the rest, and to errors."""
        self._earlier += self._gathered
        self._gathered = 0
        self._eager = False
        if not self._rest:
            self._rest = self.outbox.take()
            self._rest = self._transport.write_now(self._rest)

    async def _more_values(self) -> None:
        """Wait while more short values come in each turn, and nothing else that would have to wait for them."""
        outbox = self.outbox
        values, earlier = outbox.values, 0
        while MOST_VALUES <= values < _ENOUGH_VALUES and values != earlier:
            await trio.lowlevel.checkpoint()
            values, earlier = outbox.values, values

    async def run(self) -> None:
        """Write what gathers, until `finish`.

        Raises:
            trio.BrokenResourceError: The peer is gone.
        """
        outbox, write, write_now = self.outbox, self._transport.write, self._transport.write_now
        batched = 0
        while True:
            while self._rest or outbox.pending:
                if not self._rest and outbox.values >= MOST_VALUES:
                    await self._more_values()
                buffers, self._rest = self._rest or outbox.take(), []
                self._earlier += self._gathered
                self._gathered = 0
                self._writing = True
                # Trio's send passes through its scheduler once more, which takes about as long as writing does.
                rest = write_now(buffers)
                if rest:
                    await write(rest)
                elif outbox.pending:
                    await trio.lowlevel.checkpoint()
                self._writing = False
                if self._room is not None and outbox.queued_bytes <= HIGH_WATER:
                    room, self._room = self._room, None
                    room.set()
            if self._finish:
                return
            self._eager = self._earlier + outbox.batched - batched <= _FEW
            self._earlier, batched = 0, outbox.batched
            self._idle = True
            await self._wakeup.wait()
