"""What remote coroutines raise, and what cannot be sent, seen by the one who started them."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

import discoro_trio as discoro

from .clusters import open_computation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


class TooHotError(Exception):
    """An error with arguments that are not those of its base, and with an attribute."""

    def __init__(self, degrees: int, *, where: str) -> None:
        super().__init__(f"{degrees} degrees")
        self.degrees = degrees
        self.where = where


async def overheat(degrees: int) -> None:
    try:
        dict[str, int]()["thermometer"]
    except KeyError as error:
        hot = TooHotError(degrees, where="oven")
        hot.add_note("open the door")
        raise hot from error


async def give_lock() -> object:
    return threading.Lock()


async def raise_lock() -> None:
    raise TooHotError(1, where=threading.Lock())  # type: ignore[arg-type]


class Bomb:
    """It can be pickled, but not unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return explode, ()


def explode() -> None:
    message = "boom"
    raise ValueError(message)


async def take(value: object) -> str:
    return type(value).__name__


async def give_bomb() -> Bomb:
    return Bomb()


async def exit_by(error: type[BaseException]) -> None:
    raise error


@pytest.mark.spec("B04")
async def test_an_error_arrives_as_what_it_was_with_its_cause_and_the_remote_traceback() -> None:
    async with open_computation([overheat, TooHotError]) as computation:
        with pytest.raises(TooHotError) as caught:
            await computation.run_result(overheat, 300)
        rcoro = await computation.run(overheat, 400)
        with pytest.raises(TooHotError, match="400 degrees"):
            await rcoro.result()
    error = caught.value
    assert (error.args, error.degrees, error.where) == (("300 degrees",), 300, "oven")
    assert isinstance(error.__cause__, KeyError)
    assert error.__cause__.args == ("thermometer",)
    written, trace = error.__notes__
    assert written == "open the door"
    assert trace.startswith("Remote traceback (overheat at 127.0.0.1:")
    assert 'test_remote_errors.py", line' in trace
    assert "raise hot from error" in trace


@pytest.mark.fault("F18")
async def test_what_cannot_be_sent_is_an_error_for_that_caller_alone() -> None:
    async with open_computation([TooHotError, Bomb], servers=1) as computation, discoro.open_coro() as client:
        lasting = await computation.run(lasting_receiver)
        with pytest.raises(discoro.NotPicklable, match="lock"):
            await computation.run_result(take, threading.Lock())
        with pytest.raises(discoro.NotPicklable, match="lock"):
            await computation.run(take, threading.Lock())
        with pytest.raises(discoro.NotPicklable, match="lock"):
            await computation.run_result(give_lock)
        with pytest.raises(discoro.NotPicklable, match="lock"):
            await lasting.send(threading.Lock())
        with pytest.raises(discoro.RemoteError, match="TooHotError: 1 degrees"):
            await computation.run_result(raise_lock)
        with pytest.raises(ValueError, match="boom"):
            await computation.run_result(take, Bomb())
        with pytest.raises(ValueError, match="boom"):
            await computation.run_result(give_bomb)
        await lasting.send(Bomb())
        await lasting.send(client)
        assert await client.receive() == "boom"
        assert await lasting.result() == "still here"


async def lasting_receiver(*, coro: discoro.Coro[str]) -> str:
    text = ""
    try:
        await coro.receive()
    except ValueError as error:
        text = str(error)
    client = await coro.receive()
    await client.send(text)
    return "still here"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
async def test_what_would_end_a_program_stays_the_error_of_its_coroutine(kind: type[BaseException]) -> None:
    async with open_computation([exit_by], servers=1) as computation:
        with pytest.raises(discoro.RemoteError, match=kind.__name__):
            await computation.run_result(exit_by, kind)
        assert await computation.run_result(take, 1) == "int"


@pytest.mark.spec("B11")
async def test_map_raises_a_flat_group_and_run_result_the_bare_error() -> None:
    async with open_computation([overheat, TooHotError]) as computation:
        with pytest.raises(ExceptionGroup) as caught:
            await computation.run_results(overheat, [1, 2, 3])
    assert {type(error) for error in caught.value.exceptions} == {TooHotError}
