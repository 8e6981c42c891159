"""Values of users as text that is fit to be shown: short, on one line, whatever `str()` of them does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST_VALUE = 120
"""Characters of one argument."""
LONGEST_LINE = 2000
"""Characters of one line of output, and of all arguments together."""


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """Give the text without what breaks lines or turns the writing direction, and not too long."""
    shortened = text if len(text) <= longest else text[: longest - 1] + "…"
    return printable(shortened)


def shown(value: object) -> str:
    """Give `str()` of a value, quoted as Python does for texts; one that raises is named instead."""
    try:
        text = repr(value[: LONGEST_VALUE + 1]) if isinstance(value, str | bytes) else str(value)
    except Exception as error:  # noqa: BLE001 - it is the user's own method, and only looked at
        return f"<{type(value).__name__}: str() raised {type(error).__name__}>"
    return one_line(text, LONGEST_VALUE)


def arguments(args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """Give arguments as they stand in a call."""
    parts = [shown(value) for value in args]
    parts += [f"{name}={shown(value)}" for name, value in kwargs.items()]
    return one_line(", ".join(parts))
