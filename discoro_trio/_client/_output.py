"""Shows what the servers of computations print and log, with the names of server and coroutine.

Text that Python code prints comes from its server, line by line and before its outcome. Text that C code or other
programs write to the descriptors comes from the node. Lines are assembled here. They are written to this program's own
`sys.stdout` and `sys.stderr`; log records go to its own loggers, if their levels allow.
"""

from __future__ import annotations

import logging
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import msgspec

from .._cluster import messages
from .._errors import ProtocolError
from .._link import ANY, Done
from .._printable import printable
from .._process import output
from .._process._telemetry import within
from .._records import Record
from .._values import Location
from .._wire import Kind
from ._scheduler_messages import SchedulerMessages

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._link import Endpoint, Link
    from .._wire import Frame

logger = logging.getLogger(__name__)

_LONGEST = 64 * 1024
"""A line that has not ended after this many bytes is shown as it is."""
MOST_UNENDED = 1_000
"""The most lines of all servers that have not ended; if there are more, the oldest is shown as it is."""
_LONGEST_NAME = 256
_DESCRIPTORS = -1
"""Replaces a coroutine's serial number for text written to a server's descriptors."""


class Line(Record, frozen=True):
    """One printed line, or one log record."""

    server: Location
    coro: str
    """The name of the coroutine; empty if no coroutine wrote it, or if it is unknown."""
    stream: int
    """`STDOUT`, `STDERR` or `LOG`."""
    text: str
    """The text, without the end of the line."""
    level: str
    """`print`, `stderr`, or the log record's level in lower case."""

    @property
    def prefix(self) -> str:
        """Return the prefix that names its source."""
        return f"[server {self.server} {printable(self.coro)}]" if self.coro else f"[server {self.server}]"


class Display:
    """The output of all computations of one endpoint.

    Attributes:
        watchers: Receive every line as well.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.watchers: list[Callable[[Line], None]] = []
        self._servers: dict[bytes, Location] = {}
        self._partial: dict[tuple[bytes, int, int], tuple[Location, str, bytes]] = {}
        self._written = msgspec.msgpack.Decoder(output.Written)
        self._logged = msgspec.msgpack.Decoder(output.Logged)
        self._broken = False
        self._endpoint = endpoint
        services = endpoint.services
        services.on_frame(Kind.OUTPUT, self._frame)
        services.on_notice(messages.ServerWrote, self._wrote)
        services.on_request(output.OutputEnds, self._ends, trust=ANY)

    @classmethod
    def of(cls, endpoint: Endpoint) -> Display:
        """Return the endpoint's display."""
        display: Display | None = endpoint.parts.get(cls)
        if display is None:
            display = endpoint.parts[cls] = cls(endpoint)
        return display

    def add(self, server_id: bytes, location: Location, link: Link) -> None:
        """Show the output of a server from now on."""
        self._servers[server_id] = location
        link.notify(output.ShowOutput(_levels()))

    def remove(self, server_id: bytes) -> None:
        """Show the remaining output of a server that has ended."""
        if self._servers.pop(server_id, None) is not None:
            self._end_lines(server_id)

    # --- frames

    def _frame(self, link: Link, frame: Frame) -> None:
        server_id = link.peer.process_id
        location = self._servers.get(server_id)
        if location is None:
            return  # its computation is closed
        _, stream, serial, body, _ = frame
        try:
            if stream == output.LOG:
                self._log(location, self._logged.decode(body))
                return
            written = self._written.decode(body)
        except (ValueError, RecursionError) as error:  # all errors of msgspec, and of malformed text
            message = f"malformed output: {error}"
            raise ProtocolError(message) from error
        self._take((server_id, serial, stream), location, written.coro, written.data)

    def _wrote(self, link: Link, wrote: messages.ServerWrote) -> None:
        dispatcher: SchedulerMessages | None = self._endpoint.parts.get(SchedulerMessages)
        session = None if dispatcher is None else dispatcher.sessions.get(wrote.computation)
        if session is None or not session.members.is_node(link):
            return
        location = Location(wrote.addr, wrote.port)
        self._take((wrote.server_id, _DESCRIPTORS, wrote.stream), location, "", wrote.data)
        if wrote.server_id not in self._servers:
            self._end_lines(wrote.server_id)

    async def _ends(self, link: Link, _ends: output.OutputEnds) -> Done:
        # Frames of a link are handled in order: all earlier output is shown.
        self._end_lines(link.peer.process_id)
        return Done()

    # --- lines

    def _take(self, key: tuple[bytes, int, int], location: Location, coro: str, data: bytes) -> None:
        if key in self._partial:
            data = self._partial.pop(key)[-1] + data
        *lines, rest = data.split(b"\n")
        if len(rest) > _LONGEST:
            lines.append(rest)
        elif rest:
            self._partial[key] = location, coro[:_LONGEST_NAME], rest
            if len(self._partial) > MOST_UNENDED:
                self._end_line(next(iter(self._partial)))
        if lines:
            self._show([_line(location, coro, key[2], line) for line in lines])

    def _end_lines(self, server_id: bytes) -> None:
        for key in [key for key in self._partial if key[0] == server_id]:
            self._end_line(key)

    def _end_line(self, key: tuple[bytes, int, int]) -> None:
        location, coro, rest = self._partial.pop(key)
        self._show([_line(location, coro, key[2], rest)])

    def _show(self, lines: list[Line]) -> None:
        """Show lines of one stream of one coroutine."""
        for watcher in self.watchers:
            for line in lines:
                watcher(line)
        stream = sys.stdout if lines[0].stream == output.STDOUT else sys.stderr
        if stream is None or self._broken:
            return
        text = "".join(f"{line.prefix} {line.text}\n" for line in lines)
        try:
            try:
                stream.write(text)
            except UnicodeEncodeError:
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:  # a pipe whose reader is gone, a stream that was closed
            self._broken = True
            logger.warning("output of servers cannot be shown any more: %s", error)

    def _log(self, location: Location, logged: output.Logged) -> None:
        level = logging.getLevelName(logged.level).lower()
        line = Line(location, logged.coro, output.LOG, logged.text, level)
        for watcher in self.watchers:
            watcher(line)
        there = logging.getLogger(logged.logger)
        if not there.isEnabledFor(logged.level):
            return
        record = {
            "name": logged.logger,
            "levelno": logged.level,
            "levelname": logging.getLevelName(logged.level),
            "msg": f"{line.prefix} {logged.text}",
            "exc_text": logged.trace or None,
            "created": logged.created,
            "msecs": logged.created % 1 * 1000,
            "pathname": logged.file,
            "lineno": logged.line,
            "funcName": logged.function,
            "server": str(location),
            "coro": logged.coro,
        }
        made = logging.makeLogRecord(record)
        with within(logged.trace_id, logged.span_id, made) if logged.trace_id else nullcontext():
            there.handle(made)


def _line(location: Location, coro: str, stream: int, data: bytes) -> Line:
    text = data.removesuffix(b"\r").decode(errors="backslashreplace")
    return Line(location, coro, stream, text, "print" if stream == output.STDOUT else "stderr")


def _levels() -> dict[str, int]:
    """Return the log levels that this program has set, so that servers send no other records."""
    root = logging.getLogger()
    loggers = {name: found for name, found in root.manager.loggerDict.items() if isinstance(found, logging.Logger)}
    return {"": root.level, **{name: found.level for name, found in loggers.items() if found.level}}
