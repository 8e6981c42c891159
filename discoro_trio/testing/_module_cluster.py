"""The handle of a cluster that outlives a test; the plugin starts and ends the cluster."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs

from .._process import open_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .._values import Location


@attrs.frozen
class ModuleCluster:
    """A cluster that lasts for all tests of a module; the fixture `discoro_module_cluster` provides it."""

    location: Location
    """The location of its scheduler; for `Computation.schedule`."""
    secret: str = attrs.field(repr=False)
    """The cluster's secret."""

    @asynccontextmanager
    async def open_endpoint(self) -> AsyncIterator[None]:
        """Open an endpoint with the cluster's secret, for computations in the block; leaving the block closes it."""
        async with open_endpoint(secret=self.secret):
            yield
