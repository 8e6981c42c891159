"""The view that a terminal client has received: the Python version of `static/js/stream.js`."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.define
class ReceivedView:
    """A view, built from the messages of the stream."""

    seq: int = -1
    """The number of the last message; -1 before the first full state."""
    head: dict[str, Any] = attrs.Factory(dict)
    rows: list[dict[str, Any]] = attrs.Factory(list)
    total: int = 0
    now: float = 0.0
    """The monitor's time, in seconds since the epoch."""
    as_of: float | None = None
    """The time of the state, in seconds since the epoch; None if it is not known."""
    error: str = ""
    """The monitor's error about the last query; empty if it was valid."""

    def take(self, message: dict[str, Any]) -> bool:
        """Apply a message; False if one was missed and the view must be requested again."""
        kind = message.get("type")
        if kind == "error":
            self.error = str(message["text"])
            return True
        self.now = message["now"]
        if kind == "full":
            self.seq, self.head, self.rows, self.total = (message[name] for name in ("seq", "head", "rows", "total"))
            self.error = ""
        elif kind == "change":
            if message["seq"] != self.seq + 1:
                return False
            self._change(message)
        self.as_of = message.get("as_of")
        return True

    def _change(self, message: dict[str, Any]) -> None:
        rows = {row["id"]: row for row in self.rows}
        for key, fields in message.get("rows", {}).items():
            rows[key] = {**rows.get(key, {}), **fields}
        order = message.get("order", list(rows) if not self.rows else [row["id"] for row in self.rows])
        self.rows = [rows[key] for key in order]
        self.head = {**self.head, **message.get("head", {})}
        self.total = message.get("total", self.total)
        self.seq = message["seq"]
