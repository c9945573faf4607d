"""A real Chromium for the tests of this folder, and pages that let no error pass."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import httpx
import pytest
import pytest_asyncio
from browser.elements import new_customer
from browser.host import Site
from serving import ServerProcess

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page

OpenPage = Callable[..., Awaitable["Page"]]
FRAMEWORKS = Path(__file__).parent / "frameworks"
"""What npm installs for tests alone."""

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first that is there, unless CHARGLY_TESTS_CHROMIUM names one. Without windows, pages open four times as fast."""
WAIT_MS_MAX = 10_000
_REPORT = """
document.addEventListener("securitypolicyviolation", (violation) =>
  console.error(`CSP: ${violation.violatedDirective} ${violation.blockedURI}`));
for (const name of ["change", "low", "error", "price", "landed"].map((name) => `chargly-${name}`)) {
  document.addEventListener(name, ({ detail }) => console.debug(`${name} ${JSON.stringify(detail)}`));
}
"""
"""The events of the widgets come out as console messages, for a page under a strict CSP has no script of its own."""


def missing(what: str) -> NoReturn:
    """Skips a test for want of something, and fails it where nothing may be wanting."""
    if os.environ.get("CHARGLY_TESTS_NEED_ALL") == "1":
        pytest.fail(what)
    pytest.skip(what)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for all tests."""
    if importlib.util.find_spec("playwright") is None:
        missing("Playwright is not installed: in the checkout, pip install '.[test]'")
    from playwright.async_api import async_playwright, expect

    expect.set_options(timeout=WAIT_MS_MAX)
    async with async_playwright() as playwright:
        named = os.environ.get("CHARGLY_TESTS_CHROMIUM")
        there = filter(None, map(shutil.which, [named] if named else _CHROMIUMS))
        found = next(there, named or playwright.chromium.executable_path)
        if not Path(found).exists():
            missing("Chromium is not installed: apt-get install chromium")
        browser = await playwright.chromium.launch(executable_path=found, args=_ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(chromium: Browser) -> AsyncIterator[OpenPage]:
    """Opens a page in a context of its own. Errors of it, and of tabs that it opens, fail the test at its end.

    `expected` is a pattern of errors that the test brings about.
    """
    contexts, errors = [], []

    async def opened(url: str, expected: str = r"(?!)", **options: Any) -> Page:
        def note(text: str) -> None:
            if not re.search(expected, text):
                errors.append(text)

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                note(message.text)

        context = await chromium.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(WAIT_MS_MAX)
        context.on("console", on_console)
        context.on("weberror", lambda error: note(str(error.error)))
        await context.add_init_script(_REPORT)
        page = await context.new_page()
        await page.goto(url)
        return page

    yield opened
    for context in contexts:
        await context.close()
    assert errors == []


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """A product's own site."""
    running = Site()
    yield running
    running.close()


@pytest.fixture(scope="session")
def host_server(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[ServerProcess]:
    """A server that lets the site's pages in."""
    running = ServerProcess(tmp_path_factory.mktemp("widget"), CHARGLY_ALLOWED_ORIGINS=site.origin).start()
    yield running
    running.stop()


@pytest.fixture
def host_api(host_server: ServerProcess) -> Iterator[httpx.Client]:
    with host_server.client() as client:
        yield client


@pytest.fixture
def other(host_api: httpx.Client) -> str:
    """A customer with 7 credits."""
    return new_customer(host_api, 7)


def resting_demo(folder: Path, command: str = "demo", **env: str) -> Iterator[ServerProcess]:
    """A demo whose agents rest."""
    running = ServerProcess(folder, command, **env).start()
    with running.client() as api:
        api.put("/demo/autoplay", json={"running": False, "speed": "slow"}).raise_for_status()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def node() -> str:
    """Node, with what `npm ci` installs in FRAMEWORKS."""
    found = shutil.which("node")
    if found is None:
        missing("Node is not installed: apt-get install nodejs npm")
    if not (FRAMEWORKS / "node_modules").is_dir():
        missing("The frameworks are not installed: npm ci in tests/browser/frameworks")
    return found


@pytest.fixture(scope="session")
def axe(node: str) -> str:
    """The source of axe-core."""
    return (FRAMEWORKS / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
