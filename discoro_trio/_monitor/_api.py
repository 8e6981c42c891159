"""The routes for machines: tables as JSON, actions, metrics, health; described by `_openapi`.

Each table has the columns, sorting, filters and pages of the views.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio
from quart import Blueprint, Response, request

from ._json import WRONG_TOKEN_PAUSE, answer, body_untrusted, parts, refuse, too_many
from ._metrics import CONTENT_TYPE, exposition
from ._openapi import description
from ._query import QueryError, read_query_untrusted
from ._timeline import trace
from ._views import render, summary

if TYPE_CHECKING:
    from ._actions import Result

api = Blueprint("api", __name__)

_YEAR = 365 * 24 * 3600


# --- reading


@api.get("/api/v1/summary")
async def get_summary() -> Response:
    """Return the sums over the cluster."""
    _look()
    model = parts().hub.model
    return answer({**summary(model), "as_of": model.as_of})


@api.get("/api/v1/<any(cluster, coroutines, computations, timeline, output, failures, tree, servers):view>")
async def get_table(view: str) -> Response:
    """Return one page of a table."""
    return await _table(view, "")


@api.get("/api/v1/nodes/<key>")
async def get_node(key: str) -> Response:
    """Return a node and its servers."""
    return await _table("node", key)


@api.get("/api/v1/servers/<key>")
async def get_server(key: str) -> Response:
    """Return a server and its coroutines."""
    return await _table("server", key)


def _look() -> None:
    """Bring the model up to date before answering a program: this may be its last request."""
    parts().requests.note()
    parts().follower.refresh()


@api.get("/api/v1/coroutines/<key>")
async def get_coroutine(key: str) -> Response:
    """Return a coroutine: arguments, state, traceback or stack, and its lines of output."""
    return await _table("coroutine", key)


@api.get("/api/v1/functions/<key>")
async def get_function(key: str) -> Response:
    """Return a function: the outcomes and durations of its coroutines, and its failures."""
    return await _table("function", key)


async def _table(view: str, key: str) -> Response:
    hub = parts().hub
    try:
        query = read_query_untrusted({**request.args.to_dict(), "view": view, "key": key})
    except QueryError as error:
        return refuse(400, str(error))
    _look()
    await parts().details.fill(query)
    page = render(hub.model, query, hub.clock())
    if "missing" in page.head:
        return refuse(404, f"there is no {view} {key!r}")
    place = {"total": page.total, "page": query.page, "size": query.size, "as_of": hub.model.as_of}
    return answer({"head": page.head, "rows": page.rows, **place})


@api.get("/api/v1/trace")
async def get_trace() -> Response:
    """Return a window of the timeline as a file in Chrome's trace event format."""
    hub = parts().hub
    try:
        query = read_query_untrusted({**request.args.to_dict(), "view": "timeline"})
    except QueryError as error:
        return refuse(400, str(error))
    _look()
    response = answer(trace(hub.model, query, hub.clock()))
    response.headers["Content-Disposition"] = 'attachment; filename="discoro-trace.json"'
    return response


@api.get("/api/v1/openapi.json")
async def get_description() -> Response:
    """Describe this interface."""
    return answer(description())


@api.get("/metrics")
async def get_metrics() -> Response:
    """Return the numbers that Prometheus collects."""
    _look()
    hub = parts().hub
    return Response(exposition(hub.model, hub.browsers), content_type=CONTENT_TYPE)


@api.get("/healthz")
async def get_health() -> Response:
    """Report that the monitor answers."""
    return answer({"status": "ok"})


@api.get("/readyz")
async def get_readiness() -> Response:
    """Return whether the monitor has the state of the cluster."""
    if parts().follower.ready:
        return answer({"status": "ready"})
    return answer({"status": "waiting for the cluster's state"}, 503)


# --- signing in


@api.get("/api/v1/session")
async def get_session() -> Response:
    """Return what the sender of the request may do."""
    own = parts()
    guard = own.guard
    signed_in = guard.has_token(request.headers, request.cookies.get(own.cookie))
    return answer(
        {
            "look": guard.may_look(request.headers, request.cookies.get(own.cookie)),
            "act": signed_in and not guard.read_only,
            "signed_in": signed_in,
            "read_only": guard.read_only,
            "actions": own.actions.names() if not guard.read_only else [],
            "poll_sec": own.hub.poll_sec,
        }
    )


@api.post("/api/v1/session")
async def sign_in() -> Response:
    """Check the token once and return a cookie for it."""
    own = parts()
    body = await body_untrusted()
    if isinstance(body, Response):
        return body
    address = request.remote_addr or ""
    if not own.guesses.may_try(trio.current_time(), address):
        return await too_many()
    if not own.guard.is_token(str(body.get("token", ""))):
        own.guesses.wrong(trio.current_time(), address)
        await trio.sleep(WRONG_TOKEN_PAUSE)
        return refuse(401, "that is not the monitor's token")
    response = answer({"signed_in": True})
    response.set_cookie(
        own.cookie,
        own.guard.session,
        max_age=_YEAR,
        httponly=True,
        samesite="Strict",
        secure=own.guard.scheme == "https",
        path="/",
    )
    return response


@api.delete("/api/v1/session")
async def sign_out() -> Response:
    """Delete the cookie."""
    response = answer({"signed_in": False})
    response.delete_cookie(parts().cookie, path="/", httponly=True, samesite="Strict")
    return response


# --- actions


@api.post("/api/v1/actions/<any(terminate, restart, suspend, resume, close):action>")
async def act(action: str) -> Response:
    """Carry out an action."""
    own = parts()
    host = request.headers.get("Host", "")
    refusal = own.guard.check_action(request.headers, request.cookies.get(own.cookie), host)
    if refusal is not None:
        return refuse(refusal.status, refusal.text)
    body = await body_untrusted()
    if isinstance(body, Response):
        return body
    ids = body.get("ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(one, str) for one in ids):
        return refuse(400, "expected {'ids': ['…', …]}")
    who = request.remote_addr or "unknown"
    results = await _carry_out(action, ids, who)
    return answer({"results": [attrs.asdict(result) for result in results]})


async def _carry_out(action: str, ids: list[str], who: str) -> list[Result]:
    actions: Any = parts().actions
    if action == "terminate":
        found: list[Result] = await actions.terminate(ids, who)
        return found
    if action in {"suspend", "resume"}:
        return [await actions.suspend(key, who, resume=action == "resume") for key in ids]
    return [await getattr(actions, action)(key, who) for key in ids]
