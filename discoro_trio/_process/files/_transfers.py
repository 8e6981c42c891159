"""Sends and receives files in parts.

This module owns both ends of a transfer: the number of parts in flight is bounded, the checksum is checked, and a
failed transfer leaves nothing behind. Names and folders are in `_folder`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from ..._errors import FileTransferError
from ..._link import ANY, BulkData, Done, answered
from ..._records import MutableRecord
from ..._scopes import first_error
from ..._wire import Control
from .._parts import PART, WINDOW
from ._folder import IncomingFile, OutgoingFile, checksum, delete

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._link import Endpoint, Link
    from .._process import Process

MOST_INCOMING = 64
"""The number of transfers from one peer at a time; each holds two descriptors."""


class OfferFile(Control, frozen=True):
    """Ask whether a file of this size is accepted, among others. Answered by `Done`."""

    name: str
    size: int


class BeginFile(Control, frozen=True):
    """Begin the transfer of a file; answered by `FileBegun`."""

    folder: str
    name: str
    size: int
    overwrite: bool


class FileBegun(Control, frozen=True):
    """The receiver is ready for the parts."""

    transfer: int
    key: bytes
    """The key of the checksum in `EndFile`."""


class FilePart(BulkData, frozen=True):
    """The bytes of a file from an offset on; answered by `Done` when they are written."""

    transfer: int
    offset: int


class EndFile(Control, frozen=True):
    """Report that all parts were sent; answered by `Done` when the file is checked and has its name."""

    transfer: int
    checksum: bytes
    mode: int


class DropFile(Control, frozen=True):
    """Cancel a transfer."""

    transfer: int


class DeleteFile(Control, frozen=True):
    """Delete a file; answered by `Done`."""

    folder: str
    name: str


class _Incoming(MutableRecord, eq=False):
    """A transfer to this process."""

    file: IncomingFile
    waiting: dict[int, memoryview] = msgspec.field(default_factory=dict)
    """The parts that are not written yet, by their offset."""
    writing: bool = False
    """Whether a thread writes parts."""
    moved: trio.lowlevel.ParkingLot = msgspec.field(default_factory=trio.lowlevel.ParkingLot)
    """The requests of parts that are not written yet wait here."""
    users: int = 0
    """The number of requests that are using the file."""
    parts: int = 0
    """The number of received parts that are not written yet."""
    dropped: bool = False


class Files:
    """The files that other processes send to this process.

    Attributes:
        folder: The folder for the files; None for the current folder.
        max_file_size: The largest size of one file in bytes; None for no limit.
    """

    def __init__(self, process: Process) -> None:
        self.folder: Path | None = None
        self.max_file_size: int | None = None
        self._process = process
        process.endpoint.parts[Files] = self
        self._incoming: dict[Link, dict[int, _Incoming]] = {}
        self._beginning: Counter[Link] = Counter()
        self._number = 0
        services = process.endpoint.services
        services.on_request(OfferFile, self._offered, trust=ANY)
        services.on_request(BeginFile, self._begin, trust=ANY)
        services.on_request(FilePart, self._part, trust=ANY)
        services.on_request(EndFile, self._end, trust=ANY)
        services.on_notice(DropFile, self._told_to_drop, trust=ANY)
        services.on_request(DeleteFile, self._delete, trust=ANY)
        services.links_lost.append(self._lost)

    def _check(self, link: Link) -> None:
        if self._process.introductions.opened(link):
            text = "a process of another computation cannot send or delete files here"
            raise FileTransferError(text)

    def _root(self) -> Path:
        return self.folder or Path.cwd()

    def check_size(self, name: str, size: int) -> None:
        """Raise FileTransferError if a file is larger than `max_file_size`."""
        limit = self.max_file_size
        if limit is not None and size > limit:
            text = f"{name!r} has {size} bytes; the receiver takes at most {limit} (max_file_size)"
            raise FileTransferError(text)

    async def _offered(self, _link: Link, message: OfferFile) -> Done:
        self.check_size(message.name, message.size)
        return Done()

    async def _begin(self, link: Link, message: BeginFile) -> FileBegun:
        self._check(link)
        self.check_size(message.name, message.size)
        transfers = self._incoming.setdefault(link, {})
        if len(transfers) + self._beginning[link] >= MOST_INCOMING:
            text = f"this process is sending {MOST_INCOMING} files already; send fewer at a time"
            raise FileTransferError(text)

        def make() -> IncomingFile:
            return IncomingFile(self._root(), message.folder, message.name, message.size, overwrite=message.overwrite)

        self._beginning[link] += 1
        try:
            # Not cancelled half-way, so that a file that was made is also dropped.
            with trio.CancelScope(shield=True):
                incoming = _Incoming(await trio.to_thread.run_sync(make))
        finally:
            self._beginning[link] -= 1
            if not self._beginning[link]:
                del self._beginning[link]
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:
            incoming.file.close()
            raise
        self._number += 1
        transfers[self._number] = incoming
        return FileBegun(self._number, incoming.file.key)

    def _found(self, link: Link, number: int) -> _Incoming:
        incoming = self._incoming.get(link, {}).get(number)
        if incoming is None:
            text = "this transfer is not in progress; it failed or was cancelled"
            raise FileTransferError(text)
        return incoming

    async def _part(self, link: Link, message: FilePart) -> Done:
        incoming = self._found(link, message.transfer)
        end = message.offset + len(message.data)
        incoming.parts += 1
        try:
            self._check_part(incoming, message)
            incoming.waiting[message.offset] = message.data
            while incoming.file.offset < end and not incoming.dropped:
                if incoming.writing or incoming.file.offset not in incoming.waiting:
                    await incoming.moved.park()
                else:
                    await self._write(incoming)
            _check_in_progress(incoming)
        except BaseException:
            self._drop(link, message.transfer)
            raise
        finally:
            incoming.parts -= 1
        return Done()

    def _check_part(self, incoming: _Incoming, message: FilePart) -> None:
        """Refuse a part that is too large, here already, or beyond the number of parts that may wait."""
        file, offset, size = incoming.file, message.offset, len(message.data)
        if size > PART or incoming.parts > WINDOW or offset < file.offset or offset in incoming.waiting:
            text = (
                f"{file.name!r}: {size} bytes for offset {offset} came while {file.offset} of {file.size} were "
                f"written; at most {WINDOW} parts of {PART} bytes may be in flight"
            )
            raise FileTransferError(text)

    async def _write(self, incoming: _Incoming) -> None:
        """Write, in one thread, the next part and all that follow and arrive meanwhile."""
        file, waiting, soon = incoming.file, incoming.waiting, trio.lowlevel.current_trio_token().run_sync_soon

        def write() -> None:
            while not incoming.dropped and (data := waiting.pop(file.offset, None)) is not None:
                file.write(data)
                soon(incoming.moved.unpark_all)

        incoming.writing = True
        try:
            await self._use(incoming, write)
        finally:
            incoming.writing = False
            incoming.moved.unpark_all()

    async def _end(self, link: Link, message: EndFile) -> Done:
        incoming = self._found(link, message.transfer)
        del self._incoming[link][message.transfer]  # no further part, and no second end, can use it
        try:
            if incoming.parts:
                text = f"{incoming.file.name!r} ended before all of its parts were written"
                raise FileTransferError(text)
            await self._use(incoming, lambda: incoming.file.finish(message.checksum, message.mode))
        finally:
            self._end_incoming(incoming)
        return Done()

    async def _use(self, incoming: _Incoming, call: Callable[[], None]) -> None:
        _check_in_progress(incoming)
        incoming.users += 1
        try:
            await trio.to_thread.run_sync(call)
        finally:
            incoming.users -= 1
            self._close_unused(incoming)

    def _told_to_drop(self, link: Link, message: DropFile) -> None:
        self._drop(link, message.transfer)

    def _drop(self, link: Link, number: int) -> None:
        incoming = self._incoming.get(link, {}).pop(number, None)
        if incoming is not None:
            self._end_incoming(incoming)

    def _end_incoming(self, incoming: _Incoming) -> None:
        incoming.dropped = True
        incoming.moved.unpark_all()
        self._close_unused(incoming)

    def _close_unused(self, incoming: _Incoming) -> None:
        if incoming.dropped and not incoming.users:
            incoming.file.close()

    def _lost(self, link: Link) -> None:
        for number in list(self._incoming.get(link, ())):
            self._drop(link, number)
        self._incoming.pop(link, None)

    async def _delete(self, link: Link, message: DeleteFile) -> Done:
        self._check(link)
        await trio.to_thread.run_sync(delete, self._root(), message.folder, message.name)
        return Done()


def _check_in_progress(incoming: _Incoming) -> None:
    if incoming.dropped:
        text = "this transfer is no longer in progress; it failed or was cancelled"
        raise FileTransferError(text)


def files_of(endpoint: Endpoint) -> Files:
    """Return the files of an endpoint's process."""
    files = endpoint.parts[Files]
    assert isinstance(files, Files)  # noqa: S101 - parts are kept by type
    return files


