"""A large argument that is sent again and again: one warning, which names it and what to do."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import pytest

from discoro_trio._client._repeated_arguments import LARGE, RepeatedArguments
from discoro_trio._process import Call
from discoro_trio._shipping import NOTHING

from .clusters import open_computation


def job(table: Any, number: int) -> int:
    return len(table) + number


def send(arguments: RepeatedArguments, *args: Any, **kwargs: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        arguments.note(Call(job, args, kwargs, None), NOTHING)
    return [str(one.message) for one in caught]


@pytest.mark.spec("B28")
@pytest.mark.parametrize(
    "table", [bytes(LARGE), np.arange(LARGE // 8), [*range(LARGE // 2)]], ids=["bytes", "array", "list"]
)
def test_the_third_time_warns_once_and_names_the_argument(table: Any) -> None:
    arguments = RepeatedArguments()
    assert [send(arguments, table, number) for number in range(2)] == [[], []]
    (warning,) = send(arguments, table, 2)
    assert "argument table of job" in warning
    assert "computation.share" in warning
    assert send(arguments, table, 3) == []


def test_keyword_arguments_have_their_names() -> None:
    arguments = RepeatedArguments()
    table = bytes(LARGE)
    found = [send(arguments, number=number, table=table) for number in range(3)]
    assert "argument table of job" in found[2][0]


def test_small_values_other_values_and_one_call_for_many_servers_do_not_warn() -> None:
    arguments = RepeatedArguments()
    for number in range(10):
        assert send(arguments, bytes(LARGE // 2), 1) == []
        assert send(arguments, np.full(LARGE // 8, number), 1) == []
    call = Call(job, (bytes(LARGE), 1), {}, None)
    for _ in range(10):
        arguments.note(call, NOTHING)


@pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")
async def test_a_computation_warns() -> None:
    table = np.zeros(LARGE // 4)
    async with open_computation([job], servers=1) as computation:
        for number in range(2):
            await computation.run_result(job, table, number)
        with pytest.warns(UserWarning, match="argument table of job has"):
            await computation.run_result(job, table, 3)
