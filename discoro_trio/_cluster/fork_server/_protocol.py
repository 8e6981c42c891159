"""The messages between a node and its fork server, and their framing.

This module owns their types and bytes. `_client` (the node's side) and `_fork_server` (the other side) send them, with
the descriptors of a fork. Both sides are of one installation, so the protocol has no version.

A frame is the length of the body, 4 bytes big-endian, and the body: msgpack of one tagged struct. A `Fork` carries
`FORK_FDS` descriptors (SCM_RIGHTS) with the first byte of its frame: the server's end of the link, and the write ends
of standard output, standard error and the tail.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH = struct.Struct("!I")
FORK_FDS = 4
READ_SIZE = 65536

_T = TypeVar("_T")


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """Node to fork server: fork a server."""

    number: int
    """Identifies the server in all later messages; never used again."""
    spec: bytes
    """The bytes for the server's main function."""
    folder: bytes
    """The server's working folder, encoded by `os.fsencode`."""
    pulse_interval: float
    """Seconds between `AskNode` messages; the server is killed after five without an answer. 0 for none."""


class WatchNode(msgspec.Struct, frozen=True, tag="watch"):
    """Node to fork server: change the interval of a server's `AskNode` messages."""

    number: int
    pulse_interval: float
    """Seconds; 0 for none."""


class NodeIsThere(msgspec.Struct, frozen=True, tag="there"):
    """Node to fork server: the answer to `AskNode`."""


class Signal(msgspec.Struct, frozen=True, tag="signal"):
    """Node to fork server: send a signal to a server, if it is not reaped yet."""

    number: int
    signum: int


class Kill(msgspec.Struct, frozen=True, tag="kill"):
    """Node to fork server: kill a server's whole process group, if the server is not reaped yet."""

    number: int


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """Fork server to node: the server exists."""

    number: int
    pid: int


class ForkFailed(msgspec.Struct, frozen=True, tag="failed"):
    """Fork server to node: the operating system refused the fork."""

    number: int
    errno: int
    text: str


class ServerReaped(msgspec.Struct, frozen=True, tag="ended"):
    """Fork server to node: the server is reaped, and the processes that it left running have ended."""

    number: int
    code: int
    """The exit status, or minus the number of the signal that ended it."""
    reason: str
    """Why the fork server killed it, if it did so on its own."""


class AskNode(msgspec.Struct, frozen=True, tag="ask"):
    """Fork server to node: check that the node runs; answered by `NodeIsThere`."""


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Node to fork server: check that the fork server runs; answered by `Pong`."""


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """Fork server to node: the answer to `Ping`."""


Request = Fork | Signal | Kill | WatchNode | NodeIsThere | Ping
Report = Forked | ForkFailed | ServerReaped | AskNode | Pong

_encoder = msgspec.msgpack.Encoder()


def encode(message: Request | Report) -> bytes:
    """Return the frame of a message."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


class PipeReader(Generic[_T]):
    """Cuts a stream of bytes into messages of one type."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[_T]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[_T]:
        """Take bytes; return the messages that they complete."""
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH.size : end])
            del self._buffer[:end]
            yield self._decoder.decode(body)


def request_reader() -> PipeReader[Request]:
    """Return the fork server's reader."""
    return PipeReader(msgspec.msgpack.Decoder(Request))


def report_reader() -> PipeReader[Report]:
    """Return the node's reader."""
    return PipeReader(msgspec.msgpack.Decoder(Report))
