"""The frames that a link has still to write, and their order.

This module decides the order of frames on a connection: all queued small frames go in one piece, and bulk frames
go in parts that alternate with them. `_frames` defines the layout of a frame; the link
writes.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from ._batch import COST, encode_batches
from ._frames import HEADER, LARGE, MOST_BUFFERS, Kind, encode_header, length_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from ._batch import Batch
    from ._frames import Buffer

PART_SIZE = 256 * 1024
"""The bytes in a part of a bulk stream; a frame of at least this size becomes a bulk stream."""

LONGEST_PART = 1024 * 1024
"""The limit to which parts grow, each to twice the previous one, as long as no small frames come between them.

So processes that exchange only bulk data wake each other less often. A small frame waits for at most one such part,
and the next parts are short again.
"""

TAKE_SIZE = 512 * 1024
"""The bytes of small frames after which `take` ends, so that a bulk stream has its turn."""

_START, _BULK, _PART, _ABORT = int(Kind.START), int(Kind.BULK), int(Kind.PART), int(Kind.ABORT)
_BATCH = int(Kind.BATCH)


class Outbox:
    """The frames of one link that are not yet written.

    There are two lanes. Small frames go in order. Frames of `PART_SIZE` and more wait in a separate queue, whose head
    is sent part by part, one part between two takes of small frames. Order across the lanes is kept where it matters:
    a frame has keys, and names the keys that it comes after, by default its own. It is appended to the queue if a
    queued frame has a key that it comes after. It leaves the queue only after all small frames that were put before it.

    Short values gather in batches, one for each target. Batches become frames of the small lane when the next frame is
    put or all is taken, so values never overtake frames, nor other values for the same target. No batch is open while
    bulk frames wait in the queue.

    Args:
        longest_part: The most bytes of one part, if that is less than `LONGEST_PART`.

    Attributes:
        batched: The number of short values sent in batches so far.
    """

    def __init__(self, longest_part: int | None = None) -> None:
        self.batched: int = 0
        self._longest = LONGEST_PART if longest_part is None else longest_part
        self._batches: list[Batch] = []  # the open ones, which follow `_tail`
        self._tail = bytearray()  # the end of the small lane, still growing
        self._ready: deque[list[Buffer]] = deque()  # the small lane before it, in pieces of whole frames
        self._ready_bytes = 0
        self._taken = 0  # all bytes that have left the small lane
        self._queue: deque[_BulkFrame] = deque()
        self._queue_bytes = 0
        self._busy: Counter[Hashable] = Counter()  # the keys of _queue
        self._part_size = min(PART_SIZE, self._longest)
        self._streams = 0  # the number of the latest bulk stream

    @property
    def pending(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._batches or self._tail or self._ready or self._queue)

    @property
    def values(self) -> int:
        """How many short values wait in open batches."""
        return sum(map(len, self._batches))

    @property
    def queued_bytes(self) -> int:
        """The bytes not yet taken."""
        return COST * sum(map(len, self._batches)) + len(self._tail) + self._ready_bytes + self._queue_bytes

    @property
    def position(self) -> int:
        """The bytes of all small frames put so far, without open batches."""
        return self._taken + self._ready_bytes + len(self._tail)

    @property
    def taken(self) -> int:
        """How many of these bytes were taken."""
        return self._taken

    def put(  # noqa: PLR0917 - by position, as keywords take a tenth of its time
        self,
        kind: int,
        flags: int,
        target: int,
        body: Buffer,
        buffers: Sequence[Buffer] = (),
        keys: tuple[Hashable, ...] = (),
        after: tuple[Hashable, ...] | None = None,
    ) -> None:
        """Add a frame.

        Args:
            kind: One of `Kind`.
            flags: 0 to 255.
            target: 0 to 2**64 - 1.
            body: The body. Do not change it afterwards: large ones are not copied.
            buffers: The out-of-band buffers, contiguous; kept until they are written. Do not change them either.
            keys: The keys that later frames may name in `after`.
            after: The keys of the earlier frames that it must not overtake; by default `keys`, so that frames
                that share a key go in the order in which they were put.

        Raises:
            ValueError: There are more than `MOST_BUFFERS` buffers.
        """
        if self._batches:
            self._close_batches()
        length = len(body)
        if buffers or length >= LARGE or (self._queue and self._must_wait(keys if after is None else after)):
            self._put_other(kind, flags, target, body, buffers, keys, keys if after is None else after)
            return
        tail = self._tail
        tail += HEADER.pack(kind, flags, 0, length, target)
        tail += body
        if len(tail) >= TAKE_SIZE:
            self._rotate()

    def put_last(self, kind: int, body: Buffer) -> None:
        """Add a frame, with target 0, after all others: the last one of a connection."""
        if self._queue:
            self._enqueue(_BulkFrame(kind, 0, encode_header(kind, 0, 0, len(body)), [memoryview(body)], ()))
        else:
            self.put(kind, 0, 0, body)

    def gather(
        self, batch: Batch, value: object, keys: tuple[Hashable, ...], after: tuple[Hashable, ...] | None = None
    ) -> None:
        """Add a short value (`is_short`) to the batch of its target.

        While a batch is not empty, appending to it has the same effect.

        Args:
            batch: The batch of its target in this outbox; empty as soon as it is taken.
            value: The value.
            keys: As in `put`.
            after: As in `put`.
        """
        if not self._queue:
            if not batch:
                self._batches.append(batch)
            batch.append(value)
            return
        for body in encode_batches([value]):
            self.put(_BATCH, 0, batch.target, body, (), keys, after)

    def take(self) -> list[Buffer]:
        """Return the buffers to write next, in order; an empty list if there are none."""
        if self._batches:
            self._close_batches()
        if not (self._ready or self._queue):
            tail = self._tail
            if not tail:
                return []
            self._tail = bytearray()
            self._taken += len(tail)
            return [tail]
        out: list[Buffer] = []
        self._take_small(out)
        if out:
            self._part_size = min(PART_SIZE, self._longest)
        if self._queue and self._queue[0].after <= self._taken:
            self._take_queued(out)
        return out

    def abort_start(self, target: int) -> bool:
        """Drop the start of a coroutine that waits in the bulk queue or is partly sent.

        Args:
            target: The target of the START frame.

        Returns:
            Whether it was dropped. If not, it is sent or in the small lane, and a cancel must follow it.
        """
        for entry in self._queue:
            if entry.kind == _START and entry.target == target:
                break
        else:
            return False
        self._queue.remove(entry)
        self._forget(entry)
        if entry.stream:
            self._tail += encode_header(_ABORT, 0, entry.stream, 0)
        return True

    def _put_other(  # noqa: PLR0917 - the arguments of `put`
        self,
        kind: int,
        flags: int,
        target: int,
        body: Buffer,
        buffers: Sequence[Buffer],
        keys: tuple[Hashable, ...],
        after: tuple[Hashable, ...],
    ) -> None:
        if len(buffers) > MOST_BUFFERS:
            message = f"a frame takes at most {MOST_BUFFERS} out-of-band buffers, not {len(buffers)}"
            raise ValueError(message)
        pieces = [memoryview(piece).cast("B") for piece in (body, *buffers)]
        sizes = [len(piece) for piece in pieces]
        header = encode_header(kind, flags, target, sizes[0], tuple(map(length_of, buffers, sizes[1:])))
        content = sum(sizes)
        if content >= PART_SIZE or self._must_wait(after):
            self._enqueue(_BulkFrame(kind, target, header, pieces, keys))
            return
        if content < LARGE:
            self._tail += b"".join([header, *pieces])
        else:
            self._rotate()
            whole: list[Buffer] = []
            _join([header, *pieces], whole)
            self._ready.append(whole)
            self._ready_bytes += len(header) + content
        if len(self._tail) >= TAKE_SIZE:
            self._rotate()

    def _must_wait(self, after: tuple[Hashable, ...]) -> bool:
        return not self._busy.keys().isdisjoint(after)

    def _enqueue(self, entry: _BulkFrame) -> None:
        if self._batches:
            self._close_batches()
        entry.after = self.position
        self._queue.append(entry)
        self._queue_bytes += entry.content
        self._busy.update(entry.keys)

    def _close_batches(self) -> None:
        tail = self._tail
        for batch in self._batches:
            self.batched += len(batch)
            for body in encode_batches(batch):
                tail += HEADER.pack(_BATCH, 0, 0, len(body), batch.target)
                tail += body
            batch.clear()
        self._batches.clear()
        if len(tail) >= TAKE_SIZE:
            self._rotate()

    def _rotate(self) -> None:
        if self._tail:
            self._ready.append([self._tail])
            self._ready_bytes += len(self._tail)
            self._tail = bytearray()

    def _take_small(self, out: list[Buffer]) -> None:
        self._rotate()
        ready = self._ready
        taken = 0
        while ready and taken < TAKE_SIZE:
            pieces = ready.popleft()
            taken += sum(map(len, pieces))
            out += pieces
        self._ready_bytes -= taken
        self._taken += taken

    def _take_queued(self, out: list[Buffer]) -> None:
        """Take a part of the head of the queue, or all of it if it is small and was queued for its keys."""
        entry = self._queue[0]
        if entry.content < PART_SIZE:
            _join([entry.header, *entry.pieces], out)
            self._queue.popleft()
            self._forget(entry)
            return
        head = b""
        if not entry.stream:
            self._streams += 1
            entry.stream = self._streams
            head = encode_header(_BULK, 0, entry.stream, len(entry.header)) + entry.header
        slices = entry.next_part(self._part_size)
        self._part_size = min(2 * self._part_size, self._longest)
        size = sum(map(len, slices))
        self._queue_bytes -= size
        _join([head, encode_header(_PART, 0, entry.stream, size), *slices], out)
        if not entry.left:
            self._queue.popleft()
            self._forget(entry)

    def _forget(self, entry: _BulkFrame) -> None:
        """Account for an entry that has left the queue."""
        self._queue_bytes -= entry.left
        busy = self._busy
        for key in entry.keys:
            busy[key] -= 1
            if not busy[key]:
                del busy[key]


class _BulkFrame:
    """A frame in the bulk queue."""

    __slots__ = (
        "_offset",
        "_piece",
        "after",
        "content",
        "header",
        "keys",
        "kind",
        "left",
        "pieces",
        "stream",
        "target",
    )

    def __init__(
        self, kind: int, target: int, header: bytes, pieces: list[memoryview], keys: tuple[Hashable, ...]
    ) -> None:
        self.kind = kind
        self.target = target
        self.header = header
        self.pieces = pieces
        self.content = self.left = sum(map(len, pieces))
        self.keys = keys
        self.after = 0  # it may be sent when this many bytes have left the small lane
        self.stream = 0  # 0 until its first part is taken
        self._piece = 0
        self._offset = 0

    def next_part(self, room: int) -> list[memoryview]:
        """Return the next bytes, at most `room` of them."""
        slices: list[memoryview] = []
        while room and self.left:
            piece = self.pieces[self._piece]
            part = piece[self._offset : self._offset + room]
            self._offset += len(part)
            room -= len(part)
            self.left -= len(part)
            if part:
                slices.append(part)
            if self._offset == len(piece):
                self._piece += 1
                self._offset = 0
        return slices


def _join(pieces: Iterable[Buffer], out: list[Buffer]) -> None:
    """Add pieces to the buffers to write: small ones joined, large ones as they are."""
    joined = bytearray()
    for piece in pieces:
        if len(piece) < LARGE:
            joined += piece
            continue
        if joined:
            out.append(joined)
            joined = bytearray()
        out.append(piece)
    if joined:
        out.append(joined)
