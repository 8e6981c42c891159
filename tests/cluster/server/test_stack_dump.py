from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from discoro_trio._cluster.server import _stack_dump

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.fault("F16")
async def test_of_what_a_job_writes_in_place_of_a_stack_no_more_is_read_than_a_stack_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stack_dump, "LONGEST", 100)
    file = trio.Path(tmp_path / "stack")
    await file.write_bytes(b"\xff" + b"x" * 5000)
    assert await _stack_dump._read_untrusted(file) == "\\xff" + "x" * 99
