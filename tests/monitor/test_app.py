"""The routes: pages, tables for machines, signing in, actions, and every refusal."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from discoro_trio._monitor._app import make_app
from discoro_trio._monitor._guard import GUESSES_AT_ONCE
from discoro_trio._monitor._pages import STATIC
from discoro_trio._monitor._rows import CoroutineRow

from .made_up import make_model
from .served import TOKEN, make_parts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from quart_trio import QuartTrio

    from discoro_trio import Location
    from discoro_trio._monitor._app import MonitorParts

NOW = 1_000_000.0
BEARER = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
SERVER = "10.0.0.11:51350"


class Target:
    """What actions reach; it only remembers."""

    def __init__(self) -> None:
        self.done: list[tuple[str, object]] = []

    async def restart_server(self, location: Location) -> None:
        self.done.append(("restart", str(location)))

    async def suspend_node(self, addr: str) -> None:
        self.done.append(("suspend", addr))

    async def resume_node(self, addr: str) -> None:
        self.done.append(("resume", addr))

    async def close(self) -> None:
        self.done.append(("close", None))


class Handle:
    """What a coroutine's handle does when it is terminated; it only remembers."""

    def __init__(self, done: list[tuple[str, object]]) -> None:
        self.done = done

    async def terminate(self) -> None:
        self.done.append(("terminate", None))


class Refusing(Handle):
    async def terminate(self) -> None:
        message = "not\nnow"
        raise RuntimeError(message)


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as opened:
        yield opened
        opened.cancel_scope.cancel()


def make(nursery: trio.Nursery, **options: Any) -> tuple[QuartTrio, MonitorParts, Target]:
    model = make_model(NOW, nodes=3, running=0)
    target = Target()
    model.created(CoroutineRow("good", "good", SERVER, NOW, handle=Handle(target.done)))
    model.created(CoroutineRow("bad", "<img src=x onerror=alert(1)>", SERVER, NOW, handle=Refusing([])))
    parts = make_parts(model, nursery, target=target, **options)
    return make_app(parts), parts, target


async def ask(app: QuartTrio, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
    options.setdefault("headers", {})
    options["headers"].setdefault("Host", "127.0.0.1:8181")
    response = await app.test_client().open(path, method=method, **options)
    text = await response.get_data(as_text=True)
    try:
        content = json.loads(text)
    except ValueError:
        content = text
    return response.status_code, content, response.headers


# --- looking


@pytest.mark.spec("B24")
@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/summary",
        "/api/v1/cluster?sort=-cpu&size=2",
        "/api/v1/nodes/10.0.0.11",
        f"/api/v1/servers/{SERVER}",
        "/api/v1/coroutines?state=ended",
        "/api/v1/computations",
        "/api/v1/timeline?span=30",
        "/api/v1/output?text=residual",
        "/api/v1/session",
        "/healthz",
        "/readyz",
    ],
)
async def test_machines_read_json(nursery: trio.Nursery, path: str) -> None:
    app, _, _ = make(nursery)
    status, content, headers = await ask(app, "GET", path)
    assert status == 200
    assert isinstance(content, dict)
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.spec("B24")
async def test_the_description_names_every_route(nursery: trio.Nursery) -> None:
    app, _, _ = make(nursery)
    _, described, _ = await ask(app, "GET", "/api/v1/openapi.json")
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    assert {path for path in rules if path in {"/metrics", "/healthz", "/readyz", "/api/v1/summary"}} <= set(
        described["paths"]
    )
    for path, operations in described["paths"].items():
        for method in operations:
            example = path.replace("nodes/{key}", "nodes/10.0.0.11").replace("servers/{key}", f"servers/{SERVER}")
            example = example.replace("coroutines/{key}", "coroutines/good").replace("{key}", "anything")
            status, _, _ = await ask(app, method.upper(), example, headers=dict(BEARER), data=b"{}")
            assert status in {200, 400}, (method, path)


