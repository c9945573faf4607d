"""Buying credits with `<chargly-top-up>`, and under the button of `<chargly-balance>`: `chargly demo` plays Stripe."""

import os
import secrets
from collections.abc import Iterator

import httpx
import pytest
from browser.conftest import OpenPage, resting_demo
from browser.elements import BALANCE, CORS, TOP_UP, Console, HeldSockets, Traffic, set_attribute, spend, tag
from browser.host import Site
from serving import ServerProcess, grant

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Locator, Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

STARTER = "500 creditsStarter$10.00"
CHECKOUT = "**/v1/checkouts/*"
PACKS = "**/v1/packs"
WAITING = "Waiting for payment… Stop waiting"
FAILED = "That didn’t work. Try again"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[ServerProcess]:
    """Lets the site's pages in."""
    yield from resting_demo(tmp_path_factory.mktemp("top_up"), CHARGLY_ALLOWED_ORIGINS=site.origin)


@pytest.fixture
def api(demo: ServerProcess) -> Iterator[httpx.Client]:
    with demo.client() as client:
        yield client


@pytest.fixture
def buyer(api: httpx.Client) -> str:
    """A customer with 100 credits."""
    made = f"user_{secrets.token_hex(6)}"
    grant(api, made, 100)
    return made


def top_up(server: ServerProcess, customer: str, **attributes: str) -> str:
    return tag(TOP_UP, token=server.token(customer), **attributes)


def note(page: Page) -> Locator:
    return page.locator(f"{TOP_UP} .note")


def packs(page: Page) -> Locator:
    return page.locator(".pack")


def starter(page: Page) -> Locator:
    return page.get_by_role("button", name="500 credits")


def stop(page: Page) -> Locator:
    return page.get_by_role("button", name="Stop waiting")


async def pay(checkout: Page) -> None:
    await checkout.get_by_role("button", name="Pay $10.00").click()


async def abandon(checkout: Page, back: str) -> None:
    link = checkout.get_by_role("link", name="Abandon and go back")
    await expect(link).to_have_attribute("href", back)
    await link.click()
    await checkout.wait_for_url(back)


async def open_checkout(page: Page) -> Page:
    """Presses the first pack, and gives the tab that it is paid in."""
    async with page.expect_popup() as popup:
        await starter(page).click()
    return await popup.value


def with_status(status: str) -> dict[str, object]:
    """A checkout as the server tells it, in a status that the sandbox never shows."""
    return {
        "json": {"id": "co_1", "status": status, "credits": 500, "amount": 1000, "currency": "usd"},
        "headers": CORS,
    }


async def test_a_pack_is_paid_in_a_new_tab_and_lands_in_the_page(
    open_page: OpenPage, site: Site, demo: ServerProcess, buyer: str
) -> None:
    page = await open_page(site.page(demo, top_up(demo, buyer) + tag(BALANCE, token=demo.token(buyer))))
    console = Console(page)
    await expect(packs(page.locator(TOP_UP))).to_have_text([STARTER, "1,200 creditsGrowth$20.00"])
    checkout = await open_checkout(page)
    await expect(note(page)).to_have_text(WAITING)
    landed = await console.event("chargly-landed", lambda: pay(checkout))
    assert landed == {"id": landed["id"], "credits": 500}
    assert landed["id"].startswith("co_")
    await expect(note(page)).to_have_text("500 credits added.")
    await expect(page.locator(f"{BALANCE} .balance")).to_have_text("600")
    await expect(checkout.get_by_role("heading", name="500 credits landed")).to_be_visible()
    assert console.events("chargly-landed") == [landed]


async def test_a_pack_under_the_balances_button_lands_there(
    open_page: OpenPage, site: Site, demo: ServerProcess, buyer: str
) -> None:
    page = await open_page(site.page(demo, tag(BALANCE, token=demo.token(buyer))))
    console = Console(page)
    await page.get_by_role("button", name="Top up").click()
    checkout = await open_checkout(page)
    told = page.locator(f"{BALANCE} .note")
    await expect(told).to_have_text(WAITING)
    landed = await console.event("chargly-landed", lambda: pay(checkout))
    assert landed["credits"] == 500
    await expect(told).to_have_text("500 credits added.")
    await expect(page.locator(f"{BALANCE} .flash")).to_have_text("+500")
    await expect(page.locator(f"{BALANCE} .balance")).to_have_text("600")
    await expect(page.locator(f"{BALANCE} .said")).to_have_text("500 credits added. 600 left")


