"""A peer that asks and asks and never reads costs no more memory than what it has asked for existed already."""

from __future__ import annotations

import os

import pytest
import trio

from discoro_trio._link import _reply_backlog, _writer, control
from discoro_trio._link.shared_memory._pool import Pool
from discoro_trio._link.shared_memory._sharing import _HEAD, _PLACE, SharedOffer
from discoro_trio._process.execution._definitions import NUMBER
from discoro_trio._process.messaging._mail import RECEIPT
from discoro_trio._shipping import dumps
from discoro_trio._wire import Kind
from discoro_trio._wire._batch import encode_batches

from ..peers import LANE, frame, open_peer
from ..worlds import settle

KIB, MIB = 1 << 10, 1 << 20
MOST = 64 * KIB
NOBODY = LANE | 0xFFFF
COUNT = 20_000


[BATCH] = encode_batches([1])
ASKING = {
    "a message to nobody": frame(Kind.MESSAGE, NOBODY, b"x"),
    "a message to nobody that wants a receipt": frame(Kind.MESSAGE, NOBODY, b"x", RECEIPT, (bytes(8),)),
    "short messages to nobody": frame(Kind.BATCH, NOBODY, BATCH),
    "an offer of memory": frame(Kind.CONTROL, 0, control.encode(SharedOffer(1, 1, bytes(16)))),
}


@pytest.mark.fault("F16")
@pytest.mark.parametrize("asking", ASKING)
async def test_what_a_peers_frames_are_answered_with_is_bounded_if_it_does_not_read(
    asking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_reply_backlog, _writer):
        monkeypatch.setattr(module, "HIGH_WATER", MOST)
    async with open_peer() as peer:
        await peer.send(ASKING[asking] * COUNT)
        await settle()
        assert peer.waiting < 8 * MOST


SIZE = 200 * KIB
"""Large enough to wait until it is asked for, and too small to go in parts."""


async def large(_number: int) -> bytes:
    """Be the job that gives so much."""
    return bytes(SIZE)


@pytest.mark.fault("F16")
async def test_outcomes_that_are_fetched_again_and_again_and_never_read_are_there_once() -> None:
    count = 20
    async with open_peer() as peer:
        await peer.send(frame(Kind.DEFINE, 1, dumps(large)[0]))
        for number in range(1, count + 1):
            await peer.send(frame(Kind.START, LANE | number, NUMBER.pack(1) + dumps((number,))[0]))
        await peer.frames(Kind.READY, count)
        fetches = b"".join(frame(Kind.FETCH, LANE | number) for number in range(1, count + 1))
        await peer.send(fetches * 500)
        await settle()
        assert peer.link._writer.outbox.queued_bytes <= count * (SIZE + KIB)
        outcomes = await peer.frames(Kind.OUTCOME, count)
        assert sorted(outcome.target - LANE for outcome in outcomes) == list(range(1, count + 1))
        assert not peer.waiting
        assert not peer.process.runner.busy


async def test_fetched_outcomes_keep_nobody_from_reading() -> None:
    """Or two processes that fetch from each other at once could wait for each other."""
    count = 60
    async with open_peer() as peer:
        await peer.send(frame(Kind.DEFINE, 1, dumps(large)[0]))
        for number in range(1, count + 1):
            await peer.send(frame(Kind.START, LANE | number, NUMBER.pack(1) + dumps((number,))[0]))
        await peer.frames(Kind.READY, count)
        await peer.send(b"".join(frame(Kind.FETCH, LANE | number) for number in range(1, count + 1)))
        await settle()
        assert peer.waiting > _writer.HIGH_WATER
        await peer.send(frame(Kind.CANCEL, LANE | 1) * COUNT)
        assert not peer.stopped


async def test_a_peer_that_reads_after_all_gets_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_reply_backlog, _writer):
        monkeypatch.setattr(module, "HIGH_WATER", MOST)
    async with open_peer() as peer, trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, ASKING["a message to nobody"] * COUNT)
        await settle()
        assert len(await peer.frames(Kind.ACK, COUNT)) == COUNT
        await peer.send(ASKING["a message to nobody"])
        await peer.frames(Kind.ACK, 1)


async def test_the_word_that_shared_memory_is_free_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_reply_backlog, _writer):
        monkeypatch.setattr(module, "HIGH_WATER", MOST)
    pool: Pool[str] = Pool(lambda _reader, _number: None)
    try:
        probe = pool.probe()
        if probe is None:
            pytest.skip("no memory can be shared on this system")
        place = pool.put(bytes(MIB), "the test")
        assert place is not None
        async with open_peer() as peer:
            await peer.send(frame(Kind.CONTROL, 0, control.encode(SharedOffer(os.getpid(), probe, pool.token))))
            await peer.frames(Kind.CONTROL, 1)
            body = _HEAD.pack(Kind.MESSAGE, 100) + _PLACE.pack(0, *place) * 100
            for _ in range(10):
                await peer.send(frame(Kind.SHARED, NOBODY, body) * 20)
                await settle()
            assert not peer.link.lost
            assert peer.waiting < 8 * MOST
    finally:
        pool.close()
