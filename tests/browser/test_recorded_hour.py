"""A recorded hour of a shared cluster, in fast motion: the pages say the same as the client's own records.

One page stays open all the time. After each moment the test waits until the page's own "as of" is later than the
moment, and compares the page with the records.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio

import discoro_trio as discoro
from discoro_trio import CoroInfo, DiscoroStatus, MonitorException, Status
from tests._ports import free_udp_port
from tests.cli.programs import SECRET, output, running
from tests.monitor.served import TOKEN

from .driver import chromium

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from playwright.sync_api import Page

    from tests.cli.programs import Program

pytestmark = [pytest.mark.soak, pytest.mark.spec("B38", "B39", "S91", "S95")]

SLOWEST = 60.0
"""Seconds after which a page that says something else has it wrong: a busy machine is slow."""
REPORTS = 1.5
"""Seconds that a change may take from a server to its scheduler."""


# --- what runs


async def quick(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return number


async def divide(number: int) -> float:
    await trio.lowlevel.checkpoint()
    return number / 0


async def parse(text: str) -> int:
    await trio.lowlevel.checkpoint()
    return int(text)


async def stay(way: str) -> None:
    print("here is", way)  # noqa: T201 - a job's output
    await trio.sleep_forever()


async def hang(until: str) -> None:
    while not Path(until).exists():  # noqa: ASYNC240 - as below
        time.sleep(0.02)  # noqa: ASYNC251 - it is to block its server
    await trio.lowlevel.checkpoint()


def plain(number: int) -> int:
    return number


# --- the client's records


@attrs.define
class Records:
    """What the client knows of its coroutines."""

    names: dict[str, str] = attrs.Factory(dict)
    ends: dict[str, str] = attrs.Factory(dict)
    """`value`, `cancelled`, `closed`, `lost` or the error's type."""
    others: int = 0
    """Jobs of other programs, which have ended."""

    async def keep(self, computation: discoro.Computation, task_status: trio.TaskStatus[None]) -> None:
        """Follow a computation."""
        async with computation.subscribe() as messages:
            task_status.started()
            async for message in messages:
                self._take(message)

    def _take(self, message: object) -> None:
        assert not isinstance(message, discoro.StatusLagged)
        if isinstance(message, MonitorException):
            error = message.error
            kinds = {
                type(None): "value",
                discoro.CoroCancelled: "cancelled",
                discoro.ComputationClosed: "closed",
                discoro.ServerLost: "lost",
            }
            self.ends[message.coro.id] = kinds.get(type(error), type(error).__name__)
        elif isinstance(message, DiscoroStatus) and message.status is Status.CoroCreated:
            assert isinstance(message.info, CoroInfo)
            self.names[message.info.coro.id] = message.info.coro.name

    def running(self) -> Counter[str]:
        """Give how many of each function run."""
        return Counter(name for key, name in self.names.items() if key not in self.ends)

    def failures(self) -> Counter[str]:
        """Give how many of each function raised, by function and type of error."""
        silent = {"value", "cancelled", "closed", "lost"}
        return Counter(f"{self.names[key]} {end}" for key, end in self.ends.items() if end not in silent)

    def figures(self) -> dict[str, int]:
        """Give the figures of the first page."""
        lost = sum(end == "lost" for end in self.ends.values())
        return {
            "Running": len(self.names) - len(self.ends),
            "Submitted": len(self.names) + self.others,
            "Done": len(self.ends) + self.others,
            "Failed": self.failures().total() + lost,
        }


# --- the page

READ = """() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const text = (query, root = document) => root.querySelector(query)?.innerText.trim() ?? "";
  return {
    asOf: Date.parse(document.querySelector(".as-of time")?.dateTime) / 1000,
    live: text(".live"),
    figures: Object.fromEntries(all("dl.stats div").map((one) => [text("dt", one), text("dd", one)])),
    level: document.querySelector("section.verdict")?.className ?? "",
    verdict: text("section.verdict strong"),
    problems: all("section.verdict li").map((one) => one.innerText),
    queue: all("ol.queue li").map((one) => one.innerText),
    events: all("ol.events li span:last-child").map((one) => one.innerText),
    failures: all("ul.failures summary").map((one) => [".times", "strong", ".error"].map((part) => text(part, one))),
    rows: all("tbody tr").map((row) =>
      Object.fromEntries(all("td", row).map((cell) => [cell.dataset.label, cell.innerText.trim()]))),
    empty: text("p.empty"),
  };
}"""