async def test_redirect_takes_the_tab_and_shows_what_landed_when_it_comes_back(
    open_page: OpenPage, site: Site, demo: ServerProcess, buyer: str
) -> None:
    url = site.page(demo, top_up(demo, buyer, redirect=""))
    page = await open_page(url)
    console = Console(page)
    await starter(page).click()
    await page.wait_for_url("**/sandbox/pay/*")
    landed = await console.event("chargly-landed", lambda: pay(page))
    assert landed["credits"] == 500
    assert page.url == url
    await expect(note(page)).to_have_text("500 credits added.")
    assert await page.evaluate("sessionStorage.length") == 0
    await page.reload()
    await expect(starter(page)).to_be_visible()
    await expect(note(page)).to_have_text("")


async def test_a_payment_that_lands_as_the_page_comes_back_is_shown(
    open_page: OpenPage, site: Site, demo: ServerProcess, api: httpx.Client, buyer: str
) -> None:
    url = site.page(demo, top_up(demo, buyer, redirect=""))
    page = await open_page(url)
    await starter(page).click()
    await page.wait_for_url("**/sandbox/pay/*")
    session = page.url.rpartition("/")[2]
    sockets = await HeldSockets.on(page)
    async with page.expect_response(CHECKOUT) as asked:
        await abandon(page, url)
    assert (await (await asked.value).json())["status"] == "open"
    await expect(note(page)).to_have_text(WAITING)
    card = {"card": "4242424242424242"}
    api.post(f"/sandbox/sessions/{session}/pay", json=card).raise_for_status()
    async with page.expect_console_message(lambda said: '"balance":600' in said.text):
        await until_balance(api, buyer, 600)
        sockets.release()
    await expect(note(page)).to_have_text("500 credits added.")


async def until_balance(api: httpx.Client, customer: str, balance: int) -> None:
    """Reads the ledger until a payment is in it, which the sandbox tells the server over HTTP."""
    for _ in range(1_000):
        if api.get(f"/v1/wallets/{customer}").json()["balance"] == balance:
            return
    pytest.fail(f"The wallet of {customer} never had {balance} credits")


async def test_who_comes_back_without_paying_may_stop_waiting(
    open_page: OpenPage, site: Site, demo: ServerProcess, api: httpx.Client, buyer: str
) -> None:
    url = site.page(demo, top_up(demo, buyer, redirect=""))
    page = await open_page(url)
    await starter(page).click()
    await abandon(page, url)
    await expect(note(page)).to_have_text(WAITING)
    await stop(page).click()
    await expect(note(page)).to_have_text("")
    traffic = Traffic(page)
    assert await page.evaluate("sessionStorage.length") == 0
    await page.evaluate("window.dispatchEvent(new Event('online'))")
    spend(api, buyer, 8)
    await page.reload()
    await expect(starter(page)).to_be_visible()
    await expect(note(page)).to_have_text("")
    assert traffic.to("/v1/checkouts") == []


async def test_keys_are_not_lost_when_waiting_is_stopped(
    open_page: OpenPage, site: Site, demo: ServerProcess, buyer: str
) -> None:
    page = await open_page(site.page(demo, top_up(demo, buyer)))
    await open_checkout(page)
    await page.bring_to_front()
    await stop(page).focus()
    await page.keyboard.press("Enter")
    await expect(note(page)).to_have_text("")
    focused = await page.evaluate("document.activeElement.localName")
    assert focused == TOP_UP, f"the focus fell to <{focused}>"


async def test_where_pop_ups_are_blocked_the_checkout_takes_the_tab_and_comes_back(
    open_page: OpenPage, site: Site, demo: ServerProcess, buyer: str
) -> None:
    url = site.page(demo, top_up(demo, buyer))
    page = await open_page("about:blank")
    await page.add_init_script("window.open = () => null")
    await page.goto(url)
    await starter(page).click()
    await page.wait_for_url("**/sandbox/pay/*")
    await pay(page)
    await page.wait_for_url(url)
    await expect(note(page)).to_have_text("500 credits added.")


async def test_a_checkout_that_fails_says_why_and_leaves_no_tab(
    open_page: OpenPage, site: Site, host_server: ServerProcess, buyer: str
) -> None:
    page = await open_page(site.page(host_server, top_up(host_server, buyer)), expected="status of 503")
    tab = await open_checkout(page)
    await expect(note(page)).to_have_text(
        "This server has no Stripe key; set STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET."
    )
    if not tab.is_closed():
        await tab.wait_for_event("close")
    await expect(starter(page)).to_be_enabled()
    again = await open_checkout(page)
    if not again.is_closed():
        await again.wait_for_event("close")


