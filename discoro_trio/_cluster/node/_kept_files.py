"""Where the files of a computation stay that wants them to (`cleanup=False`), at a node with a `dest_path`.

Each computation has a folder there, with its name and id; each of its servers has one in that. A server's folder is
moved there before the first job runs, so that jobs see the place where it stays.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST_NAME = 80
_ID_DIGITS = 8
_ENTERABLE = 0o711
"""Other users, as whom servers run, may go through to a folder of theirs, and see no names."""


def kept_folder(dest_path: Path, name: str, computation: bytes) -> Path:
    """Return the folder for the files of a computation.

    Args:
        dest_path: The node's.
        name: The computation's name, of any characters.
        computation: Its id.
    """
    safe = re.sub(r"[^\w.+-]+", "_", name).strip("._")[:_LONGEST_NAME] or "computation"
    return dest_path / f"files-{safe}-{computation.hex()[:_ID_DIGITS]}"


def move_in(folder: Path, place: Path, *, other_user: bool) -> Path:
    """Move the working folder of a server into the folder of its computation; return its new path.

    Raises:
        OSError: It cannot be moved.
    """
    place.mkdir(mode=0o700, exist_ok=True)
    if other_user:
        place.chmod(_ENTERABLE)
    return folder.rename(place / folder.name)


def leave_if_used(folder: Path) -> None:
    """Remove the folder of a server, and that of its computation, if nothing is in them."""
    with suppress(OSError):  # something is
        folder.rmdir()
        folder.parent.rmdir()
