"""`<chargly-price>`: what a click costs, and whether the wallet covers it."""

import os
import secrets
from pathlib import Path

import httpx
import pytest
from browser.conftest import OpenPage
from browser.elements import (
    CORS,
    PRICE,
    Console,
    Traffic,
    change_wallet,
    has_heard,
    in_state,
    new_customer,
    set_attribute,
    set_price,
    spend,
    tag,
)
from browser.host import Site
from serving import ServerProcess, StartServer, grant, with_limits

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Locator, Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

AGAIN_MS = 6_000
"""More than the element lets pass before it asks again after a run of spending."""
NOTE_FREED = """(button) => {
  window.freed = 0;
  new MutationObserver(() => (window.freed += button.disabled ? 0 : 1)).observe(button, { attributes: true });
}"""
"""Counts how often a button is found enabled."""


@pytest.fixture
def customer(host_api: httpx.Client) -> str:
    """A customer with 100 credits."""
    return new_customer(host_api, 100)


@pytest.fixture
def event(host_api: httpx.Client) -> str:
    """An event of one test's own, for 8 credits, or 40 by its large model."""
    made = f"ask.{secrets.token_hex(6)}"
    set_price(host_api, made, 8, per_model={"large": 40})
    return made


def price(server: ServerProcess, customer: str, event: str, **attributes: str | int) -> str:
    """The element, and the button that it stands for."""
    element = tag(PRICE, token=server.token(customer), event=event, for_="ask", **attributes)
    return f'<button id="ask">Ask</button> {element}'


def words(page: Page) -> Locator:
    return page.locator(f"{PRICE} .base")


def button(page: Page) -> Locator:
    return page.get_by_role("button", name="Ask", exact=True)


async def test_price_drains_live_and_asks_the_server_once_for_a_run_of_spending(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, event: str
) -> None:
    page = await open_page("about:blank")
    await page.clock.install()
    traffic = Traffic(page)
    await page.goto(site.page(host_server, price(host_server, customer, event)))
    await expect(words(page)).to_have_text("8 credits · 12 left")
    await page.clock.fast_forward(AGAIN_MS)  # past whatever the first state asked for
    await page.clock.pause_at(await page.evaluate("Date.now() / 1000 + 1"))
    asked = len(traffic.to("/v1/quote"))
    for left in ("11", "10", "9", "8"):
        spend(host_api, customer, 8)
        await expect(words(page)).to_have_text(f"8 credits · {left} left")
    assert len(traffic.to("/v1/quote")) == asked, traffic.to("/v1/quote")
    async with page.expect_response("**/v1/quote"):
        await page.clock.fast_forward(AGAIN_MS)
    await page.clock.fast_forward(10 * AGAIN_MS)
    assert len(traffic.to("/v1/quote")) == asked + 1, traffic.to("/v1/quote")
    await expect(words(page)).to_have_text("8 credits · 8 left")


async def test_a_change_of_its_price_comes_with_the_next_push(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, event: str
) -> None:
    page = await open_page(site.page(host_server, price(host_server, customer, event)))
    await expect(words(page)).to_have_text("8 credits · 12 left")
    set_price(host_api, event, 20)
    spend(host_api, customer, 20)
    await expect(words(page)).to_have_text("20 credits · 4 left")


async def test_a_change_of_its_price_comes_into_a_silent_wallet_too(
    open_page: OpenPage, site: Site, new_server: StartServer, customer_id: str, tmp_path: Path
) -> None:
    server = new_server(CHARGLY_ALLOWED_ORIGINS=site.origin, **with_limits(tmp_path, live_heartbeat_seconds=0.5))
    with server.client() as api:
        grant(api, customer_id, 100)
        address = site.page(server, price(server, customer_id, "chat.reply"))
        page = await open_page(address, expected="ERR_CONNECTION")  # the server goes before the page
        await expect(words(page)).to_have_text("8 credits · 12 left")
        set_price(api, "chat.reply", 150)
        await expect(words(page)).to_have_text("150 credits · 50 more needed")
        await expect(button(page)).to_be_disabled()


async def test_model_and_quantity_are_priced_and_may_change_at_run_time(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, event: str
) -> None:
    set_price(host_api, other := f"{event}.more", 1)
    page = await open_page(site.page(host_server, price(host_server, customer, event, model="large", quantity=2)))
    element = page.locator(PRICE)
    await expect(words(page)).to_have_text("80 credits · 1 left")
    await set_attribute(element, "quantity", "3")
    await expect(words(page)).to_have_text("120 credits · 20 more needed")
    await set_attribute(element, "model", None)
    await expect(words(page)).to_have_text("24 credits · 4 left")
    await set_attribute(element, "quantity", None)
    await expect(words(page)).to_have_text("8 credits · 12 left")
    await set_attribute(element, "event", other)
    await expect(words(page)).to_have_text("1 credit · 100 left")


