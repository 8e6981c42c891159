"""Public values that need no cluster."""

from __future__ import annotations

import pytest

from discoro_trio import Location


@pytest.mark.parametrize(("addr", "text"), [("10.0.0.1", "10.0.0.1:80"), ("fd77::1", "[fd77::1]:80")])
def test_a_location_is_read_from_its_text(addr: str, text: str) -> None:
    location = Location(addr, port=80)
    assert (location.addr, location.port, str(location)) == (addr, 80, text)
    assert Location.parse(text) == location
    assert Location(addr, 81) > location
