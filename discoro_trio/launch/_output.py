"""What a node's process writes: its lines as text, and their level in the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import deque

logger = logging.getLogger("discoro_trio.launch")

TAIL = 5
"""Lines of an output that become part of the reason of an end."""


def printable(line: bytes) -> str:
    """Return text without control characters, which could change a terminal's state."""
    text = line.decode(errors="replace").rstrip()
    return "".join(character if character.isprintable() else "?" for character in text)


def log_line(name: str, line: str, tail: deque[str]) -> None:
    """Log a line of a node, at the level that it begins with if the node has logged it.

    Args:
        name: The node's name.
        line: The line.
        tail: Gets the lines that may explain a failure.
    """
    first, _, rest = line.partition(" ")
    level = logging.getLevelNamesMapping().get(first)
    text = line if level is None else rest
    if level is None or level > logging.INFO:
        tail.append(text)
    logger.log(logging.INFO if level is None else level, "%s: %s", name, text)
