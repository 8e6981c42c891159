"""The web application: pages, the stream of views, and the JSON interface.

Every request passes `_guard` first. `_broadcast` and `_views` supply the views; `_actions` carries out actions.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio
from quart import Response, g, request, websocket
from quart_trio import QuartTrio

from ._api import api
from ._guard import Guesses
from ._json import WRONG_TOKEN_PAUSE, answer, parts, refuse, too_many
from ._pages import INDEX, STATIC, read_pages, send
from ._requests import RequestTimes
from ._socket import WAY, stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from werkzeug.datastructures import Headers

    from ._actions import Actions
    from ._broadcast import Broadcast
    from ._details import Details
    from ._guard import Guard, Refusal
    from ._source import Follower

LARGEST_BODY = 256 * 1024
"""Maximum size of a request, in bytes."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
PUBLIC = ("/healthz", "/readyz", "/api/v1/session")
"""Routes that answer without the token, besides the pages: they reveal nothing about the cluster."""


@attrs.frozen
class MonitorParts:
    """The parts of the monitor that the routes use."""

    hub: Broadcast
    guard: Guard
    actions: Actions
    details: Details
    follower: Follower
    cookie: str
    """The cookie's name. It includes the port, since all ports of a host share cookies."""
    requests: RequestTimes = attrs.Factory(RequestTimes)
    guesses: Guesses = attrs.Factory(Guesses)


class _QuietApp(QuartTrio):
    """A Quart that logs an error in one line and reveals nothing to the client."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        requests: RequestTimes = self.extensions["monitor"].requests
        with requests.answering() if scope["type"] == "http" else nullcontext():
            await super().__call__(scope, receive, send)

    async def handle_exception(self, error: Exception) -> Any:
        logging.getLogger(__name__).error("the monitor failed to answer %s", request.path, exc_info=error)
        return refuse(500, "the monitor failed to answer; its log has the reason")


def make_app(own: MonitorParts, document_root: str | Path | None = None) -> QuartTrio:
    """Make the application.

    Args:
        own: The parts of the monitor and its access rules.
        document_root: The folder of the pages; by default the packaged ones.
    """
    app = _QuietApp(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.config["BODY_TIMEOUT"] = 10
    app.extensions["monitor"] = own
    app.before_request(_check_request)
    app.before_websocket(_check_websocket)
    app.after_request(_harden)
    app.register_blueprint(api)
    app.websocket("/api/v1/stream")(stream)
    _add_pages(app, Path(document_root) if document_root is not None else STATIC)
    for status in (400, 401, 403, 404, 405, 408, 413, 415):
        app.register_error_handler(status, _error_page(status))
    return app


def _add_pages(app: QuartTrio, root: Path) -> None:
    files = read_pages(root)

    @app.get("/")
    async def index() -> Response:
        return await send(files, INDEX)

    @app.get("/static/<path:name>")
    async def static(name: str) -> Response:
        return await send(files, name)

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return await send(files, "icon.svg")


def _error_page(status: int) -> Callable[[Any], Awaitable[Response]]:
    async def handler(error: Any) -> Response:
        return answer({"error": getattr(error, "description", None) or str(status)}, status)

    return handler


# --- access


def _is_page(path: str) -> bool:
    return path in {"/", "/favicon.ico"} or path.startswith("/static/")


def _refused(refusal: Refusal | None) -> Response | None:
    return None if refusal is None else refuse(refusal.status, refusal.text)


async def _check_request() -> Response | None:
    own = parts()
    host = request.headers.get("Host")
    refused = _refused(own.guard.check_host(host))
    if refused is not None or host is None:
        return refused
    if request.method not in {"GET", "HEAD"}:
        refused = _refused(own.guard.check_origin(request.headers, host))
        if refused is not None:
            return refused
    if _is_page(request.path):
        return None
    refused = await check_token(request.headers, request.cookies.get(own.cookie), request.remote_addr)
    if refused is not None or request.path in PUBLIC:
        return refused
    if not own.guard.may_look(request.headers, request.cookies.get(own.cookie)):
        return refuse(401, "this needs the monitor's token")
    _note_known(request.scope)
    return None


async def check_token(headers: Headers, cookie: str | None, address: str | None) -> Response | None:
    """Slow down guessing: the answer to a wrong token takes a second, and after five in a row no token is checked.

    Args:
        headers: The request's headers.
        cookie: The value of this monitor's cookie.
        address: The address of the sender.

    Returns:
        The refusal, if the token is not checked.
    """
    own = parts()
    if not own.guard.shows_token(headers, cookie):
        return None
    if not own.guesses.may_try(trio.current_time(), address or ""):
        return await too_many()
    if not own.guard.has_token(headers, cookie):
        own.guesses.wrong(trio.current_time(), address or "")
        g.wrong_cookie = cookie is not None
        await trio.sleep(WRONG_TOKEN_PAUSE)
    return None


def _note_known(scope: Any) -> None:
    way = (scope.get("state") or {}).get(WAY)
    if way is not None:  # not in tests without a connection
        way.known()


async def _check_websocket() -> Response | None:
    own = parts()
    host = websocket.headers.get("Host")
    refused = _refused(own.guard.check_host(host) or own.guard.check_origin(websocket.headers, host or ""))
    if refused is not None:
        return refused
    refused = await check_token(websocket.headers, websocket.cookies.get(own.cookie), websocket.remote_addr)
    if refused is not None:
        return refused
    if not own.guard.may_look(websocket.headers, websocket.cookies.get(own.cookie)):
        return refuse(401, "this needs the monitor's token")
    _note_known(websocket.scope)
    return None


async def _harden(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers[name] = value
    if not _is_page(request.path):
        response.headers["Cache-Control"] = "no-store"
    if getattr(g, "wrong_cookie", False):  # a cookie of an earlier monitor at this port
        response.delete_cookie(parts().cookie, path="/")
    return response
