"""Watches the secret's file, so that a change of the secret needs no restart of the programs.

This module decides when the file is checked, and updates the endpoint. Existing links stay up: their ends have proved
their identity. `_secret_file` owns the file and the steps of a change.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ..._wire import fingerprint
from .._option_error import OptionError
from ._secret_file import read_credential

if TYPE_CHECKING:
    from pathlib import Path

    from .._endpoint import Endpoint

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""The seconds until a change is noticed."""

Stamp = tuple[int, int, int] | None
"""Identifies a version of a file, to detect that it was replaced or written; None if there is no file."""


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


async def follow_secret(endpoint: Endpoint, path: Path, stamp: Stamp) -> None:
    """Use and accept the secrets in the file, until cancelled. An unusable file is logged and changes nothing.

    Args:
        endpoint: The endpoint that uses the secret.
        path: The file.
        stamp: The stamp of the file when it was read.
    """
    while True:
        await trio.sleep(LOOK_SECONDS)  # not every system has an event for it
        now = stamp_of(path)
        if now == stamp:
            continue
        stamp = now
        try:
            credential = await trio.to_thread.run_sync(read_credential, path)
        except OptionError as error:
            logger.warning("the secret stays as it is: %s", error)
            continue
        if credential == endpoint.credentials[credential.realm]:
            continue
        endpoint.credentials[credential.realm] = credential
        if endpoint.discovery is not None:
            endpoint.discovery.use(credential)
        used, *accepted = (fingerprint(key) for key in (credential.key, *credential.accepted))
        more = f"; {accepted[0]} is accepted too" if accepted else "; no other one is accepted"
        logger.info("the secret has changed: the one with the fingerprint %s is used%s", used, more)
