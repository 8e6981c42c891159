"""The effects of the monitor's options, seen by a browser, for both programs that serve pages."""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import trio
import trustme
from trio_websocket import open_websocket_url

from tests._ports import free_udp_port

from .programs import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.program

BOTH = pytest.mark.parametrize("which", ["discoro", "discoro monitor"])


@asynccontextmanager
async def pages(which: str, *options: str) -> AsyncIterator[str]:
    """Serve pages by `discoro` itself or by a monitor beside it; yield their address."""
    port = ("--udp_port", str(free_udp_port()))
    own = ("--http_port", "0", *options)
    async with running(*port, *(own if which == "discoro" else ())) as scheduler:
        place = await scheduler.location()
        if which == "discoro":
            yield _address(await scheduler.says("the monitor is at"))
            return
        async with running("monitor", place, *port, *own, read="all") as monitor:
            yield _address(await monitor.says("look at"))


def _address(line: str) -> str:
    found = re.search(r"https?://\S+", line)
    assert found is not None, line
    return found[0].rstrip("/")


async def ask(
    url: str, *, token: str = "", body: dict[str, Any] | None = None, context: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    """Send one request; return the status and the body of the answer."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - our own address

    def send() -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as answer:  # noqa: S310
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    with trio.fail_after(40):
        return await trio.to_thread.run_sync(partial(send))


@BOTH
@pytest.mark.option(
    "discoro --http_port", "discoro --http_host", "discoro monitor --http_port", "discoro monitor --http_host"
)
async def test_the_pages_are_at_the_given_address_only(which: str) -> None:
    async with pages(which, "--http_host", "127.0.0.5") as address:
        assert urlsplit(address).hostname == "127.0.0.5"
        assert (await ask(f"{address}/"))[0] == 200
        with pytest.raises(OSError, match="failed"):
            await trio.open_tcp_stream("127.0.0.1", urlsplit(address).port or 0)


async def test_an_address_without_a_port_is_said_to_have_no_effect() -> None:
    async with running("--http_host", "127.0.0.5", "--udp_port", str(free_udp_port())) as scheduler:
        await scheduler.says("warning: there is no monitor: --http_host and --http_token need --http_port")


@BOTH
@pytest.mark.option(
    "discoro --http_token", "discoro --read_only", "discoro monitor --http_token", "discoro monitor --read_only"
)
@pytest.mark.parametrize("read_only", [False, True])
async def test_actions_need_the_token_and_read_only_refuses_them_with_it(which: str, *, read_only: bool) -> None:
    options = ("--http_token", "a-token-of-people", *(("--read_only",) if read_only else ()))
    async with pages(which, *options) as address:
        action = f"{address}/api/v1/actions/suspend"
        wish = {"node": "203.0.113.1"}
        assert (await ask(action, body=wish))[0] == 401
        assert (await ask(action, body=wish, token="another-token-of-people"))[0] == 401
        allowed, text = await ask(action, body=wish, token="a-token-of-people")
        assert (allowed == 403) == read_only, text
        assert allowed != 401


@BOTH
@pytest.mark.option("discoro --poll_sec", "discoro monitor --poll_sec")
async def test_a_quiet_page_is_updated_as_often_as_it_says(which: str) -> None:
    async with pages(which, "--poll_sec", "0.05") as address, trio.open_nursery() as nursery:
        url = address.replace("http", "ws", 1) + "/api/v1/stream"
        async with open_websocket_url(url, message_queue_size=100) as socket:
            await socket.send_message(json.dumps({"watch": {"view": "cluster"}}))
            with trio.fail_after(30):  # without the option, a message a second says that nothing has changed
                for _ in range(40):
                    await socket.get_message()
        nursery.cancel_scope.cancel()


@BOTH
@pytest.mark.option("discoro --document_root", "discoro monitor --document_root")
async def test_the_pages_come_from_the_given_folder(which: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("a page of the house", encoding="utf-8")
    async with pages(which, "--document_root", str(tmp_path)) as address:
        assert await ask(f"{address}/") == (200, b"a page of the house")


@BOTH
@pytest.mark.option(
    "discoro --https_certfile",
    "discoro --https_keyfile",
    "discoro monitor --https_certfile",
    "discoro monitor --https_keyfile",
)
async def test_the_pages_are_encrypted_with_the_given_certificate(which: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    certfile, keyfile = tmp_path / "own.pem", tmp_path / "own.key"
    own.cert_chain_pems[0].write_to_path(certfile)
    own.private_key_pem.write_to_path(keyfile)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    given = ("--https_certfile", str(certfile), "--https_keyfile", str(keyfile))
    async with pages(which, *given) as address:
        assert address.startswith("https://")
        status, _ = await ask(f"{address}/", context=context)
        assert status == 200


@BOTH
@pytest.mark.option("discoro --event_file", "discoro monitor --event_file")
async def test_what_happened_is_kept_in_the_given_file(which: str, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    port = ("--udp_port", str(free_udp_port()))
    own = ("--http_port", "0", "--event_file", str(file))
    async with running(*port, *(own if which == "discoro" else ())) as scheduler:
        place = await scheduler.location()
        if which == "discoro":
            await scheduler.says("the monitor is at")
            await _lose_a_node(port, file)
            return
        async with running("monitor", place, *port, *own, read="all") as monitor:
            await monitor.says("look at")
            await _lose_a_node(port, file)


async def _lose_a_node(port: tuple[str, str], path: Path) -> None:
    file = trio.Path(path)
    async with running("node", *port, "-c", "1", "--name", "short-lived") as node:
        await node.says("joined")
    with trio.fail_after(60):
        while not await file.exists() or "short-lived" not in await file.read_text(encoding="utf-8"):  # noqa: ASYNC110 - a file has no event
            await trio.sleep(0.05)
