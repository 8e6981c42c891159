"""The writing half of a link: gathers frames and writes them together.

This module owns the outbox, when it is written, and how long senders wait for room in it. `wire.Outbox` decides the
order of the frames.
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
"""If more than this many bytes are not yet written, senders that can wait do so.

It bounds the memory for a stalled peer, and is large enough to keep a fast peer busy.
"""

# When this many frames wait, they are written at once, before the writer's turn. Hundreds of tasks may run before it,
# and the peer would be idle meanwhile. (Measured at 256 jobs in flight: with 16 to 100 there are more jobs a second
# than without a bound; each system call costs as much as some jobs do.)
_MOST_GATHERED = 64

# If the last turn had no more frames and short values than this, the next frame is written immediately: no other frame
# is likely to follow soon, and the peer receives it a turn earlier. A turn ends when the reader has read, or when the
# writer waits after many frames.
_FEW = 4

# A frame is written immediately, too, if it comes so many seconds after the end of the last immediate write, and the
# writer has nothing to do. The time is longer than between the frames of tasks that run one after the other.
PAUSE = 0.0002

# With this many short values the writer does not wait for more from a sender that has used up its turn and continues in
# the next one. (Measured: a system call at both ends takes as long as 10 to 20 values.)
_ENOUGH_VALUES = 4 * MOST_VALUES

# Credit is not written at once; it goes out with the receiver's next frame.
_CREDIT = int(Kind.CREDIT)


class Writer:
    """Writes the frames of one link.

    Attributes:
        outbox: The frames that are not yet written.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.outbox: Outbox = Outbox(transport.longest_part)
        self._wakeup = Wakeup()
        self._idle = True
        self._gathered = 0
        self._earlier = 0  # the frames written in this turn
        self._batched = 0  # the short values written before this turn
        self._eager = True
        self._written: float | None = None  # the time of the last immediate write, if it was the last event
        self._rest: list[Buffer] = []
        self._writing = False
        self._finish = False
        self._room: trio.Event | None = None

    def added(self, kind: int) -> None:
        """Arrange that a frame of this kind, just put into the outbox, is written; never waits."""
        self._gathered += 1
        if (
            not self._writing
            and kind != _CREDIT
            and (self._eager or self._gathered >= _MOST_GATHERED or self._is_after_pause())
        ):
            self._write_now()
            if self._idle and not (self._rest or self.outbox.pending):
                self._written = trio.current_time()
                return
        if self._idle:
            self._idle = False
            self._written = None
            self._wakeup.ring()

    def _is_after_pause(self) -> bool:
        return self._written is not None and trio.current_time() - self._written >= PAUSE

    def new_turn(self) -> None:
        """Begin a turn, because the reader has read: decide by the last one whether to write frames immediately.

        So a process that replies to each message writes the reply at once, without a step of the writer's task.
        """
        if self._idle and not self._eager and self._earlier:
            self._decide()

    def _decide(self) -> None:
        batched = self.outbox.batched
        self._eager = self._earlier + batched - self._batched <= _FEW
        self._earlier, self._batched = 0, batched

    def flush(self) -> None:
        """Write at once what the kernel takes, unless a write is in progress."""
        if not self._writing and self.outbox.pending:
            self._write_now()

    def abort_start(self, target: int) -> bool:
        """Drop a start that is not yet completely sent. Return whether there was one."""
        dropped = self.outbox.abort_start(target)
        if dropped and self._idle:
            self._idle = False
            self._wakeup.ring()
        return dropped

    def resume(self) -> None:
        """Continue writing after an interruption: the transport has another connection."""
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
            if self._room is room:  # released: there will be no more room
                return

    def release(self) -> None:
        """Wake all tasks that wait for room: nothing is written any more."""
        if self._room is not None:
            self._room.set()

    def _write_now(self) -> None:
        """Write what the kernel takes at once; the writer's task handles the rest, and errors."""
        self._earlier += self._gathered
        self._gathered = 0
        self._eager = False
        if not self._rest:
            self._rest = self.outbox.take()
            self._rest = self._transport.write_now(self._rest)

    async def _more_values(self) -> None:
        """Wait while each turn adds short values, and no other frame that would have to wait for them."""
        outbox = self.outbox
        values, earlier = outbox.values, 0
        while MOST_VALUES <= values < _ENOUGH_VALUES and values != earlier:
            await trio.lowlevel.checkpoint()
            values, earlier = outbox.values, values

    async def run(self) -> None:
        """Write the queued frames until `finish`.

        Raises:
            trio.BrokenResourceError: The peer is gone.
        """
        outbox, write, write_now = self.outbox, self._transport.write, self._transport.write_now
        while True:
            while self._rest or outbox.pending:
                if not self._rest and outbox.values >= MOST_VALUES:
                    await self._more_values()
                buffers, self._rest = self._rest or outbox.take(), []
                self._earlier += self._gathered
                self._gathered = 0
                self._writing = True
                # Trio's send passes through its scheduler once more, which takes about as long as the write itself.
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
            self._decide()
            self._idle = True
            await self._wakeup.wait()
