"""Two computations of one program run side by side, and the jobs of one have no way to the servers of the other."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._link import Trust
from discoro_trio._process import current_process
from discoro_trio._process.naming._introductions import Introduce
from discoro_trio._wire import Credential

SECONDS = 30


async def wait_for_word(client: discoro.Coro[Any], *, coro: discoro.Coro[Any]) -> object:
    await client.send((coro, coro.home, coro.realm, coro.serial))
    return await coro.receive()


async def attack(target: discoro.Coro[Any]) -> list[str]:
    """Try, on a server, all ways to a coroutine of which everything is known; say what came of each."""
    process = current_process()
    endpoint = process.endpoint
    place = target.location
    said = []

    async def attempt(name: str, call: Any) -> None:
        try:
            await call()
        except discoro.DiscoroError as error:
            said.append(f"{name}: {type(error).__name__}")
        else:
            said.append(f"{name}: it worked")

    async def guess() -> None:
        endpoint.credentials[target.realm] = Credential(target.realm, bytes(32))
        try:
            await endpoint.link_to(target.home, place, target.realm)
        finally:
            endpoint.credentials.pop(target.realm, None)

    await attempt("send", lambda: target.send("a pickle"))
    await attempt("terminate", lambda: target.terminate(grace_period=0))
    target.cancel("by a stranger")
    await attempt("by place", lambda: discoro.locate("any", location=place))
    await attempt("file", lambda: discoro.send_file(place, __file__))
    await attempt("own key", lambda: endpoint.link_to(target.home, place, process.realm))
    await attempt("guessed key", guess)
    for link in list(endpoint.links.values()):
        if link.trust is not Trust.LEASE or link.peer.process_id == process.names.client:
            ask = Introduce(target.home, target.realm, place.addr, place.port, 0, by_job=False)
            await attempt("introduction", lambda link=link, ask=ask: link.request(ask))
    return said


@pytest.mark.fault("F14")
@pytest.mark.spec("S106")
async def test_a_job_that_knows_all_of_a_coroutine_of_another_computation_does_not_reach_it() -> None:
    one_server = [discoro.NodeAllocation(cpus=1)]
    components = [sys.modules[__name__]]
    with trio.fail_after(SECONDS):
        async with (
            discoro.open_cluster(servers=2),
            discoro.open_coro() as client,
            discoro.Computation(components, node_allocations=one_server).schedule() as victim,
            discoro.Computation(components, node_allocations=one_server).schedule() as hostile,
        ):
            waiting = await victim.run(wait_for_word, client)
            target, *_ = await client.receive()
            said = await hostile.run_result(attack, target)
            assert set(said) == {
                "send: AuthenticationError",
                "terminate: AuthenticationError",
                "by place: AuthenticationError",
                "file: FileTransferError",
                "own key: AuthenticationError",
                "guessed key: AuthenticationError",
                "introduction: AuthenticationError",
            }
            await waiting.send("from its own program")
            assert await waiting.result() == "from its own program"
