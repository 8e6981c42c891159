"""Sends what the code of this process prints and logs to the client.

This module owns the replacements for `sys.stdout` and `sys.stderr`, the `logging` handler, and the buffer behind them.
The node reads what is written directly to the descriptors; `_client` shows all output.

`print` cannot `await`. So the buffer is bounded (`config.output_backlog`). If it is full because the client is behind,
a worker thread that prints blocks, as at a full pipe. Trio's thread must not block, so its lines are left out, and one
line reports how many. A coroutine's output is sent before its outcome.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from .._config import config
from .._errors import DiscoroError, PeerDisconnected
from .._link import ANY, Wakeup
from .._wire import Control, Kind
from ._kept_output import KeptOutput
from ._telemetry import current_ids
from .execution._local_coro import current

if TYPE_CHECKING:
    from .._link import Link
    from ._process import Process
    from .execution._local_coro import LocalCoro

STDOUT, STDERR, LOG = 1, 2, 3
"""The flags of an OUTPUT frame. Its target is the serial number of the writing coroutine, or 0."""

_PIECE = 32 * 1024
"""Consecutive output of one coroutine is sent in frames of about this many bytes."""
_RECORD = 64
"""The overhead of a record beside its text, in bytes."""


class ShowOutput(Control, frozen=True):
    """Send output to the client from now on, and log records from these levels on, by logger ("" is the root)."""

    levels: dict[str, int]


class OutputEnds(Control, frozen=True):
    """Reports that all output of the server was sent; answered by `Done` when it is shown."""


class Written(msgspec.Struct, frozen=True, array_like=True):
    """The body of an OUTPUT frame with what was written to standard output or standard error."""

    coro: str
    """The name of the coroutine; empty for none."""
    data: bytes
    """Lines and parts of lines."""


class Logged(msgspec.Struct, frozen=True, array_like=True):
    """The body of an OUTPUT frame with a log record."""

    coro: str
    """The name of the coroutine; empty for none."""
    logger: str
    level: int
    text: str
    """The message, with its arguments."""
    trace: str
    """The traceback, if there is one."""
    created: float
    """Seconds since the epoch."""
    file: str
    line: int
    function: str
    trace_id: str = ""
    """The ids of the span in which it was logged, as hexadecimal digits; empty without OpenTelemetry."""
    span_id: str = ""


_encode = msgspec.msgpack.Encoder().encode


class _Piece:
    """Output that waits to be sent: consecutive output of one coroutine, or a log record."""

    __slots__ = ("data", "name", "serial", "stream")

    def __init__(self, stream: int, serial: int, name: str, data: bytearray) -> None:
        self.stream = stream
        self.serial = serial
        self.name = name
        self.data = data

    def body(self) -> bytes:
        return bytes(self.data) if self.stream == LOG else _encode(Written(self.name, bytes(self.data)))


class Output:
    """The output of a server, from the code that writes it to the link to the client.

    Creating it redirects `sys.stdout`, `sys.stderr` and the root logger of the process to it.

    Args:
        process: The process whose output it is.
        client_id: The id of the process that may receive it.
        tail_fd: A descriptor that also gets standard error, as the buffer here is lost with the process.

    Attributes:
        kept: The end of the output, for later queries.
    """

    def __init__(self, process: Process, client_id: bytes, tail_fd: int) -> None:
        self._client_id = client_id
        self._tail_fd = tail_fd
        self.kept: KeptOutput = KeptOutput()
        self._limit = config.output_backlog
        self._pieces: deque[_Piece] = deque()
        self._size = 0
        self._leaving_out = False
        self._left_out = 0
        self._in_line = False
        self._unended: dict[LocalCoro | None, set[int]] = {}
        self._link: Link | None = None
        self._over = False
        self._forked = False
        self._wakeup = Wakeup()
        self._thread = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token()
        # The lock is reentrant, as a finalizer that prints may run anywhere.
        self._changed = threading.Condition()
        process.endpoint.services.on_notice(ShowOutput, self._show, trust=ANY)
        os.register_at_fork(after_in_child=self._fork)
        self._before = sys.stdout, sys.stderr
        self._handler = _Handler(self)
        logging.getLogger().addHandler(self._handler)
        sys.stdout, sys.stderr = streams = _text_stream(self, STDOUT), _text_stream(self, STDERR)
        _made.extend(streams)

    # --- written by any code, in any thread

    def write(self, stream: int, data: bytes) -> None:
        """Add data that was written to standard output or standard error."""
        if self._forked:
            _write_all(stream, data)
            return
        if not data:
            return
        if stream == STDERR:
            with suppress(OSError):  # the tail is full
                os.write(self._tail_fd, data)
        locals_ = current.get()
        local = locals_[-1] if locals_ else None
        with self._changed:
            self.kept.written(stream, *_writer(local), data)
            data = self._fitting(stream, local, data)
            if data:
                self._append(stream, local, data)
                self._note_end(stream, local, data)
        self._ring()

    def log(self, record: logging.LogRecord) -> None:
        """Add a log record."""
        text = record.getMessage()
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else record.exc_text or ""
        if self._forked:
            _write_all(STDERR, "\n".join(filter(None, [text, trace, ""])).encode(errors="backslashreplace"))
            return
        locals_ = current.get()
        local = locals_[-1] if locals_ else None
        logged = Logged(
            local.name if local is not None else "",
            record.name,
            record.levelno,
            _clean(text),
            _clean(trace),
            record.created,
            _clean(record.pathname),
            record.lineno,
            record.funcName or "",
            *(current_ids() if config.opentelemetry else ()),
        )
        with self._changed:
            self.kept.logged(
                *_writer(local), record.levelname.lower(), "\n".join(filter(None, [logged.text, logged.trace]))
            )
            data = self._fitting(LOG, local, _encode(logged))
            if data:
                self._append(LOG, local, data)
                self._note_end(LOG, local, b"\n")
        self._ring()

    def _fitting(self, stream: int, local: LocalCoro | None, data: bytes) -> bytes:
        """Return the data to buffer: in Trio's thread what fits, in other threads all of it, after a wait."""
        if threading.get_ident() != self._thread:
            self._changed.wait_for(lambda: self._over or self._fits(len(data), self._limit))
            return b"" if self._over else data
        if self._over:
            return b""
        if not self._leaving_out and self._fits(len(data), self._limit):
            return data
        if not self._fits(len(data), self._limit // 2):
            self._leave_out(stream, local, data)
            return b""
        return self._go_on(stream, data)

    def _fits(self, size: int, limit: int) -> bool:
        return not self._size or self._size + size <= limit

    def _leave_out(self, stream: int, local: LocalCoro | None, data: bytes) -> None:
        self._leaving_out = True
        if stream == LOG:
            self._left_out += 1
            return
        if stream in self._unended.get(local, ()):
            self._append(stream, local, b"\n")
            self._note_end(stream, local, b"\n")
            _, _, data = data.partition(b"\n")
        self._left_out += data.count(b"\n")
        self._in_line = bool(data) and not data.endswith(b"\n")

    def _go_on(self, stream: int, data: bytes) -> bytes:
        """Accept output again, from the beginning of the next line."""
        if self._in_line and stream != LOG:
            _, newline, data = data.partition(b"\n")
            if not newline:
                return b""
            self._left_out += 1
            self._in_line = False
        self._leaving_out = False
        self._tell_left_out()
        return data

    def _tell_left_out(self) -> None:
        if self._left_out:
            text = f"[{self._left_out} lines of output were left out: the client was too far behind]\n"
            self._append(STDERR, None, text.encode())
            self._left_out = 0

    def _append(self, stream: int, local: LocalCoro | None, data: bytes) -> None:
        serial, name = _writer(local)
        last = self._pieces[-1] if self._pieces else None
        goes_on = last is not None and last.serial == serial and last.stream == stream != LOG
        if last is not None and goes_on and len(last.data) < _PIECE:
            last.data += data
            self._size += len(data)
        else:
            self._pieces.append(_Piece(stream, serial, name, bytearray(data)))
            self._size += len(data) + _RECORD

    def _note_end(self, stream: int, local: LocalCoro | None, data: bytes) -> None:
        """Record whether a coroutine's last line on a stream is complete; the coroutine's end completes it."""
        unended = self._unended.get(local)
        if unended is None:
            unended = self._unended[local] = set()
            if local is not None:
                local.at_end(lambda: self._ended(local))
        if data.endswith(b"\n"):
            unended.discard(stream)
        elif data:
            unended.add(stream)

    def _ring(self) -> None:
        if threading.get_ident() == self._thread:
            self._wakeup.ring()
        else:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._wakeup.ring, idempotent=True)

    def _fork(self) -> None:
        """Note that this process was forked by user code, and sends no output."""
        self._forked = True

    # --- sent by Trio's thread

    def _ended(self, local: LocalCoro) -> None:
        with self._changed:
            for stream in self._unended.pop(local, ()):
                self.kept.written(stream, *_writer(local), b"\n")
                self._append(stream, local, b"\n")
        self._send(most=self._limit)

    def _show(self, link: Link, show: ShowOutput) -> None:
        if link.peer.process_id != self._client_id:
            return
        self._link = link
        for name, level in show.levels.items():
            logger = logging.getLogger(name or None)
            # A level that code of this process has set itself is kept.
            if logger.level in {logging.NOTSET, logging.WARNING}:
                logger.setLevel(level)
        self._wakeup.ring()

    def _send(self, most: int) -> None:
        """Pass about `most` bytes to the link, unless the link is full."""
        link = self._link
        if link is None:
            return
        if link.lost:
            self._discard()
            return
        with self._changed:
            while self._pieces and most > 0 and not link.full:
                piece = self._pieces.popleft()
                self._size -= len(piece.data) + _RECORD
                most -= len(piece.data)
                link.send(Kind.OUTPUT, piece.serial, piece.body(), piece.stream, keys=(~piece.serial,))
            self._changed.notify_all()

    def _discard(self) -> None:
        """Drop all output from now on, as no client receives it."""
        with self._changed:
            self._over = True
            self._pieces.clear()
            self._size = 0
            self._changed.notify_all()

    async def run(self) -> None:
        """Send output until cancelled; then restore the streams."""
        try:
            while True:
                await self._wakeup.wait()
                while self._pieces and self._link is not None:
                    with suppress(PeerDisconnected):
                        await self._link.room()
                    self._send(_PIECE)
                    await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
        finally:
            logging.getLogger().removeHandler(self._handler)
            sys.stdout, sys.stderr = self._before
            self._discard()

    async def finish(self) -> None:
        """Wait until the client has shown all output, or is gone."""
        with self._changed:
            self._tell_left_out()
        while self._pieces and self._link is not None and not self._over:
            with suppress(PeerDisconnected):
                await self._link.room()
            self._send(_PIECE)
        if self._link is not None and not self._link.lost:
            with suppress(DiscoroError):
                await self._link.request(OutputEnds())


