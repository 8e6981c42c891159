"""The outbox: small frames gather, bulk takes turns with them, and order holds where frames share a key."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro_trio._wire import Batch, FrameReader, Kind, Outbox, _outbox, decode_batch_untrusted
from discoro_trio._wire._frames import HEADER, LARGE, MOST_BUFFERS
from discoro_trio._wire._outbox import LONGEST_PART, PART_SIZE, TAKE_SIZE

if TYPE_CHECKING:
    from discoro_trio._wire import Frame

BIG = bytes(range(256)) * (3 * PART_SIZE // 256) + b"end"


def written(outbox: Outbox, reader: FrameReader) -> list[Frame]:
    """Give the frames that the other end makes of one take."""
    return [frame for piece in outbox.take() for frame in reader.feed(piece)]


def drained(outbox: Outbox, reader: FrameReader) -> list[Frame]:
    frames: list[Frame] = []
    while outbox.pending:
        frames += written(outbox, reader)
    return frames


def put(outbox: Outbox, target: int, body: bytes = b"", *keys: str, kind: int = Kind.MESSAGE, buffers: int = 0) -> None:
    outbox.put(kind, 0, target, body, [bytes(100)] * buffers, keys)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def reader() -> FrameReader:
    return FrameReader(1 << 30)


def test_a_new_outbox_has_nothing_to_write(outbox: Outbox) -> None:
    assert not outbox.pending
    assert outbox.queued_bytes == 0
    assert outbox.take() == []


def test_small_frames_go_in_one_piece(outbox: Outbox, reader: FrameReader) -> None:
    for target in range(100):
        put(outbox, target, b"text", buffers=2)
    assert outbox.queued_bytes > 100 * HEADER.size
    (piece,) = outbox.take()
    assert not outbox.pending
    assert outbox.queued_bytes == 0
    frames = reader.feed(piece)
    assert [frame.target for frame in frames] == list(range(100))
    assert [bytes(buffer) for buffer in frames[7].buffers] == [bytes(100)] * 2


def test_a_take_is_bounded(outbox: Outbox) -> None:
    body = bytes(LARGE - 1)
    for target in range(64):
        put(outbox, target, body)
    total = outbox.queued_bytes
    sizes = []
    while outbox.pending:
        sizes.append(sum(map(len, outbox.take())))
    assert sum(sizes) == total == 64 * (HEADER.size + len(body))
    assert max(sizes) <= 2 * TAKE_SIZE


@pytest.mark.parametrize("size", [LARGE, PART_SIZE - 1, PART_SIZE, 3 * PART_SIZE])
def test_large_pieces_are_not_copied(outbox: Outbox, size: int) -> None:
    body, buffer = bytes(size), bytearray(size)
    outbox.put(Kind.MESSAGE, 0, 1, body, [buffer])
    owners = set()
    while outbox.pending:
        owners |= {id(piece.obj) if isinstance(piece, memoryview) else 0 for piece in outbox.take()}
    assert owners - {0} == {id(body), id(buffer)}


def test_bulk_takes_turns_with_small_frames_and_goes_part_by_part(outbox: Outbox, reader: FrameReader) -> None:
    put(outbox, 0, BIG)
    for target in (1, 2, 3):
        put(outbox, target)
        assert [frame.target for frame in written(outbox, reader)] == [target]
    (frame,) = written(outbox, reader)
    assert (frame.target, frame.body) == (0, BIG)
    assert not outbox.pending


def test_parts_grow_until_something_small_comes_between_them(outbox: Outbox) -> None:
    put(outbox, 0, bytes(8 * LONGEST_PART))

    def part() -> int:
        return len(max(outbox.take(), key=len))

    assert [part() for _ in range(4)] == [PART_SIZE, 2 * PART_SIZE, LONGEST_PART, LONGEST_PART]
    put(outbox, 1)
    assert [part() for _ in range(2)] == [PART_SIZE, 2 * PART_SIZE]


def test_parts_stay_as_short_as_the_connection_wants_them() -> None:
    outbox = Outbox(longest_part=PART_SIZE // 2)
    put(outbox, 0, bytes(8 * LONGEST_PART))
    assert [len(max(outbox.take(), key=len)) for _ in range(4)] == 4 * [PART_SIZE // 2]


def test_many_small_buffers_of_a_bulk_frame_make_few_pieces(outbox: Outbox, reader: FrameReader) -> None:
    buffers = [bytes([number % 256]) * 10 for number in range(MOST_BUFFERS)]
    outbox.put(Kind.MESSAGE, 0, 1, b"body", buffers)
    frames = []
    while outbox.pending:
        pieces = outbox.take()
        assert len(pieces) <= 3
        frames += [frame for piece in pieces for frame in reader.feed(piece)]
    assert [bytes(buffer) for buffer in frames[0].buffers] == buffers


def test_more_buffers_than_a_header_can_count_are_refused(outbox: Outbox) -> None:
    with pytest.raises(ValueError, match="at most 65535"):
        outbox.put(Kind.MESSAGE, 0, 1, b"", [b""] * (MOST_BUFFERS + 1))


def test_a_frame_does_not_overtake_a_bulk_frame_with_its_key(outbox: Outbox, reader: FrameReader) -> None:
    put(outbox, 1, BIG, "coro")
    put(outbox, 2, b"", "coro", "x")
    put(outbox, 3, b"", "x")  # behind 2, which waits
    put(outbox, 4, b"", "y")
    assert [frame.target for frame in written(outbox, reader)] == [4]
    assert [frame.target for frame in drained(outbox, reader)] == [1, 2, 3]


def test_a_bulk_frame_does_not_overtake_small_frames_that_were_put_before(outbox: Outbox, reader: FrameReader) -> None:
    for target in range(100):
        put(outbox, target, bytes(LARGE - 1), "coro")
    put(outbox, 100, bytes(PART_SIZE), "coro")
    assert [frame.target for frame in drained(outbox, reader)] == list(range(101))


def test_keys_are_free_again_once_the_bulk_frame_is_taken(outbox: Outbox, reader: FrameReader) -> None:
    put(outbox, 1, BIG, "coro", "coro")
    drained(outbox, reader)
    put(outbox, 2, BIG, "other")
    put(outbox, 3, b"", "coro")
    assert [frame.target for frame in written(outbox, reader)] == [3]


def test_a_frame_comes_after_the_keys_that_it_names_and_not_after_its_own(outbox: Outbox, reader: FrameReader) -> None:
    outbox.put(Kind.DEFINE, 0, 1, BIG, (), ("defined",), ())
    outbox.put(Kind.START, 0, 2, BIG, (), ("used",), ("defined",))
    outbox.put(Kind.START, 0, 3, b"", (), ("used",), ("defined",))
    while 1 not in (targets := [frame.target for frame in written(outbox, reader)]):
        assert not targets
    outbox.put(Kind.START, 0, 4, b"", (), ("used",), ("defined",))  # it need not wait for 2 and 3
    outbox.put(Kind.DEFINE, 0, 5, b"", (), (), ("defined", "used"))
    assert [frame.target for frame in drained(outbox, reader)] == [4, 2, 3, 5]


def test_the_last_frame_comes_after_all_others(outbox: Outbox, reader: FrameReader) -> None:
    put(outbox, 1, BIG)
    outbox.gather(Batch(2), "short", ())
    outbox.put_last(Kind.CONTROL, b"goodbye")
    assert [frame.kind for frame in drained(outbox, reader)] == [Kind.BATCH, Kind.MESSAGE, Kind.CONTROL]
    outbox.put_last(Kind.CONTROL, b"goodbye")
    assert [frame.body for frame in drained(outbox, reader)] == [b"goodbye"]


def test_an_abort_drops_a_start_of_which_nothing_was_sent(outbox: Outbox, reader: FrameReader) -> None:
    put(outbox, 1, BIG, kind=Kind.START)
    assert outbox.abort_start(1)
    assert not outbox.pending
    assert outbox.queued_bytes == 0


def test_an_abort_of_a_partly_sent_start_reaches_the_other_end(outbox: Outbox, reader: FrameReader) -> None:
    put(outbox, 1, BIG, "coro", kind=Kind.START)
    put(outbox, 2, BIG, "coro")
    assert written(outbox, reader) == []
    assert not reader.at_boundary
    assert outbox.abort_start(1)
    assert [frame.target for frame in drained(outbox, reader)] == [2]
    assert reader.at_boundary


def test_an_abort_drops_a_small_start_that_waits_for_a_bulk_frame(outbox: Outbox, reader: FrameReader) -> None:
    put(outbox, 1, BIG, "coro")
    put(outbox, 2, b"", "coro", kind=Kind.START)
    assert outbox.abort_start(2)
    assert [frame.target for frame in drained(outbox, reader)] == [1]


def test_an_abort_says_so_when_the_start_is_sent_or_among_small_frames(outbox: Outbox, reader: FrameReader) -> None:
    put(outbox, 1, b"", kind=Kind.START)
    assert not outbox.abort_start(1)
    put(outbox, 2, BIG, kind=Kind.START)
    put(outbox, 3, BIG)
    drained(outbox, reader)
    assert not outbox.abort_start(2)
    assert not outbox.abort_start(3)


def test_short_values_gather_in_one_frame_a_target(outbox: Outbox, reader: FrameReader) -> None:
    one, other = Batch(1), Batch(2)
    for value in range(3):
        outbox.gather(one, value, ())
        outbox.gather(other, value, ())
    assert outbox.pending
    assert outbox.queued_bytes >= 6
    frames = written(outbox, reader)
    assert [(frame.kind, frame.target) for frame in frames] == [(Kind.BATCH, 1), (Kind.BATCH, 2)]
    assert [decode_batch_untrusted(frame.body) for frame in frames] == [[0, 1, 2]] * 2
    assert [len(one), len(other), outbox.pending, outbox.queued_bytes] == [0, 0, False, 0]


def test_what_is_put_later_does_not_overtake_short_values(outbox: Outbox, reader: FrameReader) -> None:
    batch = Batch(1)
    outbox.gather(batch, "first", ())
    put(outbox, 2)
    outbox.gather(batch, "second", ())
    assert [frame.target for frame in drained(outbox, reader)] == [1, 2, 1]


def test_a_short_value_waits_for_a_bulk_frame_with_its_key_and_for_no_other(
    outbox: Outbox, reader: FrameReader
) -> None:
    one, other = Batch(1), Batch(2)
    outbox.gather(one, "before", ("one",))
    put(outbox, 1, BIG, "one")
    outbox.gather(one, "after", ("one",))
    outbox.gather(other, "any time", ("other",))
    outbox.gather(one, "of another", ("third",))  # the same target, another sender
    assert [one, other] == [[], []]
    assert [frame.target for frame in written(outbox, reader)] == [1, 2, 1]
    assert [(frame.kind, frame.target) for frame in drained(outbox, reader)] == [(Kind.MESSAGE, 1), (Kind.BATCH, 1)]


keys = st.lists(st.sampled_from("abcd"), max_size=2).map(tuple)
puts = st.tuples(st.sampled_from([0, 5, 30, 63, 64, 65, 300]), keys, st.integers(0, 2), st.booleans())
shorts = st.tuples(st.just("short"), st.integers(0, 2), keys)
takes = st.just("take")
aborts = st.just("abort")


@given(st.lists(st.one_of(puts, puts, shorts, shorts, takes, aborts), max_size=60))
@settings(deadline=None, max_examples=300)
def test_order_holds_for_each_key_whatever_is_mixed(steps: list[object]) -> None:
    with pytest.MonkeyPatch.context() as patch:  # small limits, so that small examples meet all of them
        patch.setattr(_outbox, "PART_SIZE", 64)
        patch.setattr(_outbox, "LONGEST_PART", 200)
        patch.setattr(_outbox, "LARGE", 16)
        patch.setattr(_outbox, "TAKE_SIZE", 100)
        _check_order(steps)


def _check_order(steps: list[object]) -> None:
    outbox, reader = Outbox(), FrameReader(1 << 30)
    put_order: dict[str, list[int]] = defaultdict(list)
    keys_of: dict[int, tuple[str, ...]] = {}
    bodies: dict[int, tuple[bytes, list[bytes]]] = {}
    starts: set[int] = set()
    batches = [Batch(1000 + number) for number in range(3)]
    batch_of: dict[int, int] = {}
    got: list[Frame] = []
    for number, step in enumerate(steps):
        if isinstance(step, tuple) and step[0] == "short":
            _, batch, keys_of[number] = step
            batch_of[number] = batch
            outbox.gather(batches[batch], number, keys_of[number])
        elif isinstance(step, tuple):
            size, own_keys, buffers, start = step
            bodies[number] = bytes([number]) * size, [bytes([number]) * (size // 2)] * buffers
            keys_of[number] = own_keys
            outbox.put(Kind.START if start else Kind.MESSAGE, 0, number, *bodies[number], own_keys)
            starts |= {number} if start else set()
        elif step == "take":
            got += written(outbox, reader)
        else:
            dropped = {target for target in starts if outbox.abort_start(target)}
            assert not dropped & set(_numbers(got))
            for target in dropped:
                del keys_of[target]
            starts -= dropped
    got += drained(outbox, reader)
    assert outbox.queued_bytes == 0
    assert reader.at_boundary
    assert sorted(_numbers(got)) == sorted(keys_of)
    for number, own_keys in keys_of.items():
        for key in set(own_keys):
            put_order[key].append(number)
    # Short values for two targets may change places, but neither with a frame, nor those for one target.
    for key, order in put_order.items():
        for target in range(3):
            with_key = [number for number in _numbers(got) if key in keys_of[number]]
            assert [number for number in with_key if batch_of.get(number, target) == target] == [
                number for number in order if batch_of.get(number, target) == target
            ]
    for frame in got:
        if frame.kind == Kind.BATCH:
            continue
        body, buffers = bodies[frame.target]
        assert (bytes(frame.body), list(map(bytes, frame.buffers))) == (body, buffers)


def _numbers(frames: list[Frame]) -> list[int]:
    """Give the steps by which came what is in these frames, in order."""
    numbers: list[int] = []
    for frame in frames:
        if frame.kind == Kind.BATCH:
            numbers += cast("list[int]", decode_batch_untrusted(frame.body))
        else:
            numbers.append(frame.target)
    return numbers
