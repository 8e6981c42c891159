"""Wrong arguments of every public call: a TypeError or ValueError at that call, and nothing else ends."""

from __future__ import annotations

import inspect
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from tests._ports import free_udp_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

Wrong = tuple[str, "Callable[[], Any]"]
"""What is called with what, and the call."""


class Number:
    """As numpy's numbers: it can be indexed, but not iterated over."""

    __iter__ = None

    def __getitem__(self, _index: object) -> None:
        raise IndexError


async def idle() -> None:
    await trio.sleep_forever()


async def one(value: object = None) -> object:
    return value


def wrong_calls(computation: Any, coro: Any) -> Iterator[Wrong]:
    """Give one call for each argument and each wrong value."""
    thing = object()
    text = (5, b"text", ["text"], thing, "\ud800")
    location = (5, b"host:1", ("host", 1), thing, "host", "host:port", "host:99999", "")
    place = (5, None, b"host", ("host", 1), thing)
    flag: tuple[object, ...] = ("no", 2, thing, [])
    whole = ("3", 1.5, [3], thing, -1)
    number = ("3", [3], thing, -1.0, float("nan"), 1j)
    path: tuple[object, ...] = (5, thing, [], b"name")
    function: tuple[object, ...] = (5, None, "name", thing, [])
    handle = (5, None, "name", thing)

    def each(call: Callable[..., Any], values: tuple[Any, ...], *before: Any, by: str = "", **kwargs: Any) -> Any:
        name = getattr(call, "__qualname__", repr(call))
        for value in values:
            given = partial(call, *before, **{by: value}, **kwargs) if by else partial(call, *before, value, **kwargs)
            yield f"{name}({by or len(before)}={value!r})", given

    yield from each(discoro.Location, text[:-1], port=1, by="addr")
    yield from each(discoro.Location, ("1", 1.5, None, thing), "host")
    yield from each(discoro.Location.parse, (*location, None))
    yield from each(discoro.NodeAllocation, (*text, None))
    yield from each(discoro.NodeAllocation, (*text, None), by="platform")
    for name in ("cpus", "memory", "disk"):
        yield from each(discoro.NodeAllocation, whole, by=name)

    yield from each(discoro.send_file, location, path=__file__, by="location")
    yield from each(discoro.send_file, path, coro.location)
    yield from each(discoro.send_file, path, coro.location, __file__, by="dir")
    yield from each(discoro.send_file, flag, coro.location, __file__, by="overwrite")
    yield from each(discoro.send_file, (5, "name", thing), coro.location, __file__, by="on_progress")
    yield from each(discoro.del_file, location, name="name", by="location")
    yield from each(discoro.del_file, (*text, None), coro.location)
    yield from each(discoro.del_file, path, coro.location, "name", by="dir")

    for find in (discoro.locate, discoro.locate_rci, discoro.locate_channel):
        yield from each(find, (*text, None))
        yield from each(find, location, "name", by="location")
    yield from each(discoro.open_channel, (*text, None))
    yield from each(discoro.open_channel, (5, "name", thing), "wrong", by="transform")
    yield from each(discoro.open_channel, flag, "wrong", by="public")
    yield from each(discoro.open_coro, text)
    yield from each(discoro.open_coro, (*whole, 0), by="mailbox_size")
    yield from each(discoro.RCI, function)
    yield from each(discoro.RCI, text, one, by="name")
    yield from each(discoro.RCI(one).register, flag, by="public")

    yield from each(coro.cancel, text)
    yield from each(coro.terminate, number, by="grace_period")
    yield from each(coro.monitor, handle)
    yield from each(coro.register, (*text, None))
    yield from each(coro.register, flag, "name", by="public")

    for run in (computation.run, computation.run_nodes, computation.run_servers, computation.run_result):
        yield from each(run, function)
    for run in (computation.run_at, computation.run_each, computation.run_node_servers):
        yield from each(run, function, str(coro.location))
    yield from (
        (f"run_at({where!r})", partial(run, where, one))
        for run in (computation.run_at, computation.run_each, computation.run_node_servers)
        for where in place
    )
    for many in (computation.map, computation.starmap, computation.run_results):
        yield from each(many, function, iterable=[], by="fn")
        yield from each(many, (5, None, thing, Number()), one)
    for many in (computation.map, computation.starmap):
        yield from each(many, flag, one, [], by="ordered")
        yield from each(many, (*whole, 0), one, [], by="limit")
        yield from each(many, whole, one, [], by="retries")
        yield from each(many, flag, one, [], by="progress")


