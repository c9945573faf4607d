"""The sandbox's pages in a browser: the ways to pay, and the dashboard."""

import asyncio
import os
from collections.abc import Iterator

import httpx
import pytest
from browser.conftest import OpenPage, chromium, open_page, resting_demo
from serving import ServerProcess

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Locator, Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
__all__ = ["chromium", "open_page"]
"""Fixtures of the browser's tests."""


WATCH = """
globalThis.shown = [];
new MutationObserver(() => {
  const state = document.querySelector("article.payment .state").textContent;
  if (shown.at(-1) !== state) shown.push(state);
}).observe(document.querySelector("#payments"), { childList: true, subtree: true });
"""
"""Notes each state that the newest payment is drawn with."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A demo whose agents rest, and whose checkouts take promotion codes."""
    yield from resting_demo(tmp_path_factory.mktemp("pages"), CHARGLY_PROMOTION_CODES="true")


@pytest.fixture
def api(demo: ServerProcess) -> Iterator[httpx.Client]:
    with demo.client() as client:
        yield client


def checkout(api: httpx.Client) -> str:
    asked = {"customer_id": "demo", "pack": "chargly_500"}
    return api.post("/v1/checkouts", json=asked).raise_for_status().json()["url"]


def newest(page: Page) -> Locator:
    return page.locator("article.payment").first


async def test_a_bank_debit_is_paid_and_its_money_arrives_on_the_dashboard(
    open_page: OpenPage, demo: ServerProcess, api: httpx.Client
) -> None:
    page = await open_page(checkout(api))
    await page.get_by_text("Bank debit").click()
    await expect(page.get_by_label("Card number")).to_be_hidden()
    await expect(page.locator("#quick-note")).to_contain_text("dashboard")
    await page.get_by_role("button", name="Pay $10.00").click()
    await page.wait_for_url("**/top-up/return*")
    await page.goto(f"{demo.address}/sandbox")
    await expect(newest(page)).to_contain_text("Money on its way")
    await newest(page).get_by_role("button", name="Money arrives").click()
    await expect(newest(page)).to_contain_text("Paid")
    await expect(page.get_by_role("status")).to_contain_text("checkout.session.async_payment_succeeded")


async def test_a_promotion_of_all_makes_it_free(open_page: OpenPage, api: httpx.Client) -> None:
    page = await open_page(checkout(api))
    await page.get_by_label("Apply a promotion code").check()
    await expect(page.locator("#total")).to_have_text("$0.00")
    await page.get_by_role("button", name="Pay $0.00").click()
    await page.wait_for_url("**/top-up/return*")


async def test_a_payment_is_refunded_by_keys_alone(open_page: OpenPage, demo: ServerProcess, api: httpx.Client) -> None:
    session = checkout(api).rsplit("/", 1)[-1]
    api.post(f"/sandbox/sessions/{session}/pay", json={"card": "4242424242424242"}).raise_for_status()
    page = await open_page(f"{demo.address}/sandbox")
    half = newest(page).get_by_role("button", name="Refund half")
    await expect(half).to_be_visible()
    for _ in range(4):
        await page.keyboard.press("Tab")
        if await half.evaluate("(node) => node === document.activeElement"):
            break
    await expect(half).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(newest(page)).to_contain_text("Partly refunded")
    await expect(newest(page)).to_contain_text("$5.00")
    await expect(newest(page).get_by_role("heading")).to_be_focused()  # its button is gone
    await newest(page).get_by_role("button", name="Inquiry").click()
    await newest(page).get_by_role("button", name="Escalate").click()
    await newest(page).get_by_role("button", name="Lose").click()
    await expect(newest(page)).to_contain_text("Dispute lost")


