"""Nodes whose packages or whose Python are other versions than the client's."""

from __future__ import annotations

import logging

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._client import _membership as membership
from discoro_trio._cluster import status_as_json, status_as_table, status_from_json
from discoro_trio._monitor._model import Model
from discoro_trio._monitor._verdict import verdict
from discoro_trio.launch import Local

pytestmark = pytest.mark.spec("B37")


async def double(value: int) -> int:
    return 2 * value


async def test_the_difference_is_a_warning_and_in_the_status(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    packages = {"trio": "0.1", "no-such-package": "7"}
    monkeypatch.setattr(membership, "imported_packages", lambda: packages)
    with trio.fail_after(60):
        async with (
            discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=Local(2)) as scheduler,
            discoro.Computation([double], name="skewed").schedule(servers=2) as computation,
        ):
            assert await computation.run_result(double, 21) == 42
            status = await scheduler.status()
            while not status.computations[0].skew or "1 more" not in status.computations[0].skew[0]:
                await trio.sleep(0.05)
                status = await scheduler.status()
    text = f"trio {trio.__version__} (here 0.1), no-such-package is not installed (here 7)"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    first = next(name for name in ("local1", "local2") if warnings[0].startswith(f"the node {name} "))
    assert warnings == [f"the node {first} differs from this program, so jobs may fail there: {text}"]
    (line,) = status.computations[0].skew
    assert line == f"{first} and 1 more: {text}"
    assert f"skewed: {line}" in status_as_table(status)
    assert status_from_json(status_as_json(status)) == status
    model = Model()
    model.computation("key", name="skewed", skew=(line,))
    assert f"Other versions than those of computation skewed at {line}" in str(verdict(model, 1.0))


async def test_equal_versions_are_not_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    with trio.fail_after(60):
        async with (
            discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=Local()) as scheduler,
            discoro.Computation([double]).schedule() as computation,
        ):
            await computation.run_result(double, 1)
            assert (await scheduler.status()).computations[0].skew == ()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
