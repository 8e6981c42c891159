"""One lease of a node, with the components that its computation has shipped there.

A lease keeps the components unopened, so that every server, also a replacement, is set up like the first. `_holding`
has the server slots that belong to it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from ..._errors import DiscoroError, FileTransferError, PeerDisconnected
from ..._process._parts import fetch_parts, write_at
from ..._shipping import (
    create_file,
    decode_package_untrusted,
    encode_package,
    streamed_files,
    without_files,
    write_tree,
)
from .. import _messages as messages
from ..isolation._users import Become
from ._kept_files import kept_folder, move_in
from ._set_up import COMPONENTS, NodeSetUp, failed
from ._shared_values import SHARED

if TYPE_CHECKING:
    from ..._link import Link
    from ..._process import Files
    from ..._shipping._package import PackedFile
    from ..._wire import Control
    from .._lease_terms import LeaseTerms
    from ..isolation._users import User
    from ._server_slot import NodeServer
    from ._shared_values import SharedForServers


class Lease:
    """Servers of a node, given to one computation.

    Attributes:
        shared: The values that its computation shares.
        user: The user that its servers run as; None for the node's own user.
    """

    def __init__(self, terms: LeaseTerms, shared: SharedForServers, user: User | None = None) -> None:
        self.terms = terms
        self.shared = shared
        self.user = user
        self.prepared: messages.Prepare | None = None
        self.preparing = trio.Lock()
        """Held while its components are installed."""
        self.folder: Path | None = None
        self.package = b""
        self.client: Link | None = None
        self.ending: trio.Event | None = None
        self.node_set_up = NodeSetUp(wanted=False)
        self.kept: Path | None = None
        """The folder in which its files are kept, if they are."""

    @property
    def computation(self) -> bytes:
        """The id of the computation."""
        return self.terms.computation

    async def install(self, prepare: messages.Prepare, parent: Path, files: Files, client: Link) -> None:
        """Write the files of the components, once for all servers of the node.

        Raises:
            FileTransferError: A file exceeds the node's limit, or could not be written; all written files are removed.
            ProtocolError: They are malformed.
            DiscoroError: The client did not send all of a large file.
        """
        package = decode_package_untrusted(prepare.package)
        for file in package.files:
            files.check_size(file.path, file.size)
        _check_room(sum(file.size for file in package.files), parent)
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="computation-", dir=parent))
            await trio.to_thread.run_sync(write_tree, package, self.folder)
            for packed, folder in streamed_files(package, self.folder):
                await self._stream(client, packed, folder)
            await self.shared.open(self.folder / SHARED, self.user)
            if self.user is not None:
                await trio.to_thread.run_sync(self.user.own, self.folder)
        except BaseException as error:
            self.remove()
            self.folder = None
            if isinstance(error, OSError):
                raise _unwritten(error) from error
            raise
        self.package = encode_package(without_files(package))
        self.node_set_up = NodeSetUp(wanted=bool(prepare.node_setup))
        self.prepared = prepare

    def keep(self, folder: Path, dest_path: Path) -> Path:
        """Move the folder of a server to the place where it is kept; return its new path.

        Raises:
            OSError: It cannot be moved.
        """
        self.kept = kept_folder(dest_path, self.terms.name, self.computation)
        return move_in(folder, self.kept, other_user=self.user is not None)

    async def _stream(self, client: Link, packed: PackedFile, folder: Path) -> None:
        """Fetch the content of a large file from the client."""
        assert packed.stream is not None  # noqa: S101 - see `streamed_files`
        file = create_file(packed, folder)

        async def take(offset: int, data: memoryview) -> None:
            try:
                await trio.to_thread.run_sync(write_at, file, offset, data)
            except OSError as error:
                raise _unwritten(error) from error

        try:
            await fetch_parts(
                client, (0, packed.streamed), partial(messages.ReadComponent, self.computation, packed.stream), take
            )
        finally:
            os.close(file)

    def remove(self) -> None:
        """Remove the files of the components, and free the shared values."""
        self.shared.close()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    async def begin(self, server: NodeServer) -> Control | None:
        """Set a server up; return its reply, or None if it must not be used or has ended."""
        prepared = self.prepared
        if prepared is None:
            return None

        async def begin(with_node: bool) -> Control:  # noqa: FBT001 - a callback's only argument
            begin = messages.Begin(
                self.computation,
                self.terms.client_id,
                self.terms.key,
                self.package,
                str(self.folder),
                prepared.node_setup if with_node else [],
                prepared.server_setup,
                prepared.threads,
                prepared.forward_output,
                self.terms.pulse_interval,
            )
            return await server.request(begin)

        try:
            if self.user is not None:
                self.user.own(server.folder)
                await server.request(Become(self.user))
            return await self.node_set_up.begin_at(begin)
        except PeerDisconnected:
            return None  # it has ended, and the server slot reports that
        except DiscoroError as error:
            return failed(COMPONENTS, error, where=server.link.peer.name)


def _check_room(size: int, parent: Path) -> None:
    """Refuse files for which the disk has no room.

    Raises:
        FileTransferError: The disk has no room for them.
    """
    try:
        free = shutil.disk_usage(parent).free
    except OSError as error:
        raise _unwritten(error) from error
    if size > free:
        message = (
            f"the files of the computation have {size} bytes, and {free} are free in {parent}; "
            "free some space there, or start the node with another dest_path"
        )
        raise FileTransferError(message)


def _unwritten(error: OSError) -> FileTransferError:
    return FileTransferError(f"the files of the computation could not be written: {error}")
