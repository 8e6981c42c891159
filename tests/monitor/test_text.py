"""Text of strangers: shortened, on one line, whatever its methods do."""

from __future__ import annotations

import pytest

from discoro_trio._shown import LONGEST_VALUE, arguments, one_line, shown


class Broken:
    def __str__(self) -> str:
        message = "no"
        raise RuntimeError(message)


@pytest.mark.spec("S96")
def test_arguments_are_shown_by_str_and_shortened() -> None:
    assert arguments((1, "a"), {"x": None}) == "1, 'a', x=None"
    assert len(shown(list(range(1000)))) == LONGEST_VALUE
    assert len(arguments(range(10_000), {})) <= 2000


@pytest.mark.spec("S96")
def test_a_str_that_raises_breaks_nothing() -> None:
    assert arguments((Broken(), 2), {}) == "<Broken: str() raised RuntimeError>, 2"


def test_nothing_breaks_the_line_or_turns_its_direction() -> None:
    assert one_line("a\nb\x1b[31m\u202ec") == "a\\nb\\x1b[31m\\u202ec"
    assert one_line("<img onerror=x> é ✓") == "<img onerror=x> é ✓"