def wrong_calls_of_clients(computation: Any, scheduler: Any) -> Iterator[Wrong]:
    """Give those that are not made in a job."""
    thing = object()

    def each(call: Callable[..., Any], **values: Any) -> Any:
        for name, wrong in values.items():
            for value in wrong:
                yield f"{getattr(call, '__qualname__', call)}({name}={value!r})", partial(call, **{name: value})

    text = (5, b"text", ["text"], thing)
    paths: tuple[object, ...] = (5, thing, [])
    flag = ("no", 2, thing)
    whole = ("3", 1.5, [3], thing, -1)
    number = ("3", [3], thing, -1.0, float("nan"))
    endpoint = {
        "ip_addr": (*text, None),
        "ext_ip_addr": text,
        "tcp_ports": (1.5, thing, "text", -1),
        "udp_port": (*whole, 0, None, 70_000),
        "name": text,
        "secret": (5, thing, []),
        "secret_file": paths,
        "certfile": paths,
        "keyfile": paths,
        "cafile": paths,
    }
    yield from each(discoro.open_endpoint, **endpoint)
    common: dict[str, Any] = {
        "nodes": (5, "host", [5], None),
        "discover": flag,
        "zombie_period": number,
        "pulse_interval": (*number, 0),
        "dest_path": paths,
        "max_file_size": whole,
    }
    yield from each(discoro.open_cluster, servers=(*whole, 0), **common)
    yield from each(discoro.open_scheduler, shared=flag, settle=tuple(one for one in flag if one is not None), **common)
    del common["zombie_period"]
    limits = {"max_memory": whole, "max_files": whole, "max_processes": whole, "cgroup": (5, "folder")}
    yield from each(
        discoro.open_node, cpus=("3", 1.5), serve=(*whole, 0), user=text, users=(5, "me"), **limits, **common
    )
    yield from each(
        discoro.Computation,
        components=(5, "no such file", [5]),
        status_coro=(5, "coro"),
        timeout=(*number, 0),
        pulse_interval=(*number, 0),
        grace_period=number,
        zombie_period=number,
        node_setup=(5, "function"),
        server_setup=(5, "function"),
        node_allocations=(5, "node", ["node"]),
        cleanup=flag,
        forward_output=flag,
        threads=(*whole, 0),
        name=text,
    )
    yield from each(
        discoro.Computation().schedule, scheduler=(5, 1.5, thing, b"host:1", ["host:1"]), servers=("1", 1.5, -1)
    )
    yield from each(computation.wait_for_servers, n=("1", 1.5, None, -1))
    yield from each(partial(computation.wait_for_servers, 1), where=(5, thing, b"host"))
    many = partial(computation.map, one, [])
    yield from each(many, errors=(5, "none", None), retry_on=(5, "error", [5]), chunksize=("none", 1.5, 0, None))
    yield from each(discoro.asyncio_job, fn=(5, None, "name"))
    for blocking in (discoro.connect, discoro.Executor):
        yield from each(
            blocking, scheduler=(5, thing), servers=("2", 0, 1.5), components=(5,), grace_period=("x", -1), name=(5,)
        )
    yield from each(computation.restart_server, location=(5, None, thing, "host", "host:port"))
    for owner in (computation, scheduler):
        yield from each(owner.suspend_node, addr=(5, None, thing, b"host"))
        yield from each(owner.resume_node, addr=(5, None, thing, b"host"))
    yield from each(scheduler.restart_server, location=(5, None, thing, "host"))
    yield from each(scheduler.drain, node=(5, None, thing, b"host"))
    yield from each(partial(scheduler.drain, "nowhere"), within=number)
    yield from each(scheduler.close_computation, computation=(5, None, thing, b"id"))
    yield from each(discoro.ProcScheduler, computation=(5, None, thing, scheduler))
    yield from each(discoro.open_supervisor, computation=(5, None, thing, scheduler))
    supervise = partial(discoro.open_supervisor, computation)
    yield from each(supervise, strategy=(5, "none"), max_restarts=whole, within=(*number, 0))
    yield from each(
        discoro.open_http_server,
        source=(5, "host", thing),
        host=(5, None, thing),
        port=(*whole, None),
        poll_sec=(*number, 0),
        document_root=paths,
        certfile=paths,
        token=(5, thing, [], ""),
        read_only=flag,
    )
    for name in ("MsgTimeout", "mailbox_messages"):
        for value in ("3", None, thing, -1, 0, float("nan")):
            yield f"config.{name} = {value!r}", partial(setattr, discoro.config, name, value)


