"""The gallery of all elements in all states, and what axe-core finds in it and in the demo."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from browser.conftest import OpenPage, resting_demo
from browser.elements import ACTIVITY, ALL, BALANCE, PRICE, TOP_UP, Console
from serving import ServerProcess

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from browser.axe import violations
from playwright.async_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MISTAKES_SHOWN = r"token_expired|origin_not_allowed|unknown_event"
"""The warnings of the states that are somebody's mistake."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    yield from resting_demo(tmp_path_factory.mktemp("gallery"))


async def open_gallery(open_page: OpenPage, server: ServerProcess, **options: Any) -> Page:
    """The gallery, once all that a state comes to by itself has come."""
    page = await open_page("about:blank", expected=MISTAKES_SHOWN, **options)
    await page.goto(f"{server.address}/static/gallery.html")
    for name in (BALANCE, ACTIVITY):
        await expect(state(page, name, "Connection lost").locator(".status")).to_have_text("Reconnecting…")
    await expect(state(page, PRICE, "Connection lost").locator(".base")).to_have_class("base unit offline ")
    await expect(state(page, TOP_UP, "German, in euros").locator(".pack")).to_have_count(2)
    return page


def state(page: Page, name: str, title: str) -> Any:
    exact = page.get_by_text(title, exact=True)
    return page.locator("figure").filter(has=exact).locator(name)


@pytest.mark.parametrize("width", [390, 1280])
async def test_the_gallery_shows_every_state_inside_of_its_width(
    open_page: OpenPage, server: ServerProcess, width: int
) -> None:
    page = await open_gallery(open_page, server, viewport={"width": width, "height": 900})
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    for name in ALL:
        assert await page.locator(name).count() > 5, name


async def test_the_gallery_warns_of_nothing_but_the_mistakes_that_it_shows(
    open_page: OpenPage, server: ServerProcess
) -> None:
    page = await open_page("about:blank", expected=MISTAKES_SHOWN)
    console = Console(page)
    async with page.expect_console_message(lambda said: "unknown_event" in said.text):
        await page.goto(f"{server.address}/static/gallery.html")
    await expect(state(page, BALANCE, "Signed out").locator(".status")).to_have_text("Sign in again")
    await expect(state(page, BALANCE, "Origin not allowed").locator(".status")).to_have_text("Unavailable")
    await expect(state(page, PRICE, "No such event").locator(".price")).to_have_text("–")
    codes = sorted(warning.rpartition("(")[2].rstrip(")") for warning in console.warnings)
    assert codes == ["origin_not_allowed", "token_expired", "unknown_event"], console.warnings


@pytest.mark.parametrize(("scheme", "direction"), [("light", "ltr"), ("dark", "ltr"), ("light", "rtl")])
async def test_axe_finds_nothing_in_the_gallery(
    open_page: OpenPage, server: ServerProcess, axe: str, scheme: str, direction: str
) -> None:
    page = await open_gallery(open_page, server, color_scheme=scheme, reduced_motion="reduce")
    if direction == "rtl":
        await page.get_by_text("Right to left").click()
        await expect(page.locator("html")).to_have_attribute("dir", "rtl")
    found = await violations(page, axe)
    assert found == [], "\n".join(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_in_an_open_menu(
    open_page: OpenPage, server: ServerProcess, axe: str, scheme: str
) -> None:
    page = await open_gallery(open_page, server, color_scheme=scheme, reduced_motion="reduce")
    element = state(page, BALANCE, "With packs to buy")
    await element.get_by_role("button", name="Top up").click()
    await expect(element.locator(".pack")).to_have_count(2)
    await element.locator(".pack").first.hover()
    found = await violations(page, axe)
    assert found == [], "\n".join(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_in_the_demo(open_page: OpenPage, demo: ServerProcess, axe: str, scheme: str) -> None:
    page = await open_page(f"{demo.address}/demo", color_scheme=scheme, reduced_motion="reduce")
    await expect(page.locator(f"{BALANCE}.hero .balance")).to_have_text("1,391")
    await expect(page.locator("#action-list").get_by_role("button")).to_have_count(4)
    found = await violations(page, axe)
    assert found == [], "\n".join(found)
