"""What an interpreter does at its end, for a server, which is ended by a signal: exit handlers, and buffered files.

Threads that a job has left running are not waited for.
"""

from __future__ import annotations

import atexit
import gc
import io
from contextlib import suppress

_STREAM: type = io.IOBase.__bases__[0]
"""The class of all streams; unlike `io.IOBase`, asking for it runs no code of users."""
_BUFFERED = io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair
_OWN = __name__.partition(".")[0]


def run_exit_handlers() -> None:
    """Write the buffered data of open files, call the handlers of `atexit`, and write what these have left.

    It blocks as long as the handlers do. What they raise goes to standard error.
    """
    flush_files()
    with suppress(Exception):
        atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way but the end of the process
    flush_files()


def flush_files() -> None:
    """Write the buffered data of all open files; files of other kinds, such as compressed ones, are closed."""
    found = [one for one in gc.get_objects() if issubclass(type(one), _STREAM)]
    # What lies above others comes first: text above bytes, compressed above plain.
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
