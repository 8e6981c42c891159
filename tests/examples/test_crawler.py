"""The crawler, tested as a user would: a site on this machine, and a cluster of the test's own."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

import pytest
import trio
import trio.lowlevel

import discoro_trio as discoro
from tests.test_examples import EXAMPLES, run_example

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.example, pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")]

PAGES = 60


class Site(BaseHTTPRequestHandler):
    """Each page links to the next two, to the first, to a missing one and to another site."""

    fetched: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        self.fetched[self.path] += 1
        number = int(self.path.strip("/") or 0) if self.path != "/missing" else PAGES
        self.send_response(200 if number < PAGES else 404)
        self.end_headers()
        links = [2 * number + 1, 2 * number + 2]
        body = "".join(f'<a href="/{link}">more</a>' for link in links if link < PAGES)
        body += '<a href="/">home</a> <a href="missing">gone</a> <a href="http://192.0.2.1/">other</a> wörter wörter'
        self.wfile.write(body.encode() if number < PAGES else b"")

    def log_message(self, *_args: object) -> None:
        """Print nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    """Serve the site; give its first address."""
    Site.fetched = Counter()
    with serving() as address:
        yield address


@contextmanager
def serving() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_every_page_of_the_site_is_fetched_once_and_counted(
    site: str, discoro_cluster: discoro.Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import crawler  # noqa: PLC0415 - it lies in the folder above

    del discoro_cluster  # the computation finds it
    with trio.fail_after(60):
        async with discoro.Computation(crawler.COMPONENTS).schedule() as computation:
            words, failed = await crawler.words_of_site(computation, site)
            assert await discoro_running(computation) == 0
    assert (words["wörter"], words["home"], words["more"]) == (2 * PAGES, PAGES, PAGES - 1)
    assert [(page.address, "404" in page.problem) for page in failed] == [(site + "missing", True)]
    assert len(Site.fetched) == PAGES + 1
    assert set(Site.fetched.values()) == {1}


async def test_leaving_early_ends_the_crawl(
    site: str, discoro_cluster: discoro.Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import crawler  # noqa: PLC0415 - as above

    del discoro_cluster
    with trio.fail_after(60):
        async with discoro.Computation(crawler.COMPONENTS).schedule() as computation:
            async with crawler.open_crawl(computation, site) as pages:
                assert (await anext(pages)).address == site
            assert await discoro_running(computation) == 0


async def discoro_running(computation: discoro.Computation) -> int:
    """Give the number of coroutines that still run, now that a block was left."""
    await trio.lowlevel.checkpoint()
    return computation.statistics().running


def test_the_program_prints_the_words_and_the_pages_that_failed(site: str, tmp_path: Path) -> None:
    text = run_example("crawler.py", tmp_path, site, "--servers", "2")
    assert f"{site}missing: HTTP Error 404" in text
    assert f"{2 * PAGES:6} wörter\n" in text