SHOWN = """(view) => document.querySelector("nav [aria-current]")?.innerText === view
  && document.querySelector("#content > :not(.loading)")"""


class OpenPage:
    """A page that stays open, in a thread of its own: Playwright's objects belong to one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._commands, self._next = trio.open_memory_channel[Any](0)

    def serve(self) -> None:
        """Run commands until there are no more."""
        with chromium(self._url, width=1400) as (context, strict):
            strict.expected += ["WebSocket", "ERR_CONNECTION", "Failed to load resource"]  # the monitor is restarted
            page = context.new_page()
            page.goto(f"{self._url}#token={TOKEN}")
            while True:
                try:
                    command, done = trio.from_thread.run(self._next.receive)
                except trio.EndOfChannel:
                    return
                try:
                    found, error = command(page), None
                except Exception as raised:  # noqa: BLE001 - raised where the command was given
                    found, error = None, raised
                trio.from_thread.run(done.send, (found, error))

    async def do(self, command: Callable[[Page], Any]) -> Any:
        """Run a command with the page."""
        done, wait = trio.open_memory_channel[Any](1)
        await self._commands.send((command, done))
        found, error = await wait.receive()
        if error is not None:
            raise error
        return found

    async def read(self, view: str) -> dict[str, Any]:
        """Go to a view by the menu, and give what it says, as of now or later."""

        def look(page: Page) -> Any:
            page.get_by_role("link", name=view, exact=True).click()
            page.wait_for_function(SHOWN, arg=view, timeout=1000 * SLOWEST)
            return page.evaluate(READ)

        found: dict[str, Any] = await self.do(look)
        return found

    async def aclose(self) -> None:
        """Close the page."""
        await self._commands.aclose()


@asynccontextmanager
async def open_page(url: str) -> AsyncIterator[OpenPage]:
    page = OpenPage(url)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, page.serve)
        try:
            yield page
        finally:
            with trio.CancelScope(shield=True):
                await page.aclose()


def number(text: str) -> int:
    return int(text.replace(",", "").split()[0])


def figures(read: dict[str, Any], names: Any) -> dict[str, int]:
    return {name: number(read["figures"][name]) for name in names if name in read["figures"]}


# --- the cluster


@attrs.define
class Cluster:
    """The programs."""

    udp_port: int
    folder: Path
    pulse: float
    stack: AsyncExitStack
    nodes: dict[str, Program] = attrs.Factory(dict)
    scheduler: Any = None
    location: str = ""
    monitor: Any = None
    url: str = ""

    @property
    def _common(self) -> tuple[str, ...]:
        return ("--udp_port", str(self.udp_port), "--min_pulse_interval", str(self.pulse))

    async def _run(self, *arguments: str, read: str = "stderr") -> Program:
        homes = {"XDG_STATE_HOME": str(self.folder / "state"), "XDG_CONFIG_HOME": str(self.folder)}
        return await self.stack.enter_async_context(running(*arguments, read=read, **homes))

    async def start_scheduler(self) -> None:
        ports = ("--tcp_ports", self.location.rpartition(":")[2]) if self.location else ()
        self.scheduler = await self._run(*self._common, *ports)
        self.location = await self.scheduler.location()

    async def start_node(self, name: str) -> None:
        common = (
            "--udp_port",
            str(self.udp_port),
            "--min_pulse_interval",
            str(self.pulse),
            "--cpus",
            "2",
            "--name",
            name,
        )
        self.nodes[name] = await self._run("node", *common, "--peer", self.location)
        await self.nodes[name].location()

    async def start_monitor(self) -> None:
        port = self.url.rpartition(":")[2].strip("/") if self.url else "0"
        http = ("--http_port", port, "--http_token", TOKEN, "--event_file", str(self.folder / "events"))
        self.monitor = await self._run("monitor", self.location, *http, "--udp_port", str(self.udp_port), read="all")
        self.url = (await self.monitor.says("look at")).split()[-1]

    async def kill(self, program: Program) -> None:
        """Kill a program; it has no chance to say anything."""
        program.process.send_signal(signal.SIGKILL)
        await program.ended()

    async def command(self, *arguments: str) -> str:
        """Run a command of `discoro`."""
        done = await output(*arguments, "--udp_port", str(self.udp_port))
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()


# --- the hour


@attrs.define
class Hour:
    """The moments, and what differs between page and records."""

    page: OpenPage
    records: Records
    differences: list[str] = attrs.Factory(list)

    async def moment(
        self,
        title: str,
        *,
        nodes: dict[str, str],
        level: str = "bad",
        problems: tuple[str, ...] = (),
        queue: tuple[str, ...] = (),
        figures: dict[str, int] | None = None,
        computations: tuple[str, ...] = (),
    ) -> None:
        """Compare the page with the records, as of now or later.

        Args:
            title: The moment.
            nodes: The state of each node.
            level: The level of the verdict.
            problems: Patterns, one for each problem of the verdict, in any order.
            queue: Patterns, one for each computation in the queue.
            figures: The figures, if they are not those of the records.
            computations: Name and state of each computation, the present ones first.
        """
        began = time.time()
        until = time.monotonic() + SLOWEST
        while True:
            expected = {
                "figures": {"Nodes": sum(state in {"ready", "suspended"} for state in nodes.values())}
                | (figures or self.records.figures()),
                "nodes": nodes,
                "level": level,
                "problems": sorted(problems),
                "queue": list(queue),
                "running": +self.records.running(),
                "failures": self.records.failures(),
                "computations": list(computations),
            }
            found = await self._found(expected)
            wrong = {name: (found[name], wanted) for name, wanted in expected.items() if found[name] != wanted}
            if found["as of"] > began + REPORTS and (not wrong or time.monotonic() > until):
                break
            await trio.sleep(0.1)
        differences = [f"{title}: {name} {one[0]!r} instead of {one[1]!r}" for name, one in wrong.items()]
        print(f"{time.time() - began:5.1f} s  {title}", *differences, sep="\n", flush=True)  # noqa: T201 - to be read
        self.differences += differences

    async def _found(self, expected: dict[str, Any]) -> dict[str, Any]:
        now = await self.page.read("Now")
        failures = await self.page.read("Failures")
        coroutines = await self.page.read("Coroutines")
        computations = await self.page.read("Computations")
        return {
            "as of": now["asOf"],
            "figures": figures(now, expected["figures"]),
            "nodes": {row["Name"]: row["State"] for row in now["rows"] if "Servers" in row},
            "level": now["level"].split()[-1],
            "problems": matched(now["problems"], expected["problems"]),
            "queue": matched(now["queue"], expected["queue"]),
            "running": Counter(row["Name"] for row in coroutines["rows"] if "Arguments" in row),
            "failures": Counter(
                {f"{name} {error.partition(':')[0]}": number(times) for times, name, error in failures["failures"]}
            ),
            "computations": [f"{row['Name']} {row['State']}" for row in computations["rows"] if "Owner" in row],
        }


def matched(found: list[str], patterns: list[str]) -> list[str]:
    """Give the pattern that each text matches, or the text."""
    return sorted(next((one for one in patterns if re.fullmatch(one, text, re.DOTALL)), text) for text in found)


async def quietly(run: Callable[[], Any]) -> None:
    """Run something whose failure is expected; the subscription records it."""
    try:
        await run()
    except* (discoro.DiscoroError, ZeroDivisionError, ValueError):
        pass


async def work(computation: discoro.Computation, nursery: trio.Nursery, places: list[discoro.Location]) -> None:
    """Start what stays, in every way, and let others come and go."""

    async def mapped() -> None:
        async with computation.map(stay, ["map"]) as results:
            async for _ in results:
                pass

    async def nested() -> None:
        async with computation.open_nursery() as inner:
            inner.start_soon(stay, "nursery")
            inner.start_soon_at(places[-1], stay, "start_soon_at")

    async def supervised() -> None:
        async with discoro.open_supervisor(computation) as supervisor:
            supervisor.start_soon(stay, "supervisor")

    nursery.start_soon(quietly, (await computation.run(stay, "run")).result)
    nursery.start_soon(quietly, (await computation.run_at(places[0], stay, "run_at")).result)
    nursery.start_soon(quietly, partial(computation.run_result, stay, "run_result"))
    for way in (mapped, nested, supervised):
        nursery.start_soon(quietly, way)
    async with computation.map(quick, range(200)) as results:
        assert [one async for one in results] == list(range(200))


async def fail(computation: discoro.Computation, nursery: trio.Nursery) -> None:
    """Let many fail, in every way."""
    async with trio.open_nursery() as failing:
        for one in range(30):
            failing.start_soon(quietly, partial(computation.run_result, divide, one))

    async def mapped() -> None:
        async with computation.map(parse, "abcdefg", errors="skip") as results:
            assert [one async for one in results] == []

    await mapped()


async def the_hour(cluster: Cluster, hour: Hour) -> None:
    """Live through the hour."""
    main = discoro.Computation([divide, hang, parse, quick, stay], name="main")
    second = SecondClient(cluster)
    await hour.moment("idle at the start", nodes=READY, level="good")
    async with trio.open_nursery() as outer:
        try:
            async with main.schedule(cluster.location), trio.open_nursery() as nursery:
                await outer.start(hour.records.keep, main)  # it ends after the computation
                outer.start_soon(trio.to_thread.run_sync, second.run)
                await the_main_part(cluster, hour, main, nursery)
        except* discoro.ComputationClosed:
            pass
        hour.records.others = JOBS
        await hour.moment(
            "its turn has come",
            nodes=DRAINED,
            problems=(*FAILED, LOST[1]),
            computations=("second running", "main closed"),
        )
        second.may_end.set()
    assert second.results == list(range(JOBS))
    await hour.moment(
        "idle at the end", nodes=DRAINED, problems=(*FAILED, LOST[1]), computations=("second closed", "main closed")
    )


READY = {"alpha": "ready", "beta": "ready"}
DRAINED = {"alpha": "ready", "beta": "suspended"}
FAILED = (r"30 divide failed in .*", r"7 parse failed in .*")
LOST = (r"Node beta was lost .*", r"\d coroutines? .*lost.*")
MAIN = ("main running", "second queued")
QUEUE = (r".*second.*",)


async def the_main_part(cluster: Cluster, hour: Hour, main: discoro.Computation, nursery: trio.Nursery) -> None:
    at = partial(hour.moment, queue=QUEUE, computations=MAIN)
    places = sorted(await main.servers())
    await work(main, nursery, places)
    await at("work in every way, and a queue", nodes=READY, level="good")
    await fail(main, nursery)
    await at("a burst of failures", nodes=READY, problems=FAILED)
    free = cluster.folder / "free"
    nursery.start_soon(quietly, partial(main.run_result, hang, str(free)))
    await at("a hang", nodes=READY, problems=(*FAILED, r"Server . of \w+ has been blocked for .* in hang"))
    free.touch()
    await at("it goes on", nodes=READY, problems=FAILED)
    await cluster.kill(cluster.monitor)
    await cluster.start_monitor()
    await at("a restart of the monitor", nodes=READY, problems=FAILED)
    await cluster.kill(cluster.nodes["beta"])
    await at("a killed node", nodes={"alpha": "ready", "beta": "disconnected"}, problems=(*FAILED, *LOST))
    await cluster.start_node("beta")
    await at("it has come again", nodes=READY, problems=(*FAILED, LOST[1]))
    await cluster.kill(cluster.scheduler)
    await cluster.start_scheduler()
    await at("a restart of the scheduler", nodes=READY, problems=(*FAILED, LOST[1]))
    await cluster.command("drain", "beta", "--within", "1", "--scheduler", cluster.location)
    await at("a drained node", nodes=DRAINED, problems=(*FAILED, LOST[1]))
    await cluster.command("cancel", "main", "--scheduler", cluster.location)


JOBS = 20


class SecondClient:
    """A program that waits in the queue behind the first, and uses an executor."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.may_end = threading.Event()
        self.results: list[int] = []

    def run(self) -> None:
        """Wait for its turn, run jobs, and end when it may."""
        options: Any = {"ip_addr": "127.0.0.1", "secret": SECRET, "udp_port": self._cluster.udp_port}
        with discoro.Executor(self._cluster.location, name="second", **options) as executor:
            self.results = list(executor.map(plain, range(JOBS)))
            self.may_end.wait(SLOWEST)


async def test_the_pages_say_at_every_moment_what_the_client_knows(tmp_path: Path) -> None:
    port = free_udp_port()
    async with AsyncExitStack() as stack:
        cluster = Cluster(port, tmp_path, 2.0, stack)
        await cluster.start_scheduler()
        for name in READY:
            await cluster.start_node(name)
        await cluster.start_monitor()
        page = await stack.enter_async_context(open_page(cluster.url))
        await stack.enter_async_context(discoro.open_endpoint(ip_addr="127.0.0.1", secret=SECRET, udp_port=port))
        hour = Hour(page, Records())
        await the_hour(cluster, hour)
        assert hour.differences == []