async def call_all(calls: Iterator[Wrong]) -> list[str]:
    """Make wrong calls, one after the other; give what was not refused as it should be."""
    problems = []
    for what, call in calls:
        try:
            with trio.fail_after(60):
                result = call()
                if inspect.isawaitable(result):
                    await result
                elif hasattr(result, "__aenter__"):
                    async with result:
                        pass
        except (TypeError, ValueError):
            continue
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is reported
            problems.append(f"{what} raised {error!r}")
        else:
            problems.append(f"{what} was taken")
    return problems


async def wrong_in_a_job(computation: Any, *, coro: discoro.Coro[Any]) -> list[str]:
    problems = await call_all(wrong_calls(computation, coro))
    report: Callable[..., None] = coro.report
    for wrong in ("3", [3], object(), 1j, 10**400):
        for call in (partial(report, wrong), partial(report, 1, total=wrong)):
            problems += await call_all(iter([(f"report {wrong!r}", call)]))
    problems += await call_all(iter([("report", partial(report, 1, text=5))]))
    async with computation.open_nursery() as nursery:
        problems += await call_all(wrong_in_nursery(nursery))
    async with discoro.open_nursery() as nursery:
        problems += await call_all(wrong_in_nursery(nursery))
    return problems


def wrong_in_nursery(nursery: Any) -> Iterator[Wrong]:
    for start in (nursery.start_soon, nursery.start):
        for function in (5, None, "name"):
            yield f"{start.__qualname__}({function!r})", partial(start, function)
        for name in (5, b"name", "\ud800"):
            yield f"{start.__qualname__}(name={name!r})", partial(start, one, name=name)


@pytest.mark.fault("F32")
async def test_wrong_arguments_are_refused_at_the_call_in_the_client() -> None:
    with trio.fail_after(120):
        async with (
            discoro.open_cluster(servers=1) as scheduler,
            discoro.Computation([idle, one]).schedule() as computation,
            discoro.open_coro("client") as coro,
        ):
            neighbour = await computation.run(idle)
            before = await computation.servers()
            problems = await call_all(wrong_calls(computation, coro))
            problems += await call_all(wrong_calls_of_clients(computation, scheduler))
            async with computation.open_nursery() as nursery:
                problems += await call_all(wrong_in_nursery(nursery))
            async with discoro.open_nursery() as local_nursery:
                problems += await call_all(wrong_in_nursery(local_nursery))
            assert problems == []
            assert await computation.servers() == before
            assert await computation.run_result(one, 5) == 5
            neighbour.cancel()
            await neighbour.wait()


@pytest.mark.fault("F32")
async def test_wrong_arguments_are_refused_at_the_call_in_a_job() -> None:
    with trio.fail_after(120):
        async with (
            discoro.open_cluster(servers=1),
            discoro.Computation([sys.modules[__name__]]).schedule() as computation,
        ):
            neighbour = await computation.run(idle)
            before = await computation.servers()
            assert await computation.run_result(wrong_in_a_job, computation) == []
            assert await computation.servers() == before
            neighbour.cancel()
            await neighbour.wait()


@pytest.mark.fault("F32")
async def test_a_location_is_also_taken_as_text_with_address_or_name(tmp_path: Any) -> None:
    source = tmp_path / "file.txt"
    source.write_text("text")
    with trio.fail_after(30):
        async with (
            discoro.open_cluster(servers=1, name="alpha") as scheduler,
            discoro.Computation([idle, one]).schedule(str(scheduler.location)) as computation,
        ):
            neighbour = await computation.run(idle)
            (place,) = await computation.servers()
            for where in (str(place), f"localhost:{place.port}", f"alpha:{place.port}", f"127.0.0.1:{place.port}"):
                await discoro.send_file(where, source, overwrite=True)
                await discoro.del_file(where, "file.txt")
            for where in (str(place), f"alpha:{place.port}", "alpha", place.addr):
                assert (await computation.run_at(where, one, 1)).location == place
                assert [coro.location for coro in await computation.run_each(where, one, 2)] == [place]
            async with discoro.open_coro("known") as coro:
                await coro.register("here")
                for asked in (scheduler.location, str(scheduler.location), f"localhost:{scheduler.location.port}"):
                    assert await discoro.locate("here", location=asked) == coro
            await computation.suspend_node("alpha")
            await computation.resume_node(scheduler.location)
            assert (await computation.servers()) == [place]
            neighbour.cancel()
            await neighbour.wait()
            new = await computation.restart_server(f"alpha:{place.port}")
            assert await computation.servers() == [new]


