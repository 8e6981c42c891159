"""The log format of the programs: text for people, or JSON for machines.

This module owns the format of the lines, not their contents.
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
    """Time, level unless it is INFO, and text."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a line, and below it the traceback if there is one."""
        moment = datetime.fromtimestamp(record.created).astimezone()
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        where = f" [{record.name}]" if record.levelno < logging.INFO else ""
        text = f"{moment:%Y-%m-%d %H:%M:%S} {level}{printable(record.getMessage())}{where}"
        if not record.exc_info:
            return text
        # Indented: an error may have several lines, and none of them may look like a record.
        trace = self.formatException(record.exc_info).splitlines()
        return "\n".join([text, *(f"  {printable(line)}" for line in trace)])


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

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
    """Send the package's records to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logger = logging.getLogger(PACKAGE)
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
