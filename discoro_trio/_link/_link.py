"""One authenticated connection to another process, shared by all traffic between the two.

The endpoint owns the link; the link owns its reader, its writer and the tasks that answer requests. The reader handles
every complete frame of a read before it waits again. It waits for something else only if the peer does not read the
replies to its own frames (`ReplyBacklog`). The writer sends the frames that are queued. The handlers in `Services`
decide what a frame means.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from .._config import KIB, MIB, config
from .._errors import DiscoroError, PeerDisconnected, ProtocolError
from .._wire import Control, FrameReader, Kind
from ._reply_backlog import ReplyBacklog
from ._requests import IN_ORDER, MOST_ANSWERING_BYTES, LinkRequests
from ._resumable import ResumableTransport
from ._services import Trust, control
from ._writer import Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    from .._wire import Batch, Buffer, Frame, PeerIdentity
    from ._keepalive import Keepalive
    from ._services import Services
    from ._transport import Transport
    from .shared_memory._sharing import BufferSharing

logger = logging.getLogger(__name__)

# Seconds that a goodbye waits for the peer to close its side, so that a reset does not discard unread bytes.
GOODBYE_TIME = 1.0

# Received bytes are confirmed to the peer at once when there are this many, and after a moment when there are a few:
# the peer keeps what it has written until it is confirmed.
_CONFIRM_NOW, _CONFIRM_LATER, _CONFIRM_SECONDS = 4 * MIB, 64 * KIB, 0.2

MOST_FROM_CHILD = 64 * 1024 * 1024
"""Limit in bytes for a frame, and for the requests in flight, that a node accepts from a server: servers run jobs."""

_BATCH, _CONTROL = int(Kind.BATCH), int(Kind.CONTROL)


class Goodbye(Control, frozen=True):
    """The peer ends the connection in good order; it sends nothing more."""

    reason: str


class BytesReceived(Control, frozen=True):
    """Confirms received bytes; the peer need not keep them for another connection."""

    position: int
    """Bytes received since the link began."""


class Link:
    """One connection to a peer process.

    Attributes:
        peer: The peer's identity, which the handshake has proved.
        realm: The key with which the peer proved its identity.
        trust: What the peer may do.
        lost: Whether nothing can be sent any more.
        orderly: Whether one of the two ends said goodbye before the end.
        ended: Set when the link's tasks have ended.
        name: The name of the link at both ends, if it outlives its connections.
        shared: The shared memory that carries large buffers to the peer, if there is any.
        owed: The replies to the peer's own frames that are not yet written.
    """

    def __init__(
        self, transport: Transport, peer: PeerIdentity, services: Services, trust: Trust, *, early: bytes = b""
    ) -> None:
        self.peer = peer
        self.realm: bytes = peer.realm
        self.trust = trust
        self.services = services
        self.lost: bool = False
        self.orderly: bool = False
        self.error: Exception | None = None
        self.ended: trio.Event = trio.Event()
        self.shared: BufferSharing | None = None
        self._transport = transport
        self._resumable = transport if isinstance(transport, ResumableTransport) else None
        self._told = 0  # the bytes that were confirmed to the peer
        self._telling = False
        self.name: bytes = b""
        self.watched_by: Keepalive | None = None
        self._early = early
        self._writer = Writer(transport)
        self._outbox = self._writer.outbox
        self.reply_backlog: ReplyBacklog = ReplyBacklog(self._outbox)
        self._requests = LinkRequests(
            self, most_bytes=MOST_FROM_CHILD if trust is Trust.CHILD else MOST_ANSWERING_BYTES
        )
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        """Name the peer."""
        return f"<Link to {self.peer_name}>"

    @property
    def peer_name(self) -> str:
        """The peer's name and location, for log lines and errors."""
        return f"{self.peer.name} at {self.peer.location}"

    def fileno(self) -> int:
        """Return the descriptor of the link's socket; -1 if it has none."""
        below = self._transport.socket
        return -1 if below is None else below.fileno()

    def send(  # noqa: PLR0917 - by position, as keywords take a tenth of its time
        self,
        kind: int,
        target: int,
        body: Buffer = b"",
        flags: int = 0,
        buffers: Sequence[Buffer] = (),
        keys: tuple[Hashable, ...] = (),
        after: tuple[Hashable, ...] | None = None,
    ) -> None:
        """Queue a frame for the writer; never waits. Takes the arguments of `Outbox.put`.

        Raises:
            PeerDisconnected: The link is lost.
        """
        if self.lost:
            raise self._disconnected()
        if buffers and self.shared is not None:
            kind, body, buffers = self.shared.pack(kind, body, buffers)
        self._outbox.put(kind, flags, target, body, buffers, keys, after)
        self._writer.added(kind)

    def flush(self) -> None:
        """Write as much of the queue as the kernel takes at once: the next task may block this thread."""
        self._writer.flush()

    def send_kept(  # noqa: PLR0917 - as `send`
        self, kind: int, target: int, body: Buffer, flags: int, buffers: Sequence[Buffer], keys: tuple[Hashable, ...]
    ) -> None:
        """Send, as `send` does, data that this process holds anyway and that the peer has requested; for handlers."""
        before = self._outbox.position
        self.send(kind, target, body, flags, buffers, keys)
        self.reply_backlog.spare(self._outbox.position - before)

    def gather(
        self, batch: Batch, value: object, keys: tuple[Hashable, ...], after: tuple[Hashable, ...] | None = None
    ) -> None:
        """Add a short value to a batch, as `Outbox.gather` does; never waits.

        Raises:
            PeerDisconnected: The link is lost.
        """
        if self.lost:
            raise self._disconnected()
        self._outbox.gather(batch, value, keys, after)
        self._writer.added(_BATCH)

    def notify(self, message: Control) -> None:
        """Send a control message without a reply. Does nothing if the link is lost: the loss is reported elsewhere."""
        if not self.lost:
            self.send(Kind.CONTROL, 0, control.encode(message), keys=IN_ORDER)

    async def request(
        self,
        message: Control,
        *,
        timeout: float | None = -1.0,  # noqa: ASYNC109 - the protocol sets the bound, not a scope of the caller
    ) -> Control:
        """Send a request and wait for its reply.

        Args:
            message: The request.
            timeout: Seconds to wait; None for ever; by default `config.MsgTimeout`.

        Raises:
            PeerDisconnected: The link is lost, or no reply came in time.
            DiscoroError: The peer's handler raised it.

        Cancelling abandons the request and cancels the peer's handler.
        """
        seconds = config.MsgTimeout if timeout is not None and timeout < 0 else timeout
        if self.lost:
            raise self._disconnected()
        return await self._requests.ask(message, seconds)

    @property
    def full(self) -> bool:
        """Whether `room` would wait."""
        return self._writer.full

    async def room(self) -> None:
        """Wait while more than `_writer.HIGH_WATER` bytes are not yet written.

        Raises:
            PeerDisconnected: The link is lost.
        """
        await self._writer.room()
        if self.lost:
            raise self._disconnected()

    @property
    def broken(self) -> bool:
        """Whether the connection is broken and both ends try to connect again."""
        return self._resumable is not None and self._resumable.broken

    async def until_interrupted(self) -> None:
        """Wait until the connection is broken, or the link has ended."""
        if self._resumable is None:
            await self.ended.wait()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_then_cancel, self.ended.wait, nursery.cancel_scope)
            await self._resumable.until(broken=True)
            nursery.cancel_scope.cancel()

    def resumed(self, transport: Transport) -> None:
        """Note that the link goes on over another connection."""
        if self.watched_by is not None:
            self.watched_by.watch(self, transport)
        self._writer.resume()

    def heartbeat(self) -> None:
        """Confirm the received bytes, even if that is no news: the peer's kernel has to acknowledge it."""
        if self._resumable is not None and not self._resumable.broken:
            self._told = self._resumable.received
            self.notify(BytesReceived(self._told))

    def start_soon(self, function: Callable[..., Awaitable[None]], *args: object, name: str) -> None:
        """Start a task that ends with the link; does nothing if the link has just ended."""
        with suppress(RuntimeError):  # the nursery has no tasks left: the link is about to end
            if self._nursery is not None:
                self._nursery.start_soon(function, *args, name=name)

    def abort_start(self, target: int) -> bool:
        """Drop a start that is not yet completely sent. Return whether there was one."""
        return self._writer.abort_start(target)

    def close(self, reason: str) -> None:
        """End the link in good order: write the queued frames, then say goodbye."""
        if self.lost or self.orderly:
            return
        self.orderly = True
        if self._resumable is not None:
            self._resumable.final = True
            if self._resumable.broken:
                self.fail(PeerDisconnected(reason))
                return
        self._outbox.put_last(Kind.CONTROL, control.encode(Goodbye(reason)))
        self._writer.finish()

    def fail(self, error: Exception) -> None:
        """End the link at once."""
        if self.error is None:
            self.error = error
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _disconnected(self) -> PeerDisconnected:
        why = f": {self.error}" if self.error is not None else ""
        return PeerDisconnected(f"the connection to {self.peer_name} is lost{why}")

    @trio.lowlevel.enable_ki_protection
    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read and write until the link ends, then call the loss listeners. Never raises the error that ended it."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                if self.error is not None:  # it failed before it ran
                    nursery.cancel_scope.cancel()
                nursery.start_soon(self._write, nursery, name=f"writer to {self.peer_name}")
                nursery.start_soon(self._read, nursery, name=f"reader from {self.peer_name}")
                task_status.started()
        finally:
            try:
                self._end()
            finally:
                with trio.CancelScope(shield=True):
                    await self._transport.aclose()
                self.ended.set()

    def _end(self) -> None:
        self.lost = True
        error = self.error or PeerDisconnected("it was closed" if self.orderly else "the peer is gone")
        self._requests.lost(error)
        self._writer.release()
        for tell in self.services.links_lost:
            tell(self)

    @trio.lowlevel.enable_ki_protection
    async def _read(self, nursery: trio.Nursery) -> None:
        try:
            await self._read_frames(nursery)
        except ProtocolError as error:
            logger.warning("%s broke the protocol, the connection is closed: %s", self.peer_name, error)
            self.error = error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.error = self.error or PeerDisconnected(str(error))
        except Exception as error:
            # A bug in a handler must end only this connection, not the whole process.
            logger.exception("what %s sent could not be handled, the connection is closed", self.peer_name)
            self.error = error
        nursery.cancel_scope.cancel()

    async def _read_frames(self, nursery: trio.Nursery) -> None:
        child = self.trust is Trust.CHILD
        reader = FrameReader(min(config.max_message_size, MOST_FROM_CHILD) if child else config.max_message_size)
        receive_into = self._transport.receive_into
        reply_backlog, resumable = self.reply_backlog, self._resumable
        frames = reader.feed(self._early)
        new_turn = self._writer.new_turn
        while True:
            new_turn()
            reply_backlog.begin()
            self._handle(frames, nursery)
            frames.clear()  # otherwise an idle link would keep the memory of a large message
            if reply_backlog.end():
                await self._writer.room()
            if resumable is not None and resumable.received - self._told >= _CONFIRM_LATER:
                self._confirm(resumable.received - self._told >= _CONFIRM_NOW, nursery)
            count = await receive_into(reader.buffer())
            if not count:
                break
            frames = reader.received(count)
        if not reader.at_boundary:
            self.error = PeerDisconnected("the stream ended inside a frame")

    def _handle(self, frames: list[Frame], nursery: trio.Nursery) -> None:
        handlers = self.services.frames
        for frame in frames:
            if frame[0] == _CONTROL:
                self._received_control(frame, nursery)
            else:
                handlers[frame[0]](self, frame)

    def _confirm(self, now: bool, nursery: trio.Nursery) -> None:  # noqa: FBT001 - one caller
        """Confirm the received bytes to the peer, so that it can drop them: now, or soon if nothing more arrives."""
        if now:
            self._tell_received()
        elif not self._telling:
            self._telling = True
            nursery.start_soon(self._confirm_later, name=f"confirm to {self.peer_name}")

    async def _confirm_later(self) -> None:
        await trio.sleep(_CONFIRM_SECONDS)
        self._telling = False
        self._tell_received()

    def _tell_received(self) -> None:
        if self._resumable is not None and self._resumable.received > self._told and not self.lost:
            self._told = self._resumable.received
            self.notify(BytesReceived(self._told))

    def _received_control(self, frame: Frame, nursery: trio.Nursery) -> None:
        if frame[1]:
            self._requests.received(frame, nursery)
            return
        message = control.decode(frame[3])
        if isinstance(message, BytesReceived):
            if self._resumable is not None:
                self._resumable.confirm(message.position)
            return
        if isinstance(message, Goodbye):
            self.orderly = True
            self.lost = True
            for note in self.services.processes_ended:
                note(self.peer.process_id)
            nursery.cancel_scope.cancel()
            return
        try:
            self.services.notice_handler(self, message)(self, message)
        except ProtocolError:
            raise
        except DiscoroError as error:
            logger.warning("a %s of %s failed: %s", type(message).__name__, self.peer_name, error)

    @trio.lowlevel.enable_ki_protection
    async def _write(self, nursery: trio.Nursery) -> None:
        try:
            await self._writer.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.error = self.error or PeerDisconnected(str(error))
            nursery.cancel_scope.cancel()
        else:
            nursery.cancel_scope.deadline = trio.current_time() + GOODBYE_TIME


async def _then_cancel(wait: Callable[[], Awaitable[object]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()
