"""Loses requests and replies on purpose, so that tests can check the consequences.

TCP loses nothing, but a peer may hang, or its machine may be gone, after it has acted and before it has replied.
Nothing is lost unless the environment variable or a test requests it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._wire import Control

VARIABLE = "DISCORO_TEST_LOSE"
"""Names of requests and replies, each with how many are lost, counted from the first: `Grant=1,Prepared=2`."""


def parse_losses(text: str) -> dict[str, int]:
    """Parse the environment variable.

    Raises:
        ValueError: The text does not have this form.
    """
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): int(count) if equals else 1 for name, equals, count in parts}


left: dict[str, int] = parse_losses(os.environ.get(VARIABLE, ""))
"""How many of each this process still loses."""


def loses(message: Control) -> bool:
    """Return whether this message is lost."""
    name = type(message).__name__
    if left.get(name, 0) < 1:
        return False
    left[name] -= 1
    return True
