"""Money in the sandbox, from the click to the balance: paid, paid later, given back, and taken by itself."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browser.conftest import OpenPage, resting_demo
from serving import ServerProcess

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

DECLINED = r"status of 402 \(Payment Required\)"
SUCCEEDS, NO_FUNDS, BANK_DEBIT, AUTHENTICATED = "Succeeds", "Has no funds", "Bank debit", "Needs 3D Secure"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[ServerProcess]:
    """A demo of its own, whose agents rest and whose wallet has 1,000 credits and no card.

    A test asks for it before it asks for pages: those close first, and see no server stop.
    """
    for running in resting_demo(tmp_path):
        with running.client() as api:
            fill(api, 1_000)
        yield running


def fill(api: httpx.Client, credits: int) -> None:
    missing = credits - api.get("/v1/wallets/demo").json()["balance"]
    change = {"credits": missing, "reason": "test"}
    api.post("/v1/wallets/demo/adjustments", json=change).raise_for_status()


def balance(page: Page) -> Locator:
    return page.locator("chargly-balance.hero .balance")


async def buy(page: Page) -> Page:
    """Opens a pack's checkout from the demo's page, in a tab of its own."""
    async with page.expect_popup() as popup:
        await page.locator("chargly-top-up").get_by_role("button", name="500 credits Starter $10.00").click()
    return await popup.value


async def pay(checkout: Page, how: str) -> None:
    await expect(checkout.get_by_role("button", name="Pay $10.00")).to_be_visible()
    await checkout.get_by_text(how, exact=True).click()
    await checkout.get_by_role("button", name="Pay $10.00").click()


async def dashboard(tab: Page, demo: ServerProcess) -> Locator:
    """The one payment, as the sandbox's dashboard shows it."""
    await tab.goto(f"{demo.address}/sandbox")
    await expect(tab.locator(".payment")).to_have_count(1)
    return tab.locator(".payment")


async def test_a_purchase_is_declined_then_paid_and_found_on_the_dashboard(
    demo: ServerProcess, open_page: OpenPage
) -> None:
    page = await open_page(f"{demo.address}/demo", expected=DECLINED)
    await expect(balance(page)).to_have_text("1,000")
    checkout = await buy(page)
    await pay(checkout, NO_FUNDS)
    await expect(checkout.get_by_role("alert")).to_have_text("Your card has insufficient funds.")
    await pay(checkout, SUCCEEDS)
    await expect(checkout.get_by_role("heading", name="500 credits landed")).to_be_visible()
    await expect(balance(page)).to_have_text("1,500")
    await page.get_by_role("link", name="Sandbox: no real money moves").click()
    await expect(page.locator(".payment")).to_contain_text("Paid")
    await page.get_by_role("link", name="Back to the demo").click()
    await expect(balance(page)).to_have_text("1,500")


@pytest.mark.parametrize(
    ("action", "state", "left"), [("Money arrives", "Paid", "1,500"), ("Money fails", "Declined", "1,000")]
)
async def test_a_bank_debit_is_decided_on_the_dashboard(
    demo: ServerProcess, open_page: OpenPage, action: str, state: str, left: str
) -> None:
    page = await open_page(f"{demo.address}/demo")
    await expect(balance(page)).to_have_text("1,000")
    tab = await buy(page)
    await pay(tab, BANK_DEBIT)
    await expect(tab.get_by_role("heading", name="Payment received")).to_be_visible()
    back = tab.url
    payment = await dashboard(tab, demo)
    await expect(payment).to_contain_text("Money on its way")
    await expect(balance(page)).to_have_text("1,000")
    await payment.get_by_role("button", name=action).click()
    await expect(payment.locator(".state")).to_have_text(state)
    await tab.goto(back)
    landed = state == "Paid"
    said = "500 credits landed" if landed else "The payment didn’t go through"
    await expect(tab.get_by_role("heading", name=said)).to_be_visible()
    await expect(balance(page)).to_have_text(left)
    await expect(page.locator("chargly-activity .row").filter(has_text="Top-up")).to_have_count(int(landed))


async def test_half_is_refunded_and_the_rest_is_disputed_and_won(demo: ServerProcess, open_page: OpenPage) -> None:
    page = await open_page(f"{demo.address}/demo")
    await expect(balance(page)).to_have_text("1,000")
    tab = await buy(page)
    await pay(tab, SUCCEEDS)
    await expect(balance(page)).to_have_text("1,500")
    payment = await dashboard(tab, demo)
    for action, state, left in (
        ("Refund half", "Partly refunded", "1,250"),
        ("Dispute", "Disputed", "1,000"),
        ("Win", "Partly refunded", "1,250"),
    ):
        await payment.get_by_role("button", name=f"{action}: $10.00").click()
        await expect(payment.locator(".state")).to_have_text(state)
        await expect(balance(page)).to_have_text(left)


async def fills_itself(demo: ServerProcess, open_page: OpenPage, card: str) -> Page:
    """The demo's page after a card was saved, the switch was thrown, and credits were spent to below the threshold."""
    page = await open_page(f"{demo.address}/demo")
    note, switch = page.locator("#itself-note"), page.get_by_role("switch", name="Top up by itself")
    await expect(note).to_have_text("Off. It needs a card: buy 500 credits and save yours.")
    await switch.click(force=True)  # Playwright would wait until it is enabled
    await expect(note).to_have_text("It stays off until a card is saved.")
    await expect(switch).not_to_be_checked()

    await page.get_by_role("button", name="Save a card").click()
    await expect(page.get_by_text("The card is kept for automatic top-ups.")).to_be_visible()
    await pay(page, card)
    await expect(balance(page)).to_have_text("1,500")
    await expect(note).to_have_text("Off. A card is saved.")

    await switch.focus()
    await page.keyboard.press("Space")
    await expect(note).to_have_text("On.")
    await expect(switch).to_be_checked()
    await expect(page.locator("#itself-charged")).to_have_text("Charged $0.00 this month of $100.00")
    with demo.client() as api:
        fill(api, 105)
    await expect(balance(page)).to_have_text("105")
    await page.locator("#action-list").get_by_role("button", name="Chat reply").click()
    return page


async def test_a_saved_card_fills_the_wallet_without_a_click(demo: ServerProcess, open_page: OpenPage) -> None:
    page = await fills_itself(demo, open_page, SUCCEEDS)
    await expect(balance(page)).to_have_text("597")
    await expect(page.locator("#itself-note")).to_have_text("On.")
    await expect(page.locator("#itself-charged")).to_have_text("Charged $10.00 this month of $100.00")
    switch = page.get_by_role("switch", name="Top up by itself")
    await switch.click()
    await expect(page.locator("#itself-note")).to_have_text("Off. A card is saved.")
    await expect(switch).not_to_be_checked()


async def test_a_card_that_needs_its_owner_waits_for_them(demo: ServerProcess, open_page: OpenPage) -> None:
    page = await fills_itself(demo, open_page, AUTHENTICATED)
    note = page.locator("#itself-note")
    await expect(note).to_contain_text("Waiting until")
    await expect(note).to_contain_text("because the bank wants you to confirm the payment.")
    await expect(balance(page)).to_have_text("97")
    async with page.context.expect_page() as opened:
        await page.get_by_role("link", name="Pay now").click()
    checkout = await opened.value
    await pay(checkout, SUCCEEDS)
    await expect(checkout.get_by_role("heading", name="500 credits landed")).to_be_visible()
    await expect(balance(page)).to_have_text("597")
    await expect(note).to_have_text("On.")
    await expect(page.get_by_role("link", name="Pay now")).to_be_hidden()
