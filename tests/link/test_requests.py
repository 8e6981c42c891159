"""How long a request waits for its reply."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio

from discoro_trio import PeerDisconnected
from discoro_trio._link import Done, _link, _requests, serve_endpoint
from discoro_trio._wire import Control, Credential

if TYPE_CHECKING:
    from discoro_trio._link import Link

TIMEOUT = 2.0


class QuestionOfTests(Control, frozen=True):
    """Asks for nothing."""


class NoticeOfTests(Control, frozen=True):
    """Fills the connection."""

    data: bytes


@pytest.mark.fault("F26")
async def test_a_thread_that_was_blocked_for_longer_than_the_timeout_still_gets_the_reply() -> None:
    asked, may_answer = trio.Event(), trio.Event()

    async def answer(_link: Link, _question: QuestionOfTests) -> Done:
        asked.set()
        await may_answer.wait()
        return Done()

    async def block() -> None:
        await asked.wait()
        time.sleep(TIMEOUT + 0.2)  # noqa: ASYNC251 - that is what is tested
        may_answer.set()

    async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
        endpoint.services.on_request(QuestionOfTests, answer)
        link = await endpoint.link_at(endpoint.location)
        nursery.start_soon(block)
        assert await link.request(QuestionOfTests(), timeout=TIMEOUT) == Done()


async def test_a_request_that_nobody_answers_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async def be_silent(_link: Link, _question: QuestionOfTests) -> Done:
        await trio.sleep_forever()

    async with serve_endpoint() as endpoint:
        endpoint.services.on_request(QuestionOfTests, be_silent)
        link = await endpoint.link_at(endpoint.location)
        begun = trio.current_time()
        with pytest.raises(PeerDisconnected, match="did not reply to QuestionOfTests within 2 s"):
            await link.request(QuestionOfTests(), timeout=TIMEOUT)
        assert trio.current_time() - begun == pytest.approx(TIMEOUT)


@pytest.mark.spec("B02")
@pytest.mark.parametrize("timeout", [0.05, None])
async def test_a_request_that_is_given_up_or_cancelled_is_cancelled_at_the_peer(timeout: float | None) -> None:  # noqa: ASYNC109 - of the request
    begun, cancelled = trio.Event(), trio.Event()

    async def answer(_link: Link, _question: QuestionOfTests) -> Done:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    with trio.fail_after(45):
        async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
            endpoint.services.on_request(QuestionOfTests, answer)
            link = await endpoint.link_at(endpoint.location)

            async def ask() -> None:
                with suppress(PeerDisconnected):
                    await link.request(QuestionOfTests(), timeout=timeout)

            nursery.start_soon(ask)
            await begun.wait()
            if timeout is None:
                nursery.cancel_scope.cancel()
            with trio.move_on_after(10, shield=True):
                await cancelled.wait()
            assert cancelled.is_set()


async def test_an_endpoint_that_is_cancelled_writes_what_it_sent_and_says_goodbye() -> None:
    key = Credential(b"", b"k" * 32)
    count, arrived = 32, 0

    def take(_link: Link, _notice: NoticeOfTests) -> None:
        nonlocal arrived
        arrived += 1

    with trio.fail_after(45):
        async with serve_endpoint() as stays, trio.open_nursery() as nursery:
            stays.credentials[b""] = key
            stays.services.on_notice(NoticeOfTests, take)

            async def be_there(task_status: trio.TaskStatus[bytes]) -> None:
                async with serve_endpoint() as goes:
                    goes.credentials[b""] = key
                    link = await goes.link_at(stays.location)
                    for _ in range(count):
                        link.notify(NoticeOfTests(bytes(500_000)))  # together more than the kernel takes at once
                    task_status.started(goes.id)
                    await trio.sleep_forever()

            peer = await nursery.start(be_there)
            link = stays.links[peer]
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await link.ended.wait()
            assert arrived == count
            assert link.orderly


@pytest.mark.fault("F16")
async def test_one_peer_has_so_many_requests_under_way_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_requests, "MOST_ANSWERING", 3)

    async def be_silent(_link: Link, _question: QuestionOfTests) -> Done:
        await trio.sleep_forever()

    async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
        endpoint.services.on_request(QuestionOfTests, be_silent)
        link = await endpoint.link_at(endpoint.location)

        async def ask() -> None:
            with pytest.raises(PeerDisconnected):
                await link.request(QuestionOfTests(), timeout=None)

        for _ in range(3):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert not link.lost
        await ask()
        assert link.lost


class DataOfTests(Control, frozen=True):
    """Carries bytes."""

    data: bytes


@pytest.mark.fault("F16")
async def test_one_peer_has_so_many_bytes_of_requests_under_way_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_link, "MOST_ANSWERING_BYTES", 3000)

    async def be_silent(_link: Link, _question: DataOfTests) -> Done:
        await trio.sleep_forever()

    async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
        endpoint.services.on_request(DataOfTests, be_silent)
        link = await endpoint.link_at(endpoint.location)

        async def ask(size: int) -> None:
            with pytest.raises(PeerDisconnected):
                await link.request(DataOfTests(bytes(size)), timeout=None)

        for size in (5000, 0):  # one alone may be larger
            nursery.start_soon(ask, size)
            await trio.testing.wait_all_tasks_blocked()
        assert link.lost
