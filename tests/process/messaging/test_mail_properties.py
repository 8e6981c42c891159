"""Any mix of send, deliver, receive, cancel and end, on five coroutines in three processes.

Each coroutine follows a script and receives beside it, so that every cycle of waiting has a receiver.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro_trio import MailboxClosed
from discoro_trio._process.execution._local_coro import current

from ..worlds import elsewhere, open_processes, spawn

if TYPE_CHECKING:
    from discoro_trio._process import Coro, Process


PROCESSES = 3
COROUTINES = 5
TARGETS = st.integers(0, COROUTINES - 1)
# Below and above what goes out of band, what goes in parts, and the whole window of bytes.
SHORT = -1
"""The message is a short value, which goes together with others; its sender and number are in it."""

SIZES = st.sampled_from([SHORT, SHORT, SHORT, 0, 0, 100, 70_000, 300_000, 1_200_000, 5_000_000])

STEPS = st.one_of(
    st.tuples(st.just("send"), TARGETS, SIZES),
    st.tuples(st.just("deliver"), TARGETS, SIZES),
    st.tuples(st.just("cancelled send"), TARGETS, SIZES),
    st.tuples(st.just("burst"), TARGETS, st.integers(1, 30)),
    st.tuples(st.just("yield"), st.integers(0, 5), st.just(0)),
)


@attrs.frozen
class Script:
    """What one coroutine does."""

    process: int
    mailbox_size: int
    steps: list[tuple[str, int, int]]
    slow: int
    """The checkpoints between two messages that it receives."""
    ends_after: int | None
    """The number of received messages after which its mailbox closes."""


SCRIPTS = st.lists(
    st.builds(
        Script,
        process=st.integers(0, PROCESSES - 1),
        mailbox_size=st.sampled_from([1, 2, 3, 4, 40, 1024]),
        steps=st.lists(STEPS, max_size=12),
        slow=st.integers(0, 3),
        ends_after=st.none() | st.none() | st.integers(0, 5),
    ),
    min_size=COROUTINES,
    max_size=COROUTINES,
)


class World:
    """All coroutines of one run, and what each has sent and received."""

    def __init__(self, scripts: list[Script]) -> None:
        self.scripts = scripts
        self.coros: list[Coro[Any]] = []
        self.sent: dict[tuple[int, int], list[int]] = defaultdict(list)
        self.delivered: dict[tuple[int, int], list[int]] = defaultdict(list)
        self.received: dict[tuple[int, int], list[int]] = defaultdict(list)
        self.left_over: dict[tuple[int, int], list[int]] = defaultdict(list)
        self.unknown: set[int] = set()
        self.numbers = 0
        self.talking = COROUTINES
        self.all_sent = trio.Event()

    async def act(self, me: int, *, coro: Coro[Any]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.receive, me, coro, nursery.cancel_scope)
            try:
                await self.talk(me)
            finally:  # its own receiver may have ended it before it was through
                self.talking -= 1
                if not self.talking:
                    self.all_sent.set()
        mailbox = current.get()[-1].box()
        while mailbox:
            sender, number = _said(mailbox.get_nowait())
            self.left_over[sender, me].append(number)

    async def talk(self, me: int) -> None:
        for kind, target, size in self.scripts[me].steps:
            if kind == "yield":
                for _ in range(target):
                    await trio.lowlevel.checkpoint()
                continue
            for _ in range(size if kind == "burst" else 1):
                await self.one(kind, me, target, self.size_of_burst(me) if kind == "burst" else size)

    def size_of_burst(self, me: int) -> int:
        """Let some coroutines burst with short values, and others with tuples."""
        return SHORT if me % 2 else 0

    async def one(self, kind: str, me: int, target: int, size: int) -> None:
        self.numbers += 1
        number = self.numbers
        handle = elsewhere(self.coros[target])
        message = _message(me, number, size)
        try:
            if kind == "deliver":
                await self.deliver(handle, message)
                self.delivered[me, target].append(number)
            elif kind == "cancelled send":
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await handle.send(message)
                return
            else:
                await handle.send(message)
            self.sent[me, target].append(number)
        except MailboxClosed:
            assert self.scripts[target].ends_after is not None

    async def deliver(self, handle: Coro[Any], message: object) -> None:
        try:
            await handle.deliver(message)
        except trio.Cancelled:
            self.unknown.add(_said(message)[1])
            raise

    async def receive(self, me: int, coro: Coro[Any], scope: trio.CancelScope) -> None:
        script = self.scripts[me]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.stop_when_all_is_there, me, nursery.cancel_scope)
            count = 0
            while count != script.ends_after:
                sender, number = _said(await coro.receive())
                self.received[sender, me].append(number)
                count += 1
                for _ in range(script.slow):
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
            scope.cancel()

    async def stop_when_all_is_there(self, me: int, scope: trio.CancelScope) -> None:
        await self.all_sent.wait()
        while any(self.sent[sender, me] != self.certain(sender, me) for sender in range(COROUTINES)):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    def certain(self, sender: int, me: int) -> list[int]:
        """Give what arrived, without those whose delivery was cancelled."""
        return [number for number in self.received[sender, me] if number not in self.unknown]

    def check(self) -> None:
        for received in self.received.values():
            assert received == sorted(received), "out of order"
        for pair, sent in self.sent.items():
            got = self.certain(*pair)
            if self.scripts[pair[1]].ends_after is None:
                assert got == sent, "lost, or not sent and received"
            else:
                known = got + self.left_over[pair]
                assert known == sorted(set(known))
                assert set(self.delivered[pair]) <= set(known), "delivered, and not in the mailbox"


def _message(sender: int, number: int, size: int) -> object:
    return number * COROUTINES + sender if size == SHORT else (sender, number, b"x" * size)


def _said(message: Any) -> tuple[int, int]:
    """Give the sender and number of a message."""
    if isinstance(message, int):
        number, sender = divmod(message, COROUTINES)
        return sender, number
    return message[0], message[1]


async def run(scripts: list[Script]) -> None:
    world = World(scripts)
    async with open_processes(PROCESSES) as processes, trio.open_nursery() as nursery:
        for number, script in enumerate(scripts):
            process: Process = processes[script.process]
            coro = spawn(nursery, process, world.act, number, mailbox_size=script.mailbox_size)
            world.coros.append(coro)
        for number, script in enumerate(scripts):
            with processes[script.process].entered():
                await world.coros[number].result()
    world.check()


@given(SCRIPTS)
@settings(max_examples=60, deadline=None)
def test_any_mix_keeps_order_and_windows_loses_nothing_and_ends(scripts: list[Script]) -> None:
    trio.run(run, scripts)
