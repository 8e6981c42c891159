"""Crawl a site: fetch its pages in parallel, count their words on all processors, and keep one list of what was seen.

Three parts work together. `frontier`, one coroutine, holds the addresses that are still to be fetched and refuses those
it has seen. `fetcher`, some coroutines at each server, ask it for an address, fetch the page, and send back its links.
`count_words`, a plain function, computes on the processors. A page that fails is reported, and the crawl goes on.

    python examples/crawler.py http://localhost:8000/
"""

from __future__ import annotations

import collections
import re
import urllib.parse
import urllib.request
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from _command_line import Cluster

    Words = collections.Counter[str]


@attrs.frozen
class Page:
    """A page that was fetched, or the reason why it was not."""

    address: str
    text: str = ""
    links: tuple[str, ...] = ()
    problem: str = ""


# --- at the servers


def download(address: str) -> Page:
    """Fetch one page; this blocks, so it runs in a thread."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - the frontier lets only http pass
            text = answer.read().decode("utf-8", errors="replace")
    except (OSError, ValueError) as error:
        return Page(address, problem=str(error))
    found = re.findall(r"""href=["']([^"'#]+)""", text)
    return Page(address, text, tuple(urllib.parse.urljoin(address, link) for link in found))


async def fetcher(frontier: discoro.Coro[int], *, coro: discoro.Coro[None]) -> None:
    """Ask for an address, fetch it, report the page, and so on, until the frontier sends None."""
    await frontier.send((coro, None))
    while (address := await coro.receive()) is not None:
        await frontier.send((coro, await trio.to_thread.run_sync(download, address)))


def count_words(text: str) -> Words:
    """Count the words of a page, without its markup."""
    return collections.Counter(re.findall(r"[^\W\d_]{3,}", re.sub(r"<[^>]*>", " ", text).lower()))


async def frontier(
    start: str, most: int, client: discoro.Coro[None], fetchers: int, *, coro: discoro.Coro[None]
) -> int:
    """Hand each address of the site out once, pass the pages to the client, and return how many were fetched.

    The crawl is over when no address is left and all fetchers are idle.
    """
    site = urllib.parse.urlsplit(start)[:2]
    to_fetch, seen = collections.deque([start]), {start}
    idle: list[discoro.Coro[None]] = []
    fetched = 0
    while len(idle) < fetchers or to_fetch:
        while idle and to_fetch:
            await idle.pop().send(to_fetch.popleft())
        if len(idle) == fetchers:
            break
        worker, page = await coro.receive()
        idle.append(worker)
        if page is None:
            continue  # it has begun
        fetched += 1
        await client.send(page)
        for link in page.links:
            if urllib.parse.urlsplit(link)[:2] == site and link not in seen and len(seen) < most:
                seen.add(link)
                to_fetch.append(link)
    for worker in idle:
        await worker.send(None)
    await client.send(None)
    return fetched


# --- at the client


@asynccontextmanager
async def open_crawl(
    computation: discoro.Computation, start: str, *, most: int = 1000, fetchers: int = 4
) -> AsyncIterator[AsyncIterator[Page]]:
    """Crawl a site while the block lasts; leaving it early ends the crawl.

    Args:
        computation: Where to run; `COMPONENTS` are its components.
        start: The address of the first page; links to other sites are not followed.
        most: How many pages are fetched at most.
        fetchers: How many pages are fetched at the same time.

    Yields:
        The pages, in the order in which they were fetched.
    """
    async with discoro.open_coro() as mailbox, computation.open_nursery() as nursery:
        front = await nursery.run(frontier, start, most, mailbox, fetchers)
        for _ in range(fetchers):
            nursery.start_soon(fetcher, front)
        async with aclosing(pages_of(mailbox)) as pages:
            yield pages
        nursery.cancel_scope.cancel()


async def pages_of(mailbox: discoro.Coro[None]) -> AsyncGenerator[Page]:
    """Yield what arrives until None does."""
    while (page := await mailbox.receive()) is not None:
        yield page


async def words_of_site(computation: discoro.Computation, start: str, *, most: int = 1000) -> tuple[Words, list[Page]]:
    """Return the words of all pages of a site, and the pages that could not be fetched."""
    words: Words = collections.Counter()
    failed: list[Page] = []
    async with open_crawl(computation, start, most=most) as pages:

        async def texts() -> AsyncIterator[str]:
            async for page in pages:
                if page.problem:
                    failed.append(page)
                else:
                    yield page.text

        # The pages are counted while others are fetched; the map reads no further ahead than it can count.
        async with computation.map(count_words, texts(), ordered=False) as counted:
            async for one in counted:
                words.update(one)
    return words, failed


COMPONENTS = [Page, download, fetcher, frontier, count_words]


async def main(start: str, most: int, cluster: Cluster) -> None:
    """Show the most frequent words of a site."""
    async with cluster, discoro.Computation(COMPONENTS).schedule() as computation:
        words, failed = await words_of_site(computation, start, most=most)
    for page in failed:
        print(f"{page.address}: {page.problem}")
    print(f"{words.total()} words, {len(words)} different ones")
    for word, count in words.most_common(5):
        print(f"{count:6} {word}")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("start", metavar="ADDRESS", help="the first page, such as http://localhost:8000/")
    parser.add_argument("--most", type=int, default=1000, metavar="N", help="pages at most (default: 1000)")
    options = parser.parse_args()
    run(main, options.start, options.most, cluster_of(options))
