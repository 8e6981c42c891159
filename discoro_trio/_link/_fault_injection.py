"""Requests and replies that are lost on purpose, so that tests see what follows.

TCP loses nothing, but a peer may be stuck, or its machine may be gone, after it has acted and before it has said so.
Nothing is lost unless the environment or a test says so.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._wire import Control

VARIABLE = "DISCORO_TEST_LOSE"
"""Names of requests and replies, each with the number of those that are lost first: `Grant=1,Prepared=2`."""


def parse_losses(text: str) -> dict[str, int]:
    """Read what the environment variable says.

    Raises:
        ValueError: It has no such form.
    """
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): int(count) if equals else 1 for name, equals, count in parts}


left: dict[str, int] = parse_losses(os.environ.get(VARIABLE, ""))
"""How many of each are still to be lost in this process."""


def loses(message: Control) -> bool:
    """Tell whether this message is lost."""
    name = type(message).__name__
    if left.get(name, 0) < 1:
        return False
    left[name] -= 1
    return True
