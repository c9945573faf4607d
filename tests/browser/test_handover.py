"""A page whose customer changes, or goes: nothing of the former one is shown, told or kept for the next."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable

import httpx
import pytest
from browser.conftest import OpenPage
from browser.elements import (
    ACTIVITY,
    ALL,
    BALANCE,
    CORS,
    PRICE,
    TOP_UP,
    HeldSockets,
    charges,
    everything,
    in_state,
    new_customer,
    set_attribute,
    shows_rows,
    tag,
    until,
)
from browser.host import Answer, Site
from serving import ServerProcess, whole_ledger

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Page, Route, WebSocketRoute, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

ENTRIES = re.compile("/entries")
CHECKOUTS = re.compile("/v1/checkouts$")


@pytest.fixture
def former(host_api: httpx.Client) -> str:
    """A customer with 72 credits and a history."""
    made = new_customer(host_api, 100)
    charges(host_api, made, ["chat.reply", "doc.summarize"] * 14)
    return made


async def hand_over(page: Page, url: str) -> None:
    for name in ALL:
        await set_attribute(page.locator(name), "token-url", url)


async def shows_nothing_of_the_former(page: Page) -> None:
    await expect(page.locator(f"{ACTIVITY} .row")).to_have_count(0)
    await expect(page.locator(f"{PRICE} .covers")).to_have_text("")
    await expect(page.locator(f"{BALANCE} .balance")).not_to_have_text("72")
    for name in ALL:
        assert await page.locator(name).evaluate("(node) => node.state") is None


def slow() -> tuple[Callable[[Route], Awaitable[None]], asyncio.Event]:
    """A route whose answers, taken at once, come when the event is set."""
    goes_on = asyncio.Event()

    async def answer(route: Route) -> None:
        taken = await route.fetch()
        await goes_on.wait()
        await route.fulfill(response=taken)

    return answer, goes_on


@pytest.mark.parametrize("status", [401, 503, None])
async def test_another_token_url_that_gives_none_shows_nothing_of_the_former(
    open_page: OpenPage, site: Site, host_server: ServerProcess, former: str, status: int | None
) -> None:
    page = await open_page("about:blank", expected="signed_out|token_unavailable|missing_token|status of")
    await page.goto(site.page(host_server, everything(token_url=site.token_url(lambda: host_server.token(former)))))
    await expect(page.locator(f"{ACTIVITY} .row")).to_have_count(10)
    await expect(page.locator(f"{PRICE} .base")).to_have_text("8 credits · 9 left")
    if status is None:
        for name in ALL:
            await set_attribute(page.locator(name), "token-url", None)
    else:
        await hand_over(page, site.answering(lambda: Answer("no", status=status)))
    await shows_nothing_of_the_former(page)


async def test_who_signs_out_takes_the_wallet_along(
    open_page: OpenPage, site: Site, host_server: ServerProcess, former: str
) -> None:
    signed_in = True

    def answer() -> Answer:
        token = host_server.token(former, expires_in=3)
        return Answer(f'{{"token": "{token}"}}', "application/json") if signed_in else Answer("no", status=401)

    page = await open_page("about:blank", expected="signed_out|status of 401")
    await page.goto(site.page(host_server, everything(token_url=site.answering(answer))))
    await expect(page.locator(f"{ACTIVITY} .row")).to_have_count(10)
    signed_in = False  # its last token is good for three seconds, and the server's five of leeway
    await expect(page.locator(f"{BALANCE} .status")).to_have_text("Sign in again", timeout=20_000)
    for name in ALL:
        await in_state(page.locator(name), "error")
    await shows_nothing_of_the_former(page)
    signed_in = True
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))")
    await expect(page.locator(f"{BALANCE} .balance")).to_have_text("72")
    await expect(page.locator(f"{ACTIVITY} .row")).to_have_count(10)


async def test_a_ledger_that_comes_late_is_not_shown_as_the_next_ones(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, former: str, other: str
) -> None:
    page = await open_page("about:blank")
    answer, goes_on = slow()
    await page.route(ENTRIES, answer, times=1)
    sockets = await HeldSockets.on(page)
    sockets.release()
    async with page.expect_request(ENTRIES):
        await page.goto(site.page(host_server, everything(token_url=site.token_url(lambda: host_server.token(former)))))
    await expect(page.locator(f"{BALANCE} .balance")).to_have_text("72")
    sockets.hold()
    url = site.token_url(lambda: host_server.token(other))
    async with page.expect_response(url):
        await hand_over(page, url)
    async with page.expect_event("requestfinished", lambda request: former in request.url):
        goes_on.set()
    await page.evaluate("new Promise(requestAnimationFrame)")
    await page.evaluate("new Promise(requestAnimationFrame)")
    await expect(page.locator(f"{ACTIVITY} .row")).to_have_count(0)
    sockets.release()
    await shows_rows(page, whole_ledger(host_api, other))


async def test_a_checkout_that_comes_late_is_not_the_next_ones(
    open_page: OpenPage, site: Site, host_server: ServerProcess, former: str, other: str
) -> None:
    page = await open_page("about:blank")
    goes_on = asyncio.Event()
    checkout = {"id": "co_former", "status": "open", "url": site.page(host_server, "")}

    async def answer(route: Route) -> None:
        await goes_on.wait()
        await route.fulfill(json=checkout, headers=CORS)

    await page.route(CHECKOUTS, answer)
    await page.goto(site.page(host_server, everything(token_url=site.token_url(lambda: host_server.token(former)))))
    note = page.locator(f"{TOP_UP} .note")
    async with page.expect_request(CHECKOUTS):
        await page.locator(f"{TOP_UP} .pack").first.click()
    await expect(note).to_have_text("Opening checkout…")
    await hand_over(page, site.token_url(lambda: host_server.token(other)))
    await expect(page.locator(f"{BALANCE} .balance")).to_have_text("7")
    async with page.expect_response(CHECKOUTS):
        goes_on.set()
    await until(page, "sessionStorage.length > 0")
    await expect(note).to_have_text("")
    assert await page.evaluate("({ ...sessionStorage })") == {f"chargly {former}": "co_former"}


async def test_a_token_that_is_renewed_as_the_last_one_ends_is_not_blamed_for_it(
    open_page: OpenPage, site: Site, host_server: ServerProcess, former: str
) -> None:
    page = await open_page("about:blank")
    sockets: list[WebSocketRoute] = []
    again = asyncio.Event()

    def passes(socket: WebSocketRoute) -> None:
        if sockets:
            again.set()
        sockets.append(socket)
        socket.connect_to_server()

    await page.route_web_socket("**/v1/live", passes)
    await page.goto(site.page(host_server, tag(BALANCE, token=host_server.token(former))))
    await expect(page.locator(f"{BALANCE} .balance")).to_have_text("72")
    newer = host_server.token(former, expires_in=1_800)
    await set_attribute(page.locator(BALANCE), "token", newer)
    await sockets[0].close(code=4401, reason="This widget token has expired; ask your backend for a new one.")
    async with asyncio.timeout(10):
        await again.wait()
    await in_state(page.locator(BALANCE), "live")
    await expect(page.locator(f"{BALANCE} .status")).to_have_text("")
