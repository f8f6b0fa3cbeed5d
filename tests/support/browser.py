"""A real browser for tests of pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT = 30_000  # milliseconds that a page may take, on a busy machine
FORBIDDEN = "Content Security Policy"  # is named in what Chromium says of a violation
REMEDY = "install it (Debian: apt-get install chromium)"


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def require_browser() -> str:
    """Return the path of a Chromium, or skip the test that asks for it with the reason and the remedy."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        raise unittest.SkipTest("playwright is not installed: run `make setup`") from None
    found = find_chromium()
    if found is None:
        raise unittest.SkipTest(f"Chromium is not on this machine: {REMEDY}")
    return found


def with_page(
    address: str, cookies: dict[str, str], visit: Callable[[Any], T], *, width: int = 1300, height: int = 900
) -> T:
    """Open a page in a new browser, call ``visit(page)`` and return its result.

    It runs in a thread of its own: Playwright keeps an event loop running, inside which Django refuses its database.
    Errors of the page's scripts, and what the pages' content policy forbids, fail the visit.

    Args:
        address: the site's, as in ``http://127.0.0.1:8000``; relative addresses are resolved against it.
        cookies: by name.
        visit: what is done there, with Playwright's synchronous ``Page``.
        width: of the window, in pixels.
        height: of the window, in pixels.
    """
    program = require_browser()

    def run() -> T:
        from playwright.sync_api import sync_playwright

        faults: list[str] = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
            try:
                context = browser.new_context(base_url=address, viewport={"width": width, "height": height})
                context.add_cookies([{"name": name, "value": value, "url": address} for name, value in cookies.items()])
                context.set_default_timeout(TIMEOUT)
                page = context.new_page()
                page.on("pageerror", lambda error: faults.append(str(error)))
                context.on("console", lambda said: faults.append(said.text) if FORBIDDEN in said.text else None)
                result = visit(page)
            finally:
                browser.close()
        if faults:
            raise AssertionError(f"the page's scripts failed: {faults}")
        return result

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()
