"""Runs exit handlers and flushes files at the end of a server, which a signal ends without interpreter shutdown.

It does not wait for threads that a job has left running.
"""

from __future__ import annotations

import atexit
import gc
import io
from contextlib import suppress

_STREAM: type = io.IOBase.__bases__[0]
"""The class of all streams. Unlike a check against `io.IOBase`, a check against it runs no users' code."""
_BUFFERED = io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair
_OWN = __name__.partition(".")[0]


def run_exit_handlers() -> None:
    """Flush open files, call the `atexit` handlers, and flush again what these have written.

    It blocks as long as the handlers do. Their errors are printed to standard error.
    """
    flush_files()
    with suppress(Exception):
        atexit._run_exitfuncs()  # noqa: SLF001 - the only public way is to end the process
    flush_files()


def flush_files() -> None:
    """Flush all open files; close files of other kinds, such as compressed ones."""
    found = [one for one in gc.get_objects() if issubclass(type(one), _STREAM)]
    # Outer layers first: text before bytes, compressed before plain.
    for stream in sorted(found, key=_level):
        kind = type(stream)
        with suppress(Exception):  # it is closed, broken, or cannot be written
            if issubclass(kind, _BUFFERED):
                stream.flush()
            elif kind.__module__ not in {"_io", "io"} and not kind.__module__.startswith(_OWN) and stream.writable():
                stream.close()


def _level(stream: object) -> int:
    kind = type(stream)
    if issubclass(kind, io.TextIOWrapper):
        return 0
    return 2 if issubclass(kind, _BUFFERED) else 1