async def test_a_token_that_may_not_buy_is_told_so_and_gets_no_tab(
    open_page: OpenPage, site: Site, demo: ServerProcess, buyer: str
) -> None:
    reader = tag(TOP_UP, token=demo.token(buyer, scopes=["read"]))
    page = await open_page(site.page(demo, reader), expected="status of 403")
    tab = await open_checkout(page)
    await expect(note(page)).to_have_text("A widget token needs the scope 'top_up' here.")
    if not tab.is_closed():
        await tab.wait_for_event("close")


@pytest.mark.parametrize("status", ["failed", "expired"])
async def test_a_payment_that_failed_ends_the_waiting(
    open_page: OpenPage, site: Site, demo: ServerProcess, buyer: str, status: str
) -> None:
    page = await open_page(site.page(demo, top_up(demo, buyer)))
    await page.route(CHECKOUT, lambda route: route.fulfill(**with_status(status)))
    await open_checkout(page)
    await expect(note(page)).to_have_text("The payment failed.")
    await expect(note(page)).to_have_class("note bad")


async def test_a_slow_payment_is_said_to_be_on_its_way(
    open_page: OpenPage, site: Site, demo: ServerProcess, buyer: str
) -> None:
    page = await open_page(site.page(demo, top_up(demo, buyer)))
    await page.route(CHECKOUT, lambda route: route.fulfill(**with_status("processing")))
    checkout = await open_checkout(page)
    await expect(note(page)).to_have_text("Payment received, credits follow.")
    await page.unroute(CHECKOUT)
    await pay(checkout)
    await expect(note(page)).to_have_text("500 credits added.")


async def test_a_payment_made_while_the_page_was_away_lands_when_it_comes_back(
    open_page: OpenPage, site: Site, demo: ServerProcess, api: httpx.Client, buyer: str
) -> None:
    page = await open_page(site.page(demo, top_up(demo, buyer)), expected="INTERNET_DISC")
    checkout = await open_checkout(page)
    await expect(note(page)).to_have_text(WAITING)
    await checkout.wait_for_url("**/sandbox/pay/*")
    session = checkout.url.rpartition("/")[2]
    await page.context.set_offline(True)
    api.post(f"/sandbox/sessions/{session}/pay", json={"card": "4242424242424242"}).raise_for_status()
    await until_balance(api, buyer, 600)
    await page.context.set_offline(False)
    await expect(note(page)).to_have_text("500 credits added.")


async def test_no_packs_are_said_to_be_none(open_page: OpenPage, site: Site, demo: ServerProcess, buyer: str) -> None:
    page = await open_page("about:blank")
    await page.route(PACKS, lambda route: route.fulfill(json={"packs": []}, headers=CORS))
    await page.goto(site.page(demo, top_up(demo, buyer)))
    await expect(note(page)).to_have_text("No packs are on sale.")
    await expect(packs(page.locator(TOP_UP))).to_have_count(0)


async def test_packs_that_cannot_be_read_are_read_at_the_next_try(
    open_page: OpenPage, site: Site, demo: ServerProcess, buyer: str
) -> None:
    page = await open_page("about:blank", expected="ERR_FAILED")
    await page.route(PACKS, lambda route: route.abort())
    await page.goto(site.page(demo, top_up(demo, buyer)))
    await expect(note(page)).to_have_text(FAILED)
    await page.unroute(PACKS)
    await page.get_by_role("button", name="Try again").click()
    await expect(starter(page)).to_be_visible()
    await expect(note(page)).to_have_text("")


async def test_an_element_that_leaves_while_its_checkout_is_asked_after_throws_nothing(
    open_page: OpenPage, site: Site, demo: ServerProcess, buyer: str
) -> None:
    page = await open_page(site.page(demo, top_up(demo, buyer)))

    async def leave(route: Route) -> None:
        await page.locator(TOP_UP).evaluate("(node) => node.remove()")
        await route.fulfill(**with_status("paid"))

    await page.route(CHECKOUT, leave)
    async with page.expect_response(CHECKOUT):
        await open_checkout(page)
    await expect(page.locator(TOP_UP)).to_have_count(0)


async def test_another_customer_sees_nothing_of_the_firsts_payment(
    open_page: OpenPage, site: Site, demo: ServerProcess, api: httpx.Client, buyer: str
) -> None:
    grant(api, other := f"user_{secrets.token_hex(6)}", 7)
    page = await open_page(site.page(demo, top_up(demo, buyer)), expected="status of 404")
    await open_checkout(page)
    await expect(note(page)).to_have_text(WAITING)
    await set_attribute(page.locator(TOP_UP), "token", demo.token(other))
    await expect(note(page)).to_have_text("")
