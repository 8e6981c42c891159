"""A browser's query: a view with its sorting, filters and page, as in the page's address.

The texts are untrusted: everything is bounded, and an invalid value raises a `QueryError`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from ._columns import sortable

if TYPE_CHECKING:
    from collections.abc import Mapping

VIEWS = (
    "cluster",
    "node",
    "server",
    "coroutines",
    "computations",
    "timeline",
    "output",
    "coroutine",
    "failures",
    "tree",
    "function",
    "servers",
)
LONGEST = 200
"""Maximum length of a value."""
MOST_ROWS = 500
LEAST_EVERY = 0.25
"""Minimum seconds between two messages to a browser."""


class QueryError(ValueError):
    """The query is invalid; the text says what was expected."""


@attrs.frozen
class Query:
    """One view with its parameters; equal queries are answered once for all browsers."""

    view: str = "cluster"
    key: str = ""
    """The node or server that the view shows."""
    sort: str = ""
    """A column; empty for the table's own order."""
    descending: bool = False
    text: str = ""
    """A text that rows must contain, in upper or lower case."""
    state: str = ""
    """The state or level that rows must have."""
    server: str = ""
    """The server whose lines are shown."""
    page: int = 1
    size: int = 50
    span: float = 60.0
    """The seconds that the timeline shows."""
    end: float = 0.0
    """Where the timeline ends, in seconds since the epoch; 0 for now."""
    first: int = 0
    """The first node whose coroutines the timeline gets, counted from 0."""
    most: int = 0
    """The number of those nodes; 0 for all."""
    every: float = LEAST_EVERY
    """Minimum seconds between two messages."""


_PARAMETERS = frozenset(field.name for field in attrs.fields(Query)) - {"descending"}


def read_query_untrusted(given: Mapping[str, object]) -> Query:
    """Read a query from texts, as in an address.

    Raises:
        QueryError: A name or a value is invalid.
    """
    unknown = set(given) - _PARAMETERS
    if unknown:
        message = f"unknown parameter {min(unknown)[:40]!r}"
        raise QueryError(message)
    texts = {name: _text(name, value) for name, value in given.items()}
    view = texts.get("view", "cluster")
    if view not in VIEWS:
        message = f"view must be one of {', '.join(VIEWS)}"
        raise QueryError(message)
    sort = texts.get("sort", "")
    descending = sort.startswith("-")
    sort = sort.removeprefix("-")
    if sort and sort not in sortable(view):
        message = f"{view} has no column {sort[:40]!r} to sort by; it has {', '.join(sortable(view))}"
        raise QueryError(message)
    return Query(
        view=view,
        key=texts.get("key", ""),
        sort=sort,
        descending=descending,
        text=texts.get("text", "").casefold(),
        state=texts.get("state", ""),
        server=texts.get("server", ""),
        page=int(_number("page", texts, 1, 1, 10**6)),
        size=int(_number("size", texts, 50, 1, MOST_ROWS)),
        span=_number("span", texts, 60.0, 0.01, 86_400.0),
        end=_number("end", texts, 0.0, 0.0, 1e11),
        first=int(_number("first", texts, 0, 0, 10**6)),
        most=int(_number("most", texts, 0, 0, 10**6)),
        every=_number("every", texts, LEAST_EVERY, LEAST_EVERY, 3600.0),
    )


def _text(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        message = f"{name} must be a text or a number"
        raise QueryError(message)
    text = str(value)
    if len(text) > LONGEST:
        message = f"{name} is longer than {LONGEST} characters"
        raise QueryError(message)
    return text


def _number(name: str, texts: Mapping[str, str], default: float, low: float, high: float) -> float:
    text = texts.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        message = f"{name} must be a number from {low:g} to {high:g}"
        raise QueryError(message)
    return number
