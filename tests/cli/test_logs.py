"""The lines that the programs log."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from discoro_trio._cli._logs import JsonFormatter, TextFormatter

NAME = "n\x1b[2J\n2026-01-01 00:00:00 warning: forged\u202e"


def record_of(error: Exception) -> logging.LogRecord:
    try:
        raise error
    except type(error):
        return logging.LogRecord("discoro_trio", logging.INFO, __file__, 1, "%s joined", (NAME,), sys.exc_info())


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_what_others_have_named_is_on_one_line_and_obeyed_by_no_terminal(formatter: logging.Formatter) -> None:
    text = formatter.format(record_of(LookupError(NAME)))
    assert all(line.isprintable() for line in text.splitlines())
    assert not any(line.startswith("2026-01-01 00:00:00 warning: forged") for line in text.splitlines())
    if isinstance(formatter, JsonFormatter):
        assert json.loads(text)["message"] == f"{NAME} joined"
