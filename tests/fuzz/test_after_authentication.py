"""Whatever one sends who has proved himself, it costs his connection or one message, and never the process."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discoro_trio._link import Trust, control
from discoro_trio._wire import Control, Kind, encode_header
from tests._memory import resident_bytes
from tests.fuzz.mutator import Mutator
from tests.fuzz.samples import any_message, frames, kept
from tests.fuzz.target import MIB, open_target

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 20_000
TOGETHER = 8
"""Inputs over one connection: what follows a sound one is read too."""
SEED = 2
SECONDS = float(os.environ.get("DISCORO_FUZZ_SECONDS", "0"))
PEERS = (Trust.SECRET, Trust.LEASE, Trust.CHILD)

pytestmark = [pytest.mark.fuzz, pytest.mark.fault("F16")]


async def test_no_bytes_of_a_peer_end_the_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
    deadline = time.monotonic() + SECONDS / 2
    mutated = iter(Mutator([*frames(), *kept("after")], time.time_ns() if SECONDS else SEED))
    async with open_target(tmp_path) as target:
        sent, before = 0, 0
        while sent < COUNT or time.monotonic() < deadline:
            if sent == COUNT // 4:
                before = resident_bytes()
            with trio.fail_after(45):
                await target.say(b"".join(next(mutated) for _ in range(TOGETHER)), PEERS[sent // TOGETHER % len(PEERS)])
            sent += TOGETHER
        assert resident_bytes() - before < 10 * MIB


def test_no_values_in_a_message_end_the_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=not SECONDS)
    @given(st.lists(any_message(), min_size=20, max_size=20))
    def attack(messages: list[Control]) -> None:
        said.append(messages)

    said: list[list[Control]] = []
    attack()

    async def say_all() -> None:
        async with open_target(tmp_path) as target:
            for number, messages in enumerate(said):
                trust = PEERS[number % len(PEERS)]
                with trio.fail_after(45):
                    for message in messages:
                        body = control.encode(message)
                        notice, request = (encode_header(Kind.CONTROL, flag, flag, len(body)) + body for flag in (0, 1))
                        await target.say(notice, trust)
                        await target.say(request, trust)

    trio.run(say_all)
