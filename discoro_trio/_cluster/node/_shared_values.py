"""The shared values of one lease, stored for its servers as one file for each in a folder.

The file is a link to the memory that the node holds, so that a replacement server finds it, too. Servers of another
user may not open the node's memory; for them the file is a copy that they all map.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from ..._errors import DiscoroError
from ..._link.shared_memory._pool import AVAILABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from ..._link import Link
    from ..._process import Blobs
    from ..._process.sharing._blob import Blob
    from ..isolation._users import User

SHARED = "shared"
"""The folder, beside the folders of code and files."""


class SharedForServers:
    """The shared values that a node keeps for the servers of one lease."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._kept: dict[bytes, Blob] = {}
        self._folder: Path | None = None
        self._user: User | None = None
        self._closed = False

    async def open(self, folder: Path, user: User | None) -> None:
        """Make the folder, and publish the values that arrived earlier."""
        os.mkdir(folder, mode=0o700)  # noqa: PTH102 - one call that does not wait
        self._folder, self._user = folder, user
        for share, blob in list(self._kept.items()):
            await self._publish(share, blob)

    async def put(
        self, share: bytes, size: int, sources: Sequence[Callable[[], Awaitable[Link]]], descriptor: int
    ) -> None:
        """Fetch a value, if it is not here, and publish it to the servers. The arguments are those of `Blobs.get`.

        Raises:
            DiscoroError: It could not be fetched, or there is no room for it.
        """
        if share in self._kept:
            await trio.lowlevel.checkpoint()
            return
        blob = await self._blobs.get(share, size, sources, descriptor)
        if self._closed or share in self._kept:
            self._blobs.release(share)
            return
        self._kept[share] = blob
        await self._publish(share, blob)

    async def _publish(self, share: bytes, blob: Blob) -> None:
        if self._folder is None:
            return  # `open` does it
        path = self._folder / share.hex()
        if path.exists():
            return
        try:
            if AVAILABLE and self._user is None:
                path.symlink_to(blob.path)
            else:
                await trio.to_thread.run_sync(self._copy, blob, path)
        except OSError as error:
            message = f"a shared value of {blob.size} bytes cannot be given to the servers: {error.strerror}"
            raise DiscoroError(message) from error

    def _copy(self, blob: Blob, path: Path) -> None:
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            blob.copy_to(file.fileno())
        if self._user is not None:
            os.chown(unfinished, self._user.uid, self._user.gid)
        unfinished.rename(path)

    def drop(self, share: bytes) -> None:
        """Drop a value."""
        if self._kept.pop(share, None) is None:
            return
        if self._folder is not None:
            (self._folder / share.hex()).unlink(missing_ok=True)
        self._blobs.release(share)

    def close(self) -> None:
        """Drop all values."""
        self._closed = True
        for share in list(self._kept):
            self.drop(share)