@pytest.mark.spec("B24")
async def test_metrics_are_in_prometheus_form(nursery: trio.Nursery) -> None:
    app, _, _ = make(nursery)
    status, text, headers = await ask(app, "GET", "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert "discoro_running 2.0" in text
    assert 'discoro_node_cpu_percent{node="10.0.0.11"}' in text


async def test_readiness_waits_for_the_first_state(nursery: trio.Nursery) -> None:
    _, parts, _ = make(nursery)
    parts.follower.ready = False
    app = make_app(parts)
    assert (await ask(app, "GET", "/readyz"))[0] == 503
    assert (await ask(app, "GET", "/healthz"))[0] == 200


async def test_pages_come_with_a_strict_policy(nursery: trio.Nursery) -> None:
    app, _, _ = make(nursery)
    for path in ("/", "/static/js/main.js", "/static/vendor/preact-htm.js", "/favicon.ico"):
        status, _, headers = await ask(app, "GET", path)
        assert status == 200
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_pages_name_nothing_of_another_origin() -> None:
    own = [path for path in STATIC.rglob("*") if path.suffix in {".js", ".css", ".html"} and "vendor" not in path.parts]
    assert own
    for path in own:
        text = path.read_text(encoding="utf-8")
        assert "http://" not in text, path
        assert "https://" not in text, path


# --- refusals


@pytest.mark.fault("F25")
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {"Host": "evil.example"}, 400),
        ("GET", "/api/v1/cluster", {"Host": "evil.example:8181"}, 400),
        ("GET", "/api/v1/cluster?sort=nothing", {}, 400),
        ("GET", "/api/v1/cluster?page=-1", {}, 400),
        ("GET", "/api/v1/nodes/nowhere", {}, 404),
        ("GET", "/api/v2/cluster", {}, 404),
        ("GET", "/static/../_guard.py", {}, 404),
        ("GET", "/static/%2e%2e/_guard.py", {}, 404),
        ("PUT", "/api/v1/cluster", {}, 405),
        ("GET", "/api/v1/actions/terminate", {}, 405),
        ("POST", "/api/v1/actions/format-disk", BEARER, 404),
        ("POST", "/api/v1/actions/terminate", {}, 401),
        ("POST", "/api/v1/actions/terminate", {"Origin": "http://evil.example", **BEARER}, 403),
        ("POST", "/api/v1/actions/terminate", {"Sec-Fetch-Site": "cross-site", **BEARER}, 403),
        ("POST", "/api/v1/actions/terminate", {"Authorization": f"Bearer {TOKEN}"}, 415),
        ("POST", "/api/v1/session", {"Content-Type": "application/json"}, 400),
        ("POST", "/api/v1/session", {"Origin": "http://evil.example", "Content-Type": "application/json"}, 403),
    ],
)
async def test_what_is_wrong_or_not_allowed_is_refused(
    nursery: trio.Nursery, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    app, _, target = make(nursery)
    found, _, _ = await ask(app, method, path, headers=dict(headers))
    assert found == status
    assert target.done == []


@pytest.mark.fault("F25")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"ids": "good"}',
        b'{"ids": []}',
        b'{"ids": [1]}',
        b"[" * 100_000,
        b"\xff",
        b'{"ids": "\xff"}',
        b'{"\xff": 1}',
        b'{"a": ' + b"[" * 100_000,
    ],
)
async def test_a_body_that_is_not_understood_is_refused(nursery: trio.Nursery, body: bytes) -> None:
    app, _, target = make(nursery)
    status, content, _ = await ask(app, "POST", "/api/v1/actions/terminate", headers=dict(BEARER), data=body)
    assert status == 400
    assert content["error"]
    assert target.done == []


@pytest.mark.fault("F25")
async def test_a_large_body_is_refused(nursery: trio.Nursery) -> None:
    app, _, _ = make(nursery)
    status, _, _ = await ask(app, "POST", "/api/v1/actions/terminate", headers=dict(BEARER), data=b"x" * 300_000)
    assert status == 413


@pytest.mark.spec("B14")
async def test_off_loopback_nothing_is_shown_without_the_token(nursery: trio.Nursery) -> None:
    app, _, _ = make(nursery, open_to_all=False)
    for path in ("/api/v1/cluster", "/metrics", "/api/v1/openapi.json"):
        assert (await ask(app, "GET", path))[0] == 401
        assert (await ask(app, "GET", path, headers=dict(BEARER)))[0] == 200
    assert (await ask(app, "GET", "/"))[0] == 200
    assert (await ask(app, "GET", "/healthz"))[0] == 200


@pytest.mark.spec("B14")
async def test_a_browser_signs_in_by_cookie_and_then_may_act(nursery: trio.Nursery, autojump_clock: object) -> None:
    app, _, target = make(nursery)
    client = app.test_client()
    host = {"Host": "localhost"}
    own = {**host, "Origin": "http://localhost"}
    wrong = await client.post("/api/v1/session", json={"token": "wrong"}, headers=own)
    assert wrong.status_code == 401
    right = await client.post("/api/v1/session", json={"token": TOKEN}, headers=own)
    cookie = right.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    refused = await client.post("/api/v1/actions/terminate", json={"ids": ["good"]}, headers=host)
    assert refused.status_code == 403
    assert not target.done
    acted = await client.post("/api/v1/actions/terminate", json={"ids": ["good"]}, headers=own)
    assert acted.status_code == 200
    assert target.done == [("terminate", None)]


