"""Loads the cluster's secret, and changes it while the cluster runs.

This module owns the secret's file: its form, its creation, and its permissions. `_wire` derives a key from a secret;
`_cluster` makes the keys of leases.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ..._wire import Credential, fingerprint, key_of_secret
from .._option_error import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

VARIABLE = "DISCORO_SECRET"
"""The environment variable that holds a secret."""

SHORTEST_PASSPHRASE = 8
"""In characters; a shorter passphrase causes a warning."""
_FEWEST_CHARACTERS = 4
"""A passphrase with fewer different characters causes a warning."""

_SECRET, _SECRET_FILE = "secret", "secret_file"  # the options

# The form of the file, in UTF-8:
#
#     64 hexadecimal digits, which are the key, or a passphrase
#     "next " or "old ", and another such secret: only while the secret is being changed
#
# Peers may prove either; this process itself uses the first.
_NEXT, _OLD = "next ", "old "
_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")
_LONGEST = 4096
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# Not through a symbolic link, because then another user may choose the file; not waiting for the writer of a pipe.
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MAKING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@attrs.frozen
class SecretFile:
    """The content of a secret's file."""

    path: Path
    """The path of the file."""
    current: str = attrs.field(repr=False)
    """The secret that processes use and accept."""
    next: str | None = attrs.field(default=None, repr=False)
    """The secret that they also accept, and use after `switch`."""
    old: str | None = attrs.field(default=None, repr=False)
    """The secret that they also accept until `drop`."""

    @property
    def further(self) -> str | None:
        """The secret that is accepted but not used."""
        return self.next if self.next is not None else self.old

    def credential(self) -> Credential:
        """Make the keys; for a passphrase that takes about 0.3 s."""
        accepted = () if self.further is None else (_key_of(self.further),)
        return Credential(b"", _key_of(self.current), accepted)

    def fingerprints(self) -> tuple[str, ...]:
        """Return the fingerprints of the secrets, which may be shown; that of the current one first."""
        credential = self.credential()
        return tuple(fingerprint(key) for key in (credential.key, *credential.accepted))


def load_secret(secret: str | bytes | None = None, secret_file: str | os.PathLike[str] | None = None) -> Credential:
    """Return the credential of the cluster's secret, from an argument, from `DISCORO_SECRET`, or from the file.

    Args:
        secret: 32 bytes or 64 hexadecimal digits, which are the key, or a passphrase.
        secret_file: A file with such a text, which no other user may read. Without either argument and without the
            variable, the file in the config folder is used; it is made at its first use.

    Raises:
        OptionError: The secret cannot be used, or others can read its file.
    """
    if secret is not None and secret_file is not None:
        raise OptionError(_SECRET, "give either this or secret_file, not both")
    if secret is not None:
        return _credential(_SECRET, secret)
    if secret_file is not None:
        return read_credential(secret_file)
    text = os.environ.get(VARIABLE)
    if text is not None:
        return _credential(VARIABLE, text)
    return _keys_of(_show_or_make(default_path()))


def weakness_of(secret: str | bytes) -> str:
    """Return why others can guess a secret, without quoting it; empty if it is strong enough."""
    text = secret.strip() if isinstance(secret, str) else ""
    if isinstance(secret, bytes) or _HEX_KEY.fullmatch(text):
        return ""
    if len(text) < SHORTEST_PASSPHRASE:
        return f"the secret is a passphrase of less than {SHORTEST_PASSPHRASE} characters, which others can guess"
    if len(set(text)) < _FEWEST_CHARACTERS:
        return f"the secret has less than {_FEWEST_CHARACTERS} different characters, so others can guess it"
    return ""


def weakness_in_use(secret: str | bytes | None, secret_file: str | os.PathLike[str] | None) -> str:
    """Return why others can guess the secret that `load_secret` returns for the same arguments.

    Raises:
        OptionError: The file cannot be used.
    """
    path = path_of(secret, secret_file)
    used = show(path).current if path is not None else secret if secret is not None else os.environ[VARIABLE]
    return weakness_of(used)


def _warn_if_weak(option: str, secret: str | bytes) -> None:
    weakness = weakness_of(secret)
    if weakness and secret not in warned_of:
        warned_of.add(secret)
        logger.warning("%s: %s; use a longer one, or the random one of a secret's file", option, weakness)


warned_of: set[str | bytes] = set()
"""The weak secrets that this process has warned about."""


def path_of(secret: str | bytes | None, secret_file: str | os.PathLike[str] | None) -> Path | None:
    """Return the file that `load_secret` reads for the same arguments; None if it reads none."""
    if secret is not None:
        return None
    if secret_file is not None:
        return Path(secret_file).absolute()
    return None if VARIABLE in os.environ else default_path()


def read_credential(path: str | os.PathLike[str]) -> Credential:
    """Read the keys of a secret's file; for a passphrase that takes about 0.3 s.

    Raises:
        OptionError: The file cannot be used.
    """
    return _keys_of(show(path))


def private_secret() -> Credential:
    """Make the credential of a cluster in a single program: random, and kept only in memory."""
    return Credential(b"", secrets.token_bytes(32))


def default_path() -> Path:
    """Return the path of the secret in the user's config folder."""
    import platformdirs  # noqa: PLC0415 - most programs of a cluster on one machine never need it

    return platformdirs.user_config_path("discoro_trio") / "secret"


