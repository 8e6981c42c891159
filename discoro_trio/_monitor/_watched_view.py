"""The changes of a view since the last message to its browsers: a full state, then numbered changes.

No I/O. `_broadcast` decides when to look for changes; `_views` makes the view.

A full state is `{"type": "full", "seq", "now", "view", "head", "rows", "total"}`. A change has the next number, and of
the others only what differs: `head` by field, `rows` by id and field, `order` (all ids) if rows came, went or moved.
`_broadcast` adds `as_of`, the time of the shown state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._query import Query
    from ._views import Page

_NOTHING = object()


class WatchedView:
    """One view in the state that all its browsers have."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.seq: int = 0
        self._head: dict[str, object] = {}
        self._rows: dict[str, dict[str, object]] = {}
        self._total = 0

    def full(self, now: float) -> dict[str, Any]:
        """Return the full state as of the last change."""
        return {
            "type": "full",
            "seq": self.seq,
            "now": now,
            "view": self.query.view,
            "head": self._head,
            "rows": list(self._rows.values()),
            "total": self._total,
        }

    def ids(self) -> list[str]:
        """Return the ids of its rows."""
        return list(self._rows)

    def change(self, page: Page, now: float) -> dict[str, Any] | None:
        """Take the present page and return its changes; None if there are none."""
        rows = {str(row["id"]): row for row in page.rows}
        change: dict[str, Any] = {}
        head = _differing(self._head, page.head)
        if head:
            change["head"] = head
        changed = {key: new for key, row in rows.items() if (new := _differing(self._rows.get(key, {}), row))}
        if changed:
            change["rows"] = changed
        if list(rows) != list(self._rows):
            change["order"] = list(rows)
        if page.total != self._total:
            change["total"] = page.total
        self._head, self._rows, self._total = page.head, rows, page.total
        if not change:
            return None
        self.seq += 1
        return {"type": "change", "seq": self.seq, "now": now, **change}


def _differing(old: dict[str, object], new: dict[str, object]) -> dict[str, object]:
    changed = {name: value for name, value in new.items() if old.get(name, _NOTHING) != value}
    # A removed field is None at the browser.
    changed.update(dict.fromkeys(old.keys() - new.keys()))
    return changed
