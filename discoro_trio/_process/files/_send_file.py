"""Sends and deletes files at other processes; how they travel is with `_transfers`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from ..._compat import _old_programs as migration
from ..._errors import DiscoroError, FileTransferError
from .._current import current_process
from ._folder import OutgoingFile
from ._transfers import DeleteFile, Sending

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._values import Location


@migration.without_timeout
async def send_file(
    location: Location,
    path: str | os.PathLike[str],
    *,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the name is public
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Send a file into the working folder of another process, where it has the same name.

    Args:
        location: The process: of a server, of the client, of any program that this one may talk to.
        path: The file.
        dir: A folder beneath the receiver's working folder, with `/` between its parts; made if it is not there.
        overwrite: Whether it replaces a file that is there.
        on_progress: Called with the bytes that are written at the receiver, and all of them.

    Raises:
        FileTransferError: The file could not be read, sent or written, it is too large for the receiver, its name is
            taken, or `dir` leads out of the receiver's working folder. Nothing is left of it there.
        RuntimeError: No endpoint encloses the task.

    Cancelling it gives the transfer up; nothing is left of it.
    """
    process = current_process()
    file = await trio.to_thread.run_sync(OutgoingFile, Path(path))
    try:
        link = await process.endpoint.link_at(location, process.realm)
        await Sending(link, file, on_progress).run(_folder(dir), overwrite=overwrite)
    except FileTransferError:
        raise
    except DiscoroError as error:
        message = f"{os.fspath(path)!r} was not sent to {location}: {error}"
        raise FileTransferError(message) from error
    finally:
        file.close()


@migration.without_timeout
async def del_file(
    location: Location,
    name: str,
    *,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the name is public
) -> None:
    """Delete a file in the working folder of another process.

    Args:
        location: The process, as for `send_file`.
        name: The file's name.
        dir: A folder beneath the working folder, with `/` between its parts.

    Raises:
        FileTransferError: There is no such file, it cannot be deleted, or the process cannot be reached.
        RuntimeError: No endpoint encloses the task.

    When cancelled, the file may be deleted or not.
    """
    process = current_process()
    try:
        link = await process.endpoint.link_at(location, process.realm)
        await link.request(DeleteFile(_folder(dir), name))
    except FileTransferError:
        raise
    except DiscoroError as error:
        message = f"{name!r} was not deleted at {location}: {error}"
        raise FileTransferError(message) from error


def _folder(given: str | os.PathLike[str] | None) -> str:
    return "" if given is None else os.fspath(given)
