"""Who may see the dashboard, and for how long."""

import asyncio
import os
import secrets

import httpx
import pytest
from browser.conftest import OpenPage
from dashboard.conftest import REFUSED, OpenView
from serving import ADMIN_KEY, ServerProcess

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def new_key(api: httpx.Client, scope: str) -> dict[str, str]:
    made: dict[str, str] = (
        api.post("/v1/keys", json={"name": secrets.token_hex(4), "scope": scope}).raise_for_status().json()
    )
    return made


async def sign_in(page: Page, key: str) -> None:
    await page.get_by_label("Admin key").fill(key)
    await page.keyboard.press("Enter")


async def test_an_admin_key_opens_it_and_stays_in_this_tab(open_page: OpenPage, year: ServerProcess) -> None:
    page = await open_page(f"{year.address}/dashboard")
    await expect(page.get_by_label("Admin key")).to_be_focused()
    await expect(page.locator("#app")).to_be_hidden()
    await sign_in(page, ADMIN_KEY)
    await expect(page.get_by_role("heading", name="Overview", level=1)).to_be_focused()
    assert ADMIN_KEY not in await page.evaluate("[...document.querySelectorAll('input')].map(({ value }) => value)")
    await page.reload()
    await expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    assert await page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    other = await page.context.new_page()
    await other.goto(f"{year.address}/dashboard")
    await expect(other.get_by_label("Admin key")).to_be_visible()


async def test_a_key_is_forgotten_where_it_is_not_to_be_kept(open_page: OpenPage, year: ServerProcess) -> None:
    page = await open_page(f"{year.address}/dashboard")
    await page.get_by_label("Until this tab is closed").uncheck()
    await sign_in(page, ADMIN_KEY)
    await expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    await page.get_by_role("link", name="Keys").click()  # a view of its own needs no other key
    await expect(page.get_by_role("heading", name="Keys", level=1)).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("Admin key")).to_be_visible()
    assert await page.evaluate("sessionStorage.length") == 0


async def test_signing_out_leaves_nothing(open_view: OpenView) -> None:
    page = await open_view("overview")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Admin key")).to_be_focused()
    assert await page.evaluate("[sessionStorage.length, document.querySelector('#view').childElementCount]") == [0, 0]


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        (None, "This API key is unknown or was revoked."),
        ("meter", "This key is good, but the dashboard takes one with the scope admin."),
        ("prices", "This key is good, but the dashboard takes one with the scope admin."),
    ],
)
async def test_other_keys_are_told_why_not(
    open_page: OpenPage, year: ServerProcess, api: httpx.Client, scope: str | None, said: str
) -> None:
    page = await open_page(f"{year.address}/dashboard", expected=REFUSED)
    await sign_in(page, new_key(api, scope)["key"] if scope else f"sk_{secrets.token_hex(16)}")
    await expect(page.get_by_role("alert").filter(has_text=said)).to_be_visible()
    await expect(page.get_by_label("Admin key")).to_be_focused()
    await expect(page.locator("#app")).to_be_hidden()
    await sign_in(page, ADMIN_KEY)
    await expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()


async def test_what_is_no_key_is_not_sent(open_page: OpenPage, year: ServerProcess) -> None:
    page = await open_page(f"{year.address}/dashboard")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("Enter an admin key")
    for pasted in ("“sk_0123456789abcdef0123”", "sk_0123 456789abcdef0123", "admin"):
        await sign_in(page, pasted)
        await expect(page.get_by_role("alert")).to_contain_text("A key begins with sk_")


async def test_signing_out_ends_other_tabs_too(open_view: OpenView, year: ServerProcess) -> None:
    page = await open_view("packs")
    async with page.expect_popup() as opening:
        await page.evaluate("(address) => void window.open(address)", f"{year.address}/dashboard#/keys")
    other = await opening.value
    await expect(other.get_by_role("heading", name="Keys", level=1)).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(other.get_by_role("alert")).to_contain_text("Signed out in another tab.")
    assert await other.evaluate("sessionStorage.length") == 0


async def test_a_secret_that_comes_after_signing_out_is_not_shown(open_view: OpenView) -> None:
    page = await open_view("keys")
    asked, go = asyncio.Event(), asyncio.Event()

    async def hold_back(route: Route) -> None:
        answer = await route.fetch()
        asked.set()
        await go.wait()
        await route.fulfill(response=answer)

    await page.route("**/v1/keys", hold_back)
    await page.get_by_role("button", name="New key").click()
    await page.get_by_role("dialog").get_by_label("Name").fill(secrets.token_hex(4))
    await page.get_by_role("button", name="Make it").click()
    await asyncio.wait_for(asked.wait(), 10)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_be_visible()  # it stays until what it asked for is known
    await page.evaluate("document.getElementById('sign-out').click()")
    async with page.expect_request_finished(lambda request: request.url.endswith("/v1/keys")):
        go.set()
    await expect(page.get_by_label("Admin key")).to_be_visible()
    assert "sk_" not in await page.locator("body").inner_text()
    await expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("name", ["constructor", "__proto__", "nowhere", "%E0%A4%A", "usage?days=constructor"])
async def test_an_address_that_names_nothing_shows_something(open_view: OpenView, name: str) -> None:
    page = await open_view("packs")
    await page.evaluate("(hash) => (location.hash = hash)", f"#/{name}")
    title = "Usage" if name.startswith("usage") else "Overview"
    await expect(page.get_by_role("heading", name=title, level=1)).to_be_visible()


async def test_a_key_that_is_revoked_ends_the_session(open_view: OpenView, api: httpx.Client) -> None:
    mine = new_key(api, "admin")
    page = await open_view("keys", key=mine["key"])
    api.delete(f"/v1/keys/{mine['id']}").raise_for_status()
    await page.get_by_role("link", name="Packs").click()
    await expect(page.get_by_role("alert")).to_contain_text("unknown or was revoked")
    await expect(page.locator("#app")).to_be_hidden()
    assert await page.evaluate("sessionStorage.length") == 0


async def test_a_server_that_cannot_be_reached_is_said_and_tried_again(open_view: OpenView) -> None:
    page = await open_view("keys", expected=r"Failed to load resource: net::ERR_FAILED")
    await page.route("**/v1/packs", lambda route: route.abort())
    await page.get_by_role("link", name="Packs").click()
    await expect(page.get_by_role("alert")).to_contain_text("The server can’t be reached just now.")
    await page.unroute("**/v1/packs")
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_role("heading", name="Packs", level=1)).to_be_visible()
