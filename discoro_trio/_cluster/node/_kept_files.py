"""The folders for computations that keep their files (`cleanup=False`), at a node with a `dest_path`.

Each computation has a folder there, named by its name and id, with a folder for each of its servers. A server's folder
is moved there before the first job runs, so that jobs see its final path.
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
"""Other users that servers run as may pass through to their own folder, but cannot list this one."""


def kept_folder(dest_path: Path, name: str, computation: bytes) -> Path:
    """Return the folder for the files of a computation.

    Args:
        dest_path: The node's `dest_path`.
        name: The computation's name, with any characters.
        computation: The computation's id.
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
    """Remove the folder of a server, and that of its computation, if they are empty."""
    with suppress(OSError):  # it is not empty
        folder.rmdir()
        folder.parent.rmdir()
