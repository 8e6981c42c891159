"""Sends errors between processes.

An exception arrives unchanged: type, arguments, attributes, notes, cause, context, members of its group. A note
contains where it was raised. An exception that cannot be pickled or unpickled arrives as `RemoteError` with its text.
Exceptions that end a process or a task (KeyboardInterrupt, SystemExit, trio.Cancelled) are never sent.

This module defines the form of errors in transit. `_runner` decides when they are sent, `_outcome` who receives them.
"""

from __future__ import annotations

import linecache
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from .._errors import CoroCancelled, NotPicklable, RemoteError
from .._records import MutableRecord
from ._codec import dumps, loads
from ._exception_parts import is_plain_error, make_error
from ._explanations import explanation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from ._by_value import Registry

MAX_TEXT = 64 * 1024
"""The longest text of a traceback or a message, in characters; the middle of a longer one is left out."""

_MAX_FRAMES = 100
_MAX_ERRORS = 1000
_WITHOUT_STATE = 2

# The frames that run coroutines are above the coroutine's own code in every traceback, and are not useful.
MACHINERY = (
    str(Path(__file__).parent.parent),
    str(Path(trio.__file__).parent),
    str(Path(sys.modules["outcome"].__file__ or "-").parent),
)


class _TracebackLine(msgspec.Struct, frozen=True, array_like=True):
    """A line of a traceback."""

    file: str
    """Empty where frames were left out."""
    line: int
    """The line, or the number of frames that were left out."""
    name: str
    """The function."""
    source: str
    """The text of the line; the receiver looks it up if the sender does not have the file."""


class _Error(msgspec.Struct, frozen=True, array_like=True):
    """One exception. It refers to others by their numbers."""

    kind: str
    """Its type, for people."""
    text: str
    """Its message."""
    frames: tuple[_TracebackLine, ...]
    """Its traceback."""
    body: bytes
    """Its pickled parts; empty if they cannot be pickled or must not be sent."""
    buffers: int
    """The number of its out-of-band buffers."""
    notes: tuple[str, ...]
    """Its notes."""
    cause: int | None
    """Its cause (`__cause__`)."""
    context: int | None
    """Its context (`__context__`), unless that is suppressed."""
    suppress_context: bool
    """The value of the exception."""
    message: str
    """The message of a group."""
    members: tuple[int, ...] | None
    """The members of a group; None for any other exception."""
    cancelled: bool
    """Whether it was trio's Cancelled, or a group of nothing else."""


class _Errors(msgspec.Struct, frozen=True, array_like=True):
    """An exception, first, with all exceptions to which it refers."""

    where: str
    """The coroutine that raised it."""
    errors: tuple[_Error, ...]
    """They themselves."""


_encoder = msgspec.msgpack.Encoder()


def pack_error(error: BaseException, *, where: str, shipped: Registry | None = None) -> tuple[bytes, Sequence[Any]]:
    """Make an error ready to be sent. This never raises.

    Args:
        error: Any exception; it is not changed.
        where: The coroutine that raised it, for the note: "coroutine NAME at SERVER".
        shipped: As in `dumps`.

    Returns:
        Body and buffers.
    """
    packer = _Packer(shipped)
    packer.number(error)
    errors = packer.all()
    return _encoder.encode(_Errors(_shortened(where), errors)), packer.buffers


def unpack_error(body: bytes | bytearray | memoryview, buffers: Iterable[Any] = ()) -> BaseException:
    """Return a packed error, with the remote traceback in a note. This never raises."""
    try:
        return _Unpacker(msgspec.msgpack.decode(body, type=_Errors), list(buffers)).error()
    except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, RecursionError) as error:
        return RemoteError(f"an error came whose form is wrong: {type(error).__name__}: {error}")


def _crosses(error: BaseException) -> bool:
    return not isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit))


def _attributes_of(error: BaseException, reduced: tuple[Any, ...]) -> dict[str, Any]:
    attributes = dict(reduced[2]) if len(reduced) > _WITHOUT_STATE else {}
    attributes.pop("__notes__", None)
    for kind in type(error).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name != "__dict__" and hasattr(error, name):
                attributes[name] = getattr(error, name)
    return attributes


class _Packer:
    """Numbers an exception and all exceptions to which it refers, and packs each."""

    def __init__(self, shipped: Registry | None) -> None:
        self.buffers: list[Any] = []
        self._shipped = shipped
        self._numbers: dict[int, int] = {}
        self._errors: list[BaseException] = []

    def number(self, error: BaseException | None) -> int | None:
        """Return the number of an exception, which is packed later; None beyond the limit."""
        if error is None or len(self._errors) >= _MAX_ERRORS:
            return None
        if id(error) not in self._numbers:
            self._numbers[id(error)] = len(self._errors)
            self._errors.append(error)
        return self._numbers[id(error)]

    def all(self) -> tuple[_Error, ...]:
        """Pack all numbered exceptions, including those that are numbered meanwhile."""
        packed: list[_Error] = []
        while len(packed) < len(self._errors):
            packed.append(self._pack(self._errors[len(packed)]))
        return tuple(packed)

    def _pack(self, error: BaseException) -> _Error:
        members = self._members(error) if isinstance(error, BaseExceptionGroup) else None
        cancelled = _is_cancelled(error)
        body, buffers = (b"", ()) if cancelled or not _crosses(error) else self._parts(error)
        self.buffers += buffers
        context = None if error.__suppress_context__ or _is_cancelled(error.__context__) else error.__context__
        return _Error(
            kind=_name_of(type(error)),
            text=_text_of(error),
            frames=_frames(error.__traceback__),
            body=body,
            buffers=len(buffers),
            notes=_notes_of(error),
            cause=self.number(error.__cause__),
            context=self.number(context),
            suppress_context=error.__suppress_context__,
            message=error.message if isinstance(error, BaseExceptionGroup) else "",
            members=members,
            cancelled=cancelled,
        )

    def _members(self, group: BaseExceptionGroup[BaseException]) -> tuple[int, ...]:
        left = [self.number(member) for member in group.exceptions if not _is_cancelled(member)]
        return tuple(number for number in left if number is not None)

    def _parts(self, error: BaseException) -> tuple[bytes, Sequence[Any]]:
        try:
            if not is_plain_error(error):
                return dumps((error,), self._shipped)
            reduced: Any = error.__reduce__()
            args = () if isinstance(error, BaseExceptionGroup) else reduced[1]
            return dumps((type(error), args, _attributes_of(error, reduced)), self._shipped)
        except NotPicklable:
            return b"", ()
        except Exception:  # noqa: BLE001 - its own methods may raise anything
            return b"", ()


