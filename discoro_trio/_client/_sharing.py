"""The values that one computation shares with its servers, and the nodes that have them.

A value passes along a chain of nodes: each node gets it from the node before, starting with the first byte. This
process sends it once. If a node of the chain is lost, the nodes behind it get the rest from another node, or from this
process. A node that joins later gets all values before its servers are set up.

A job's value comes to this process first. From then on it is like the values of this process, and outlives its job.
"""

from __future__ import annotations

import secrets
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from .._cluster import messages
from .._errors import DiscoroError, UnknownLocation
from .._process import Shared, shared_here
from .._process.sharing._blob import Blob
from .._records import MutableRecord
from .._shipping import dumps

if TYPE_CHECKING:
    from .._link import Link
    from .._process import Process
    from .._shipping import Shipped
    from ._session import Session
    from ._topology import LeasedNode

T = TypeVar("T")

_LONGEST_LIST = 4
"""How many nodes are offered to another one as sources of a value; the client comes after them."""

_OPENED_EARLY = 64 * 1024
"""If a value has at most so many bytes besides its buffers, servers unpickle it at once and not for the first job."""


class _Value(MutableRecord, eq=False):
    """One shared value."""

    share: bytes
    blob: Blob
    nodes: list[LeasedNode]
    """The nodes that have it or are getting it, in the order of the chain."""


class SharedValues:
    """The shared values of one session."""

    def __init__(self, session: Session, process: Process) -> None:
        self._session = session
        self._process = process
        self._values: dict[bytes, _Value] = {}

    async def share(self, value: T) -> Shared[T]:
        """Share a value with all present and future nodes.

        Raises:
            NotPicklable: The value cannot be sent.
            DiscoroError: A node has no room for it; then it is shared with no node.
        """
        share, blob, early = kept_here(value, self._session.set_up.shipped, self._process)
        await self._put_everywhere(share, blob, early=early)
        return Shared(share, blob.size)

    async def share_of_job(self, link: Link, asked: messages.ShareOfJob) -> None:
        """Share a value that a job at the other end of a link keeps there for this call. Raises as `share` does."""

        async def server() -> Link:
            await trio.lowlevel.checkpoint()
            return link

        if asked.share in self._values:
            message = "a value with this id is shared already"
            raise DiscoroError(message)
        blob = await self._process.blobs.get(asked.share, asked.size, [server], asked.descriptor)
        await self._put_everywhere(asked.share, blob, early=asked.early)

    async def _put_everywhere(self, share: bytes, blob: Blob, *, early: bool) -> None:
        shared_here.paths[share] = blob.path
        shared_here.releases[share] = lambda: self.release(share)
        kept = self._values[share] = _Value(share, blob, [])
        failures: list[DiscoroError] = []

        async def put(node: LeasedNode) -> None:
            try:
                await self._put(kept, node)
            except UnknownLocation:
                return  # its lease has ended, and its servers with it
            except DiscoroError as error:
                if not node.link.lost:  # otherwise its servers are lost, too
                    failures.append(error)

        put_everywhere = False
        try:
            async with trio.open_nursery() as nursery:
                for node in self._session.nodes.values():
                    if not node.link.lost:
                        nursery.start_soon(put, node, name=f"share a value with {node.name}")
            await trio.lowlevel.checkpoint()
            put_everywhere = not failures
        finally:
            if not put_everywhere:
                await self.release(share)
        if failures:
            raise failures[0]
        if early:
            for server in self._session.servers.values():
                server.host.link.notify(messages.OpenShared(share))

    async def put_all(self, node: LeasedNode) -> None:
        """Send all values to a node that joins; DiscoroError if one cannot be sent."""
        for value in list(self._values.values()):
            try:
                await self._put(value, node)
            except DiscoroError:
                if value.share in self._values:  # otherwise it was released meanwhile
                    raise

    async def _put(self, value: _Value, node: LeasedNode) -> None:
        before = [one for one in value.nodes if not one.link.lost]
        value.nodes.append(node)
        sources = [messages.Source(one.node_id, one.location.addr, one.location.port) for one in reversed(before)]
        computation, blob = self._session.set_up.computation, value.blob
        put = messages.PutShared(computation, value.share, blob.size, sources[:_LONGEST_LIST], blob.descriptor)
        try:
            await node.link.request(put, timeout=None)  # the node detects when bytes stop
        except BaseException:
            value.nodes.remove(node)
            raise

    async def release(self, share: bytes) -> None:
        """Free a value everywhere."""
        value = self._values.pop(share, None)
        if value is None:
            return
        self._forget(value)
        for server in self._session.servers.values():
            server.host.link.notify(messages.ForgetShared(share))
        drop = messages.DropShared(self._session.set_up.computation, share)
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for node in value.nodes:
                    nursery.start_soon(_drop, node, drop)

    def close(self) -> None:
        """Free all values in this process; the nodes free theirs with their leases."""
        for value in self._values.values():
            self._forget(value)
        self._values.clear()

    def _forget(self, value: _Value) -> None:
        shared_here.forget(value.share)
        self._process.blobs.release(value.share)


def kept_here(value: object, shipped: Shipped, process: Process) -> tuple[bytes, Blob, bool]:
    """Pickle a value and keep it in this process, so that others can read it.

    Returns:
        Its new id, its bytes, and whether servers are to open it before the first job that uses it.

    Raises:
        NotPicklable: It cannot be sent.
        DiscoroError: There is no memory for it.
    """
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and type(value) is numpy.memmap:
        value = numpy.asarray(value)  # the pickle of a memmap has a copy of its bytes, which would not be mapped
    body, buffers = dumps(value, shipped)
    share, blob = secrets.token_bytes(16), Blob.of(body, buffers)
    process.blobs.keep(share, blob)
    return share, blob, len(body) <= _OPENED_EARLY


async def _drop(node: LeasedNode, drop: messages.DropShared) -> None:
    if not node.link.lost:
        try:
            await node.link.request(drop)
        except DiscoroError:
            return  # the lease is over, and the value with it
