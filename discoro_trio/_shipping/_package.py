"""The components of a computation as they travel: once to each node, named by their digest.

This module owns the form. Who makes it is `_client`, who installs it `_process`; a node only stores it: what is pickled
in it is opened by servers alone.
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
    """The bytes of a file; none of one that is streamed."""
    is_folder: bool = False
    """Whether it is a folder; one that is not empty need not be listed."""
    stream: int | None = None
    """The number by which the node asks for the content of a large file; None if that is here."""
    streamed: int = 0
    """The bytes of a file that is streamed."""

    @property
    def size(self) -> int:
        """The bytes of a file."""
        return len(self.content) + self.streamed


class Package(msgspec.Struct, frozen=True, array_like=True):
    """All components of one computation."""

    digest: str
    """SHA-256 of all the rest, in hex."""
    origin: bytes
    """The token of the client."""
    names: tuple[str, ...]
    """The listed functions and classes, for messages; in the order of `definitions`."""
    definitions: bytes
    """Their pickle."""
    along: tuple[tuple[str, str], ...]
    """Module and name of what came along with them by value."""
    client_modules: tuple[tuple[str, str | None], ...]
    """The client modules that definitions live in, each with its `__package__`."""
    modules: tuple[str, ...]
    """Modules and packages that come whole, with all below them."""
    imports: tuple[str, ...]
    """The listed modules and packages, which servers import at once."""
    code: tuple[PackedFile, ...]
    """The source of modules and packages."""
    files: tuple[PackedFile, ...]
    """The listed files and folders."""
    code_folders: tuple[str, ...]
    """Those of the folders that modules are imported from, relative to the working folder."""
    automatic: bool = True
    """Whether what functions name travels with them."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Package)


def sealed(package: Package) -> Package:
    """Give the package with its digest."""
    return msgspec.structs.replace(package, digest=_digest(package))


def encode_package(package: Package) -> bytes:
    """Give the bytes of a package."""
    return _encoder.encode(package)


def decode_package_untrusted(data: bytes | bytearray | memoryview) -> Package:
    """Read a package.

    Raises:
        ProtocolError: It is malformed, or its digest is that of another.
    """
    try:
        package = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        text = f"the components of a computation are malformed: {error}"
        raise ProtocolError(text) from error
    if _digest(package) != package.digest:
        text = "the components of a computation have another digest than they say"
        raise ProtocolError(text)
    return package


def decode_package(data: bytes | bytearray | memoryview) -> Package:
    """Read a package that was checked already, and may lack its files since."""
    return _decoder.decode(data)


def without_files(package: Package) -> Package:
    """Give a package whose files are installed already; it keeps the digest of the whole."""
    return msgspec.structs.replace(package, code=(), files=())


def _digest(package: Package) -> str:
    return hashlib.sha256(_encoder.encode(msgspec.structs.replace(package, digest=""))).hexdigest()


def masked_untrusted(mode: int) -> int:
    """Give what a file's mode elsewhere is worth here: only the owner may write it, and no set-user bits."""
    return mode & 0o755
