"""Opens files beneath one folder by names that peers give; nothing outside of the folder is ever reached.

This module owns the path from a folder to a file in it. Each step is opened relative to the one before, without
following links, so no link leads out, even if it is created meanwhile. All functions block; call them in a thread.
Transfers are in `_transfers`.
"""

from __future__ import annotations

import errno
import hmac
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..._errors import FileTransferError
from ..._shipping._package import masked_untrusted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.poly1305 import Poly1305

LONGEST_NAME = 255
"""The largest number of bytes of one part of a path; common file systems refuse more."""

DEEPEST = 32
"""The largest depth of folders."""

_KEY_SIZE = 32

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DESCRIPTORS = "/proc/self/fd"


def check_name_untrusted(name: str) -> None:
    """Raise FileTransferError if a name is not the name of a file in a folder."""
    if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name:
        message = f"{name[:80]!r} is not a file name: it must be one name, without a folder"
        raise FileTransferError(message)
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError as error:
        message = f"{name[:80]!r} is not a file name: it has characters that cannot be written"
        raise FileTransferError(message) from error
    if size > LONGEST_NAME:
        message = f"the file name {name[:40]!r}… has {size} bytes; at most {LONGEST_NAME} are allowed"
        raise FileTransferError(message)


def parts_untrusted(folder: str) -> list[str]:
    """Return the parts of a relative folder; raise FileTransferError if it may lead out of the starting folder."""
    if folder in {"", "."}:
        return []
    parts = folder.rstrip("/").split("/")
    if len(parts) > DEEPEST:
        message = f"dir= has {len(parts)} nested folders; at most {DEEPEST} are allowed"
        raise FileTransferError(message)
    for part in parts:
        try:
            check_name_untrusted(part)
        except FileTransferError as error:
            message = f"dir={folder[:80]!r} does not stay in the working folder of the receiver; give a relative one"
            raise FileTransferError(message) from error
    return parts


@contextmanager
def opened(root: Path, folder: str, *, create: bool) -> Iterator[int]:
    """Open a folder beneath another; return its descriptor.

    Raises:
        FileTransferError: The name leads out of `root`, or part of the path is not a folder.
    """
    parts = parts_untrusted(folder)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(part, mode=0o755, dir_fd=descriptor)
            descriptor = _step(descriptor, part)
        yield descriptor
    except OSError as error:
        raise _explained(error, folder or ".") from error
    finally:
        os.close(descriptor)


def _step(descriptor: int, part: str) -> int:
    inner = os.open(part, _FOLDER, dir_fd=descriptor)
    os.close(descriptor)
    return inner


def _explained(error: OSError, what: str) -> FileTransferError:
    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
        return FileTransferError(f"{what!r}: a part of the path is a link or not a folder")
    return FileTransferError(f"{what!r}: {error.strerror or error}")


def checksum(key: bytes) -> Poly1305:
    """Return the checksum of a file that is sent: a Poly1305 authenticator with a key that is used for nothing else.

    A damaged file has the same one with a probability of less than 2**-90. It takes a seventh of the processor time of
    SHA-256: 5 instead of 37 ms for 64 MiB.

    Raises:
        FileTransferError: The key does not have the length of a key.
    """
    from cryptography.hazmat.primitives.poly1305 import Poly1305  # noqa: PLC0415 - few processes send files

    if len(key) != _KEY_SIZE:
        message = f"the key of the file's checksum has {len(key)} bytes instead of {_KEY_SIZE}"
        raise FileTransferError(message)
    return Poly1305(key)


