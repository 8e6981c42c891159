"""A function is sent once to each process; what may have changed is looked at again; there is a bound."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from discoro_trio import ProtocolError
from discoro_trio._process.execution import _definitions
from discoro_trio._process.execution._definitions import Pickled, ReceivedDefinitions, Sent, snapshot
from discoro_trio._wire import Frame, Kind

if TYPE_CHECKING:
    from collections.abc import Callable


class Line:
    """Both ends of a connection on which functions are defined."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.received = ReceivedDefinitions()
        self.sent = Sent(self, None)  # type: ignore[arg-type]

    def send(
        self, kind: Kind, target: int, body: bytes = b"", flags: int = 0, buffers: Any = (), *_: Any, **__: Any
    ) -> None:
        assert kind is Kind.DEFINE
        self.frames.append(Frame(kind, flags, target, body, tuple(map(memoryview, buffers))))
        self.received.define(self.frames[-1])

    def called(self, function: Callable[..., Any] | Pickled) -> Any:
        """Send a function and call it at the other end, without arguments."""
        definition = self.received.called(self.sent.head(function).number)
        return definition.described().function()


def top_level() -> str:
    return "top"


def adder(amount: int) -> Callable[[], int]:
    return lambda: amount + 1


@pytest.mark.spec("S44")
def test_a_function_is_sent_once() -> None:
    line = Line()
    assert [line.called(top_level), line.called(top_level)] == ["top", "top"]
    assert len(line.frames) == 1


@pytest.mark.spec("S44")
def test_closures_that_are_alike_are_sent_once_and_others_each() -> None:
    line = Line()
    assert [line.called(adder(1)), line.called(adder(1)), line.called(adder(2))] == [2, 2, 3]
    assert len(line.frames) == 2


def test_a_closure_that_changed_is_sent_again() -> None:
    line = Line()
    seen = 1

    def look() -> int:
        return seen

    assert line.called(look) == 1
    seen = 2
    assert line.called(look) == 2


def test_the_oldest_goes_when_there_are_too_many_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_definitions, "MOST_DEFINITIONS", 3)
    line = Line()
    first = line.sent.head(adder(0)).number
    before = line.received.called(first)
    for amount in range(1, 4):
        assert line.called(adder(amount)) == amount + 1
    with pytest.raises(ProtocolError, match="not defined"):
        line.received.called(first)
    assert before.described().function() == 1, "who was started with it still has it"
    assert line.called(adder(0)) == 1


def test_more_than_the_bound_from_a_peer_that_does_not_keep_to_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_definitions, "MOST_DEFINITIONS", 1)
    received = ReceivedDefinitions()
    received.define(Frame(Kind.DEFINE, 0, 1, b"x", ()))
    with pytest.raises(ProtocolError, match="more than 1"):
        received.define(Frame(Kind.DEFINE, 0, 2, b"x", ()))


def test_a_start_that_is_too_short_is_refused() -> None:
    with pytest.raises(ProtocolError, match="names no function"):
        ReceivedDefinitions().called(b"\0")


class Counted:
    """Counts how often it is pickled."""

    pickled = 0

    def __reduce__(self) -> tuple[object, ...]:
        type(self).pickled += 1
        return Counted, ()

    def method(self) -> str:
        return "called"


def test_a_snapshot_is_pickled_once_for_any_number_of_calls_and_servers() -> None:
    function = snapshot(Counted().method, None)
    assert isinstance(function, Pickled)
    Counted.pickled = 0
    lines = [Line(), Line()]
    for line in lines * 5:
        assert line.called(function) == "called"
    assert not Counted.pickled
    assert [len(line.frames) for line in lines] == [1, 1]


def test_a_partial_of_what_cannot_change_is_pickled_once_and_one_that_can_change_each_time() -> None:
    line = Line()
    text = partial(len, "four")
    table: list[int] = []
    size = partial(len, table)
    assert line.called(text) == 4
    assert snapshot(text, None) is text
    assert line.called(size) == 0
    table.append(1)
    assert line.called(size) == 1


def test_a_method_of_a_builtin_object_takes_its_state_of_the_moment() -> None:
    line = Line()
    table: dict[str, str] = {}
    items = table.__len__
    assert line.called(items) == 0
    table["key"] = "value"
    assert line.called(items) == 1