@pytest.mark.fault("F25")
@pytest.mark.parametrize(
    "path", ["/api/v1/summary", "/api/v1/session", "/metrics", "/api/v1/openapi.json", "/api/v1/nodes/1"]
)
@pytest.mark.parametrize("open_to_all", [True, False])
async def test_a_guess_at_the_token_takes_a_second_by_get_too(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, path: str, *, open_to_all: bool
) -> None:
    app, _, _ = make(nursery, open_to_all=open_to_all)
    for number in range(3):
        began = trio.current_time()
        await ask(app, "GET", path, headers={"Authorization": f"Bearer {number}"})
        assert trio.current_time() - began >= 1


@pytest.mark.fault("F25")
async def test_many_guesses_at_once_are_not_looked_at_not_even_a_right_one(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    app, _, _ = make(nursery, open_to_all=False)
    statuses: list[int] = []

    async def guess(token: str) -> None:
        statuses.append((await ask(app, "GET", "/api/v1/summary", headers={"Authorization": f"Bearer {token}"}))[0])

    async with trio.open_nursery() as guesses:
        for number in range(20):
            guesses.start_soon(guess, str(number))
    assert sorted(statuses) == [401] * GUESSES_AT_ONCE + [429] * (20 - GUESSES_AT_ONCE)
    async with trio.open_nursery() as guesses:
        for number in range(20):
            guesses.start_soon(guess, str(number))
        await trio.testing.wait_all_tasks_blocked()
        await guess(TOKEN)
    assert statuses[-1] == 429
    await trio.sleep(10)
    await guess(TOKEN)
    assert statuses[-1] == 200


@pytest.mark.fault("F25")
async def test_a_cookie_of_an_earlier_monitor_is_taken_away(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    app, _, _ = make(nursery)
    client = app.test_client()
    client.set_cookie("localhost", "discoro_test", "stale")
    host = {"Host": "localhost"}
    first = await client.get("/api/v1/session", headers=host)
    assert first.status_code == 200
    assert "Max-Age=0" in first.headers["Set-Cookie"]
    began = trio.current_time()
    await client.get("/api/v1/summary", headers=host)
    assert trio.current_time() == began


# --- acting


@pytest.mark.spec("S97")
async def test_terminating_says_how_it_went_and_is_written_down(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    app, _, target = make(nursery)
    with caplog.at_level(logging.WARNING, "discoro_trio.monitor.audit"):
        status, content, _ = await ask(
            app, "POST", "/api/v1/actions/terminate", headers=dict(BEARER), data=b'{"ids": ["good", "bad", "gone"]}'
        )
    assert status == 200
    results = {one["id"]: (one["ok"], one["text"]) for one in content["results"]}
    assert results == {
        "good": (True, "done"),
        "bad": (False, "RuntimeError: not\\nnow"),
        "gone": (False, "it has ended already"),
    }
    assert target.done == [("terminate", None)]
    lines = [record.getMessage() for record in caplog.records]
    assert any(f"terminate good at {SERVER}" in line for line in lines)
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize(
    ("action", "key", "done"),
    [
        ("restart", SERVER, ("restart", SERVER)),
        ("suspend", "10.0.0.11", ("suspend", "10.0.0.11")),
        ("resume", "10.0.0.11", ("resume", "10.0.0.11")),
        ("close", "r", ("close", None)),
    ],
)
async def test_actions_reach_what_is_watched(
    nursery: trio.Nursery, action: str, key: str, done: tuple[str, object]
) -> None:
    app, parts, target = make(nursery)
    body = json.dumps({"ids": [key, "unknown"]}).encode()
    _, content, _ = await ask(app, "POST", f"/api/v1/actions/{action}", headers=dict(BEARER), data=body)
    assert [one["ok"] for one in content["results"]] == [True, False]
    assert target.done == [done]
    if action == "suspend":
        assert parts.hub.model.nodes["10.0.0.11"].state == "suspended"


async def test_read_only_refuses_every_action_even_with_the_token(nursery: trio.Nursery) -> None:
    app, _, target = make(nursery, read_only=True)
    _, session, _ = await ask(app, "GET", "/api/v1/session", headers=dict(BEARER))
    assert (session["act"], session["actions"]) == (False, [])
    for action in ("terminate", "restart", "suspend", "resume", "close"):
        status, _, _ = await ask(
            app, "POST", f"/api/v1/actions/{action}", headers=dict(BEARER), data=b'{"ids": ["good"]}'
        )
        assert status == 403
    assert target.done == []
