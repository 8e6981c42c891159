"""Descriptors for many servers: the limit is raised, and one that is too low is said with the number that is needed."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from discoro_trio import _file_limit
from discoro_trio._link import OptionError, check_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Stand in for the limits of this process, soft and hard."""
    found = [50, 300]

    def change(_kind: int, new: tuple[int, int]) -> None:
        found[:] = new

    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(found))
    monkeypatch.setattr(resource, "setrlimit", change)
    yield found
    monkeypatch.undo()


def test_the_soft_limit_becomes_the_hard_one(limits: list[int]) -> None:
    _file_limit.raise_limit()
    assert limits == [300, 300]


def test_too_many_servers_are_refused_with_the_number_of_descriptors_that_they_need() -> None:
    with pytest.raises(OptionError, match=r"servers: 128 servers need 1080 descriptors.* is 300"):
        check_descriptors(128)


def test_few_descriptors_are_warned_of_and_enough_are_not(caplog: pytest.LogCaptureFixture) -> None:
    check_descriptors(30)
    assert caplog.messages == []
    check_descriptors(60)
    assert "60 servers need 536 descriptors" in caplog.text
