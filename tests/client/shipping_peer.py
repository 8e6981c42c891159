"""The client's end of `shipping_server`, for tests and for the programs that they write."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import discoro_trio
from discoro_trio._shipping._codec import dumps, loads
from discoro_trio._shipping._components import pack
from discoro_trio._shipping._errors_in_transit import unpack_error
from discoro_trio._shipping._package import encode_package
from discoro_trio._shipping._shipped import close_shipped, open_shipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

R = TypeVar("R")

ROOT = str(Path(discoro_trio.__file__).parents[1])
SERVER = str(Path(__file__).with_name("shipping_server.py"))
PLACE = "server 127.0.0.1:5000"
"""What the process calls itself."""


class Peer:
    """A process with components.

    Attributes:
        sent: The bytes that the last call took.
    """

    def __init__(self, components: Iterable[object] = (), *, automatic: bool = True) -> None:
        self.sent = 0
        self.packed = pack(components, automatic=automatic)

    def __enter__(self) -> Self:
        """Start the process and install the components."""
        self._folder = tempfile.TemporaryDirectory(prefix="shipping-")
        environment = {**os.environ, "SCRATCH": self._folder.name}
        environment.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            [sys.executable, SERVER, ROOT, PLACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        open_shipped(self.packed.shipped)
        try:
            self._exchange(encode_package(self.packed.package), ())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        close_shipped(self.packed.shipped)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def call(self, function: Callable[..., R], *args: Any) -> R:
        """Call a function there."""
        result: R = self._exchange(*dumps((function, args), self.packed.shipped))
        return result

    def error(self, function: Callable[..., Any], *args: Any) -> BaseException:
        """Call a function there that raises, and give what it raised."""
        try:
            result = self.call(function, *args)
        except Exception as error:  # noqa: BLE001 - it is what the test asks for
            return error
        text = f"it returned {result!r}"
        raise AssertionError(text)

    def _exchange(self, body: bytes, buffers: Sequence[Any]) -> Any:
        parts = [body, *(bytes(memoryview(buffer)) for buffer in buffers)]
        self.sent = sum(map(len, parts))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b" ".join(b"%d" % len(part) for part in parts) + b"\n" + b"".join(parts))
        self._process.stdin.flush()
        sizes = self._process.stdout.readline().split()
        answer, *rest = (bytearray(self._process.stdout.read(int(size))) for size in sizes)
        succeeded, *result = loads(answer, rest)
        if succeeded:
            return result[0]
        raise unpack_error(*result)
