"""Shared values between processes: which blobs a process holds, and how it gets one from another process.

A process that gets a blob already serves the part that is there, so that a value goes along a chain of nodes in about
the time that it takes to one of them, and its client sends it once. What is kept for whom is with the callers.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import trio

from ..._config import config
from ..._errors import DiscoroError
from ..._link import BulkData
from ..._link.shared_memory._sharing import Sharing
from ..._records import MutableRecord
from ..._wire import Control
from .._parts import fetch_parts
from ._blob import Blob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ..._link import Endpoint, Link

logger = logging.getLogger(__name__)


class ReadShared(Control, frozen=True):
    """Send bytes of a shared value; answered by `SharedBytes` as soon as they are there."""

    share: bytes
    offset: int
    size: int


class SharedBytes(BulkData, frozen=True):
    """Bytes of a shared value."""


class _Held(MutableRecord, eq=False):
    """A blob, and how many keep it."""

    blob: Blob
    keepers: int = 1


class Blobs:
    """The blobs that one process holds."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._held: dict[bytes, _Held] = {}
        self._came = trio.lowlevel.ParkingLot()
        endpoint.parts[Blobs] = self
        endpoint.services.on_request(ReadShared, self._read)

    def keep(self, share: bytes, blob: Blob) -> None:
        """Hold a blob until it was released as often as it was kept."""
        self._held[share] = _Held(blob)
        self._came.unpark_all()

    def release(self, share: bytes) -> None:
        """Keep a blob no more."""
        held = self._held[share]
        held.keepers -= 1
        if not held.keepers:
            del self._held[share]
            held.blob.close()

    async def get(
        self, share: bytes, size: int, sources: Sequence[Callable[[], Awaitable[Link]]], descriptor: int
    ) -> Blob:
        """Return a blob, which this process keeps from here on; get it from others if it is not here.

        Args:
            share: The id of the value.
            size: Its bytes.
            sources: What gives the links to processes that have it, or will have it; tried in order. The last one is
                the process that made it.
            descriptor: What it is open as at the last of the sources, to be opened here if that is on this machine.

        Raises:
            DiscoroError: It could be got from none of them, or there is no memory for it.

        Cancelling it, this process does not keep it.
        """
        link = await sources[-1]()
        held = self._held.get(share)
        if held is not None:
            held.keepers += 1
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

    async def _read(self, _link: Link, message: ReadShared) -> SharedBytes:
        if message.share not in self._held:  # a process that gets it from here may be told before this one
            with trio.move_on_after(config.MsgTimeout / 2):
                while message.share not in self._held:
                    await self._came.park()
        held = self._held.get(message.share)
        if held is None:
            text = "a shared value is not here; it was released"
            raise DiscoroError(text)
        return SharedBytes(memoryview(await held.blob.read(message.offset, message.size)))


async def _pull(share: bytes, blob: Blob, link: Link) -> None:
    """Get what is missing of a blob from one process. Raises as `fetch_parts`."""

    async def take(offset: int, data: memoryview) -> None:
        await trio.lowlevel.checkpoint()
        blob.write(offset, data)

    await fetch_parts(link, (blob.filled, blob.size), partial(ReadShared, share), take)


def blobs_of(endpoint: Endpoint) -> Blobs:
    """Return the blobs of an endpoint's process."""
    blobs = endpoint.parts[Blobs]
    assert isinstance(blobs, Blobs)  # noqa: S101 - parts are kept by type
    return blobs
