"""Launchers whose package is not installed."""

from __future__ import annotations

import sys

import pytest

import discoro_trio as discoro
from discoro_trio.launch import Kubernetes, Launcher, Ray


@pytest.mark.spec("B36")
@pytest.mark.parametrize(("launcher", "package"), [(Ray(), "ray"), (Kubernetes("image"), "kubernetes")])
async def test_the_error_says_what_to_install(
    launcher: Launcher, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        discoro.DiscoroError, match=rf"needs the package {package}; .*pip install 'discoro_trio\[{package}\]'"
    ):
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher):
            pytest.fail("the block has begun")
