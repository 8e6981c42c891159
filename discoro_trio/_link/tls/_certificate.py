"""Certificates for TLS: one made in memory, or the operator's own, loaded from files and checked.

This module owns their making and their reading. It is imported only where a connection leaves the machine, for
`cryptography` takes 0.1 s to import. `_tls` makes contexts and decides when a connection is encrypted.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import ssl
from typing import TYPE_CHECKING, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from .._option_error import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CERTFILE, _KEYFILE = "certfile", "keyfile"  # the options

# A certificate that is trusted only by its fingerprint needs no validity period, and the clocks of two machines may
# differ by any amount. The end is the value of RFC 5280 (4.1.2.5) for "none".
_ALWAYS = dt.datetime(2000, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def load_made_here(context: ssl.SSLContext) -> bytes:
    """Let a server's context present a new self-signed certificate, made in memory.

    Returns:
        The SHA-256 of the certificate.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "discoro_trio")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), *_ALWAYS)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with _in_memory(private + certificate.public_bytes(Encoding.PEM)) as name_of_file:
        context.load_cert_chain(name_of_file)
    return _fingerprint(certificate)


def load_files(context: ssl.SSLContext, certfile: Path, keyfile: Path | None) -> bytes:
    """Let a server's context present the operator's own certificate.

    Args:
        context: The context.
        certfile: The certificates in PEM form; that of this machine first.
        keyfile: The key, unencrypted; None if `certfile` contains it, too.

    Returns:
        The SHA-256 of the certificate.

    Raises:
        OptionError: A file is missing or holds something else, the certificate is not valid now, or the key is of
            another.
    """
    certificate = _read_certificate(certfile)
    option, file = (_CERTFILE, certfile) if keyfile is None else (_KEYFILE, keyfile)

    def refuse_to_ask() -> NoReturn:
        raise OptionError(option, f"the key in {file} is encrypted; give one without a passphrase")

    _read(option, file)
    try:
        context.load_cert_chain(certfile, keyfile, refuse_to_ask)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise OptionError(option, f"the key in {file} is not the one of the certificate in {certfile}") from error
        raise OptionError(option, f"{file} holds no private key in PEM form") from error
    return _fingerprint(certificate)


def chain_size(certfile: Path) -> int:
    """Return the size in bytes of all certificates in a file that `load_files` has accepted."""
    found = x509.load_pem_x509_certificates(certfile.read_bytes())
    return sum(len(one.public_bytes(Encoding.DER)) for one in found)


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Provide a file name for bytes that reach no disk, because contexts read keys only from files."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _read_certificate(file: Path) -> x509.Certificate:
    content = _read(_CERTFILE, file)
    try:
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise OptionError(_CERTFILE, f"{file} holds no certificate in PEM form") from error
    now = dt.datetime.now(dt.UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end < now:
        raise OptionError(_CERTFILE, f"the certificate in {file} expired on {end:%Y-%m-%d}")
    if begin > now:
        raise OptionError(_CERTFILE, f"the certificate in {file} is valid from {begin:%Y-%m-%d}; is the clock right?")
    return certificate


def _read(option: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise OptionError(option, f"{file} cannot be read: {error.strerror}") from error


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