class Sending:
    """One file on its way over a link.

    Args:
        link: The connection to the receiver.
        file: The file.
        on_progress: Called with the number of bytes written there and the size of the file.
    """

    def __init__(self, link: Link, file: OutgoingFile, on_progress: Callable[[int, int], None] | None) -> None:
        self._link = link
        self._file = file
        self._on_progress = on_progress
        self._done = 0

    async def run(self, folder: str, *, overwrite: bool) -> None:
        """Send the whole file; if this fails or is cancelled, the receiver keeps nothing."""
        begin = BeginFile(folder, self._file.path.name, self._file.size, overwrite)
        with trio.CancelScope(shield=True):  # otherwise the number to drop would be unknown
            begun = await self._link.request(begin)
        begun = answered(begun, FileBegun)
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            end = EndFile(begun.transfer, await self._send_parts(begun), self._file.mode)
            await trio.lowlevel.checkpoint_if_cancelled()
            with trio.CancelScope(shield=True):  # otherwise the receiver might keep the file of a cancelled transfer
                await self._link.request(end)
        except BaseException:
            self._link.notify(DropFile(begun.transfer))
            raise

    async def _send_parts(self, begun: FileBegun) -> bytes:
        """Send all parts; return the checksum of the file."""
        try:
            return await self._send_parts_at_once(begun)
        except BaseExceptionGroup as group:  # `on_progress` has raised, or Ctrl-C was pressed
            raise first_error(group) from None

    async def _send_parts_at_once(self, begun: FileBegun) -> bytes:
        file, room, summed = self._file, trio.Semaphore(WINDOW), checksum(begun.key)
        soon = trio.lowlevel.current_trio_token().run_sync_soon
        failures: dict[int, Exception] = {}
        async with trio.open_nursery() as nursery:

            async def send(part: FilePart) -> None:
                try:
                    await self._link.request(part)
                except Exception as error:  # noqa: BLE001 - raised below, without a group
                    failures[part.offset] = error
                    nursery.cancel_scope.cancel()
                else:
                    room.release()
                    self._progress(len(part.data))

            def read(count: int) -> bool:
                """Read parts, in a thread, and let each be sent at once; return whether more may follow."""
                for _ in range(count):
                    offset = file.offset
                    data = file.read(PART)
                    if not data:
                        return False
                    summed.update(data)
                    soon(nursery.start_soon, send, FilePart(memoryview(data), begun.transfer, offset))
                return True

            more = True
            while more and not failures:
                await room.acquire()
                count = 1
                while room.value:
                    room.acquire_nowait()
                    count += 1
                try:
                    more = await trio.to_thread.run_sync(read, count)
                except FileTransferError as error:
                    failures[file.offset] = error
                    nursery.cancel_scope.cancel()
                    break
        if failures:
            raise failures[min(failures)]  # the first part has the cause; later ones report only the transfer's end
        return summed.finalize()

    def _progress(self, size: int) -> None:
        self._done += size
        if self._on_progress is not None:
            self._on_progress(self._done, self._file.size)
