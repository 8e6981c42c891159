"""Decides which links send large buffers through shared memory, and encodes the frames that refer to it.

Each end of a link between two processes of one machine offers its segments. If the other end can open one, it
receives buffers that way. `_pool` owns the segments of this process, `_mapping` maps those of others.
"""

from __future__ import annotations

import os
import struct
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import trio

from ..._config import config
from ..._errors import ProtocolError
from ..._wire import Control, Frame, Kind
from .._services import ANY, Trust
from ._mapping import (
    Mappings,
    check_size_untrusted,
    copy_untrusted,
    map_untrusted,
    open_untrusted,
    read_probe_untrusted,
)
from ._pool import LEAST, BufferPlace, Pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..._wire import Buffer
    from .._endpoint import Endpoint
    from .._link import Link
    from ._mapping import MappedSegment

# The body of a SHARED frame, numbers in network byte order:
#
#     u8   kind      of the frame that it replaces; flags and target are those of that frame
#     u16  count     n, the number of buffers in shared memory
#     n × (u16 index among all buffers, u64 segment, u32 descriptor, u64 size)
#     the body of that frame
#
# The frame's own buffers are the others, in order.
_HEAD = struct.Struct("!BH")
_PLACE = struct.Struct("!HQIQ")


class SharedOffer(Control, frozen=True):
    """The sender offers its segments; the receiver answers `SharedAccepted` if it can open the named one."""

    process: int
    """The sender's process number."""
    descriptor: int
    """The descriptor of a segment that holds the token."""
    token: bytes
    """The token, which shows that it is the right segment."""


class SharedAccepted(Control, frozen=True):
    """The sender receives large buffers through shared memory."""


class SharedReleased(Control, frozen=True):
    """The sender no longer refers to anything in a segment."""

    segment: int


class SharedDropped(Control, frozen=True):
    """The sender does not use one of its own segments again."""

    segment: int


class BufferSharing:
    """Sends the large buffers of one link through shared memory."""

    __slots__ = ("_link", "_pool")

    def __init__(self, pool: Pool[Link], link: Link) -> None:
        self._pool = pool
        self._link = link

    def pack(self, kind: int, body: Buffer, buffers: Sequence[Buffer]) -> tuple[int, Buffer, Sequence[Buffer]]:
        """Put large buffers into segments. Return the kind, body and buffers of the frame that replaces them."""
        places: list[tuple[int, BufferPlace]] = []
        others: list[Buffer] = []
        for index, buffer in enumerate(buffers):
            large = memoryview(buffer).nbytes >= LEAST
            place = self._pool.put(buffer, self._link) if large else None
            if place is None:
                others.append(buffer)
            else:
                places.append((index, place))
        if not places:
            return kind, body, buffers
        table = b"".join(_PLACE.pack(index, *place) for index, place in places)
        return Kind.SHARED, b"".join((_HEAD.pack(kind, len(places)), table, body)), others