class Text(str):  # noqa: SLOT000 - as numpy's and enum's texts do
    """A text as libraries have them; `msgspec` refuses it."""

    def __str__(self) -> str:
        return "not the text"


class Whole(int):
    """A whole number, likewise."""


class Real(float):
    """A number, likewise."""


async def use_all(computation: Any, scheduler: Any, *, coro: discoro.Coro[Any]) -> int:
    """Give values of such types to public calls; a number is returned if all of them worked."""
    coro.report(Real(1), total=Whole(2), text=Text("half"))
    coro.report(done=True, total=Whole(2))
    await coro.register(Text("worker"))
    assert await discoro.locate(Text("worker"), location=Text(f"127.0.0.1:{coro.location.port}")) == coro
    async with discoro.open_channel(Text("channel")), discoro.RCI(one, name=Text("rci")).register():
        rci = await discoro.locate_rci(Text("rci"))
        assert await rci.run(7) == 7
        await discoro.locate_channel(Text("channel"))
    async with discoro.open_nursery() as nursery:
        nursery.start_soon(one, name=Text("child"))
    await discoro.send_file(scheduler, __file__, dir=Text("sent"), overwrite=True)
    await discoro.del_file(scheduler, Text("test_arguments.py"), dir=Text("sent"))
    async with computation.open_nursery() as nursery:
        nursery.start_soon(one, name=Text("child"))
        nursery.start_soon_at(Text("127.0.0.1"), one, name=Text("child"))
    rcoro = await computation.run_at(discoro.Location(Text("127.0.0.1"), Whole(coro.location.port)), idle)
    rcoro.cancel(Text("enough"))
    with pytest.raises(discoro.CoroCancelled, match="enough"):
        await rcoro.result()
    await rcoro.terminate(grace_period=Real(1))
    return len([value async for value in _mapped(computation)])


async def _mapped(computation: Any) -> Any:
    async with computation.map(one, range(3), limit=True, retries=Whole(2), chunksize=Whole(1)) as results:
        async for value in results:
            yield value


@pytest.mark.fault("F32")
async def test_values_of_derived_types_are_taken_as_texts_and_numbers() -> None:
    with trio.fail_after(120):
        async with (
            discoro.open_cluster(
                servers=True,
                discover=True,
                name=Text("alpha"),
                ip_addr=Text("127.0.0.1"),
                tcp_ports=None,
                udp_port=Whole(free_udp_port()),
                zombie_period=Real(1000),
                pulse_interval=Real(20),
                max_file_size=Whole(10**9),
            ) as scheduler,
            discoro.Computation(
                [sys.modules[__name__]],
                name=Text("computation"),
                timeout=Real(10),
                pulse_interval=Real(20),
                grace_period=Whole(5),
                zombie_period=Real(500),
                node_allocations=[discoro.NodeAllocation(Text("*"), platform=Text(""), cpus=True, memory=Whole(1))],
                threads=Whole(4),
            ).schedule(Text(str(scheduler.location)), servers=True) as computation,
            discoro.open_coro(Text("client"), mailbox_size=Whole(10)) as coro,
        ):
            await computation.wait_for_servers(n=True, where=Text("alpha"))
            assert await computation.run_result(use_all, computation, str(scheduler.location)) == 3
            await coro.register(Text("name"), public=True)
            await coro.send(1)
            (row,) = (await scheduler.status()).computations
            assert row.name == "computation"
            await computation.suspend_node(Text("alpha"))
            await computation.resume_node(Text("alpha"))
            await computation.restart_server(Text(str((await computation.servers())[0])))
            assert await computation.run_result(one, 5) == 5
