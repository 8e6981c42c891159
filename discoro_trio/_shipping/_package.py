"""The package: the components of a computation as they are sent, once to each node, named by their digest.

This module defines its form. `_components` makes packages, `_installation` installs them. A node only stores a
package: only servers unpickle its content.
"""

from __future__ import annotations

import hashlib

import msgspec

from .._errors import ProtocolError


class PackedFile(msgspec.Struct, frozen=True, array_like=True):
    """A file or a folder."""

    path: str
    """Its path relative to the folder that it is installed in, with `/`."""
    mode: int
    """Its permission bits."""
    content: bytes
    """The content of a file; empty if it is streamed."""
    is_folder: bool = False
    """Whether it is a folder; a folder that is not empty need not be listed."""
    stream: int | None = None
    """The number by which the node requests the content of a large file; None if the content is included."""
    streamed: int = 0
    """The size in bytes of a file that is streamed."""

    @property
    def size(self) -> int:
        """The size of a file in bytes."""
        return len(self.content) + self.streamed


class Package(msgspec.Struct, frozen=True, array_like=True):
    """All components of one computation."""

    digest: str
    """SHA-256 of all other fields, in hex."""
    origin: bytes
    """The token of the client."""
    names: tuple[str, ...]
    """The listed functions and classes, for messages; in the order of `definitions`."""
    definitions: bytes
    """Their pickle."""
    along: tuple[tuple[str, str], ...]
    """Module and name of the objects that were sent along with them by value."""
    client_modules: tuple[tuple[str, str | None], ...]
    """The client modules of the definitions, each with its `__package__`."""
    modules: tuple[str, ...]
    """Modules and packages that are sent completely, with all of their submodules."""
    imports: tuple[str, ...]
    """The listed modules and packages, which servers import at once."""
    code: tuple[PackedFile, ...]
    """The source of modules and packages."""
    files: tuple[PackedFile, ...]
    """The listed files and folders."""
    code_folders: tuple[str, ...]
    """The folders among these from which modules are imported, relative to the working folder."""
    automatic: bool = True
    """Whether objects that functions name are sent with them."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Package)


def sealed(package: Package) -> Package:
    """Return the package with its digest."""
    return msgspec.structs.replace(package, digest=_digest(package))


def encode_package(package: Package) -> bytes:
    """Return the bytes of a package."""
    return _encoder.encode(package)


def decode_package_untrusted(data: bytes | bytearray | memoryview) -> Package:
    """Read a package.

    Raises:
        ProtocolError: It is malformed, or its digest is wrong.
    """
    try:
        package = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        text = f"the components of a computation are malformed: {error}"
        raise ProtocolError(text) from error
    if _digest(package) != package.digest:
        text = "the components of a computation have a wrong digest"
        raise ProtocolError(text)
    return package


def decode_package(data: bytes | bytearray | memoryview) -> Package:
    """Read a package that was already checked, and whose files may have been removed since."""
    return _decoder.decode(data)


def without_files(package: Package) -> Package:
    """Return a package without its files, which are already installed; it keeps the digest of the whole package."""
    return msgspec.structs.replace(package, code=(), files=())


def _digest(package: Package) -> str:
    return hashlib.sha256(_encoder.encode(msgspec.structs.replace(package, digest=""))).hexdigest()


def masked_untrusted(mode: int) -> int:
    """Return the mode for a received file: writable only by its owner, and without set-user bits."""
    return mode & 0o755
