"""Requests and replies in JSON, and access to the monitor for routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import trio
from quart import Response, current_app, request

if TYPE_CHECKING:
    from ._app import MonitorParts

JSON = "application/json"
WRONG_TOKEN_PAUSE = 1.0
"""Seconds that the answer to a wrong token takes."""


def parts() -> MonitorParts:
    """Return the parts of the monitor of this request."""
    found: MonitorParts = current_app.extensions["monitor"]
    return found


def answer(content: object, status: int = 200) -> Response:
    """Return content as JSON."""
    return Response(msgspec.json.encode(content), status, content_type=JSON)


def refuse(status: int, text: str) -> Response:
    """Return a refusal as JSON."""
    return answer({"error": text}, status)


async def too_many() -> Response:
    """Refuse a token without checking it."""
    await trio.sleep(WRONG_TOKEN_PAUSE)
    return refuse(429, "too many wrong tokens came from this address; wait some seconds")


def object_untrusted(data: bytes | str) -> dict[str, Any]:
    """Read a JSON object; ValueError if the text is none."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except RecursionError as error:
        message = "it is nested too deeply"
        raise ValueError(message) from error


async def body_untrusted() -> dict[str, Any] | Response:
    """Read the JSON object of a request; other content is answered with an error."""
    if request.mimetype != JSON:
        return refuse(415, f"send {JSON}")
    try:
        return object_untrusted(await request.get_data())
    except ValueError as error:
        return refuse(400, f"that is no JSON object: {error}")
