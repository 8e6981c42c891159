"""Whatever a peer sends in a frame of any kind, it ends its own connection or is passed over, and nobody else's."""

from __future__ import annotations

import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio

from discoro_trio import ProtocolError, config
from discoro_trio._client import _output
from discoro_trio._link import Done, control
from discoro_trio._link._requests import REPLY as REPLIED
from discoro_trio._link._requests import REQUEST
from discoro_trio._link.shared_memory._sharing import _HEAD, _PLACE
from discoro_trio._process import Call, Ending, output
from discoro_trio._process.execution._definitions import MOST_DEFINITIONS, NUMBER
from discoro_trio._process.execution._runner import LANE_SHIFT, SIZE, Attach, Attached
from discoro_trio._process.messaging._mail import DELIVERED, ENDED, RECEIPT
from discoro_trio._process.messaging._mailbox import ASKED, CREDIT
from discoro_trio._shipping import dumps
from discoro_trio._wire import Kind
from discoro_trio._wire._batch import MOST_VALUES, encode_batches
from discoro_trio._wire._frames import HEADER, MOST_STREAMS, encode_header

from .peers import LANE, frame, open_peer
from .worlds import settle, spawn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio._process import Coro, Submission

    from .peers import Peer

UNKNOWN = LANE | 0xABCDEF
OF_ANOTHER = 77 << LANE_SHIFT | 1
"""A coroutine that somebody else has started, or this one in a former life."""

[NUMBERS] = encode_batches([*range(MOST_VALUES)])
WINDOW = config.mailbox_messages


class Case(NamedTuple):
    """Something to say, and what comes of it."""

    said: bytes
    why: str | None
    """Part of what the connection ends with; None if it does not."""


def start(number: int, body: bytes = b"") -> bytes:
    return frame(Kind.START, LANE | number, NUMBER.pack(1) + (body or dumps(())[0]))


def bulk(number: int, announced: bytes) -> bytes:
    return frame(Kind.BULK, number, announced)


MESSAGE = encode_header(Kind.MESSAGE, 0, UNKNOWN, 40)
DEFINED = frame(Kind.DEFINE, 1, b"not what opens")
SHARED_MESSAGE = _HEAD.pack(Kind.MESSAGE, 1) + _PLACE.pack(0, 1, 3, 1 << 20)

WAITS = 1
"""A coroutine of the process that waits for ever."""

