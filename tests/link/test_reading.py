from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import trio
import trio.testing

from discoro_trio._wire import Kind
from discoro_trio._wire._frames import LARGE

from ..process.worlds import open_processes

if TYPE_CHECKING:
    from discoro_trio._link import Link
    from discoro_trio._wire import Buffer, Frame


async def test_an_idle_link_does_not_keep_a_large_message() -> None:
    bodies: list[weakref.ref[Buffer]] = []
    arrived = trio.Event()

    def take(_link: Link, frame: Frame) -> None:
        bodies.append(weakref.ref(frame.body))
        arrived.set()

    async with open_processes(2) as (one, two):
        two.endpoint.services.on_frame(Kind.OUTPUT, take)
        link = await one.endpoint.link_at(two.endpoint.location)
        await trio.testing.wait_all_tasks_blocked()  # no other frame follows
        link.send(Kind.OUTPUT, 0, bytes(LARGE))
        await arrived.wait()
        await trio.testing.wait_all_tasks_blocked()
        [body] = bodies
        assert body() is None
