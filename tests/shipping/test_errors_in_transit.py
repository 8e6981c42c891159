from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from discoro_trio import CoroCancelled, DiscoroError, RemoteError, ServerLost
from discoro_trio._shipping._errors_in_transit import MAX_TEXT, _encoder, _Error, _Errors, pack_error, unpack_error

if TYPE_CHECKING:
    from collections.abc import Callable

WHERE = "coroutine job at 127.0.0.1:5000"


class PayError(Exception):
    """One whose constructor takes something else than what is in `args`."""

    def __init__(self, amount: int, currency: str) -> None:
        super().__init__(f"cannot pay {amount} {currency}")
        self.amount = amount
        self.currency = currency


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__("slotted")
        self.code = code


@attrs.define(auto_exc=True)
class AttrsError(Exception):
    code: int
    text: str = "x"


class BombError(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("not a number",)


class BecomesSomethingElseError(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("3",)


class ShyError(Exception):
    def __str__(self) -> str:
        text = "no text"
        raise ValueError(text)


class MyGroup(ExceptionGroup[Exception]):
    pass


class Ended(BaseException):
    pass


def damaged(place: int, value: int) -> bytes:
    """Give a packed error with one byte changed."""
    body = bytearray(pack_error(ExceptionGroup("g", [KeyError("k"), ZeroDivisionError()]), where=WHERE)[0])
    body[place % len(body)] = value
    return bytes(body)


def packed_group(members: tuple[int, ...]) -> _Error:
    return _Error(
        "g", "", (), b"", 0, (), None, None, suppress_context=False, message="", members=members, cancelled=False
    )


def raised(error: BaseException) -> BaseException:
    """Give the error with a traceback."""

    def throw() -> None:
        raise error

    return caught_from(throw)


def caught_from(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - it is what the test asks for
        return error
    text = "nothing was raised"
    raise AssertionError(text)


def sent(error: BaseException) -> BaseException:
    body, buffers = pack_error(error, where=WHERE)
    return unpack_error(bytearray(body), [bytearray(memoryview(buffer)) for buffer in buffers])


@pytest.mark.spec("B04")
@pytest.mark.parametrize(
    "error",
    [
        ValueError("text", 3), KeyError("k"), ZeroDivisionError(), PayError(3, "EUR"), SlottedError(4), AttrsError(5),
        FileNotFoundError(2, "No such file", "name.txt"), UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        ImportError("no", name="m", path="p"), StopIteration(7), subprocess.CalledProcessError(3, ["cmd"], b"out"),
        json.JSONDecodeError("msg", "doc", 1), ServerLost("gone", exitcode=3, stderr_tail="tail"), CoroCancelled("why"),
        trio.BusyResourceError("busy"), SyntaxError("bad", ("f.py", 1, 2, "text")), Ended("own"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_error_arrives_as_what_it_was(error: BaseException) -> None:
    back = sent(raised(error))
    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    assert {**vars(back), "__notes__": 0} == {**vars(error), "__notes__": 0}
    for name in ("code", "errno", "filename", "name", "value", "reason", "lineno", "returncode"):
        assert getattr(back, name, None) == getattr(error, name, None)


@pytest.mark.spec("B04")
def test_cause_context_and_notes_come_along() -> None:
    def fail() -> None:
        try:
            int("x")
        except ValueError as error:
            error.add_note("of the cause")
            raise PayError(1, "EUR") from error

    error = caught_from(fail)
    error.add_note("a note")
    back = sent(error)
    assert back.__notes__[0] == "a note"
    assert isinstance(back.__cause__, ValueError)
    assert back.__cause__.__notes__[0] == "of the cause"
    assert back.__suppress_context__
    error.__cause__ = None
    error.__suppress_context__ = False
    back = sent(error)
    assert isinstance(back.__context__, ValueError)
    assert not back.__suppress_context__


@pytest.mark.spec("B04")
def test_the_remote_traceback_stands_in_a_note() -> None:
    def inner() -> None:
        raise PayError(1, "EUR")

    back = sent(caught_from(inner))
    note = back.__notes__[-1]
    assert note.startswith(f"Remote traceback ({WHERE}):\n")
    assert re.search(r'File ".*test_errors_in_transit\.py", line \d+, in inner\n    raise PayError', note)
    assert back.__traceback__ is None


def test_the_error_itself_is_not_changed() -> None:
    error = raised(ValueError("x"))
    sent(error)
    assert not hasattr(error, "__notes__")


@pytest.mark.spec("B04")
def test_groups_arrive_with_their_members() -> None:
    key_error = KeyError("k")
    raised(key_error)
    inner = ExceptionGroup("inner", [key_error, BombError("b")])
    back = sent(raised(MyGroup("outer", [PayError(1, "EUR"), inner])))
    assert isinstance(back, MyGroup)
    assert back.message == "outer"
    pay, group = back.exceptions
    assert isinstance(pay, PayError)
    assert isinstance(group, ExceptionGroup)
    assert isinstance(group.exceptions[0], KeyError)
    assert "Remote traceback" in group.exceptions[0].__notes__[0]
    assert isinstance(group.exceptions[1], RemoteError)


def test_circles_of_causes_are_kept() -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    back = sent(first)
    assert back.__cause__ is not None
    assert back.__cause__.__cause__ is back


def test_a_member_that_is_its_groups_cause_too_is_one_exception() -> None:
    member = ValueError("m")
    group = ExceptionGroup("g", [member])
    member.__cause__ = group
    back = sent(member)
    assert isinstance(back.__cause__, ExceptionGroup)
    assert back.__cause__.exceptions[0] is back


@pytest.mark.fault("F18")
@pytest.mark.spec("B04")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BombError("text of it"), "BombError: text of it"),
        (BecomesSomethingElseError("odd"), "BecomesSomethingElseError: odd"),
        (ValueError(threading.Lock()), "ValueError: <unlocked _thread.lock"),
        (KeyboardInterrupt("stop"), "KeyboardInterrupt: stop"),
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit(), "GeneratorExit"),
    ],
)
def test_what_cannot_cross_arrives_as_remote_error_with_its_text(error: BaseException, said: str) -> None:
    back = sent(raised(error))
    assert type(back) is RemoteError
    assert said in str(back)
    assert f"Remote traceback ({WHERE})" in str(back)
    assert "in throw" in str(back)


@pytest.mark.fault("F18")
def test_an_error_without_a_text_is_told_all_the_same() -> None:
    error = ShyError(threading.Lock())
    assert "its text cannot be had: ValueError" in str(sent(error))


@pytest.mark.fault("F18")
def test_what_hangs_on_an_error_that_cannot_cross_still_comes() -> None:
    error = BombError("b")
    error.__cause__ = PayError(2, "EUR")
    back = sent(error)
    assert type(back) is RemoteError
    assert isinstance(back.__cause__, PayError)
    assert back.__cause__.amount == 2


def cancelled() -> BaseException:
    found: list[BaseException] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as error:
                found.append(error)
                raise

    trio.run(main)
    return found[0]


@pytest.mark.spec("B04")
def test_cancelled_never_crosses() -> None:
    one = cancelled()
    assert type(sent(one)) is CoroCancelled
    assert type(sent(BaseExceptionGroup("g", [one, BaseExceptionGroup("h", [one])]))) is CoroCancelled
    back = sent(BaseExceptionGroup("g", [one, ValueError("v"), BaseExceptionGroup("h", [one])]))
    assert type(back) is ExceptionGroup
    assert [type(member) for member in back.exceptions] == [ValueError]
    error = ValueError("in clean-up")
    error.__context__ = one
    assert sent(error).__context__ is None


def test_interrupts_in_groups_become_remote_errors() -> None:
    back = sent(BaseExceptionGroup("g", [KeyboardInterrupt(), ValueError()]))
    assert type(back) is ExceptionGroup
    assert [type(member) for member in back.exceptions] == [RemoteError, ValueError]


def test_texts_are_bounded() -> None:
    deep = sys.getrecursionlimit() // 2

    def fall(left: int) -> None:
        if not left:
            raise ValueError("x" * 10 * MAX_TEXT)
        fall(left - 1)

    error = caught_from(lambda: fall(deep))
    error.add_note("n" * 10 * MAX_TEXT)
    error.args = (*error.args, threading.Lock())
    body, _ = pack_error(error, where=WHERE)
    back = sent(error)
    assert len(body) < 4 * MAX_TEXT
    assert len(str(back)) < 3 * MAX_TEXT
    assert "frames left out" in str(back)
    assert "characters left out" in str(back)


def test_very_many_errors_are_bounded() -> None:
    group = ExceptionGroup("many", [ValueError(n) for n in range(3000)])
    back = sent(group)
    assert isinstance(back, ExceptionGroup)
    assert 900 < len(back.exceptions) < 1000


def test_lone_surrogates_in_texts_do_no_harm() -> None:
    error = BombError("name\udcff.txt")
    error.add_note("\udcff")
    assert "name" in str(sent(error))


@pytest.mark.spec("B17")
def test_arrays_in_errors_are_not_copied_into_the_pickle() -> None:
    error = DiscoroError("with data")
    error.data = np.arange(100_000)  # type: ignore[attr-defined]
    body, buffers = pack_error(error, where=WHERE)
    assert len(body) < 2000
    assert len(buffers) == 1
    assert sent(ExceptionGroup("g", [error, error, PayError(1, "x")])).exceptions[0].data[5] == 5  # type: ignore[attr-defined]


@pytest.mark.fault("F16")
@given(st.binary() | st.builds(damaged, st.integers(0, 500), st.integers(0, 255)))
def test_malformed_errors_are_errors_too(body: bytes) -> None:
    assert isinstance(unpack_error(body, []), BaseException)


def test_members_that_are_not_there_are_an_error_too() -> None:
    body = _encoder.encode(_Errors(WHERE, (packed_group((5,)),)))
    assert "form is wrong" in str(unpack_error(body, []))
    body = _encoder.encode(_Errors(WHERE, (packed_group((0,)),)))
    assert "form is wrong" in str(unpack_error(body, []))
