"""Starts the programs. From the first moment on, Ctrl-C ends them without a traceback.

This module owns the first half second, in which everything else is imported; it imports nothing slow itself.
"""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def run_node(arguments: Sequence[str] | None = None) -> None:
    """Be `discoronode`."""
    with _nothing_to_end():
        from ._main import run  # noqa: PLC0415 - while Ctrl-C needs no care
        from ._node import node  # noqa: PLC0415 - each program imports its own
    run(node, "discoronode", arguments)


def run_discoro(arguments: Sequence[str] | None = None) -> None:
    """Be `discoro`."""
    with _nothing_to_end():
        from ._discoro import discoro  # noqa: PLC0415 - each program imports its own
        from ._main import run  # noqa: PLC0415 - while Ctrl-C needs no care
    run(discoro, "discoro", arguments)


def run_package(arguments: Sequence[str] | None = None) -> None:
    """Run `python -m discoro_trio`: `node …` is `discoronode …`, everything else is `discoro …`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["node"]:
        run_node(given[1:])
    else:
        run_discoro(given)


@contextmanager
def _nothing_to_end() -> Iterator[None]:
    """Let Ctrl-C end the process at once while the block lasts: nothing needs an orderly end yet."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # it is ignored, or other code handles it
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
