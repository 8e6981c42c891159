"""Keys: one secret gives a key for each purpose, and none says anything of another."""

from __future__ import annotations

import re

import pytest

from discoro_trio._wire import Credential, Purpose, fingerprint, handshake_key, key_of_secret
from discoro_trio._wire._keys import hkdf

SECRET = bytes(range(32))


@pytest.mark.parametrize(
    ("key", "salt", "info", "expected"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            "0b" * 22,
            "",
            "",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_gives_what_rfc_5869_says(key: str, salt: str, info: str, expected: str) -> None:
    derived = hkdf(bytes.fromhex(key), bytes.fromhex(info), 42, salt=bytes.fromhex(salt))
    assert derived.hex() == expected


def test_a_secret_of_32_bytes_is_the_key() -> None:
    assert key_of_secret(SECRET) == SECRET


def test_a_passphrase_gives_the_same_key_everywhere_and_another_one_a_different_key() -> None:
    key = key_of_secret("correct horse")
    assert key.hex() == "213eb5c34899900b6d8c169a0d888dcae2a0ef2c67a4edc21b15abea39cc321b"
    assert key_of_secret("correct horsf") != key


@pytest.mark.parametrize("secret", ["", b"", b"x" * 31, b"x" * 33])
def test_an_empty_secret_or_one_of_the_wrong_length_is_refused(secret: str | bytes) -> None:
    with pytest.raises(ValueError, match="secret"):
        key_of_secret(secret)


def test_each_purpose_has_a_key_of_its_own() -> None:
    keys = {handshake_key(SECRET, purpose) for purpose in Purpose}
    assert len(keys | {SECRET}) == len(Purpose) + 1
    assert {len(key) for key in keys} == {32}


def test_a_fingerprint_is_short_and_tells_secrets_apart() -> None:
    assert re.fullmatch(r"[0-9a-f]{4}-[0-9a-f]{4}", fingerprint(SECRET))
    assert fingerprint(SECRET) == fingerprint(bytes(SECRET))
    assert fingerprint(SECRET) != fingerprint(bytes(32))


def test_a_credential_does_not_show_its_key_and_takes_no_short_one() -> None:
    assert "key" not in repr(Credential(b"", SECRET))
    with pytest.raises(ValueError, match="key"):
        Credential(b"", b"short")
    with pytest.raises(ValueError, match="accepted"):
        Credential(b"", SECRET, accepted=(b"",))
