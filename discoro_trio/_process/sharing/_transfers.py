"""Shared values between processes: the blobs that a process holds, and fetching a blob from another process.

While a process receives a blob, it already serves the part that has arrived. So passing a value along a chain of nodes
takes about as long as sending it to one node, and its client sends it once. The callers decide what is kept.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import trio

from ..._config import config
from ..._errors import AuthenticationError, DiscoroError
from ..._link import ANY, FULL, BulkData
from ..._link.shared_memory._sharing import Sharing
from ..._records import MutableRecord
from ..._wire import Control
from .._parts import fetch_parts
from ._blob import Blob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ..._link import Endpoint, Link
    from .._process import Process

logger = logging.getLogger(__name__)


class ReadShared(Control, frozen=True):
    """Request bytes of a shared value; answered by `SharedBytes` as soon as they are present."""

    share: bytes
    offset: int
    size: int


class SharedBytes(BulkData, frozen=True):
    """Bytes of a shared value."""


class _Held(MutableRecord, eq=False):
    """A blob and its number of holders."""

    blob: Blob
    holders: int = 1


class Blobs:
    """The blobs of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._endpoint = endpoint = process.endpoint
        self._held: dict[bytes, _Held] = {}
        self._came = trio.lowlevel.ParkingLot()
        endpoint.parts[Blobs] = self
        endpoint.services.on_request(ReadShared, self._read, trust=ANY)

    def keep(self, share: bytes, blob: Blob) -> None:
        """Hold a blob until `release` is called as often as `keep`."""
        self._held[share] = _Held(blob)
        self._came.unpark_all()

    def release(self, share: bytes) -> None:
        """Undo one `keep`."""
        held = self._held[share]
        held.holders -= 1
        if not held.holders:
            del self._held[share]
            held.blob.close()

    async def get(
        self, share: bytes, size: int, sources: Sequence[Callable[[], Awaitable[Link]]], descriptor: int
    ) -> Blob:
        """Return a blob, which this process keeps from now on; fetch it from another process if needed.

        Args:
            share: The id of the value.
            size: Its size in bytes.
            sources: Functions that return links to processes that have or will have the value, tried in order. The
                last one is the process that made it.
            descriptor: Its descriptor at the last source, which is opened here if that process is on this machine.

        Raises:
            DiscoroError: No source could deliver it, or there is not enough memory.

        If cancelled, this process does not keep it.
        """
        link = await sources[-1]()
        held = self._held.get(share)
        if held is not None:
            held.holders += 1
            try:
                await held.blob.until_complete()
            except BaseException:
                self.release(share)
                raise
            return held.blob
        opened = self._endpoint.parts[Sharing].open_segment_untrusted(link, descriptor, size)
        blob = Blob(size, opened)
        self.keep(share, blob)
        if opened is None:
            await self._fetch(share, blob, sources)
        return blob

    async def _fetch(self, share: bytes, blob: Blob, sources: Sequence[Callable[[], Awaitable[Link]]]) -> None:
        error = DiscoroError("the transfer was cancelled")
        fetched = False
        try:
            for source in sources:
                try:
                    await _pull(share, blob, await source())
                except DiscoroError as failure:
                    logger.info("a shared value is fetched from another process: %s", failure)
                    error = failure
                else:
                    blob.complete()
                    fetched = True
                    return
            raise error
        finally:
            if not fetched:
                blob.fail(error)
                self.release(share)

    async def _read(self, link: Link, message: ReadShared) -> SharedBytes:
        if link.trust not in FULL and not self._process.introductions.of_client(link):
            text = "only programs with the secret, and a server's client, may read shared values"
            raise AuthenticationError(text)
        if message.share not in self._held:  # a process that fetches it from here may be notified before this one
            with trio.move_on_after(config.MsgTimeout / 2):
                while message.share not in self._held:
                    await self._came.park()
        held = self._held.get(message.share)
        if held is None:
            text = "a shared value is not here; it was released"
            raise DiscoroError(text)
        return SharedBytes(memoryview(await held.blob.read(message.offset, message.size)))


async def _pull(share: bytes, blob: Blob, link: Link) -> None:
    """Fetch the missing part of a blob from one process. Raises as `fetch_parts` does."""

    async def take(offset: int, data: memoryview) -> None:
        await trio.lowlevel.checkpoint()
        blob.write(offset, data)

    await fetch_parts(link, (blob.filled, blob.size), partial(ReadShared, share), take)


def blobs_of(endpoint: Endpoint) -> Blobs:
    """Return the blobs of an endpoint's process."""
    blobs = endpoint.parts[Blobs]
    assert isinstance(blobs, Blobs)  # noqa: S101 - parts are kept by type
    return blobs
