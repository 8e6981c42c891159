"""Coverage-guided fuzzing (atheris): inputs that reach new code of the package are kept and changed further.

Each target runs in a program of its own, as atheris instruments modules while they are imported:

    python -m tests.fuzz.guided TARGET SECONDS FOLDER

The inputs that reached something new are put into FOLDER; the first ones are those of the other fuzzers.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

# What reads bytes of peers; the whole package would take a minute.
READERS = ["discoro_trio._wire", "discoro_trio._process.files", "discoro_trio._shipping._package", "h11", "wsproto"]
with atheris.instrument_imports(include=READERS, enable_loader_override=False):
    import h11
    import wsproto.connection
    import wsproto.utilities

    from discoro_trio import DiscoroError, Location
    from discoro_trio._process.files._folder import IncomingFile
    from discoro_trio._wire import Answerer, Found, Role
    from tests.fuzz.samples import KEY, datagrams, hellos, kept
    from tests.fuzz.test_before_authentication import shake_hands
    from tests.fuzz.test_decoders import DECODERS

if TYPE_CHECKING:
    from collections.abc import Callable

INPUT_BYTES = 65_536


def handshake(data: bytes) -> None:
    """Let a server read a handshake."""
    with suppress(DiscoroError):
        assert not shake_hands(data), "a peer without a proof is accepted"


def discovery(data: bytes) -> None:
    """Let a process read a datagram."""
    answerer = Answerer(KEY, Found(b"n" * 16, Role.NODE, "node", Location("127.0.0.1", 9)))
    sent = answerer.received_untrusted(data, ("10.0.0.1", 5), 0.0, own_machine=False)
    assert sum(len(one.body) for one in sent if one.to is not None) <= len(data)


def file_parts(data: bytes) -> None:
    """Write a file by a name and parts that a peer chooses; nothing may appear outside the folder."""
    source = atheris.FuzzedDataProvider(data)
    with tempfile.TemporaryDirectory() as outer:
        root = Path(outer, "root")
        root.mkdir()
        with suppress(DiscoroError):
            folder, name = source.ConsumeUnicode(20), source.ConsumeUnicode(40)
            file = IncomingFile(root, folder, name, source.ConsumeIntInRange(-5, 5000), overwrite=source.ConsumeBool())
            try:
                while source.remaining_bytes() > 64:
                    file.write(memoryview(source.ConsumeBytes(source.ConsumeIntInRange(0, 2000))))
                file.finish(source.ConsumeBytes(32), source.ConsumeIntInRange(0, 0o7777))
            finally:
                file.close()
        assert [path.name for path in Path(outer).iterdir()] == ["root"], "a file outside the folder"


def http(data: bytes) -> None:
    """Read requests as the monitor's server does."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=32_768)
    with suppress(h11.RemoteProtocolError):
        connection.receive_data(data)
        event = connection.next_event()
        while event is not h11.NEED_DATA and event is not h11.PAUSED and not isinstance(event, h11.ConnectionClosed):
            event = connection.next_event()


def web_socket(data: bytes) -> None:
    """Read the frames of a browser as the monitor's server does, and a question in each text."""
    connection = wsproto.connection.Connection(wsproto.connection.ConnectionType.SERVER)
    with suppress(wsproto.utilities.RemoteProtocolError, wsproto.utilities.LocalProtocolError):
        connection.receive_data(data)
        for event in connection.events():
            if isinstance(event, wsproto.events.TextMessage):
                reader("questions of browsers")(event.data.encode())


def reader(name: str) -> Callable[[bytes], None]:
    """Give the target that reads with one of the decoders."""
    decoder = DECODERS[name]

    def read(data: bytes) -> None:
        with suppress(*decoder.raises):
            decoder.read(data)

    return read


REQUESTS = [
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b'POST /api/v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 11\r\n\r\n{"token":1}',
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]
SOCKET_FRAMES = [
    b"\x81\x82abcd\x1a\x1f",
    b"\x01\x81abcd\x1a\x80\x81abcd\x1c",
    b"\x89\x80abcd",
    b"\x88\x82abcd\x62\x8a",
    b"\x81\xfe\x00\x80abcd" + bytes(128),
]
# "errors" are pickles, whose bytes may allocate anything; only peers that may run code here send them. "written lines"
# are read by code in C, which shows no coverage. `test_decoders` changes the inputs of both at random.
WITHOUT_COVERAGE = {"errors", "written lines"}
TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "handshake": (handshake, [*hellos(), *kept("before")]),
    "discovery": (discovery, datagrams()),
    "file parts": (file_parts, [b"folder" * 4 + b"name" * 10 + bytes(100), b"../x" * 40]),
    "HTTP": (http, REQUESTS),
    "WebSocket": (web_socket, SOCKET_FRAMES),
    **{
        name: (reader(name), [*decoder.sound, *kept("decoders")])
        for name, decoder in DECODERS.items()
        if name not in WITHOUT_COVERAGE
    },
}


def main(name: str, seconds: int, folder: Path) -> None:
    """Fuzz one target; the program ends with status 0 if nothing was found."""
    target, first = TARGETS[name]
    for number, data in enumerate(first):
        (folder / f"first{number}").write_bytes(data)
    options = [f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES}", "-timeout=10", "-rss_limit_mb=1024"]
    if "DISCORO_FUZZ_SECONDS" not in os.environ:
        options.append("-seed=1")  # each run begins with the same inputs, so it judges the change
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}{os.sep}", str(folder)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