def show(path: str | os.PathLike[str] | None = None) -> SecretFile:
    """Read a secret's file.

    Args:
        path: The file; None for the one in the config folder.

    Raises:
        OptionError: There is no such file, it cannot be read, or others can read it.
    """
    place = default_path() if path is None else Path(path)
    try:
        return _parse(place, _read_private(place))
    except OSError as error:
        raise _unusable(place, _reason(error)) from error


def stage(new: str | None = None, path: str | os.PathLike[str] | None = None) -> SecretFile:
    """Begin to change the secret: the processes that use the file accept a second one.

    Args:
        new: The second secret; None for a random one, which you copy to the other machines.
        path: The file; None for the one in the config folder.

    Raises:
        OptionError: Another change is in progress, or the file cannot be used.
    """
    held = show(path)
    further = secrets.token_hex(32) if new is None else _one_line(new)
    if held.further is not None and held.next != further:
        raise _unusable(held.path, "a change of the secret is in progress; end it with `drop` first")
    return _replace(attrs.evolve(held, next=further))


def switch(path: str | os.PathLike[str] | None = None) -> SecretFile:
    """Use the staged secret, and still accept the old one. Call it when all machines have staged the secret.

    Raises:
        OptionError: None is staged, or the file cannot be used.
    """
    held = show(path)
    if held.next is None:
        raise _unusable(held.path, "no further secret is staged in it; `stage` one first")
    return _replace(SecretFile(held.path, held.next, old=held.current))


def drop(path: str | os.PathLike[str] | None = None) -> SecretFile:
    """Accept only the current secret again: this ends a change after `switch`, and abandons it before.

    Raises:
        OptionError: There is no second secret, or the file cannot be used.
    """
    held = show(path)
    if held.further is None:
        raise _unusable(held.path, "it holds no further secret")
    return _replace(SecretFile(held.path, held.current))


def _show_or_make(path: Path) -> SecretFile:
    try:
        if not path.exists():
            _write(SecretFile(path, secrets.token_hex(32)), os.link)
    except FileExistsError:
        pass  # another process was faster
    except OSError as error:
        problem = f"no secret can be made there: {_reason(error)}; give secret, secret_file or {VARIABLE}"
        raise _unusable(path, problem) from error
    return show(path)


def _replace(held: SecretFile) -> SecretFile:
    try:
        _write(held, os.replace)
    except OSError as error:
        raise _unusable(held.path, f"it cannot be written: {_reason(error)}") from error
    return held


# The file is first written completely under another name, so that no process ever reads half a secret.
def _write(held: SecretFile, publish: Callable[[Path, Path], None]) -> None:
    held.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = held.path.with_name(f".{held.path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(scratch, _MAKING, 0o600), "w", encoding="utf-8") as file:
            file.write(_text_of(held))
            file.flush()
            os.fsync(file.fileno())
        publish(scratch, held.path)
    finally:
        scratch.unlink(missing_ok=True)


def _text_of(held: SecretFile) -> str:
    lines = [held.current]
    if held.next is not None:
        lines.append(_NEXT + held.next)
    if held.old is not None:
        lines.append(_OLD + held.old)
    return "\n".join(lines) + "\n"


def _parse(path: Path, content: bytes) -> SecretFile:
    try:
        lines = [line.strip() for line in content.decode().splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise _unusable(path, "it is not text in UTF-8") from None  # the error quotes the undecodable bytes
    if len(lines) == 1:
        return SecretFile(path, lines[0])
    if len(lines) == 2 and lines[1].startswith(_NEXT):  # noqa: PLR2004 - see the form of the file
        return SecretFile(path, lines[0], next=lines[1].removeprefix(_NEXT))
    if len(lines) == 2 and lines[1].startswith(_OLD):  # noqa: PLR2004 - see the form of the file
        return SecretFile(path, lines[0], old=lines[1].removeprefix(_OLD))
    raise _unusable(path, "expected one line with the secret, and at most one more that begins with 'next' or 'old'")


def _read_private(path: Path) -> bytes:
    descriptor = os.open(path, _READING)
    try:
        problem = _why_unsafe(os.fstat(descriptor))
        content = b"" if problem else os.read(descriptor, _LONGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > _LONGEST:
        problem = f"it is longer than {_LONGEST} bytes"
    if problem:
        raise _unusable(path, problem)
    return content


def _why_unsafe(status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}, and this process runs as user {os.geteuid()}"
    if status.st_mode & _OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        return f"other users can open it (mode {mode:04o}); make a new secret, or `chmod 600` it if none did"
    return ""


def _keys_of(held: SecretFile) -> Credential:
    _warn_if_weak(str(held.path), held.current)
    try:
        return held.credential()
    except ValueError as error:
        raise _unusable(held.path, str(error)) from error


def _credential(option: str, secret: str | bytes) -> Credential:
    if secret:
        _warn_if_weak(option, secret)
    try:
        return Credential(b"", _key_of(secret))
    except ValueError as error:
        raise OptionError(option, str(error)) from error


def _key_of(secret: str | bytes) -> bytes:
    if isinstance(secret, bytes):
        return key_of_secret(secret)
    text = secret.strip()  # a trailing line break is not part of a passphrase
    return key_of_secret(bytes.fromhex(text) if _HEX_KEY.fullmatch(text) else text)


def _one_line(secret: str) -> str:
    text = secret.strip()
    if not text or len(text.splitlines()) != 1:
        raise OptionError(_SECRET, "expected one line of text")
    return text


def _unusable(path: Path, problem: str) -> OptionError:
    return OptionError(_SECRET_FILE, f"{path} cannot be used: {problem}")


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link; name the file itself"
    return error.strerror or str(error)
