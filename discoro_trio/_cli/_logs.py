"""What the programs log: lines for people, or JSON for machines.

This module owns the form of the lines. What is logged is with those who log.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from .._printable import printable

PACKAGE = "discoro_trio"


class TextFormatter(logging.Formatter):
    """Time, level if it is not the usual one, and text."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a line, and below it the traceback if there is one."""
        moment = datetime.fromtimestamp(record.created).astimezone()
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        where = f" [{record.name}]" if record.levelno < logging.INFO else ""
        text = f"{moment:%Y-%m-%d %H:%M:%S} {level}{printable(record.getMessage())}{where}"
        if not record.exc_info:
            return text
        # Indented, as an error may have lines of its own, and none of these is to look like a record.
        trace = self.formatException(record.exc_info).splitlines()
        return "\n".join([text, *(f"  {printable(line)}" for line in trace)])


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a line."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(entry)


def set_up_logs(*, debug: bool, log_format: str) -> None:
    """Let the package's records go to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logger = logging.getLogger(PACKAGE)
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