@pytest.mark.parametrize("asked", ["before", "during"])
async def test_a_reading_from_before_a_deed_does_not_undo_it_on_the_page(
    open_page: OpenPage, demo: ServerProcess, api: httpx.Client, asked: str
) -> None:
    session = checkout(api).rsplit("/", 1)[-1]
    api.post(f"/sandbox/sessions/{session}/pay", json={"card": "4242424242424242"}).raise_for_status()
    page = await open_page(f"{demo.address}/sandbox")
    await expect(newest(page).get_by_role("button", name="Dispute")).to_be_visible()
    deed, read, go, stale = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hold_back(route: Route) -> None:
        """Keeps what the first reading of that time shows until the deed is done."""
        if asked == "during" and not deed.is_set():
            return await route.continue_()
        answer = await route.fetch()
        if not read.is_set():
            read.set()
            await go.wait()
        return await route.fulfill(response=answer)

    async def wait_for_reading(route: Route) -> None:
        deed.set()
        await asyncio.wait_for(read.wait(), 10)
        await route.continue_()

    page.on("requestfinished", lambda request: stale.set() if request.url.endswith("/sandbox/payments") else None)
    await page.route("**/sandbox/payments", hold_back)
    await page.route("**/sandbox/payments/*", wait_for_reading)
    if asked == "before":
        await asyncio.wait_for(read.wait(), 10)
    await page.evaluate(WATCH)
    await newest(page).get_by_role("button", name="Dispute").click()
    await expect(newest(page)).to_contain_text("Disputed")
    stale.clear()
    go.set()
    await asyncio.wait_for(stale.wait(), 10)
    await expect(newest(page)).to_contain_text("Disputed")
    assert await page.evaluate("shown") == ["Disputed"]
    await page.unroute_all(behavior="wait")  # the page reads on, and a reading under way would fail the next test


async def test_a_button_pressed_while_the_page_reads_on_keeps_its_click(
    open_page: OpenPage, demo: ServerProcess, api: httpx.Client
) -> None:
    session = checkout(api).rsplit("/", 1)[-1]
    api.post(f"/sandbox/sessions/{session}/pay", json={"card": "4242424242424242"}).raise_for_status()
    page = await open_page(f"{demo.address}/sandbox")
    await newest(page).get_by_role("button", name="Dispute").hover()
    await page.mouse.down()
    payment = api.get("/sandbox/payments").raise_for_status().json()["payments"][0]["id"]
    api.post(f"/sandbox/payments/{payment}", json={"action": "refund_half"}).raise_for_status()
    for _ in range(2):  # one that began before the refund, and one after
        async with page.expect_request_finished(lambda request: request.url.endswith("/sandbox/payments")):
            pass
    await page.mouse.up()
    await expect(newest(page)).to_contain_text("Disputed")


async def test_an_invoice_is_paid_over_a_price_that_a_pack_has(
    open_page: OpenPage, demo: ServerProcess, api: httpx.Client
) -> None:
    page = await open_page(f"{demo.address}/sandbox")
    await expect(page.locator("#unmapped")).to_be_visible()
    pack = {"name": "Monthly", "credits": 2000, "amount": 3000, "stripe_price": "price_monthly"}
    api.put("/v1/packs/monthly", json=pack).raise_for_status()
    await page.reload()
    await expect(page.get_by_label("Price")).to_have_value("monthly")
    await page.get_by_role("button", name="Pay the invoice").click()
    await expect(page.get_by_role("status")).to_contain_text("invoice.paid")
    await expect(newest(page)).to_contain_text("$30.00")
    api.delete("/v1/packs/monthly").raise_for_status()


@pytest.mark.parametrize("width", [320, 390, 1280])
async def test_the_pages_stay_in_their_width(
    open_page: OpenPage, demo: ServerProcess, api: httpx.Client, width: int
) -> None:
    page = await open_page(checkout(api), viewport={"width": width, "height": 844}, reduced_motion="reduce")
    for address in (page.url, f"{demo.address}/sandbox"):
        await page.goto(address, wait_until="networkidle")
        assert await page.evaluate("document.documentElement.scrollWidth") == width
