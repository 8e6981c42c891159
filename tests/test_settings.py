"""The settings of the whole process: what cannot work is refused where it is set."""

from __future__ import annotations

import pytest

from discoro_trio import config


def test_a_setting_that_cannot_work_is_refused_and_stays_as_it_was() -> None:
    before = config.MsgTimeout
    with pytest.raises(ValueError, match=r"config\.MsgTimeout must be more than 0, not -1"):
        config.MsgTimeout = -1
    assert config.MsgTimeout == before


def test_a_setting_that_there_is_not_is_refused() -> None:
    with pytest.raises(AttributeError):
        config.msg_timeout = 3  # type: ignore[attr-defined]
