"""Sends files to other processes and deletes files there; `_transfers` carries out the transfers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from ... import _arguments as arguments
from ..._errors import DiscoroError, FileTransferError
from ..._values import location as as_location
from .._current import current_process
from ._folder import OutgoingFile
from ._transfers import DeleteFile, Sending

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._values import Location


async def send_file(
    location: Location | str,
    path: str | os.PathLike[str],
    *,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the name is public
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Send a file into the working folder of another process, under the same name.

    Args:
        location: The process: a server, the client, or any program that this one may connect to; a Location, or its
            text `addr:port` or `name:port`.
        path: The file.
        dir: A folder beneath the receiver's working folder, with `/` between its parts; made if it does not exist.
        overwrite: Whether it replaces an existing file.
        on_progress: Called with the number of bytes written at the receiver and the size of the file.

    Raises:
        FileTransferError: The file could not be read, sent or written, it is too large for the receiver, its name is
            taken, or `dir` leads out of the receiver's working folder. The receiver keeps nothing of it.
        TypeError, ValueError: An argument has the wrong type or form.
        RuntimeError: No endpoint encloses the task.

    Cancelling it ends the transfer; the receiver keeps nothing of it.
    """
    process = current_process()
    where = as_location("location", location)
    folder = "" if dir is None else arguments.path("dir", dir)
    arguments.flag("overwrite", overwrite)
    if on_progress is not None:
        arguments.callback("on_progress", on_progress)
    file = await trio.to_thread.run_sync(OutgoingFile, Path(arguments.path("path", path)))
    try:
        link = await process.endpoint.link_at(where, process.realm)
        await Sending(link, file, on_progress).run(folder, overwrite=overwrite)
    except FileTransferError:
        raise
    except DiscoroError as error:
        message = f"{os.fspath(path)!r} was not sent to {location}: {error}"
        raise FileTransferError(message) from error
    finally:
        file.close()


async def del_file(
    location: Location | str,
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
        TypeError, ValueError: An argument has the wrong type or form.
        RuntimeError: No endpoint encloses the task.

    If cancelled, the file may or may not be deleted.
    """
    process = current_process()
    where = as_location("location", location)
    folder = "" if dir is None else arguments.path("dir", dir)
    name = arguments.text("name", name)
    try:
        link = await process.endpoint.link_at(where, process.realm)
        await link.request(DeleteFile(folder, name))
    except FileTransferError:
        raise
    except DiscoroError as error:
        message = f"{name!r} was not deleted at {location}: {error}"
        raise FileTransferError(message) from error
