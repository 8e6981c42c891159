"""Makes text from other processes, such as names, safe for a terminal and for one line of a log."""

from __future__ import annotations


def printable(text: str) -> str:
    """Replace control characters and line breaks by their Python escape sequences."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
