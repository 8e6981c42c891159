"""A made-up cluster for tests and pictures: nodes, servers and coroutines with nothing behind them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from discoro_trio._monitor._model import Model
from discoro_trio._monitor._rows import SAMPLE_SECONDS, SAMPLES, CoroutineRow

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 2**30
NAMES = ("simulate", "render_frame", "count_primes", "fetch_page", "train_step", "reduce_block")
PLATFORM = "Linux-6.12.48-amd64-x86_64-with-glibc2.41"
TRACE = """Traceback (most recent call last):
  File "/home/ada/sweep.py", line 31, in {name}
    block = blocks[number]
ValueError: no such block
"""
LEVELS = ("print", "print", "info", "warning", "print", "error")


def add_nodes(model: Model, nodes: int, servers: int = 4, *, seed: int = 1) -> list[str]:
    """Add nodes with servers; give the servers' keys."""
    chance = random.Random(seed)
    keys = []
    for number in range(nodes):
        addr = f"10.0.{number // 200}.{number % 200 + 11}"
        model.node(
            addr,
            name=f"node{number + 1:02}",
            platform=PLATFORM,
            state="ready",
            cpus=servers,
            cpu=chance.uniform(5, 99),
            memory=int(chance.uniform(2, 30) * GIB),
            memory_total=32 * GIB,
            disk=int(chance.uniform(50, 400) * GIB),
            disk_total=500 * GIB,
        )
        for slot in range(servers):
            key = f"{addr}:{51350 + slot}"
            cpu, memory = chance.uniform(3, 100), int(chance.uniform(60, 700) * 2**20)
            model.server(key, addr, state="ready", name=f"server {slot + 1}", pid=2000 + slot, cpu=cpu, memory=memory)
            keys.append(key)
    return keys


def coroutines(servers: list[str], count: int, now: float, *, seed: int = 2) -> Iterator[CoroutineRow]:
    """Give running coroutines, spread over servers."""
    chance = random.Random(seed)
    for number in range(count):
        name = chance.choice(NAMES)
        args = (number, f"data/part-{number:05}.npz", {"steps": 200})
        start = now - chance.uniform(0.2, 50)
        yield CoroutineRow(f"c{number:06}", name, servers[number % len(servers)], start, args=args[: number % 3 + 1])


def add_history(model: Model, servers: list[str], now: float, *, seed: int = 3) -> None:
    """Let five minutes of work pass: coroutines that ended, samples, lines of output."""
    chance = random.Random(seed)
    number = 0
    for step in range(SAMPLES):
        at = now - (SAMPLES - 1 - step) * SAMPLE_SECONDS
        for server in servers:
            begin = at - SAMPLE_SECONDS
            while begin < at:
                long = chance.uniform(0.4, 3.0)
                number += 1
                model.created(CoroutineRow(f"e{number:06}", chance.choice(NAMES[:4]), server, begin))
                state, error = _outcome(chance)
                model.finished(f"e{number:06}", state, min(begin + long, at), error)
                begin += long
        _wander(model, chance)
        model.sample(at)
    for line in range(120):
        level = chance.choice(LEVELS)
        text = f"step {line}: residual {chance.random():.3e}" if level == "print" else "disk cache is nearly full"
        model.output(now - (120 - line) * 0.8, chance.choice(servers), level, text)


def _outcome(chance: random.Random) -> tuple[str, str]:
    number = chance.random()
    if number < 0.96:
        return "done", ""
    return (
        ("failed", "ValueError: no such block") if number < 0.99 else ("cancelled", "CoroCancelled: no longer needed")
    )


def _wander(model: Model, chance: random.Random) -> None:
    loads = [node.load for node in model.nodes.values()] + [server.load for server in model.servers.values()]
    for load in loads:
        if load.cpu is not None:
            load.cpu = min(100.0, max(1.0, load.cpu + chance.uniform(-12, 12)))
        if load.memory is not None:
            load.memory = int(load.memory * chance.uniform(0.97, 1.03))


def add_computations(model: Model, now: float) -> None:
    """Add one that runs, two that wait, some that are over."""
    for number in range(6):
        begin = now - 7200 + number * 900
        facts = {"name": f"sweep-{number}", "owner": "ada@workstation:40112", "lease": 0}
        one = model.computation(f"p{number}", state="closed", begin=begin, end=begin + 640 + 13 * number, **facts)
        one.counts.submitted = one.counts.done = 1000 * (number + 1)
    model.computation(
        "r", name="climate ensemble", owner="ada@workstation:40112", state="running", begin=now - 1840, lease=48
    )
    model.computation("q1", name="nightly render", owner="grace@build7 render.py", submitted=now - 320, place=1)
    model.computation("q2", name="calibration", owner="alan@lab3 calibrate.py", submitted=now - 44, place=2)


def add_problems(model: Model, servers: list[str], now: float) -> None:
    """Add failures with a traceback, a server that is blocked, and events."""
    for name, count in ((NAMES[0], 14), (NAMES[1], 1)):
        model.failed(
            f"r {name}",
            servers[0],
            count,
            name=name,
            kind="ValueError",
            place="/home/ada/sweep.py:31",
            error="ValueError: no such block",
            trace=TRACE.format(name=name),
            at=now - 20,
        )
    stack = ("/home/ada/sweep.py:31 in invert", "/home/ada/sweep.py:80 in solve")
    model.server(
        servers[-1], model.servers[servers[-1]].node, state="unresponsive", blocked_since=now - 38, stack=stack
    )
    model.log.add(now - 60, "", "Node node03 joined with 4 servers", view="node", key="10.0.0.13")
    model.log.add(now - 38, "bad", "Server 4 of node12 is blocked in invert", view="server", key=servers[-1])


def make_model(now: float, *, nodes: int = 12, running: int = 260) -> Model:
    """Make a cluster as people have one."""
    model = Model()
    servers = add_nodes(model, nodes)
    add_computations(model, now)
    for server in model.servers.values():
        server.computation = "r"
    for number, coroutine in enumerate(coroutines(servers, running, now)):
        model.created(coroutine)
        if number % 3 == 0:
            model.progress(coroutine.key, number % 97, 97, "")
    add_history(model, servers, now)
    add_problems(model, servers, now)
    return model
