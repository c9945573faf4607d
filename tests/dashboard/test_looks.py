"""How the dashboard stands: at every width, in both schemes, for axe-core, with hostile words and at rest."""

import os
import re
import secrets

import httpx
import pytest
from browser.axe import violations
from dashboard.conftest import OpenView
from serving import charge, grant

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

VIEWS = ("overview", "usage", "wallets", "wallets/bluefern", "prices", "packs", "webhooks", "keys")
BEYOND = """() => [document.documentElement, document.body]
  .map((node) => node.scrollWidth - innerWidth).filter((by) => by > 0)"""
"""By how much the page is wider than its window."""
HOSTILE = "<img src=x onerror=alert(1)> =1+1 " + "W" * 180


async def go(page: Page, view: str) -> None:
    await page.evaluate("(hash) => (location.hash = hash)", f"#/{view}")
    await expect(page.locator("#nav a[aria-current]")).to_have_attribute("href", f"#/{re.split('[/?]', view)[0]}")
    await expect(page.locator(".loading")).to_have_count(0)
    await expect(page.locator(".view h1")).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "light"), (1920, "dark")])
async def test_axe_finds_nothing_and_nothing_is_too_wide(
    open_view: OpenView, axe: str, width: int, scheme: str
) -> None:
    size = {"width": width, "height": 900}
    page = await open_view("overview", viewport=size, color_scheme=scheme, bypass_csp=True)
    for view in VIEWS:
        await go(page, view)
        assert (view, await violations(page, axe)) == (view, [])
        assert (view, await page.evaluate(BEYOND)) == (view, [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_in_dialogs_and_drawers(open_view: OpenView, axe: str, scheme: str) -> None:
    page = await open_view("prices", viewport={"width": 390, "height": 800}, color_scheme=scheme, bypass_csp=True)
    for button in ("New price", "New cost"):
        await page.get_by_role("button", name=button).click()
        for add in await page.get_by_role("dialog").get_by_role("button", name="Add a").all():
            await add.click()
        assert await violations(page, axe) == []
        assert await page.evaluate(BEYOND) == []
        await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Advise").click()
    await expect(page.locator(".advice > li:not(.nothing)").first).to_be_visible()
    for drawer in await page.get_by_text("Facts (").all():
        await drawer.click()
    assert await violations(page, axe) == []
    assert await page.evaluate(BEYOND) == []
    await go(page, "wallets/bluefern")
    for button in ("Grant credits", "Settings", "Freeze"):
        await page.get_by_role("button", name=button).click()
        assert await violations(page, axe) == []
        await page.keyboard.press("Escape")
    await go(page, "overview")
    await page.locator(".plot").first.focus()
    await page.keyboard.press("End")
    tables = page.get_by_role("button", name="Table:")
    while await tables.count():
        await tables.first.click()
    assert await violations(page, axe) == []
    await page.get_by_role("button", name="Sign out").click()
    assert await violations(page, axe) == []


async def test_hostile_words_and_large_numbers_stay_in_place(open_view: OpenView, api: httpx.Client) -> None:
    customer = f"{'x' * 120}<b>{secrets.token_hex(4)}"
    grant(api, customer, 10**12)
    api.patch(f"/v1/wallets/{customer}", json={"name": HOSTILE, "low_balance_threshold": 10**12}).raise_for_status()
    charge(api, customer, model="m" * 100, member=HOSTILE[:100])
    body = {"credits": -5, "reason": HOSTILE}
    api.post(f"/v1/wallets/{customer}/adjustments", json=body).raise_for_status()
    for width in (390, 1280):
        page = await open_view("overview", viewport={"width": width, "height": 900})
        for view in ("overview", "usage?by=model", "usage?by=member", "usage?by=customer", "wallets"):
            await go(page, view)
            assert (view, await page.evaluate(BEYOND)) == (view, [])
        await page.get_by_role("searchbox").fill(customer[-8:])
        await page.get_by_role("link", name=customer).click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x onerror=alert(1)>")
        assert await page.evaluate(BEYOND) == []
        assert await page.locator("main img").count() == 0


async def test_every_control_of_a_view_is_reached_by_keys(open_view: OpenView) -> None:
    page = await open_view("packs")
    reached: list[str] = []
    for _ in range(40):
        await page.keyboard.press("Tab")
        name = await page.evaluate("document.activeElement.textContent.trim() || document.activeElement.ariaLabel")
        if name in reached[:1]:
            break
        reached.append(name)
    assert reached[0] == "Skip to the view"
    for name in ("Chargly", "Overview", "Keys", "Sign out", "New pack", "Edit", "Take off sale"):
        assert name in reached
    page = await open_view("packs")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#view")).to_be_focused()
    assert page.url.endswith("#/packs")  # the skip link names no view
    await page.get_by_role("button", name="New pack").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog").get_by_label("Code")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="New pack")).to_be_focused()


async def test_nothing_moves_where_motion_is_not_wanted(open_view: OpenView) -> None:
    page = await open_view("overview", reduced_motion="reduce")
    for view in ("overview", "prices"):
        await go(page, view)
        assert (
            await page.evaluate("document.getAnimations().filter(({ playState }) => playState === 'running').length")
            == 0
        )
