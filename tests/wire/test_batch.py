"""Short values that go together: which they are, and that they arrive as they were."""

from __future__ import annotations

import enum
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoro_trio import ProtocolError
from discoro_trio._wire import COST, NOT_SHORT, decode_batch_untrusted, is_short, pack_short
from discoro_trio._wire._batch import MOST_VALUES, encode_batches

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([(1 << 63) - 1, 1 << 63, -(1 << 63), -(1 << 63) - 1]),
    st.floats(allow_nan=False),
    st.text(max_size=60),
    st.text(alphabet="abc", max_size=60),
    st.binary(max_size=60),
)


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    __slots__ = ()


@given(st.lists(VALUES, max_size=3 * MOST_VALUES))
def test_what_is_short_arrives_with_its_type_in_order_and_takes_no_more_than_it_counts_for(
    values: list[object],
) -> None:
    values = [value for value in values if is_short(value)]
    bodies = encode_batches(values)
    got = [decode_batch_untrusted(body) for body in bodies]
    assert [(type(value), value) for part in got for value in part] == [(type(value), value) for value in values]
    assert all(len(body) <= COST * len(part) for body, part in zip(bodies, got, strict=True))


GROUPS = st.one_of(
    st.lists(VALUES, max_size=10),
    st.lists(VALUES, max_size=10).map(tuple),
    st.dictionaries(VALUES, VALUES, max_size=10),
)


@given(st.lists(GROUPS, max_size=10))
def test_short_groups_arrive_with_their_types_as_they_were_when_they_were_packed(values: list[object]) -> None:
    packed = [pack_short(value) for value in values]
    sent = [value for value, short in zip(values, packed, strict=True) if short is not NOT_SHORT]
    expected = [(type(value), repr(value)) for value in sent]
    for value in values:
        if isinstance(value, (list, dict)):
            value.clear()
    bodies = list(encode_batches([short for short in packed if short is not NOT_SHORT]))
    got = [value for body in bodies for value in decode_batch_untrusted(body)]
    assert [(type(value), repr(value)) for value in got] == expected
    assert all(len(body) <= COST * MOST_VALUES for body in bodies)


@pytest.mark.parametrize("value", [(1, "text"), [1, 2.5, None], {"a": 1, 2: b"b"}, (), [], {}])
def test_short_groups_of_short_values_go_together(value: object) -> None:
    assert pack_short(value) is not NOT_SHORT


@pytest.mark.parametrize(
    "value", [[[]], (1, ()), {"a": {}}, [1 << 64], ["x" * 47, 1, "x" * 20], [*range(9)], {1}, Name("x")]
)
def test_groups_that_are_long_or_nested_or_of_other_types_do_not(value: object) -> None:
    assert pack_short(value) is NOT_SHORT


@pytest.mark.parametrize("extension", [b"\xc7\x01\x02\x90", b"\xc7\x01\x01\xc1", b"\xd4\x01\x01"])
def test_an_extension_that_is_no_tuple_is_refused(extension: bytes) -> None:
    with pytest.raises(ProtocolError, match="malformed batch"):
        decode_batch_untrusted(b"\x91" + extension)


@pytest.mark.parametrize("value", [0, -1, 2.5, True, None, "", "text", b"", b"bytes", -(1 << 63), math.inf])
def test_numbers_truth_values_none_and_short_text_and_bytes_are_short(value: object) -> None:
    assert is_short(value)


@pytest.mark.parametrize(
    "value", [1 << 63, "x" * 49, b"x" * 49, "é", "\ud800", (), [], {}, bytearray(), Level.LOW, Name("x"), 1j]
)
def test_what_is_long_or_can_change_or_is_of_another_type_is_not_short(value: object) -> None:
    assert not is_short(value)


def test_values_that_are_no_number_are_still_none_after_the_way() -> None:
    ((value,),) = (decode_batch_untrusted(body) for body in encode_batches([math.nan]))
    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x90",  # empty
        b"\x01",  # no array
        b"\x92\x01",  # cut off
        b"\x91\x01\x01",  # more behind it
        b"\x91\xa1\xff",  # text that is none
        b"\x91" * 5000 + b"\x01",  # deeper than any value
        msgspec.msgpack.encode([1] * (MOST_VALUES + 1)),
        msgspec.msgpack.encode(["x" * 100]),
        msgspec.msgpack.encode([[1] * 100]),
    ],
)
def test_what_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="batch of"):
        decode_batch_untrusted(body)
