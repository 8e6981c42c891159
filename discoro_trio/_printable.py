"""Text that others have chosen, such as names, made fit for a terminal and for one line of a log."""

from __future__ import annotations


def printable(text: str) -> str:
    """Replace what a terminal would obey, and what would break a line, by its escape sequence in Python."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
