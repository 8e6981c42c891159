"""Secrets, and the keys derived from them.

This module derives one key for each purpose, so that a proof for one purpose is worthless for another. The endpoint
stores secrets; the leases decide which process needs which key.
"""

from __future__ import annotations

import enum
import hashlib
import hmac

from .._records import Record

KEY_SIZE = 32
"""The length in bytes of a secret that is used as it is, and of every key."""

# scrypt (RFC 7914) makes each guess of a passphrase cost 32 MiB and about 0.3 s, one of the equivalent
# choices of OWASP's Password Storage Cheat Sheet. All processes of a cluster must derive the same key
# before they communicate, so the salt is fixed; it only makes tables for other programs useless.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**15, 8, 3
_SCRYPT_MEMORY = 64 * 1024 * 1024
_SCRYPT_SALT = b"discoro_trio passphrase 1"

_HKDF_SALT = b"discoro_trio keys 1"


class Purpose(enum.StrEnum):
    """The purpose of a key."""

    LINK_CLIENT = "link client"
    LINK_SERVER = "link server"
    RESUME_ID = "resume id"
    RESUME_KEY = "resume key"
    DISCOVERY = "discovery"
    FINGERPRINT = "fingerprint"


class Credential(Record, frozen=True):
    """A key that opens a link, and the name under which the peer finds its own copy."""

    realm: bytes
    """b"" for the cluster's secret, otherwise the id of a lease or introduction; at most 64 bytes."""
    key: bytes
    """The key, at least 32 bytes."""
    accepted: tuple[bytes, ...] = ()
    """Other keys that a peer may use instead, while the secret is being changed."""

    def __post_init__(self) -> None:
        for field, keys in (("key", (self.key,)), ("accepted", self.accepted)):
            if any(len(key) < KEY_SIZE for key in keys):
                message = f"{field}: a key has {KEY_SIZE} bytes or more"
                raise ValueError(message)

    def __repr__(self) -> str:
        """Describe the credential without its keys."""
        return f"Credential(realm={self.realm!r})"


def key_of_secret(secret: str | bytes) -> bytes:
    """Make the key of a secret.

    Args:
        secret: 32 random bytes, used as the key, or a passphrase, from which scrypt derives the key.

    Raises:
        ValueError: The passphrase is empty, or there are not 32 bytes.
    """
    if isinstance(secret, str):
        if not secret:
            message = "the secret is empty; omit it to use the one in the config folder"
            raise ValueError(message)
        return hashlib.scrypt(
            secret.encode(),
            salt=_SCRYPT_SALT,
            n=_SCRYPT_N,
            r=_SCRYPT_R,
            p=_SCRYPT_P,
            maxmem=_SCRYPT_MEMORY,
            dklen=KEY_SIZE,
        )
    if len(secret) != KEY_SIZE:
        message = f"a secret in bytes has {KEY_SIZE} of them, not {len(secret)}; give a passphrase as text"
        raise ValueError(message)
    return bytes(secret)


def hkdf(key: bytes, info: bytes, size: int = KEY_SIZE, *, salt: bytes = _HKDF_SALT) -> bytes:
    """Derive a key by HKDF-SHA256 (RFC 5869).

    Args:
        key: The input key.
        info: The purpose of the derived key.
        size: Its length in bytes, at most 255 * 32.
        salt: By default this application's own.
    """
    extracted = hmac.digest(salt, key, "sha256")
    block, derived, count = b"", b"", 0
    while len(derived) < size:
        count += 1
        block = hmac.digest(extracted, block + info + bytes([count]), "sha256")
        derived += block
    return derived[:size]


def handshake_key(key: bytes, purpose: str) -> bytes:
    """Derive the key for one purpose.

    Args:
        key: The key of a secret or lease, at least 32 bytes.
        purpose: A `Purpose`, or a text that is unique to one use.
    """
    return hkdf(key, purpose.encode())


def fingerprint(key: bytes) -> str:
    """Return a short text that identifies a secret and may be shown: `1a2b-3c4d`."""
    digest = hkdf(key, Purpose.FINGERPRINT.encode(), 4).hex()
    return f"{digest[:4]}-{digest[4:]}"
