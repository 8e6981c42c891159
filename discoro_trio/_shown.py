"""Users' values as text for display: short and on one line, even if their `str()` fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST_VALUE = 120
"""The most characters of one argument."""
LONGEST_LINE = 2000
"""The most characters of one line of output, and of all arguments together."""


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """Return the text, shortened, without line breaks and characters that change the writing direction."""
    shortened = text if len(text) <= longest else text[: longest - 1] + "…"
    return printable(shortened)


def shown(value: object) -> str:
    """Return `str()` of a value, quoted like a Python str if it is a text; if `str()` raises, a text that says so."""
    try:
        text = repr(value[: LONGEST_VALUE + 1]) if isinstance(value, str | bytes) else str(value)
    except Exception as error:  # noqa: BLE001 - it is the user's own method, and only looked at
        return f"<{type(value).__name__}: str() raised {type(error).__name__}>"
    return one_line(text, LONGEST_VALUE)


def arguments(args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """Return arguments as they are written in a call."""
    parts = [shown(value) for value in args]
    parts += [f"{name}={shown(value)}" for name, value in kwargs.items()]
    return one_line(", ".join(parts))
