"""Actions from the monitor: end coroutines, restart a server, close a computation, suspend a node.

`_guard` decides whether a request is allowed. This module carries it out, answers it, and writes the audit log.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from .._shown import one_line
from .._values import Location

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._model import Model

audit = logging.getLogger("discoro_trio.monitor.audit")

LONGEST_WAIT = 30.0
"""Seconds after which an unfinished action is reported as still under way; it goes on."""
MOST_AT_ONCE = 1_000
"""How many coroutines one request may end."""


@attrs.frozen
class Result:
    """The result of one action."""

    id: str
    """The key of the target."""
    name: str
    ok: bool
    text: str


class Actions:
    """Carries out the actions that people request.

    Args:
        model: Finds the objects that the keys of rows name.
        target: The watched Computation or Scheduler, if any.
        nursery: Runs actions that go on after their answer.
    """

    def __init__(self, model: Model, target: object, nursery: trio.Nursery) -> None:
        self._model = model
        self._target = target
        self._nursery = nursery

    def names(self) -> list[str]:
        """Return the actions that are possible here."""
        return ["terminate", *(() if self._target is None else ("restart", "close", "suspend", "resume"))]

    async def terminate(self, keys: list[str], who: str) -> list[Result]:
        """End coroutines: cancel them, wait for their clean-up, and use force after the grace period."""
        results: list[Result] = []
        async with trio.open_nursery() as nursery:
            for key in dict.fromkeys(keys[:MOST_AT_ONCE]):
                nursery.start_soon(self._terminate, key, who, results)
        return results

    async def _terminate(self, key: str, who: str, results: list[Result]) -> None:
        coroutine = self._model.running.get(key)
        if coroutine is None:
            results.append(Result(key, "", ok=False, text="it has ended already"))
        elif coroutine.handle is None:
            results.append(Result(key, coroutine.name, ok=False, text="it cannot be reached from here"))
        else:
            name = f"{coroutine.name} at {coroutine.server}"
            through = getattr(self._target, "terminate", None)  # a scheduler elsewhere
            end = coroutine.handle.terminate if through is None else partial(through, key)
            results.append(await self._do("terminate", key, name, who, end))

    async def restart(self, location: str, who: str) -> Result:
        """Replace a server's process; coroutines there are lost."""
        if location not in self._model.servers:
            return Result(location, location, ok=False, text="there is no such server")
        return await self._call("restart", "restart_server", location, who, Location.parse(location))

    async def suspend(self, addr: str, who: str, *, resume: bool = False) -> Result:
        """Suspend or resume a node."""
        if addr not in self._model.nodes:
            return Result(addr, addr, ok=False, text="there is no such node")
        method = "resume_node" if resume else "suspend_node"  # the key is a Location: other nodes may share the address
        result = await self._call("resume" if resume else "suspend", method, addr, who, addr)
        if result.ok:
            self._model.node(addr, state="ready" if resume else "suspended")
        return result

    async def close(self, key: str, who: str) -> Result:
        """Close a computation early."""
        computation = self._model.computations.get(key)
        if computation is None:
            return Result(key, key, ok=False, text="there is no such computation")
        if hasattr(self._target, "close_computation"):
            return await self._call("close", "close_computation", key, who, key)
        if key != getattr(self._target, "_id", key):
            return Result(
                key, key, ok=False, text="it belongs to another program; a monitor of the scheduler can close it"
            )
        return await self._call("close", "close", key, who)

    async def _call(self, action: str, method: str, key: str, who: str, *args: object) -> Result:
        call: Callable[..., Awaitable[Any]] | None = getattr(self._target, method, None)
        if call is None:
            return Result(
                key, key, ok=False, text="this monitor cannot do that: it has no source that carries out actions"
            )
        return await self._do(action, key, key, who, call, *args)

    async def _do(
        self, action: str, key: str, name: str, who: str, call: Callable[..., Awaitable[Any]], *args: object
    ) -> Result:
        audit.warning("%s: %s %s", who, action, one_line(name))
        answer: list[str] = []
        done = trio.Event()

        async def carry_out() -> None:
            try:
                await call(*args)
            except Exception as error:  # noqa: BLE001 - any error is reported to the user
                answer.append(one_line(f"{type(error).__name__}: {error}", 300))
            done.set()

        # In the monitor's nursery: a browser that disconnects does not stop the action halfway.
        self._nursery.start_soon(carry_out, name=f"{action} {key}")
        with trio.move_on_after(LONGEST_WAIT):
            await done.wait()
        if not done.is_set():
            return Result(key, name, ok=False, text="still under way")
        if answer:
            audit.warning("%s: %s %s failed: %s", who, action, one_line(name), answer[0])
            return Result(key, name, ok=False, text=answer[0])
        return Result(key, name, ok=True, text="done")
