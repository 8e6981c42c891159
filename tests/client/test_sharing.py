"""`share`: one copy of a value a node, for all its servers, until it is released or the computation ends."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import trio

import discoro_trio as discoro
from discoro_trio._client._sharing import SharedValues
from discoro_trio._link.shared_memory._sharing import Sharing
from discoro_trio._process import Blobs, shared_here
from discoro_trio._process._parts import PART

from ..cluster.test_open import apart, options
from .clusters import open_computation
from .test_two_nodes import open_two_nodes

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
    pytest.mark.spec("B28"),
]


def total(shared: discoro.Shared[Any]) -> float:
    return float(shared.value.sum())


def look(shared: discoro.Shared[Any]) -> tuple[int, int, Any]:
    """Give the process, the identity of the value, and the value."""
    return os.getpid(), id(shared.value), shared.value


def change(shared: discoro.Shared[Any]) -> None:
    shared.value[0] = 1


async def answer(*, coro: discoro.Coro[Any]) -> float:
    shared = await coro.receive()
    return float((await shared.get()).sum())


def release(shared: discoro.Shared[Any]) -> None:
    trio.run(shared.release)


COMPONENTS = [total, look, change, answer, release]


async def test_all_servers_have_the_value_in_arguments_closures_and_messages() -> None:
    array = np.arange(300_000.0)
    async with open_computation(COMPONENTS, servers=2) as computation:
        shared = await computation.share(array)
        assert len(pickle.dumps(shared)) < 200
        expected = float(array.sum())
        coros = await computation.run_servers(total, shared)
        assert [await coro.result() for coro in coros] == [expected] * 2
        assert await computation.run_results(lambda factor: total(shared) * factor, [1, 2]) == [expected, 2 * expected]
        assert await computation.run_result(partial(total, shared)) == expected
        coro = await computation.run(answer)
        await coro.send(shared)
        assert await coro.result() == expected
        assert np.array_equal(await shared.get(), array)
        array[0] = 5
        assert shared.value[0] == 0, "it is as it was when it was shared"


async def test_a_value_is_opened_once_at_a_server_and_its_arrays_are_read_only() -> None:
    value = {"table": np.arange(100), "names": ["one", "two"], "large": b"x" * 2_000_000}
    async with open_computation(COMPONENTS, servers=1) as computation:
        shared = await computation.share(value)
        found = await computation.run_results(look, [shared] * 5)
        assert len({(process, identity) for process, identity, _ in found}) == 1
        assert found[0][2]["names"] == value["names"]
        assert found[0][2]["large"] == value["large"]
        array = await computation.share(np.arange(3))
        with pytest.raises(ValueError, match="read-only"):
            await computation.run_result(change, array)


def describe(shared: discoro.Shared[Any]) -> tuple[str, bool, float]:
    return type(shared.value).__name__, shared.value.flags.writeable, float(shared.value.sum())


async def test_an_array_mapped_from_a_file_is_mapped_at_the_servers_too(tmp_path: Path) -> None:
    np.save(tmp_path / "ones.npy", np.ones(1000))
    written = np.memmap(tmp_path / "twos", dtype=float, mode="w+", shape=1000)
    written[:] = 2
    async with open_computation([describe], servers=1) as computation:
        for array, total_of_array in ((np.load(tmp_path / "ones.npy", mmap_mode="r"), 1000.0), (written, 2000.0)):
            shared = await computation.share(array)
            assert await computation.run_result(describe, shared) == ("ndarray", False, total_of_array)


def is_open(shared: discoro.Shared[Any]) -> bool:
    return shared._share in shared_here._values


async def test_servers_open_arrays_before_the_first_job_and_large_objects_for_it() -> None:
    async with open_computation([is_open], servers=2) as computation:
        array = await computation.share(np.arange(300_000))
        objects = await computation.share([str(number) for number in range(30_000)])
        for location in await computation.servers():
            while not await (await computation.run_at(location, is_open, array)).result():  # noqa: ASYNC110 - another process
                await trio.sleep(0.01)
            assert not await (await computation.run_at(location, is_open, objects)).result()


class Witness:
    """Notes which thread unpickles it."""

    def __setstate__(self, state: dict[str, str]) -> None:
        self.in_main_thread = threading.current_thread() is threading.main_thread()

    def __getstate__(self) -> dict[str, str]:
        return {"not": "empty"}


def witnessed(shared: discoro.Shared[Witness]) -> bool:
    return shared.value.in_main_thread


async def test_servers_open_a_value_in_the_thread_that_opens_functions_too() -> None:
    """Two threads that import parts of one package may break its import for as long as the server lives."""
    async with open_computation([Witness, witnessed], servers=2) as computation:
        shared = await computation.share(Witness())
        assert [await coro.result() for coro in await computation.run_servers(witnessed, shared)] == [True, True]


async def test_a_server_that_replaces_another_has_the_value() -> None:
    async with open_computation(COMPONENTS, servers=1) as computation:
        shared = await computation.share(np.ones(1000))
        (location,) = await computation.servers()
        await computation.restart_server(location)
        assert await computation.run_result(total, shared) == 1000


async def test_the_value_is_in_memory_once_for_all_servers() -> None:
    size = 20_000_000
    async with open_computation(COMPONENTS, servers=4) as computation:
        shared = await computation.share(np.ones(size, dtype=np.uint8))
        for coro in await computation.run_servers(total, shared):
            assert await coro.result() == size
        here = [psutil.Process(), *psutil.Process().children(recursive=True)]
        maps = [one for process in here for one in process.memory_maps(grouped=False)]
        assert sum(one.pss for one in maps if "discoro shared value" in one.path) == pytest.approx(size, rel=0.01)


async def test_what_is_released_is_freed_everywhere_and_its_use_says_so() -> None:
    async with open_computation(COMPONENTS, servers=2) as computation:
        before = memory()
        shared = await computation.share(np.ones(1000))
        for coro in await computation.run_servers(total, shared):
            await coro.result()
        with pytest.raises(RuntimeError, match="only the program of the client"):
            await computation.run_result(release, shared)
        waiting = [await computation.run_at(location, answer) for location in await computation.servers()]
        for coro in waiting:
            await coro.deliver(shared)
        for coro in waiting:
            assert await coro.result() == 1000
        await shared.release()
        await shared.release()
        assert memory() == before
        with pytest.raises(discoro.DiscoroError, match="released"):
            _ = shared.value
        with pytest.raises(discoro.NotPicklable, match="was released"):
            await computation.run_result(total, shared)
        other = await computation.share(1)
    assert memory() == before
    with pytest.raises(discoro.DiscoroError, match="computation has ended"):
        await other.get()
    with pytest.raises(discoro.ComputationClosed):
        await computation.share(1)


def memory() -> int:
    """Count the descriptors of shared values that this process has open, its embedded node included."""
    links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum("discoro shared value" in str(path.readlink()) for path in links)


async def test_what_cannot_be_sent_is_refused_and_nothing_is_shared() -> None:
    async with open_computation(COMPONENTS, servers=1) as computation:
        with pytest.raises(discoro.NotPicklable):
            await computation.share(sys.stdout)
        assert not computation._running().shared._values


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, int]]:
    """Give a list of the process that sent each part of a shared value, and its offset; all parts are sent."""
    found: list[tuple[bytes, int]] = []
    read: Callable[..., Any] = Blobs._read

    async def noted(self: Blobs, link: Any, message: Any) -> Any:
        found.append((self._endpoint.id, message.offset))
        return await read(self, link, message)

    monkeypatch.setattr(Blobs, "_read", noted)
    monkeypatch.setattr(Sharing, "open_segment_untrusted", lambda *_: None)
    return found


async def test_the_client_sends_a_value_once_and_nodes_pass_it_on(reads: list[tuple[bytes, int]]) -> None:
    array = np.arange(1_000_000)
    computation = discoro.Computation(COMPONENTS)
    async with open_two_nodes(computation):
        shared = await computation.share(array)
        coros = await computation.run_servers(total, shared)
        assert [await coro.result() for coro in coros] == [float(array.sum())] * 3
        me = computation._running()._process.id
        offsets = [offset for sender, offset in reads if sender == me]
        assert len(offsets) == len(set(offsets)) == -(-shared.size // PART)
        assert len(reads) == 2 * len(offsets)


async def test_a_node_gets_the_rest_from_the_client_if_the_one_before_it_does_not_have_it(
    reads: list[tuple[bytes, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.arange(1_000_000)
    computation = discoro.Computation(COMPONENTS)
    read = Blobs._read

    async def refuse(self: Blobs, link: Any, message: Any) -> Any:
        if self._endpoint.id != me and message.offset > 1_000_000:
            text = "this node has lost it"
            raise discoro.DiscoroError(text)
        return await read(self, link, message)

    monkeypatch.setattr(Blobs, "_read", refuse)
    async with open_two_nodes(computation):
        me = computation._running()._process.id
        shared = await computation.share(array)
        coros = await computation.run_servers(total, shared)
        assert [await coro.result() for coro in coros] == [float(array.sum())] * 3
        assert len({sender for sender, _ in reads}) == 2


async def test_a_node_that_comes_later_has_the_values_before_its_first_job(reads: list[tuple[bytes, int]]) -> None:
    computation = discoro.Computation(COMPONENTS)
    with trio.fail_after(30):
        async with AsyncExitStack() as stack:
            scheduler = await stack.enter_async_context(discoro.open_scheduler(nodes=[], discover=False, **options()))
            await stack.enter_async_context(computation.schedule())
            shared = await computation.share(np.ones(1_000_000))
            assert not reads
            where = [str(scheduler.location)]
            node = discoro.open_node(cpus=1, discover=False, nodes=where, **options())
            await stack.enter_async_context(apart(node))
            assert await computation.run_result(total, shared) == 1_000_000
            assert reads


async def share_and_use(
    computation: discoro.Computation, size: int
) -> tuple[discoro.Shared[Any], list[float], list[float]]:
    """Share a value from a job; give the handle, and what other jobs and this one see."""
    shared = await computation.share(np.ones(size))
    elsewhere = await computation.run_results(total, [shared] * 4)
    return shared, elsewhere, [total(shared), float((await shared.get()).sum())]


async def share_and_release(computation: discoro.Computation) -> tuple[discoro.Shared[Any], str]:
    shared = await computation.share(np.ones(1000))
    await shared.release()
    try:
        _ = shared.value
    except discoro.DiscoroError as error:
        return shared, str(error)
    return shared, ""


async def keep_sharing(computation: discoro.Computation) -> None:
    while True:
        await computation.share(np.ones(1000))


async def ask_for_servers(computation: Any) -> None:
    await computation.servers()


JOBS = [*COMPONENTS, share_and_use, share_and_release, keep_sharing, ask_for_servers]


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_a_job_shares_a_value_with_other_jobs_and_with_the_client(size: int) -> None:
    async with open_computation(JOBS, servers=2) as computation:
        before = memory()
        shared, elsewhere, there = await computation.run_result(share_and_use, computation, size)
        assert elsewhere == [size] * 4
        assert there == [size] * 2
        assert float((await shared.get()).sum()) == size
        for location in await computation.servers():  # it outlives the server whose job shared it
            await computation.restart_server(location)
        assert await computation.run_results(total, [shared] * 4) == [size] * 4
        await shared.release()
        assert memory() == before


async def test_a_job_releases_what_it_has_shared() -> None:
    async with open_computation(JOBS, servers=2) as computation:
        before = memory()
        shared, refused = await computation.run_result(share_and_release, computation)
        assert "it was released" in refused
        with pytest.raises(discoro.NotPicklable, match="was released"):
            await computation.run_result(total, shared)
        assert memory() == before


@pytest.mark.parametrize("waits", range(4))
async def test_a_job_that_is_cancelled_while_it_shares_leaves_nothing_unfinished(
    waits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = SharedValues._put
    begun = 0
    there = trio.Event()

    async def stop(self: SharedValues, value: Any, node: Any) -> None:
        nonlocal begun
        begun += 1
        if begun > waits:
            there.set()
            await trio.sleep_forever()
        await put(self, value, node)

    monkeypatch.setattr(SharedValues, "_put", stop)
    async with open_computation(JOBS, servers=1) as computation:
        before = memory()
        coro = await computation.run(keep_sharing, computation)
        await there.wait()
        await coro.terminate()
        values = computation._running().shared._values
        assert len(values) == waits
        assert memory() == before + waits


async def test_a_job_s_value_reaches_each_node_once_through_the_client(reads: list[tuple[bytes, int]]) -> None:
    computation = discoro.Computation(JOBS)
    async with open_two_nodes(computation):
        shared, elsewhere, _ = await computation.run_result(share_and_use, computation, 1_000_000)
        coros = await computation.run_servers(total, shared)
        assert [await coro.result() for coro in coros] == [1_000_000] * 3
        assert elsewhere == [1_000_000] * 4
        parts = -(-shared.size // PART)
        assert len(reads) == 2 * parts, "the client's to one node, and that node's to the other"


async def test_a_job_that_asks_for_more_than_jobs_can_do_is_told_what_they_can() -> None:
    async with open_computation(JOBS, servers=1) as computation:
        with pytest.raises(AttributeError, match=r"'servers': the computation of a job can run functions .* and share"):
            await computation.run_result(ask_for_servers, computation)
