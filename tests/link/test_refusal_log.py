from __future__ import annotations

import logging

import pytest

from discoro_trio import AuthenticationError
from discoro_trio._link._refusal_log import MOST_LINES, PERIOD, RefusalLog


@pytest.mark.fault("F14")
def test_of_thousands_of_refusals_a_few_are_told_and_the_others_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    refusals = RefusalLog()
    for number in range(10_000):
        refusals.add(number / 10_000, "10.0.0.9", AuthenticationError("it does not know the secret"))
    assert len(caplog.records) == MOST_LINES
    assert "from 10.0.0.9 was refused: it does not know the secret" in caplog.text
    refusals.add(PERIOD, "10.0.0.9", AuthenticationError("again"))
    assert [record.getMessage() for record in caplog.records[MOST_LINES:]] == [
        f"{10_000 - MOST_LINES} further connections were refused",
        "a connection from 10.0.0.9 was refused: again",
    ]


def test_few_refusals_are_all_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    refusals = RefusalLog()
    for now in (0.0, 1.0, PERIOD + 2):
        refusals.add(now, "10.0.0.9", AuthenticationError("no"))
    assert len(caplog.records) == 3
