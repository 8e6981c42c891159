"""The pytest plugin: clusters as fixtures, for tests that run under pytest-trio.

`discoro_cluster` is an embedded cluster for one test. `discoro_module_cluster` lasts for all tests of a module, in a
process of its own, since a Trio program lasts no longer than one test. The option `discoro_servers` of pytest's
configuration sets the number of servers of each.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .._cluster import open_cluster
from .._values import Location
from ._module_cluster import ModuleCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from .._cluster import Scheduler

_OPTION = "discoro_servers"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    parser.addini(_OPTION, "number of servers in the clusters of discoro_trio's fixtures", default="2")


@pytest.fixture
async def discoro_cluster(request: pytest.FixtureRequest) -> AsyncIterator[Scheduler]:
    """An embedded cluster that lasts for one test; computations in the test find it automatically."""
    async with open_cluster(servers=_servers(request)) as scheduler:
        yield scheduler


@pytest.fixture(scope="module")
def discoro_module_cluster(request: pytest.FixtureRequest) -> Iterator[ModuleCluster]:
    """A cluster in a process of its own that lasts for all tests of a module."""
    secret = secrets.token_hex(32)
    program = [sys.executable, "-m", f"{__package__}._cluster_program", str(_servers(request))]
    with subprocess.Popen(  # noqa: S603 - every argument is our own
        program,
        env={**os.environ, "DISCORO_SECRET": secret},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None  # noqa: S101 - they are pipes
        assert process.stdout is not None  # noqa: S101 - as above
        line = process.stdout.readline()
        if not line:
            pytest.fail("the cluster of the module did not start; its output is above")
        yield ModuleCluster(Location.parse(line), secret)
        process.stdin.close()


def _servers(request: pytest.FixtureRequest) -> int:
    return int(request.config.getini(_OPTION))
