"""A process that has nothing but what is shipped to it, for tests: calls what comes, sends back what came of it.

Its arguments are where the package is, and what it calls itself; tests run it and do not import it. It runs without
the test suite on its path, in an empty folder, and speaks through its standard streams.
"""

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Python put this file's folder first, and nothing of the test suite may be found here.
del sys.path[0]
sys.path.insert(0, sys.argv[1])

from discoro_trio._shipping._codec import dumps, loads  # noqa: E402
from discoro_trio._shipping._errors_in_transit import pack_error  # noqa: E402
from discoro_trio._shipping._installation import install_definitions, place_files, write_tree  # noqa: E402
from discoro_trio._shipping._package import decode_package_untrusted  # noqa: E402

sys.path.remove(sys.argv[1])
PLACE = sys.argv[2]


def read() -> tuple[bytearray, list[bytearray]] | None:
    """Read one body with its buffers; None at the end of the input."""
    line = sys.stdin.buffer.readline()
    if not line:
        return None
    body, *buffers = (bytearray(sys.stdin.buffer.read(int(size))) for size in line.split())
    return body, buffers


def write(body: bytes, buffers: Iterable[Any] = ()) -> None:
    """Write one body with its buffers."""
    parts = [memoryview(part).cast("B") for part in (body, *buffers)]
    OUT.write(b" ".join(b"%d" % len(part) for part in parts) + b"\n")
    for part in parts:
        OUT.write(part)
    OUT.flush()


def install(data: bytearray) -> None:
    """Do what a node and a server do with a package."""
    package = decode_package_untrusted(data)
    folder = Path(tempfile.mkdtemp(dir=os.environ["SCRATCH"]))
    write_tree(package, folder)
    place_files(folder, Path.cwd())
    install_definitions(package, folder, place=PLACE)


def serve() -> None:
    """Install the package that comes first, then call what comes."""
    first = True
    while (frame := read()) is not None:
        try:
            result = None
            if first:
                install(frame[0])
            else:
                function, args = loads(*frame)
                result = function(*args)
            body, buffers = dumps((True, result))
        except BaseException as error:  # noqa: BLE001 - all of them are answers
            body, buffers = dumps((False, *pack_error(error, where=f"coroutine test at {PLACE}")))
        first = False
        write(body, buffers)


if __name__ == "__main__":
    # What the shipped code prints must not get among the answers.
    OUT = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.chdir(tempfile.mkdtemp(dir=os.environ["SCRATCH"]))
    serve()
