"""Credit: the sender never has more under way than the window, and the receiver notices if it has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro_trio import ProtocolError
from discoro_trio._wire import ReceiveWindow, SendWindow

pytestmark = pytest.mark.spec("B06")


def test_a_window_takes_as_many_messages_as_it_has_and_no_more() -> None:
    window = SendWindow(2, 100)
    assert window.take(1)
    assert window.take(1)
    assert not window.take(0)
    window.give(1, 1)
    assert window.take(99)


def test_a_window_takes_as_many_bytes_as_it_has_and_no_more() -> None:
    window = SendWindow(10, 100)
    assert window.take(60)
    assert not window.take(41)
    assert window.take(40)


def test_a_message_larger_than_the_window_goes_when_it_is_entirely_free() -> None:
    window = SendWindow(10, 100)
    assert window.take(0)
    assert not window.take(101)
    window.give(1, 0)
    assert window.take(1_000)
    assert window.free == (9, -900)
    assert not window.take(0)
    window.give(1, 1_000)
    assert window.take(100)


def test_what_a_message_has_to_wait_for_lets_it_go_and_no_less_does() -> None:
    window = SendWindow(2, 100)
    assert window.take(30)
    assert window.missing(70) == (0, 0)
    assert window.missing(80) == (0, 10)
    assert window.missing(101) == (1, 30)  # larger than the window, which must be free for it
    assert window.take(0)
    assert window.missing(10) == (1, 0)
    assert window.missing(1_000) == (2, 30)


@pytest.mark.parametrize("credit", [(2, 0), (1, 11), (-1, 0), (0, -1)])
def test_more_credit_than_was_used_is_refused(credit: tuple[int, int]) -> None:
    window = SendWindow(10, 100)
    window.take(10)
    with pytest.raises(ProtocolError, match="more than was used"):
        window.give(*credit)
    assert window.free == (9, 90)


def test_a_sender_without_credit_is_noticed() -> None:
    few = ReceiveWindow(2, 100)
    few.arrived(1)
    few.arrived(1)
    with pytest.raises(ProtocolError, match="without credit"):
        few.arrived(0)
    small = ReceiveWindow(10, 100)
    small.arrived(60)
    with pytest.raises(ProtocolError, match="without credit"):
        small.arrived(41)
    together = ReceiveWindow(10, 100)
    together.arrived(70, 7)
    with pytest.raises(ProtocolError, match="without credit"):
        together.arrived(30, 4)


def test_consumed_messages_are_still_under_way_until_their_credit_is_returned() -> None:
    window = ReceiveWindow(1, 100)
    window.arrived(1)
    window.consumed(1)
    with pytest.raises(ProtocolError):
        window.arrived(1)


def test_one_message_larger_than_the_window_may_come_when_it_is_free() -> None:
    window = ReceiveWindow(10, 100)
    window.arrived(1_000)
    with pytest.raises(ProtocolError):
        window.arrived(0)
    assert window.consumed(1_000)
    assert window.due() == (1, 1_000)
    window.arrived(100)


def test_credit_is_due_after_half_of_the_window() -> None:
    window = ReceiveWindow(4, 100)
    window.arrived(1)
    assert not window.consumed(1)
    window.arrived(1)
    assert window.consumed(1)
    assert window.due() == (2, 2)
    window.arrived(50)
    assert window.consumed(50)
    assert window.due() == (1, 50)


def test_credit_that_a_sender_asks_for_is_due_once_all_of_it_was_consumed() -> None:
    window = ReceiveWindow(100, 1_000)
    window.arrived(20, 2)
    assert not window.covers(1, 0)
    window.consumed(10)
    assert window.covers(1, 10)
    assert not window.covers(1, 11)
    assert not window.covers(2, 0)


def test_all_credit_can_be_returned_at_any_time_and_once() -> None:
    window = ReceiveWindow(100, 100)
    assert window.due() == (0, 0)
    window.arrived(1)
    assert window.due() == (0, 0)
    assert not window.consumed(1)
    assert window.due() == (1, 1)
    assert window.due() == (0, 0)


@given(
    st.integers(1, 8),
    st.integers(1, 64),
    st.lists(st.one_of(st.integers(0, 100), st.sampled_from(["consume", "idle"])), max_size=200),
)
@settings(deadline=None)
def test_two_ends_that_keep_to_the_window_never_disagree_or_stall(
    messages: int, size: int, steps: list[int | str]
) -> None:
    sender, receiver = SendWindow(messages, size), ReceiveWindow(messages, size)
    mailbox: list[int] = []
    for step in steps:
        if isinstance(step, int):
            if sender.take(step):
                receiver.arrived(step)
                mailbox.append(step)
        elif step == "consume" and mailbox:
            if receiver.consumed(mailbox.pop(0)) or not mailbox:
                sender.give(*receiver.due())
        else:
            sender.give(*receiver.due())
        assert len(mailbox) <= messages
    for each in mailbox:
        receiver.consumed(each)
    sender.give(*receiver.due())
    assert sender.free == (messages, size)
