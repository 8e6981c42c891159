"""Control messages: what is malformed is refused with a ProtocolError, never half read."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro_trio import Location, ProtocolError
from discoro_trio._wire import Control, ControlCodec


class WireTestPing(Control, frozen=True):
    number: int
    places: tuple[Location, ...] = ()


class WireTestStop(Control, frozen=True):
    pass


CODEC = ControlCodec([WireTestPing, WireTestStop])


@pytest.mark.parametrize("message", [WireTestPing(3, (Location("h", 1),)), WireTestPing(-1), WireTestStop()])
def test_a_message_comes_back_as_it_went(message: Control) -> None:
    data = CODEC.encode(message)
    assert CODEC.decode(data) == message
    assert CODEC.decode(memoryview(data)) == message
    assert type(CODEC.decode(data)) is type(message)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["WireTestPing"],
        ["WireTestPing", "3"],
        ["WireTestPing", 3, [["h"]]],
        ["WireTestPing", 3, [], "more"],
        ["WireTestStop", 1],
        ["WireTestOther"],
        ["Control"],
        {"type": "WireTestStop"},
        None,
        7,
    ],
)
def test_what_is_no_such_message_is_refused(wrong: object) -> None:
    with pytest.raises(ProtocolError, match="malformed control message"):
        CODEC.decode(msgspec.msgpack.encode(wrong))


@pytest.mark.fault("F16")
@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=300)
def test_garbage_raises_nothing_but_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        CODEC.decode(data)


def test_bytes_after_a_message_and_deep_nesting_are_refused() -> None:
    with pytest.raises(ProtocolError):
        CODEC.decode(CODEC.encode(WireTestStop()) + b"\x00")
    with pytest.raises(ProtocolError):
        CODEC.decode(b"\x91" * 100_000)


def test_a_codec_without_types_knows_all_that_any_layer_has_defined_even_later() -> None:
    codec = ControlCodec()
    assert codec.decode(codec.encode(WireTestStop())) == WireTestStop()

    class WireTestLater(Control, frozen=True):
        text: str

    assert codec.decode(codec.encode(WireTestLater("x"))) == WireTestLater("x")


def test_a_name_belongs_to_one_message() -> None:
    def define() -> None:
        class WireTestTwin(Control, frozen=True):
            pass

    define()
    with pytest.raises(TypeError, match="control message WireTestTwin already"):
        define()


def test_what_a_peer_made_up_is_told_in_few_words() -> None:
    with pytest.raises(ProtocolError) as caught:
        CODEC.decode(msgspec.msgpack.encode(["x" * 100_000]))
    assert len(str(caught.value)) < 200


def test_messages_are_frozen() -> None:
    message = WireTestPing(3)
    with pytest.raises(AttributeError):
        message.number = 4  # type: ignore[misc]