class IncomingFile:
    """A file that is being received, separate from a file that it may replace.

    If the system supports it, the file has no name until it is complete, so nothing remains if this process is killed.

    Args:
        root: The working folder.
        folder: A folder beneath it, made if it does not exist.
        name: The final name of the file.
        size: The size of the complete file, in bytes.
        overwrite: Whether it may replace an existing file.

    Raises:
        FileTransferError: A name leads out of the folder, the file exists already, or it cannot be made.

    Attributes:
        key: The key of its checksum, random for each transfer.
    """

    def __init__(self, root: Path, folder: str, name: str, size: int, *, overwrite: bool) -> None:
        check_name_untrusted(name)
        self.name = name
        self.size = size
        self.offset = 0
        self.key: bytes = secrets.token_bytes(_KEY_SIZE)
        self._overwrite = overwrite
        self._checksum = checksum(self.key)
        self._part = ""  # its temporary name, if it needs one
        with opened(root, folder, create=True) as descriptor:
            self._refuse_existing(descriptor)
            self._file = self._opened(descriptor)
            self._folder = os.dup(descriptor)

    def _opened(self, folder: int) -> int:
        if hasattr(os, "O_TMPFILE") and Path(_DESCRIPTORS).is_dir():
            # Not all file systems support this; any other error occurs again below.
            with suppress(OSError):
                return os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder)
        self._part = _hidden_name()
        return os.open(self._part, _NEW_FILE, 0o600, dir_fd=folder)

    def _refuse_existing(self, folder: int) -> None:
        try:
            found = os.stat(self.name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not self._overwrite:
            message = f"{self.name!r} exists already; overwrite=True replaces it"
            raise FileTransferError(message)
        if stat.S_ISDIR(found.st_mode):
            message = f"{self.name!r} is a folder; a file cannot replace it"
            raise FileTransferError(message)

    def write(self, data: memoryview) -> None:
        """Append bytes; FileTransferError if there are more than announced or they cannot be written."""
        size = len(data)
        if self.offset + size > self.size:
            message = f"{self.name!r} is longer than the {self.size} bytes that were announced"
            raise FileTransferError(message)
        self._checksum.update(data)
        try:
            _reserve(self._file, self.offset, size)
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise _explained(error, self.name) from error
        self.offset += size

    def finish(self, expected: bytes, mode: int) -> None:
        """Check the file and give it its name; call it once.

        Args:
            expected: The checksum of what was sent.
            mode: The permissions of the file at the sender.

        Raises:
            FileTransferError: It differs from what was sent, or another file got that name meanwhile.
        """
        if self.offset != self.size or not hmac.compare_digest(self._checksum.finalize(), expected):
            message = f"{self.name!r} did not arrive as it was sent: {self.offset} of {self.size} bytes, or other data"
            raise FileTransferError(message)
        try:
            os.fchmod(self._file, masked_untrusted(mode) | 0o600)
            self._give_name()
        except FileExistsError as error:
            message = f"{self.name!r} exists already; overwrite=True replaces it"
            raise FileTransferError(message) from error
        except OSError as error:
            raise _explained(error, self.name) from error

    def _give_name(self) -> None:
        folder = self._folder
        if not self._part:
            try:
                self._link(self.name)
            except FileExistsError:
                if not self._overwrite:
                    raise
                self._part = _hidden_name()  # only a file with a name can replace a file
                self._link(self._part)
            else:
                return
        if self._overwrite:
            os.rename(self._part, self.name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            # Unlike a rename, this fails if a file of that name exists by now.
            os.link(self._part, self.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)

    def _link(self, name: str) -> None:
        """Give a name to the file, which has none."""
        os.link(f"{_DESCRIPTORS}/{self._file}", name, dst_dir_fd=self._folder)

    def close(self) -> None:
        """Close the file; if it has no name by now, it is removed."""
        if self._part:
            with suppress(FileNotFoundError):
                os.unlink(self._part, dir_fd=self._folder)
        os.close(self._file)
        os.close(self._folder)


def _reserve(file: int, offset: int, size: int) -> None:
    """Reserve room on the disk for bytes that are written next.

    If a file for which no room is reserved replaces another, ext4 first writes it to the disk.
    """
    if size and hasattr(os, "posix_fallocate"):
        with suppress(OSError):  # the file system cannot do it, or it is full and the write fails too
            os.posix_fallocate(file, offset, size)


def _hidden_name() -> str:
    return f".{secrets.token_hex(8)}.part"


def delete(root: Path, folder: str, name: str) -> None:
    """Delete a file beneath a folder.

    Raises:
        FileTransferError: A name leads out of the folder, or there is no such file.
    """
    check_name_untrusted(name)
    with opened(root, folder, create=False) as descriptor:
        try:
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except FileNotFoundError as error:
            message = f"there is no file {name!r}"
            raise FileTransferError(message) from error
        if not stat.S_ISREG(found.st_mode):
            message = f"{name!r} is not a file"
            raise FileTransferError(message)
        os.unlink(name, dir_fd=descriptor)


class OutgoingFile:
    """A file that is being sent.

    Raises:
        FileTransferError: It is not a readable file.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _explained(error, str(path)) from error
        found = os.fstat(self._file)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._file)
            message = f"{str(path)!r} is not a file; send the files of a folder one by one"
            raise FileTransferError(message)
        self.path = path
        self.size = found.st_size
        self.mode = stat.S_IMODE(found.st_mode)
        self.offset = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, or b"" after as many as the file had at the start.

        Raises:
            FileTransferError: The file is shorter or longer than at the start.
        """
        try:
            data = os.read(self._file, size)
        except OSError as error:
            raise _explained(error, str(self.path)) from error
        self.offset += len(data)
        if self.offset > self.size or (not data and self.offset < self.size):
            message = f"{str(self.path)!r} had {self.size} bytes and changed while it was sent"
            raise FileTransferError(message)
        return data

    def close(self) -> None:
        """Close it."""
        os.close(self._file)
