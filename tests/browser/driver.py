"""A browser for tests: the distribution's Chromium, driven by Playwright, strict about what pages do.

Playwright is used in a worker thread, so that the test's own Trio program goes on; see `browse`.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import BrowserContext, Page

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
AXE = Path(__file__).with_name("vendor") / "axe.min.js"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
T = TypeVar("T")


class Strict:
    """Remembers what a page should never do."""

    def __init__(self, origin: str, profile: str) -> None:
        self.profile = profile
        """The folder of the browser's profile, which its command names."""
        self._origin = origin
        self.faults: list[str] = []
        self.expected: list[str] = []
        """Texts that an error may contain: for tests that take the server away."""

    def watch(self, page: Page) -> None:
        """Listen to a page."""
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self._add(f"error: {error}"))
        page.on("request", lambda request: self._request(request.url))

    def _console(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self._add(f"console {kind}: {text}")

    def _request(self, url: str) -> None:
        if not url.startswith((self._origin, "data:", "blob:")):
            self._add(f"a request off the origin: {url}")

    def _add(self, fault: str) -> None:
        if not any(text in fault for text in self.expected):
            self.faults.append(fault)


@contextmanager
def chromium(
    origin: str, *, width: int = 1280, height: int = 820, scheme: Any = "light", pixel_ratio: float = 1
) -> Iterator[tuple[BrowserContext, Strict]]:
    """Start a browser of its own, and fail in the end if a page had errors or asked anybody else for anything."""
    playwright = pytest.importorskip("playwright.sync_api")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, playwright.sync_playwright() as driver:
        strict = Strict(origin, profile)
        context = driver.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            device_scale_factor=pixel_ratio,
            reduced_motion="reduce",
        )
        context.on("page", strict.watch)
        context.set_default_timeout(60_000)
        try:
            yield context, strict
        finally:
            context.close()
    assert strict.faults == []


async def browse(drive: Callable[[], T]) -> T:
    """Run what drives a browser in a thread; it reaches the test's program by `trio.from_thread`."""
    return await trio.to_thread.run_sync(drive)


def serious_findings(page: Page) -> list[str]:
    """Let axe look at the page; give what it calls serious or critical."""
    return _axe(page, {"serious", "critical"})


def findings(page: Page) -> list[str]:
    """Let axe look at the page; give all that it finds."""
    return _axe(page, {"minor", "moderate", "serious", "critical"})


def _axe(page: Page, impacts: set[str]) -> list[str]:
    # By the debugger, as the page's own policy lets no foreign script in.
    page.evaluate(f"() => {{ {AXE.read_text(encoding='utf-8')} }}")
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
        for one in found["violations"]
        if one["impact"] in impacts
    ]


def sideways(page: Page) -> int:
    """Give by how many pixels the page is wider than its window."""
    found: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return found
