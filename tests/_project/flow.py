"""How often the code goes back and forth: calls, files and changes of file on the three most important paths.

The paths are one `run` with its result, the first message on a new link, and the death of a server with the ServerLost
that follows. Only functions of the package count. The server's side of the first path is counted at the server.

Run as `python -m tests._project.flow`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import trio

import discoro_trio as discoro

if TYPE_CHECKING:
    from types import FrameType

PACKAGE = f"{Path(str(discoro.__file__)).parent}{os.sep}"


class Flow(NamedTuple):
    """What was called on one path."""

    calls: int
    files: int
    changes: int
    """How often the next function called stands in another file."""

    def __str__(self) -> str:
        """Say it on one line."""
        return f"{self.calls:4} calls in {self.files:2} files, {self.changes:3} changes of file"


class Trace:
    """Counts the functions of the package that are called in this thread while the block lasts."""

    def __init__(self) -> None:
        self._files: list[str] = []

    def __enter__(self) -> Self:
        """Begin to count."""
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        # A coroutine that goes on is a call for the interpreter, and none for a reader.
        if event == "call" and file.startswith(PACKAGE) and frame.f_lasti <= 4:
            self._files.append(file)

    @property
    def flow(self) -> Flow:
        """What was counted."""
        changes = sum(one != other for one, other in zip(self._files, self._files[1:], strict=False))
        return Flow(len(self._files), len(set(self._files)), changes)


async def answer(number: int) -> int:
    """Be a small job."""
    return number + 1


async def stop_trace() -> Flow:
    """Stop counting at a server, and give what was counted."""
    trace: Trace = globals()["_trace"]
    trace.__exit__()
    return trace.flow


async def begin_trace() -> None:
    """Begin to count at a server, in the thread of its coroutines."""
    globals()["_trace"] = Trace().__enter__()


async def own_pid() -> int:
    """Give the id of the server's process."""
    return os.getpid()


async def run_with_result(computation: discoro.Computation) -> tuple[Flow, Flow]:
    """Count one `run` with its result, at the client and at the server."""
    for function in (begin_trace, stop_trace):  # so that sending them is not counted
        await computation.run_result(function)
    await computation.run_result(answer, 1)
    await computation.run_result(begin_trace)
    with Trace() as trace:
        coro = await computation.run(answer, 1)
        await coro.result()
    return trace.flow, await computation.run_result(stop_trace)


async def first_message(location: discoro.Location, name: str) -> Flow:
    """Count the first message to a process that this one has no link to yet."""
    with Trace() as trace:
        coro = await discoro.locate(name, location=location)
        await coro.deliver(1)
    return trace.flow


async def killed_server(computation: discoro.Computation) -> Flow:
    """Count what follows when a server is killed, at client and node, which are one process here."""
    pid = await computation.run_result(own_pid)
    coro = await computation.run(trio.sleep_forever)
    with Trace() as trace:
        os.kill(pid, signal.SIGKILL)
        with suppress(discoro.ServerLost):
            await coro.result()
    return trace.flow


PEER = """
import sys, trio, discoro_trio as discoro
async def main():
    async with discoro.open_endpoint(secret="00" * 32) as endpoint, discoro.open_coro("me") as coro:
        await coro.register("flow", public=True)
        print(endpoint.location, flush=True)
        async for _ in coro:
            pass
trio.run(main)
"""


async def main() -> None:
    """Print the figures."""
    functions = [answer, begin_trace, stop_trace, own_pid, Trace, Flow]
    async with discoro.open_cluster(servers=1), discoro.Computation(functions).schedule() as computation:
        client, server = await run_with_result(computation)
        print(f"run with its result, client     {client}")
        print(f"run with its result, server     {server}")
        print(f"a killed server, client + node  {await killed_server(computation)}")
    peer = await trio.lowlevel.open_process([sys.executable, "-c", PEER], stdout=subprocess.PIPE)
    assert peer.stdout is not None
    try:
        text = (await peer.stdout.receive_some()).decode().split()[0]
        async with discoro.open_endpoint(secret="00" * 32):
            print(f"the first message on a new link {await first_message(discoro.Location.parse(text), 'flow')}")
    finally:
        peer.kill()
        await peer.wait()


if __name__ == "__main__":
    trio.run(main)