def _is_cancelled(error: BaseException | None) -> bool:
    """Return whether an exception is only trio's Cancelled."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_cancelled(member) for member in error.exceptions)
    return isinstance(error, trio.Cancelled)


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _text_of(error: BaseException) -> str:
    try:
        return _shortened(str(error))
    except Exception as failure:  # noqa: BLE001 - its __str__ may raise anything
        return f"<its text cannot be had: {type(failure).__name__}>"


def _notes_of(error: BaseException) -> tuple[str, ...]:
    found = getattr(error, "__notes__", None)
    notes = [note for note in found if isinstance(note, str)] if isinstance(found, list) else []
    meaning = explanation(error)
    if meaning is not None:
        notes.append(meaning)
    return tuple(_shortened(note) for note in notes)


def _shortened(text: str) -> str:
    # Lone surrogates, as in undecodable file names, are not valid UTF-8.
    text = text.encode(errors="backslashreplace").decode()
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _frames(begin: TracebackType | None) -> tuple[_TracebackLine, ...]:
    found = traceback.extract_tb(begin)
    first = next((index for index, frame in enumerate(found) if not frame.filename.startswith(MACHINERY)), 0)
    frames = [
        _TracebackLine(
            _shortened(frame.filename), frame.lineno or 0, _shortened(frame.name), _shortened(frame.line or "")
        )
        for frame in found[first:]
    ]
    if len(frames) > _MAX_FRAMES:
        half = _MAX_FRAMES // 2
        left_out = _TracebackLine("", len(frames) - 2 * half, "", "")
        frames = [*frames[:half], left_out, *frames[-half:]]
    return tuple(frames)


class _Unpacker(MutableRecord):
    """Makes exceptions from their packed form."""

    packed: _Errors
    buffers: list[Any]
    _made: dict[int, BaseException] = msgspec.field(default_factory=dict)

    def error(self) -> BaseException:
        """Return the exception with all exceptions to which it refers."""
        starts = self._starts()
        for index in reversed(range(len(self.packed.errors))):
            self._make(index, starts)
        for index, made in self._made.items():
            packed = self.packed.errors[index]
            made.__cause__ = self._made.get(-1 if packed.cause is None else packed.cause)
            made.__context__ = self._made.get(-1 if packed.context is None else packed.context)
            made.__suppress_context__ = packed.suppress_context
        return self._made[0]

    def _starts(self) -> list[int]:
        """Return the index of the first buffer of each exception."""
        starts = [0]
        for packed in self.packed.errors:
            starts.append(starts[-1] + packed.buffers)
        return starts

    def _make(self, number: int, starts: list[int]) -> BaseException:
        made = self._made.get(number)
        if made is not None:
            return made
        packed = self.packed.errors[number]
        # Members cannot be changed after a group is made, so they are made first; causes are set at the end.
        members = [self._make(member, starts) for member in packed.members or ()]
        trace = _format(packed.frames, self.packed.where)
        made = self._opened(packed, self.buffers[starts[number] : starts[number + 1]], members, trace)
        notes = [*packed.notes, trace] if trace and not isinstance(made, RemoteError) else [*packed.notes]
        if notes:
            made.__notes__ = notes
        self._made[number] = made
        return made

    def _opened(self, packed: _Error, buffers: list[Any], members: list[BaseException], trace: str) -> BaseException:
        if packed.cancelled:
            return CoroCancelled()
        reason = ""
        if packed.body:
            try:
                return _rebuilt(loads(packed.body, buffers), packed.message, members)
            except Exception as error:  # noqa: BLE001 - users' classes may raise anything
                reason = f"\n(It could not be unpickled here: {type(error).__name__}: {_text_of(error)})"
        if members:
            return BaseExceptionGroup(packed.message, members)
        return RemoteError("\n".join(filter(None, [f"{packed.kind}: {packed.text}{reason}", trace])))


def _rebuilt(parts: tuple[Any, ...], message: str, members: list[BaseException]) -> BaseException:
    """Make an exception from its type, arguments and attributes.

    Its constructor is not called: its parameters may differ from `args`.
    """
    if len(parts) == 1:
        (error,) = parts
        if not isinstance(error, BaseException):
            text = f"it became a {type(error).__qualname__}"
            raise TypeError(text)
        return error
    kind, args, state = parts
    made = make_error(kind, (message, members) if members else args)
    made.__setstate__(state)
    return made


def _format(frames: Sequence[_TracebackLine], where: str) -> str:
    if not frames:
        return ""
    lines = [f"Remote traceback ({where}):"]
    for frame in frames:
        if not frame.file:
            lines.append(f"  … {frame.line} frames left out …")
            continue
        lines.append(f'  File "{frame.file}", line {frame.line}, in {frame.name}')
        source = frame.source or linecache.getline(frame.file, frame.line).strip()
        if source:
            lines.append(f"    {source}")
    return _shortened("\n".join(lines))
