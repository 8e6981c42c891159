"""What a test knows of a cluster that outlives it; the plugin starts and ends it."""

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
    """A cluster that lasts for all tests of a module; the fixture `discoro_module_cluster` gives it."""

    location: Location
    """Where its scheduler listens; for `Computation.schedule`."""
    secret: str = attrs.field(repr=False)
    """What its peers must know."""

    @asynccontextmanager
    async def open_endpoint(self) -> AsyncIterator[None]:
        """Open an endpoint that knows the cluster's secret, for computations in the block; leaving that closes it."""
        async with open_endpoint(secret=self.secret):
            yield
