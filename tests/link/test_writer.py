"""When a link's writer writes: at once after little, together after much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from discoro_trio._link._writer import _FEW, _MOST_GATHERED, PAUSE, Writer
from discoro_trio._wire import MOST_VALUES, Batch, FrameReader, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from discoro_trio._wire import Buffer

MANY = 10
assert _FEW < MANY < _MOST_GATHERED


class Recorder:
    """A transport that notes how many frames each write had."""

    longest_part = None

    def __init__(self) -> None:
        self.writes: list[int] = []
        self.targets: list[int] = []
        self.blocked = False
        self._reader = FrameReader(1 << 20)

    @property
    def socket(self) -> None:
        """None: there is no socket."""
        return

    async def receive_into(self, memory: memoryview) -> int:
        """Give nothing, for nobody reads."""
        raise NotImplementedError

    async def write(self, buffers: Sequence[Buffer]) -> None:
        """Note what is written with waiting."""
        await trio.lowlevel.checkpoint()
        self.blocked = False
        self.write_now(list(buffers))

    def write_now(self, buffers: list[Buffer]) -> list[Buffer]:
        """Note what is written, unless the transport is blocked."""
        if self.blocked:
            return buffers
        frames = [frame for buffer in buffers for frame in self._reader.feed(buffer)]
        self.writes.append(len(frames))
        self.targets += [frame.target for frame in frames]
        return []

    async def aclose(self) -> None:
        """Close nothing."""
        await trio.lowlevel.checkpoint()


@pytest.fixture
def recorder() -> Recorder:
    """Give the transport."""
    return Recorder()


@pytest.fixture
async def writer(recorder: Recorder) -> AsyncIterator[Writer]:
    """Give a writer that runs and waits for its first frame."""
    writer = Writer(recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await trio.testing.wait_all_tasks_blocked()
        yield writer
        writer.finish()


def put(writer: Writer, *targets: int) -> None:
    """Add frames, all in one turn of the scheduler."""
    for target in targets:
        writer.outbox.put(Kind.MESSAGE, 0, target, b"body")
        writer.added(Kind.MESSAGE)


async def test_a_frame_after_a_pause_is_written_before_its_sender_goes_on(writer: Writer, recorder: Recorder) -> None:
    for number in range(3):
        put(writer, number)
        assert recorder.targets == list(range(number + 1))
        await trio.sleep(2 * PAUSE)
    assert recorder.writes == [1, 1, 1]


async def test_a_reply_to_what_was_read_is_written_before_its_sender_goes_on(
    writer: Writer, recorder: Recorder
) -> None:
    for number in range(3):
        writer.new_turn()  # the reader has read a message
        put(writer, number)
        assert recorder.targets == list(range(number + 1))
    assert recorder.writes == [1, 1, 1]


async def test_many_replies_to_what_was_read_go_together(writer: Writer, recorder: Recorder) -> None:
    put(writer, *range(MANY))
    writer.new_turn()
    put(writer, *range(MANY))
    assert recorder.writes == [1]
    await trio.testing.wait_all_tasks_blocked()
    writer.new_turn()
    put(writer, *range(MANY))
    assert recorder.writes == [1, 2 * MANY - 1]
    await trio.testing.wait_all_tasks_blocked()
    assert recorder.writes == [1, 2 * MANY - 1, MANY]


async def test_what_follows_in_the_same_turn_goes_together(writer: Writer, recorder: Recorder) -> None:
    put(writer, *range(MANY))
    assert recorder.writes == [1]
    await trio.testing.wait_all_tasks_blocked()
    assert recorder.writes == [1, MANY - 1]
    assert recorder.targets == list(range(MANY))


async def test_short_values_in_one_batch_are_as_many_frames(writer: Writer, recorder: Recorder) -> None:
    batch = Batch(1)

    def gather(count: int) -> None:
        for number in range(count):
            if batch:
                batch.append(number)
            else:
                writer.outbox.gather(batch, number, (1,))
                writer.added(Kind.BATCH)

    gather(MANY)
    await trio.testing.wait_all_tasks_blocked()
    assert recorder.writes == [1, 1]  # the first value, and a frame of all others
    gather(1)
    assert recorder.writes == [1, 1]
    await trio.testing.wait_all_tasks_blocked()
    gather(1)
    assert recorder.writes == [1, 1, 1, 1]


async def test_after_a_turn_with_many_frames_the_next_one_waits_for_company(writer: Writer, recorder: Recorder) -> None:
    put(writer, *range(MANY))
    await trio.testing.wait_all_tasks_blocked()
    put(writer, *range(MANY))
    assert recorder.writes == [1, MANY - 1]
    await trio.testing.wait_all_tasks_blocked()
    assert recorder.writes == [1, MANY - 1, MANY]
    put(writer, 1)
    assert recorder.writes == [1, MANY - 1, MANY]
    await trio.testing.wait_all_tasks_blocked()
    put(writer, 2)  # the last turn had one
    assert recorder.writes == [1, MANY - 1, MANY, 1, 1]


async def test_a_turn_of_hundreds_of_frames_is_not_waited_for(writer: Writer, recorder: Recorder) -> None:
    put(writer, *range(3 * _MOST_GATHERED))
    assert recorder.writes == [1, _MOST_GATHERED, _MOST_GATHERED]
    await trio.testing.wait_all_tasks_blocked()
    assert recorder.writes == [1, _MOST_GATHERED, _MOST_GATHERED, _MOST_GATHERED - 1]


async def test_what_the_kernel_does_not_take_at_once_is_written_first(writer: Writer, recorder: Recorder) -> None:
    recorder.blocked = True
    put(writer, *range(2 * _MOST_GATHERED))
    assert recorder.writes == []
    await trio.testing.wait_all_tasks_blocked()
    assert recorder.targets == list(range(2 * _MOST_GATHERED))


async def test_credit_goes_with_what_is_sent_next(writer: Writer, recorder: Recorder) -> None:
    writer.outbox.put(Kind.CREDIT, 0, 7, b"")
    writer.added(Kind.CREDIT)
    assert recorder.writes == []
    put(writer, 8)
    assert recorder.writes == [2]
    await trio.testing.wait_all_tasks_blocked()
    assert recorder.targets == [7, 8]


async def test_of_a_flood_of_short_values_several_turns_go_together(writer: Writer, recorder: Recorder) -> None:
    put(writer, *range(MANY))
    await trio.testing.wait_all_tasks_blocked()
    recorder.writes.clear()
    batch = Batch(1)
    for turn in range(6):
        if not batch:
            writer.outbox.gather(batch, turn, (1,))
            writer.added(Kind.BATCH)
        batch.extend(range(MOST_VALUES - len(batch) % MOST_VALUES))
        await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    frames = recorder.writes
    assert sum(frames) == 6
    assert len(frames) <= 3


async def test_what_comes_after_a_flood_of_short_values_is_not_held_up_by_it(
    writer: Writer, recorder: Recorder
) -> None:
    put(writer, *range(MANY))
    await trio.testing.wait_all_tasks_blocked()
    recorder.targets.clear()
    batch = Batch(1)
    writer.outbox.gather(batch, 0, (1,))
    writer.added(Kind.BATCH)
    batch.extend(range(MOST_VALUES))
    await trio.lowlevel.checkpoint()  # the writer waits for more of them now
    put(writer, 77)
    for _ in range(3):
        await trio.lowlevel.checkpoint()
    assert recorder.targets[-1] == 77