async def test_what_is_free_is_covered_by_an_empty_wallet(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, event: str
) -> None:
    set_price(host_api, event, 0)
    nobody = f"user_{secrets.token_hex(6)}"
    page = await open_page(site.page(host_server, price(host_server, nobody, event)))
    await expect(words(page)).to_have_text("Free")
    await expect(button(page)).to_be_enabled()
    await in_state(page.locator(PRICE), "short", on=False)


async def test_a_short_wallet_disables_the_button_until_it_is_filled(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, event: str
) -> None:
    page = await open_page(site.page(host_server, price(host_server, customer, event)))
    element = page.locator(PRICE)
    await expect(words(page)).to_have_text("8 credits · 12 left")
    await in_state(element, "short", on=False)
    await expect(button(page)).to_be_enabled()

    spend(host_api, customer, 96)
    await expect(words(page)).to_have_text("8 credits · 4 more needed")
    await in_state(element, "short")
    await expect(button(page)).to_be_disabled()

    grant(host_api, customer, 4)
    await expect(words(page)).to_have_text("8 credits · 1 left")
    await in_state(element, "short", on=False)
    await expect(button(page)).to_be_enabled()


async def test_what_is_held_is_not_left(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, event: str
) -> None:
    page = await open_page(site.page(host_server, price(host_server, customer, event)))
    await expect(words(page)).to_have_text("8 credits · 12 left")
    hold = host_api.post("/v1/holds", json={"customer_id": customer, "event": event, "quantity": 12})
    assert hold.status_code == 201, hold.text
    await expect(words(page)).to_have_text("8 credits · 4 more needed")
    host_api.post(f"/v1/holds/{hold.json()['id']}/release").raise_for_status()
    await expect(words(page)).to_have_text("8 credits · 12 left")


async def test_a_spend_limit_bounds_what_is_left(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, event: str
) -> None:
    change_wallet(host_api, customer, spend_limit={"credits": 20, "per": "month"})
    page = await open_page("about:blank")
    await page.clock.install()
    await page.goto(site.page(host_server, price(host_server, customer, event)))
    await expect(words(page)).to_have_text("8 credits · 2 left")
    spend(host_api, customer, 16)
    await page.clock.fast_forward(AGAIN_MS)
    await expect(words(page)).to_have_text("8 credits · Limit reached")
    await in_state(page.locator(PRICE), "short")
    await expect(button(page)).to_be_disabled()


async def test_a_frozen_wallet_says_so_until_it_is_thawed(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, event: str
) -> None:
    page = await open_page(site.page(host_server, price(host_server, customer, event)))
    await expect(words(page)).to_have_text("8 credits · 12 left")
    change_wallet(host_api, customer, frozen=True)
    await expect(words(page)).to_have_text("8 credits · Wallet frozen")
    await in_state(page.locator(PRICE), "short")
    await expect(button(page)).to_be_disabled()
    change_wallet(host_api, customer, frozen=False)
    await expect(words(page)).to_have_text("8 credits · 12 left")
    await expect(button(page)).to_be_enabled()


async def test_an_unknown_event_is_a_dash_and_one_warning_with_the_servers_hint(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, event: str
) -> None:
    typo = f"{event}e"
    two = price(host_server, customer, typo) + tag(PRICE, token=host_server.token(customer), event=typo)
    page = await open_page("about:blank", expected="unknown_event|status of 404")
    console = Console(page)
    async with page.expect_console_message(lambda said: said.type == "warning"):
        await page.goto(site.page(host_server, two))
    await expect(words(page)).to_have_text(["–", "–"])
    hint = f"<{PRICE}> The event '{typo}' has no price; did you mean '{event}'? (unknown_event)"
    assert console.warnings == [hint]
    await expect(button(page)).to_be_enabled()
    await set_attribute(page.locator(PRICE).first, "event", event)
    await expect(words(page)).to_have_text(["8 credits · 12 left", "–"])


async def test_nothing_is_told_before_the_first_answer(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str, event: str
) -> None:
    page = await open_page("about:blank")
    told: list[str] = []

    async def late(route: Route) -> None:
        await has_heard(page.locator(PRICE), 100)
        told.append(await page.locator(f"{PRICE} .price").inner_text())
        await route.continue_()

    await page.route("**/v1/quote", late)
    async with page.expect_response("**/v1/quote"):
        await page.goto(site.page(host_server, price(host_server, customer, event)))
    await expect(words(page)).to_have_text("8 credits · 12 left")
    assert told == ["…"], "a dash says that there is no price"