class Sharing:
    """The shared memory of one endpoint, towards all its links."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._pool: Pool[Link] = Pool(self._drop)
        self._mappings = Mappings()
        self._sources: dict[Link, int] = {}  # the process numbers of the peers whose segments can be read
        self._token = trio.lowlevel.current_trio_token()
        self._closed = False
        endpoint.parts[Sharing] = self
        services = endpoint.services
        services.on_frame(Kind.SHARED, self._frame)
        services.on_notice(SharedOffer, self._offered, trust=ANY)
        services.on_notice(SharedAccepted, self._accepted, trust=ANY)
        services.on_notice(SharedReleased, self._released, trust=ANY)
        services.on_notice(SharedDropped, self._dropped, trust=ANY)
        services.links_made.append(self._offer)
        services.links_lost.append(self._lost)

    def _offer(self, link: Link) -> None:
        here = self._endpoint.location.addr
        near = link.trust in Trust.KIN | Trust.CHILD or link.peer.location.addr == here
        if near and link.peer.process_id != self._endpoint.id:
            probe = self._pool.probe()
            if probe is not None:
                link.notify(SharedOffer(os.getpid(), probe, self._pool.token))

    def _offered(self, link: Link, offer: SharedOffer) -> None:
        own = self._pool.probe()
        if own is None or offer.token == self._pool.token:
            return
        if read_probe_untrusted(offer.process, offer.descriptor, own) == offer.token:
            self._sources[link] = offer.process
            link.notify(SharedAccepted())

    def _accepted(self, link: Link, _accepted: SharedAccepted) -> None:
        link.shared = BufferSharing(self._pool, link)

    def _released(self, link: Link, message: SharedReleased) -> None:
        self._pool.released(message.segment, link)

    def _lost(self, link: Link) -> None:
        self._sources.pop(link, None)
        self._mappings.lost(link)
        self._pool.lost(link)

    @staticmethod
    def _drop(link: Link, segment: int) -> None:
        link.notify(SharedDropped(segment))

    def open_segment_untrusted(self, link: Link, descriptor: int, size: int) -> int | None:
        """Open sealed memory of a link's peer for reading; None if that is not possible, as for another machine."""
        process, own = self._sources.get(link), self._pool.probe()
        if process is None or own is None:
            return None
        try:
            return open_untrusted(process, descriptor, own, size)
        except (OSError, ProtocolError):
            return None

    # --- receiving

    def _frame(self, link: Link, frame: Frame) -> None:
        kind, body, places = _unpacked_untrusted(frame.body)
        if kind in {Kind.SHARED, Kind.CONTROL} or kind >= len(link.services.frames):
            message = f"a frame of kind {kind} does not come through shared memory"
            raise ProtocolError(message)
        buffers = list(frame.buffers)
        for index, place in places:
            buffers.insert(index, self._map(link, place))
        link.services.frames[kind](link, Frame(kind, frame.flags, frame.target, body, tuple(buffers)))

    def _map(self, link: Link, place: BufferPlace) -> memoryview:
        process, own = self._sources.get(link), self._pool.probe()
        if process is None or own is None:
            message = "a shared buffer, which was not agreed on"
            raise ProtocolError(message)
        check_size_untrusted(place, config.max_message_size)
        mapped = self._mappings.find(link, place)
        if mapped is None and self._mappings.room():
            mapped = map_untrusted(process, place, own, config.max_message_size)
            self._mappings.keep(link, place.segment, mapped)
        if mapped is None:
            copy = copy_untrusted(process, place, own, config.max_message_size)
            self._tell(weakref.ref(link), place.segment)
            return memoryview(copy)
        mapped.users += 1
        return mapped.view(place.size, self._unused, weakref.ref(link), place.segment)

    def _dropped(self, link: Link, message: SharedDropped) -> None:
        self._mappings.drop(link, message.segment)

    def _unused(self, mapped: MappedSegment, link: weakref.ref[Link], segment: int) -> None:
        # Runs in the thread that dropped the last reference.
        if not self._closed:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._release, mapped, link, segment)

    def _release(self, mapped: MappedSegment, link: weakref.ref[Link], segment: int) -> None:
        mapped.users -= 1
        if not mapped.users:
            mapped.discard_changes()
        self._tell(link, segment)

    def _tell(self, reference: weakref.ref[Link], segment: int) -> None:
        link = reference()
        if link is not None:
            link.reply_backlog.begin()
            link.notify(SharedReleased(segment))
            link.reply_backlog.end()

    def close(self) -> None:
        """Close all segments; other processes can still read what they map."""
        self._closed = True
        self._pool.close()


def _unpacked_untrusted(body: Buffer) -> tuple[int, Buffer, list[tuple[int, BufferPlace]]]:
    try:
        kind, count = _HEAD.unpack_from(body)
        start = _HEAD.size + count * _PLACE.size
        entries = list(_PLACE.iter_unpack(memoryview(body)[_HEAD.size : start]))
    except struct.error as error:
        message = "a malformed frame of shared buffers"
        raise ProtocolError(message) from error
    if len(entries) != count:
        message = "a malformed frame of shared buffers"
        raise ProtocolError(message)
    return kind, bytes(memoryview(body)[start:]), [(index, BufferPlace(*place)) for index, *place in entries]


@contextmanager
def sharing(endpoint: Endpoint) -> Iterator[None]:
    """Let an endpoint use shared memory while the block lasts."""
    shared = Sharing(endpoint)
    try:
        yield
    finally:
        shared.close()