# `print` holds no reference to the stream that it writes to (CPython before 3.12). A thread may wait in a stream while
# `sys.stdout` is restored, so all streams are kept for the lifetime of the process.
_made: list[io.TextIOWrapper[Any]] = []


class _Handler(logging.Handler):
    """Passes every log record of the process to `Output`."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def handle(self, record: logging.LogRecord) -> bool:
        # Without the handler's lock: another thread may wait here, and Trio's thread must not wait for it.
        if not self.filter(record):
            return False
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._output.log(record)
        except Exception:  # noqa: BLE001 - the record's own arguments may raise anything; logging shows it
            self.handleError(record)


class _Stream(io.BufferedIOBase):
    """The bytes below a text stream."""

    def __init__(self, output: Output, number: int) -> None:
        super().__init__()
        self._output = output
        self._number = number
        self.name = ("", "<stdout>", "<stderr>")[number]
        self.mode = "wb"

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        taken = bytes(data)
        self._output.write(self._number, taken)
        return len(taken)

    def fileno(self) -> int:
        # For subprocesses and C code: the node reads what they write there.
        return self._number


def _text_stream(output: Output, number: int) -> io.TextIOWrapper[Any]:
    # Written through at once, as the output belongs to the coroutine that writes it.
    return io.TextIOWrapper(_Stream(output, number), encoding="utf-8", errors="backslashreplace", write_through=True)


def _write_all(fd: int, data: bytes) -> None:
    with suppress(OSError):
        while data:
            data = data[os.write(fd, data) :]


def _writer(local: LocalCoro | None) -> tuple[int, str]:
    """Return the number and the name of the writing coroutine."""
    return (local.serial, local.name) if local is not None else (0, "")


def _clean(text: str) -> str:
    # Lone surrogates, as in undecodable file names, are not valid UTF-8.
    return text.encode(errors="backslashreplace").decode()