async def test_the_price_of_another_quantity_is_not_shown_for_the_one_that_is_asked(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str, event: str
) -> None:
    page = await open_page(site.page(host_server, price(host_server, customer, event)), expected="ERR_FAILED")
    await expect(words(page)).to_have_text("8 credits · 12 left")
    await page.route("**/v1/quote", lambda route: route.abort())
    async with page.expect_event("requestfailed"):
        await set_attribute(page.locator(PRICE), "quantity", "2")
    await expect(words(page)).to_have_text("…")
    assert await page.locator(PRICE).evaluate("(node) => node.quote") is None
    await page.unroute("**/v1/quote")
    await set_attribute(page.locator(PRICE), "quantity", "3")
    await expect(words(page)).to_have_text("24 credits · 4 left")


async def test_a_server_that_cannot_quote_for_now_is_asked_again(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str, event: str
) -> None:
    page = await open_page("about:blank", expected="status of 503")
    await page.clock.install()
    busy = {"error": {"code": "unavailable", "message": "Later."}}
    await page.route("**/v1/quote", lambda route: route.fulfill(status=503, json=busy, headers=CORS), times=1)
    async with page.expect_response("**/v1/quote"):
        await page.goto(site.page(host_server, price(host_server, customer, event)))
    await expect(words(page)).to_have_text("…")
    await page.clock.fast_forward(AGAIN_MS)
    await expect(words(page)).to_have_text("8 credits · 12 left")


@pytest.mark.parametrize("dear_first", [True, False])
async def test_two_prices_of_one_button_both_have_to_be_covered(
    open_page: OpenPage,
    site: Site,
    host_server: ServerProcess,
    host_api: httpx.Client,
    customer: str,
    event: str,
    dear_first: bool,
) -> None:
    set_price(host_api, dear := f"{event}.dear", 101)
    cheap, second = (
        price(host_server, customer, event),
        tag(PRICE, token=host_server.token(customer), event=dear, for_="ask"),
    )
    page = await open_page(site.page(host_server, second + cheap if dear_first else cheap + second))
    covers = page.locator(f"{PRICE} .covers")
    spend(host_api, customer, 96)
    await expect(covers.filter(has_text="· 4 more needed")).to_have_count(1)
    await expect(covers.filter(has_text="· 97 more needed")).to_have_count(1)
    await expect(button(page)).to_be_disabled()
    await button(page).evaluate(NOTE_FREED)
    grant(host_api, customer, 6)
    await expect(covers.filter(has_text="· 1 left")).to_have_count(1)
    await expect(covers.filter(has_text="· 91 more needed")).to_have_count(1)
    await expect(button(page)).to_be_disabled()
    assert await page.evaluate("window.freed") == 0
    await page.locator(f"{PRICE}[event='{dear}']").evaluate("(node) => node.remove()")
    await expect(button(page)).to_be_enabled()


async def test_a_price_takes_the_type_and_the_colour_of_its_button(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str, event: str
) -> None:
    inside = f'<button id="ask">Ask {tag(PRICE, token=host_server.token(customer), event=event)}</button>'
    page = await open_page(site.page(host_server, inside))
    await expect(words(page)).to_have_text("8 credits · 12 left")
    await page.evaluate("Object.assign(document.querySelector('#ask').style, { color: 'white', font: '19px serif' })")
    for part, size in ((".price", "19px"), (".covers", f"{19 * 0.8125:g}px")):
        look = page.locator(f"{PRICE} {part}")
        await expect(look).to_have_css("color", "rgb(255, 255, 255)")
        await expect(look).to_have_css("font-family", "serif")
        await expect(look).to_have_css("font-size", size)


async def test_each_answer_is_an_event_and_the_elements_quote(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, event: str
) -> None:
    asked = host_api.post("/v1/quote", json={"customer_id": customer, "event": event, "model": "large"}).json()
    page = await open_page("about:blank")
    url = site.page(host_server, price(host_server, customer, event, model="large"))
    told = await Console(page).event(PRICE, lambda: page.goto(url))
    assert told == asked
    assert await page.locator(PRICE).evaluate("(node) => node.quote") == asked


async def test_the_button_is_left_enabled_by_an_element_that_no_longer_stands_for_it(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, event: str
) -> None:
    set_price(host_api, event, 1_000)
    page = await open_page(site.page(host_server, price(host_server, customer, event) + '<button id="do">Do</button>'))
    other = page.get_by_role("button", name="Do", exact=True)
    await expect(button(page)).to_be_disabled()
    await set_attribute(page.locator(PRICE), "for", "do")
    await expect(other).to_be_disabled()
    await expect(button(page)).to_be_enabled()
    await page.locator(PRICE).evaluate("(node) => node.remove()")
    await expect(other).to_be_enabled()