CASES: dict[Kind, dict[str, Case]] = {
    Kind.CONTROL: {
        "no message": Case(frame(Kind.CONTROL, 0, b"\xc1"), "malformed control message"),
        "text that is none": Case(frame(Kind.CONTROL, 0, b"\x92\xa4Done\xa1\xff"), "malformed control message"),
        "unknown flags": Case(frame(Kind.CONTROL, 0, control.encode(Done()), 64), "unknown flags"),
        "a notice that nobody takes": Case(frame(Kind.CONTROL, 0, control.encode(Done())), "may not send Done"),
        "a request that nobody answers": Case(frame(Kind.CONTROL, 1, control.encode(Done()), REQUEST), None),
        "two requests of one number": Case(frame(Kind.CONTROL, 1, control.encode(Attach()), REQUEST) * 2, "came twice"),
        "a reply to nothing": Case(frame(Kind.CONTROL, 9, control.encode(Done()), REPLIED), None),
    },
    Kind.START: {
        "no function": Case(frame(Kind.START, UNKNOWN, b""), "names no function"),
        "a function that was not defined": Case(start(5), "was not defined"),
        "the coroutine of another": Case(frame(Kind.START, OF_ANOTHER, NUMBER.pack(1)), "not its own"),
        "one coroutine twice": Case(DEFINED + start(5) * 2, "twice"),
        "a function that cannot be opened": Case(DEFINED + start(5), None),
        "arguments that cannot be opened": Case(frame(Kind.DEFINE, 1, dumps(Done)[0]) + start(5, b"\x80"), None),
    },
    Kind.STARTED: {
        "a coroutine that was not started there": Case(frame(Kind.STARTED, UNKNOWN), "was never started"),
        "a value that cannot be opened": Case(frame(Kind.STARTED, OF_ANOTHER, b"?", 1), "was never started"),
    },
    Kind.BEGUN: {
        "a coroutine that was not started there": Case(frame(Kind.BEGUN, 0, UNKNOWN.to_bytes(8)), "was never started"),
        "no coroutine": Case(frame(Kind.BEGUN, 0, b""), "a list of coroutines has 0 bytes"),
        "a part of a number": Case(frame(Kind.BEGUN, 0, bytes(12)), "a list of coroutines has 12 bytes"),
    },
    Kind.REVOKE: {
        "the coroutine of another": Case(frame(Kind.REVOKE, 0, OF_ANOTHER.to_bytes(8)), "not its own"),
        "one that has ended": Case(frame(Kind.REVOKE, 0, UNKNOWN.to_bytes(8)), None),
        "no coroutine": Case(frame(Kind.REVOKE, 0, b""), "a list of coroutines has 0 bytes"),
    },
    Kind.RETURNED: {
        "a coroutine that was not started there": Case(
            frame(Kind.RETURNED, 0, UNKNOWN.to_bytes(8)), "was never started"
        ),
        "no coroutine": Case(frame(Kind.RETURNED, 0, b""), "a list of coroutines has 0 bytes"),
    },
    Kind.OUTCOME: {
        "a coroutine that was not started there": Case(frame(Kind.OUTCOME, UNKNOWN, b"", 1), "was never started"),
    },
    Kind.MESSAGE: {
        "to nobody": Case(frame(Kind.MESSAGE, UNKNOWN, b"?"), None),
        "no number of the receipt": Case(frame(Kind.MESSAGE, UNKNOWN, b"?", RECEIPT), "does not say which"),
        "a short number": Case(frame(Kind.MESSAGE, UNKNOWN, b"?", RECEIPT, (b"123",)), "does not say which"),
        "what cannot be opened": Case(frame(Kind.MESSAGE, WAITS, b"\x80"), None),
        "more than there is credit for": Case(frame(Kind.MESSAGE, WAITS, b"?") * (WINDOW + 2), "without credit"),
    },
    Kind.CREDIT: {
        "without numbers": Case(frame(Kind.CREDIT, UNKNOWN, b"123"), "does not say how much"),
        "for nobody": Case(frame(Kind.CREDIT, UNKNOWN, CREDIT.pack(1, 1)), None),
        "asked of nobody": Case(frame(Kind.CREDIT, UNKNOWN, CREDIT.pack(1, 1), ASKED), None),
        "asked without an end": Case(frame(Kind.CREDIT, WAITS, CREDIT.pack(2**32 - 1, 2**64 - 1), ASKED), None),
    },
    Kind.CANCEL: {
        "of nobody": Case(frame(Kind.CANCEL, UNKNOWN, b"reason"), None),
        "a reason that is no text": Case(frame(Kind.CANCEL, WAITS, b"\xff"), None),
    },
    Kind.ACK: {
        "for nothing": Case(frame(Kind.ACK, UNKNOWN, b"", DELIVERED), None),
        "of nobody": Case(frame(Kind.ACK, UNKNOWN, b"", ENDED), None),
        "with unknown flags": Case(frame(Kind.ACK, UNKNOWN, b"?", 200), None),
    },
    Kind.DEFINE: {
        "without an end": Case(
            b"".join(frame(Kind.DEFINE, number, b"?") for number in range(MOST_DEFINITIONS + 1)),
            "functions were defined",
        ),
        "nothing, taken back": Case(frame(Kind.DEFINE, 9), None),
    },
    Kind.BULK: {
        "announces nothing": Case(bulk(1, b""), "announcement"),
        "announces no frame": Case(bulk(1, HEADER.pack(99, 0, 0, 40, 1)), "malformed announcement"),
        "announces a bulk stream": Case(bulk(1, HEADER.pack(Kind.BULK, 0, 0, 40, 1)), "malformed announcement"),
        "without the lengths of its buffers": Case(bulk(1, HEADER.pack(Kind.MESSAGE, 0, 9, 40, 1)), "malformed"),
        "announces an empty frame": Case(bulk(1, HEADER.pack(Kind.MESSAGE, 0, 0, 0, 1)), "announces nothing"),
        "announces too much": Case(
            bulk(1, HEADER.pack(Kind.MESSAGE, 0, 0, config.max_message_size, 1))
            + bulk(2, HEADER.pack(Kind.MESSAGE, 0, 0, config.max_message_size + 1, 1)),
            "max_message_size",
        ),
        "open already": Case(bulk(1, MESSAGE) * 2, "open already"),
        "without an end": Case(b"".join(bulk(number, MESSAGE) for number in range(MOST_STREAMS + 1)), "others are"),
        "with buffers of its own": Case(
            encode_header(Kind.BULK, 0, 1, len(MESSAGE), (3,)) + MESSAGE + b"abc", "buffers of its own"
        ),
    },
    Kind.PART: {
        "of nothing": Case(frame(Kind.PART, 1, b"?"), "not open"),
        "empty": Case(bulk(1, MESSAGE) + frame(Kind.PART, 1), "a part of 0 bytes"),
        "too long": Case(bulk(1, MESSAGE) + frame(Kind.PART, 1, bytes(41)), "a part of 41 bytes"),
        "after the last one": Case(bulk(1, MESSAGE) + frame(Kind.PART, 1, bytes(40)) * 2, "not open"),
    },
    Kind.ABORT: {
        "of nothing": Case(frame(Kind.ABORT, 1), "not open"),
        "with a body": Case(bulk(1, MESSAGE) + frame(Kind.ABORT, 1, b"?"), "abort"),
    },
    Kind.HELLO: {"after the handshake": Case(frame(Kind.HELLO, 0, b"?"), "is not allowed here")},
    Kind.FETCH: {
        "the outcome of another's": Case(frame(Kind.FETCH, OF_ANOTHER), "not its own"),
        "what there is not": Case(frame(Kind.FETCH, UNKNOWN) * 100, None),
    },
    Kind.READY: {
        "without a size": Case(frame(Kind.READY, UNKNOWN, b"123"), "without its size"),
        "of what was not started there": Case(frame(Kind.READY, UNKNOWN, SIZE.pack(1)), "was never started"),
    },
    Kind.OUTPUT: {
        "no message": Case(frame(Kind.OUTPUT, 1, b"\xc1"), "malformed output"),
        "text that is none": Case(frame(Kind.OUTPUT, 1, b"\x92\xa1\xff\xc4\x01?"), "malformed output"),
        "no record": Case(frame(Kind.OUTPUT, 1, b"\xc1", output.LOG), "malformed output"),
    },
    Kind.SHARED: {
        "nothing": Case(frame(Kind.SHARED, 1, b""), "malformed frame of shared buffers"),
        "fewer buffers than it says": Case(frame(Kind.SHARED, 1, SHARED_MESSAGE[:-1]), "malformed frame of shared"),
        "memory that was not agreed on": Case(frame(Kind.SHARED, 1, SHARED_MESSAGE), "not agreed on"),
        "in itself": Case(frame(Kind.SHARED, 1, _HEAD.pack(Kind.SHARED, 0)), "does not come through shared memory"),
        "a kind that does not exist": Case(frame(Kind.SHARED, 1, _HEAD.pack(200, 0)), "does not come through"),
        "a handshake": Case(frame(Kind.SHARED, 1, _HEAD.pack(Kind.HELLO, 0)), "no service here takes"),
    },
    Kind.BATCH: {
        "no values": Case(frame(Kind.BATCH, WAITS, b"\x90"), "a batch of 0 messages"),
        "no array": Case(frame(Kind.BATCH, WAITS, b"\xc1"), "malformed batch"),
        "long values": Case(frame(Kind.BATCH, WAITS, b"\x91\xc5\x10\x00" + bytes(4096)), "a batch of 1 messages"),
        "to nobody": Case(frame(Kind.BATCH, UNKNOWN, NUMBERS), None),
        "more than there is credit for": Case(
            frame(Kind.BATCH, WAITS, NUMBERS) * (WINDOW // MOST_VALUES + 1), "without credit"
        ),
    },
}


async def wait_for_ever() -> None:
    await trio.sleep_forever()


async def is_alive(peer: Peer) -> bool:
    """Tell whether the process still answers another peer."""
    async with open_peer(peer.process) as other:
        return not other.link.lost


@pytest.mark.fault("F12", "F16")
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
async def test_no_frame_of_any_kind_ends_more_than_its_connection(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    for name, case in CASES[kind].items():
        async with open_peer() as peer, trio.open_nursery() as nursery:
            display = _output.Display.of(peer.process.endpoint)
            display._servers[peer.link.peer.process_id] = peer.link.peer.location
            assert spawn(nursery, peer.process, wait_for_ever).serial == WAITS
            await peer.send(case.said)
            await peer.send(frame(Kind.CONTROL, 1000, control.encode(Attach()), REQUEST))
            await peer.until_answered(1000)
            if case.why is None:
                assert not peer.link.lost, f"{name}: {peer.link.error}"
            else:
                assert isinstance(peer.link.error, ProtocolError), f"{name}: {peer.link.error!r}"
                assert case.why in str(peer.link.error), name
            assert await is_alive(peer)
            nursery.cancel_scope.cancel()
    assert "could not be handled" not in caplog.text


@pytest.mark.fault("F12")
@pytest.mark.parametrize("kind", [0, max(Kind) + 1, 255])
async def test_a_kind_that_does_not_exist_ends_the_connection(kind: int) -> None:
    async with open_peer() as peer:
        await peer.send(struct.pack("!B", kind) + bytes(HEADER.size - 1))
        await peer.link.ended.wait()
        assert isinstance(peer.link.error, ProtocolError)


# --- what a peer says of coroutines that this process has started there

HOSTED = LANE | 1


@asynccontextmanager
async def open_host() -> AsyncIterator[tuple[Peer, Submission, Coro[None]]]:
    """Give a peer at which this process has started a coroutine, its record, and its handle."""
    async with open_peer() as peer, trio.open_nursery() as nursery:
        process = peer.process
        nursery.start_soon(process.starts.host, peer.link)
        asked = await peer.frames(Kind.CONTROL, 1)
        await peer.send(frame(Kind.CONTROL, asked[0].target, control.encode(Attached(1)), REPLIED))
        await settle()
        with process.entered():
            host = await process.starts.host(peer.link)
            started = host.start(Call(wait_for_ever, (), {}, None))
        yield peer, started, process.handle_to(started, peer.link.peer.location, b"")


OF_HOSTED = {
    "an ending that does not exist": Case(frame(Kind.OUTCOME, HOSTED, b"", 200), "unknown ending"),
    "lost, as a server that ends in order reports it": Case(
        frame(Kind.OUTCOME, HOSTED, b"the server ends", int(Ending.LOST)), None
    ),
    "an outcome twice": Case(frame(Kind.OUTCOME, HOSTED, b"", int(Ending.CANCELLED)) * 2, None),
    "a value that cannot be opened": Case(frame(Kind.STARTED, HOSTED, b"?", 1), None),
    "announced twice": Case(frame(Kind.READY, HOSTED, SIZE.pack(2**30)) * 2, "announced an outcome twice"),
    "announced with more than a message may have": Case(frame(Kind.READY, HOSTED, SIZE.pack(2**63)) * 2, None),
    "more credit than was used": Case(frame(Kind.CREDIT, HOSTED, CREDIT.pack(2, 1)), "more than was used"),
    "more bytes than were used": Case(frame(Kind.CREDIT, HOSTED, CREDIT.pack(1, 2**62)), "more than was used"),
}


@pytest.mark.fault("F12", "F16")
@pytest.mark.parametrize("name", OF_HOSTED)
async def test_what_a_host_says_wrongly_of_its_coroutines_ends_its_own_connection(name: str) -> None:
    case = OF_HOSTED[name]
    async with open_host() as (peer, started, coro):
        with peer.process.entered():
            await coro.send("a message, which takes credit")
        await peer.send(case.said)
        await peer.send(frame(Kind.CONTROL, 1000, control.encode(Attach()), REQUEST))
        await peer.until_answered(1000)
        if case.why is None:
            assert not peer.link.lost
        else:
            assert isinstance(peer.link.error, ProtocolError)
            assert case.why in str(peer.link.error)
            assert started.outcome is not None  # nothing is to be expected any more
        assert await is_alive(peer)


async def test_outcomes_that_were_announced_and_end_otherwise_leave_room_for_others() -> None:
    async with open_host() as (peer, _, _):
        budget = peer.process.starts._budget
        host = peer.process.starts.hosts[peer.link]
        with peer.process.entered():
            for _ in range(2000):
                host.start(Call(wait_for_ever, (), {}, None))
        serials = range(HOSTED, HOSTED + 2001)
        await peer.send(b"".join(frame(Kind.READY, serial, SIZE.pack(budget.size)) for serial in serials))
        (fetched,) = await peer.frames(Kind.FETCH, 1)
        assert (fetched.target, budget.used) == (HOSTED, budget.size)
        ended = int(Ending.CANCELLED)
        await peer.send(b"".join(frame(Kind.OUTCOME, serial, b"", ended) for serial in reversed(serials)))
        await settle()
        assert not budget.used
        assert not budget.waiting
