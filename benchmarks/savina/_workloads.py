"""The workloads: each returns how much it did, in its unit. Its actors run unchanged on every stage.

An actor that is given other actors gets them by message, since they do not all exist when it is started.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import trio
from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.savina._stages import Actor, Stage

MESSAGES, ACTORS = "messages/s", "actors/s"


# --- Ping Pong: two actors pass a message to and fro


async def pong(*, coro: Actor) -> None:
    """Send each message back to the sender of the first one, until None."""
    other = await coro.receive()
    while (message := await coro.receive()) is not None:
        await other.send(message)


async def ping(pongs: Any, rounds: int, *, coro: Actor) -> None:
    """Send a message and wait for it, again and again."""
    await pongs.send(coro)
    for number in range(rounds):
        await pongs.send(number)
        await coro.receive()
    await pongs.send(None)


async def ping_pong(stage: Stage) -> int:
    """Two actors pass a message to and fro."""
    rounds = 2_000
    first = await stage.start(pong, place=0)
    await stage.start(ping, first, rounds, place=1)
    await first.result()
    return 2 * rounds


# --- Counting Actor: one actor sends, another one counts


async def counter(*, coro: Actor) -> int:
    """Count messages until None."""
    count = 0
    while await coro.receive() is not None:
        count += 1
    return count


async def producer(receiver: Any, messages: int) -> None:
    """Send messages, then None."""
    for number in range(messages):
        await receiver.send(number)
    await receiver.send(None)


async def counting(stage: Stage) -> int:
    """One actor sends messages to another one, which counts them."""
    messages = 50_000
    receiver = await stage.start(counter, place=0)
    await stage.start(producer, receiver, messages, place=1)
    counted: int = await receiver.result()
    return counted


# --- Fork Join, throughput: messages to many actors in turn


async def feeder(receivers: list[Any], rounds: int) -> None:
    """Send a message to each actor in turn, then None."""
    for number in range(rounds):
        for receiver in receivers:
            await receiver.send(number)
    for receiver in receivers:
        await receiver.send(None)


async def fork_join_throughput(stage: Stage) -> int:
    """One actor sends messages to 60 actors in turn, each of which counts its own."""
    actors, rounds = 60, 500
    receivers = [await stage.start(counter, place=number) for number in range(actors)]
    await stage.start(feeder, receivers, rounds)
    return sum([await receiver.result() for receiver in receivers])


# --- Fork Join, actor creation


async def one_task(number: int) -> int:
    """Compute a little."""
    return number * number


async def fork_join_create(stage: Stage) -> int:
    """2,000 actors are created, compute a little and end."""
    actors, at_once = 2_000, 50

    async def create() -> None:
        for number in range(actors // at_once):
            actor = await stage.start(one_task, number, place=number)
            await actor.result()

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(create)
    return actors


# --- Thread Ring: a token goes round


async def ring_member(*, coro: Actor) -> None:
    """Pass the token on, one less each time; below 0 it ends the ring."""
    following = await coro.receive()
    while (token := await coro.receive()) >= 0:
        await following.send(token - 1)
    if token > -RING:
        await following.send(token - 1)


RING = 100
"""Members of the ring."""


async def thread_ring(stage: Stage) -> int:
    """A token goes round a ring of 100 actors; neighbours are on different servers."""
    hops = 4_000
    members = [await stage.start(ring_member, place=number) for number in range(RING)]
    for number, member in enumerate(members):
        await member.send(members[(number + 1) % RING])
    await members[0].send(hops)
    for member in members:
        await member.result()
    return hops + RING


# --- Chameneos: creatures meet in pairs at a mall and change their colours

COLOURS = 3


async def creature(mall: Any, colour: int, *, coro: Actor) -> int:
    """Meet others until the mall closes; return how often."""
    met = 0
    while True:
        await mall.send((coro, colour))
        other = await coro.receive()
        if other is None:
            return met
        met += 1
        # Equal colours stay; two different ones become the third.
        colour = colour if colour == other else COLOURS - colour - other


async def mall(meetings: int, creatures: int, *, coro: Actor) -> None:
    """Bring creatures together, then send each None."""
    for _ in range(meetings):
        first, colour = await coro.receive()
        second, other = await coro.receive()
        await first.send(other)
        await second.send(colour)
    for _ in range(creatures):
        one, _ = await coro.receive()
        await one.send(None)


async def chameneos(stage: Stage) -> int:
    """100 creatures meet 5,000 times in pairs at a mall."""
    creatures, meetings = 100, 5_000
    place = await stage.start(mall, meetings, creatures)
    everyone = [await stage.start(creature, place, number % COLOURS, place=number) for number in range(creatures)]
    met: int = sum([await one.result() for one in everyone])
    return 2 * (met + creatures)


# --- Big: many actors, each sends to any other one and waits for the answer


async def big_member(number: int, rounds: int, sink: Any, *, coro: Actor) -> None:
    """Send pings to random others, and answer those of others, until the end."""
    while type(others := await coro.receive()) is not list:
        await others.send("pong")  # a ping of one that has begun earlier
    rng = random.Random(number)
    answered = 0
    await rng.choice(others).send(coro)
    while (message := await coro.receive()) is not None:
        if message != "pong":
            await message.send("pong")
            continue
        answered += 1
        if answered < rounds:
            await rng.choice(others).send(coro)
        else:
            await sink.send(number)


async def big_sink(actors: int, *, coro: Actor) -> None:
    """Wait until all have had their answers, then end them."""
    everyone = await coro.receive()
    for _ in range(actors):
        await coro.receive()
    for one in everyone:
        await one.send(None)


async def big(stage: Stage) -> int:
    """60 actors send 100 pings each to random others and answer those that they get."""
    actors, rounds = 60, 100
    sink = await stage.start(big_sink, actors)
    everyone = [await stage.start(big_member, number, rounds, sink, place=number) for number in range(actors)]
    await sink.send(everyone)
    for one in everyone:
        await one.send(everyone)
    for one in everyone:
        await one.result()
    return 2 * actors * rounds


# --- Bank Transaction: a teller has accounts send money to each other


async def account(balance: int, teller: Any, *, coro: Actor) -> int:
    """Debit and credit until None; return the balance."""
    while (message := await coro.receive()) is not None:
        kind, amount, other = message
        if kind == "debit":
            balance -= amount
            await other.send(("credit", amount, coro))
        elif kind == "credit":
            balance += amount
            await other.send(("credited", amount, None))
        else:
            await teller.send(amount)
    return balance


async def teller(transactions: int, at_once: int, *, coro: Actor) -> int:
    """Order transactions between random accounts, so many at once, then end the accounts; return the sum moved."""
    accounts = await coro.receive()
    rng = random.Random(7)

    async def order() -> None:
        source, destination = rng.sample(accounts, 2)
        await source.send(("debit", rng.randrange(100), destination))

    for _ in range(at_once):
        await order()
    moved = 0
    for number in range(transactions):
        moved += await coro.receive()
        if number < transactions - at_once:
            await order()
    for one in accounts:
        await one.send(None)
    return moved


async def bank_transaction(stage: Stage) -> int:
    """A teller orders 3,000 transactions between 100 accounts, 100 at once; each is debited, credited and confirmed."""
    accounts, transactions, at_once = 100, 3_000, 100
    bank = await stage.start(teller, transactions, at_once)
    everyone = [await stage.start(account, 1_000, bank, place=number) for number in range(accounts)]
    await bank.send(everyone)
    balances = [await one.result() for one in everyone]
    assert sum(balances) == 1_000 * accounts, "no money is made or lost"
    return 4 * transactions


@frozen
class Workload:
    """One of the suite."""

    name: str
    """As the suite calls it."""
    unit: str
    run: Callable[[Stage], Awaitable[int]]
    """Its first line of documentation says what it does."""


WORKLOADS = (
    Workload("Ping Pong", MESSAGES, ping_pong),
    Workload("Counting Actor", MESSAGES, counting),
    Workload("Fork Join (throughput)", MESSAGES, fork_join_throughput),
    Workload("Fork Join (actor creation)", ACTORS, fork_join_create),
    Workload("Thread Ring", MESSAGES, thread_ring),
    Workload("Chameneos", MESSAGES, chameneos),
    Workload("Big", MESSAGES, big),
    Workload("Bank Transaction", MESSAGES, bank_transaction),
)
ACTOR_FUNCTIONS = (
    account,
    big_member,
    big_sink,
    counter,
    creature,
    feeder,
    mall,
    one_task,
    ping,
    pong,
    producer,
    ring_member,
    teller,
)
"""What is shipped to the servers."""
