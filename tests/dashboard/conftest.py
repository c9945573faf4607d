"""A server with a year of history, and its dashboard in a browser."""

import os
from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest
from browser.conftest import OpenPage, axe, chromium, node, open_page, resting_demo
from serving import ADMIN_KEY, ServerProcess
from webhooks.receiver import Receiver

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Page, expect

__all__ = ["axe", "chromium", "node", "open_page"]
"""Fixtures of the browser's tests."""

OpenView = Callable[..., Awaitable[Page]]
REFUSED = r"Failed to load resource: the server responded with a status of 4"
"""What Chromium itself says of an answer that a test brings about."""


@pytest.fixture(scope="session")
def year(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A demo with a year of history, whose agents rest. What one test changes another one does not count on."""
    yield from resting_demo(tmp_path_factory.mktemp("year"), "demo --history", CHARGLY_WEBHOOK_PRIVATE_TARGETS="true")


@pytest.fixture
def api(year: ServerProcess) -> Iterator[httpx.Client]:
    with year.client() as client:
        yield client


@pytest.fixture
def open_view(open_page: OpenPage, year: ServerProcess) -> OpenView:
    """Opens a view of the dashboard, signed in; `expected` and options are as of `open_page`."""

    async def opened(view: str, *, key: str = ADMIN_KEY, expected: str = REFUSED, **options: object) -> Page:
        page = await open_page(f"{year.address}/healthz", expected=expected, **options)
        await page.evaluate("(key) => sessionStorage.setItem('chargly-dashboard-key', key)", key)
        await page.goto(f"{year.address}/dashboard#/{view}")
        await expect(page.locator(".view h1")).to_be_visible()
        return page

    return opened


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()
