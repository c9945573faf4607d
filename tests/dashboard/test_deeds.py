"""What an operator does on the dashboard is done, once, and what is refused is said where it belongs."""

import asyncio
import os
import re
import secrets
from typing import Any

import httpx
import pytest
from dashboard.conftest import OpenView
from payments.waiting import eventually
from serving import balance, charge, error_of, grant, whole_ledger
from webhooks.receiver import Receiver

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Locator, Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture
def customer(api: httpx.Client) -> str:
    """A customer with 100 credits."""
    name = f"user_{secrets.token_hex(4)}"
    grant(api, name, 100)
    return name


@pytest.fixture
def event(api: httpx.Client) -> str:
    """An event of one test's own, for 5 credits."""
    name = f"test.{secrets.token_hex(4)}"
    api.put(f"/v1/prices/{name}", json={"credits": 5, "label": f"Test {name[-4:]}"}).raise_for_status()
    return name


def wallet(api: httpx.Client, customer: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/v1/wallets/{customer}").raise_for_status().json()
    return found


def form(page: Page) -> Locator:
    return page.get_by_role("dialog")


async def press(page: Page, name: str) -> None:
    """Presses the button that a dialog ends with, and waits for it to close."""
    await form(page).get_by_role("button", name=name, exact=True).click()
    await expect(form(page)).to_have_count(0)


# ---------- Wallets ----------


async def test_a_wallet_is_found_and_followed(open_view: OpenView, api: httpx.Client, customer: str) -> None:
    page = await open_view("wallets")
    await page.get_by_role("searchbox").fill(customer[:-2])
    await page.get_by_role("link", name=customer).click()
    shown = page.locator(".balance")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    await expect(shown).to_have_text("100")
    charge(api, customer, model="gpt-5", member="ada", cost_usd="0.0042")  # 8 credits
    await expect(shown).to_have_text("92")
    ledger = page.get_by_role("group", name="Entries")
    await expect(ledger.get_by_role("row").nth(1)).to_contain_text("gpt-5 · ada · cost $0.0042")
    await expect(ledger.get_by_role("row").nth(1)).to_contain_text("−8")


async def test_credits_are_granted_once_however_often_it_is_sent(
    open_view: OpenView, api: httpx.Client, customer: str
) -> None:
    page = await open_view(f"wallets/{customer}", expected=r"net::ERR_FAILED")
    answers = 0

    async def lose_first(route: Route) -> None:
        nonlocal answers
        answers += 1
        answer = await route.fetch()
        await (route.abort() if answers == 1 else route.fulfill(response=answer))

    await page.route("**/grants", lose_first)
    await page.get_by_role("button", name="Grant credits").click()
    await form(page).get_by_label("Credits").fill("50")
    await form(page).get_by_role("button", name="Grant", exact=True).click()
    await expect(form(page).get_by_role("alert")).to_contain_text("It may have been done all the same")
    await press(page, "Grant")
    assert answers == 2
    assert balance(api, customer) == 150
    await expect(page.locator(".balance")).to_have_text("150")


async def test_what_is_refused_is_said_at_its_field(open_view: OpenView, api: httpx.Client, customer: str) -> None:
    page = await open_view(f"wallets/{customer}")
    await page.get_by_role("button", name="Grant credits").click()
    await form(page).get_by_label("Credits").fill("50")
    await form(page).get_by_label("Category").select_option("promotional")
    await form(page).get_by_label("Dollars they stand for").fill("twenty")
    await form(page).get_by_role("button", name="Grant", exact=True).click()
    value = form(page).get_by_label("Dollars they stand for")
    await expect(value).to_have_attribute("aria-invalid", "true")
    await expect(value).to_be_focused()
    assert await value.evaluate(
        "(node) => document.getElementById(node.getAttribute('aria-describedby').split(' ').at(-1)).textContent"
    )
    assert balance(api, customer) == 100
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Adjust").click()
    await form(page).get_by_label("Credits").fill("-101")
    await form(page).get_by_label("Reason").fill("too much")
    await form(page).get_by_role("button", name="Adjust", exact=True).click()
    await expect(form(page)).to_contain_text("Only 100 credits can be taken away.")
    assert balance(api, customer) == 100
    await form(page).get_by_label("Credits").fill("-100")
    await press(page, "Adjust")
    assert balance(api, customer) == 0
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Empty")


async def test_a_wallet_is_frozen_and_set_free(open_view: OpenView, api: httpx.Client, customer: str) -> None:
    page = await open_view(f"wallets/{customer}")
    await page.get_by_role("button", name="Freeze").click()
    await press(page, "Freeze")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Frozen")
    error_of(charge(api, customer), 403, "wallet_frozen")
    await page.get_by_role("button", name="Unfreeze").click()
    await expect(page.get_by_role("heading", level=1)).not_to_contain_text("Frozen")
    assert charge(api, customer).status_code == 201


async def test_settings_and_limits_are_saved(open_view: OpenView, api: httpx.Client, customer: str) -> None:
    charge(api, customer, member="ada")
    page = await open_view(f"wallets/{customer}")
    await page.get_by_role("button", name="Settings").click()
    await form(page).get_by_label("Name").fill("Ada & Sons <b>")
    await form(page).get_by_label("Low below").fill("95")
    await form(page).get_by_label("Overdraft").fill("20")
    await form(page).get_by_label("Spend at most").fill("60")
    await form(page).get_by_label("In a", exact=True).select_option("week")
    await press(page, "Save")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Ada & Sons <b>")
    await page.get_by_role("button", name="Limit").click()
    await form(page).get_by_label("Spend at most").fill("10")
    await form(page).get_by_label("In a", exact=True).select_option("day")
    await press(page, "Save")
    saved = wallet(api, customer)
    assert (saved["name"], saved["low_balance_threshold"], saved["overdraft_limit"]) == ("Ada & Sons <b>", 95, 20)
    assert saved["spend_limit"] == {"credits": 60, "per": "week"}
    assert error_of(charge(api, customer, member="ada"), 402, "spend_limit_reached")["scope"] == "member"
    await page.get_by_role("button", name="Settings").click()
    await form(page).get_by_label("Spend at most").fill("")
    await form(page).get_by_label("Low below").fill("")
    await press(page, "Save")
    assert (wallet(api, customer)["spend_limit"], wallet(api, customer)["low_balance_threshold"]) == (None, None)
    assert wallet(api, customer)["overdraft_limit"] == 20  # what was not touched stays


async def test_grants_are_voided_and_holds_released(open_view: OpenView, api: httpx.Client, customer: str) -> None:
    grant(api, customer, 30, "paid")
    hold = api.post("/v1/holds", json={"customer_id": customer, "credits": 10}).raise_for_status().json()
    page = await open_view(f"wallets/{customer}")
    await page.get_by_role("button", name="Release").click()
    await press(page, "Release")
    assert api.get(f"/v1/holds/{hold['id']}").json()["status"] == "released"
    await expect(page.get_by_role("heading", name="Open holds")).to_have_count(0)
    await page.get_by_role("row").filter(has_text="Paid").get_by_role("button", name="Void").click()
    await press(page, "Void")
    assert balance(api, customer) == 100
    await page.get_by_role("button", name="Audit").click()
    await expect(page.locator("#told")).to_contain_text("The ledger is sound")


async def test_a_payment_is_refunded(open_view: OpenView, api: httpx.Client, customer: str) -> None:
    asked = {"customer_id": customer, "pack": "chargly_500"}
    bought = api.post("/v1/checkouts", json=asked).raise_for_status().json()
    session = bought["url"].rsplit("/", 1)[-1]
    api.post(f"/sandbox/sessions/{session}/pay", json={"card": "4242424242424242"}).raise_for_status()
    page = await open_view(f"wallets/{customer}")
    await expect(page.locator(".balance")).to_have_text("600")
    await page.reload()
    row = page.get_by_role("group", name="Payments").get_by_role("row").filter(has_text="chargly_500")
    await row.get_by_role("button", name="Refund").click()
    for amount in ("10.01", "0", "-1", "4.005", "all"):
        await form(page).get_by_label("Amount, USD").fill(amount)
        await form(page).get_by_role("button", name="Refund", exact=True).click()
        await expect(form(page)).to_contain_text("An amount up to $10.00, such as 10.00.")
    await form(page).get_by_label("Amount, USD").fill("4")
    await press(page, "Refund")
    await expect(page.locator(".balance")).to_have_text("400")
    assert api.get(f"/v1/checkouts/{bought['id']}").json()["amount_refunded"] == 400


async def test_a_customer_who_is_not_there_yet_can_be_given_credits(open_view: OpenView, api: httpx.Client) -> None:
    name = f"new user/é {secrets.token_hex(3)}".replace("/", "·")
    page = await open_view("wallets")
    await page.get_by_role("searchbox").fill(name)
    await page.get_by_role("button", name="Look for a wallet of exactly").click()
    await expect(page.get_by_role("heading", name="There is no such wallet yet")).to_be_visible()
    await page.get_by_role("button", name="Grant credits").click()
    await form(page).get_by_label("Credits").fill("5")
    await press(page, "Grant")
    await expect(page.locator(".balance")).to_have_text("5")
    assert balance(api, name) == 5


async def test_a_dialog_goes_with_its_view(open_view: OpenView, api: httpx.Client, customer: str) -> None:
    page = await open_view("wallets")
    await page.evaluate("(hash) => (location.hash = hash)", f"#/wallets/{customer}")
    await page.get_by_role("button", name="Adjust").click()
    await expect(page.get_by_role("heading", name=f"Adjust the balance of {customer}")).to_be_visible()
    await page.go_back()
    await expect(form(page)).to_have_count(0)
    assert balance(api, customer) == 100


async def test_what_another_changed_meanwhile_stays(open_view: OpenView, api: httpx.Client, customer: str) -> None:
    page = await open_view(f"wallets/{customer}")
    await page.get_by_role("button", name="Settings").click()
    api.patch(f"/v1/wallets/{customer}", json={"overdraft_limit": 500}).raise_for_status()
    await form(page).get_by_label("Name").fill("Ada")
    await press(page, "Save")
    assert (wallet(api, customer)["name"], wallet(api, customer)["overdraft_limit"]) == ("Ada", 500)


async def test_grants_and_what_was_spent_move_too(open_view: OpenView, api: httpx.Client, customer: str) -> None:
    page = await open_view(f"wallets/{customer}")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    charge(api, customer)
    await expect(page.get_by_role("group", name="Grants").get_by_role("row").nth(1)).to_contain_text("92")
    await expect(page.get_by_text("8 · 8 · 8")).to_be_visible()


async def test_the_entries_are_those_of_the_kind_that_is_chosen(
    open_view: OpenView, api: httpx.Client, customer: str
) -> None:
    charge(api, customer)
    page = await open_view(f"wallets/{customer}")
    asked, go = asyncio.Event(), asyncio.Event()

    async def hold_back(route: Route) -> None:
        answer = await route.fetch()
        asked.set()
        await go.wait()
        await route.fulfill(response=answer)

    await page.route("**/entries?kind=grant**", hold_back)
    kind = page.get_by_label("Kind of entries")
    await kind.select_option("grant")
    await asyncio.wait_for(asked.wait(), 10)
    await kind.select_option("event")
    rows = page.get_by_role("group", name="Entries").get_by_role("row")
    await expect(rows.nth(1)).to_contain_text("Action")
    async with page.expect_request_finished(lambda request: "kind=grant" in request.url):
        go.set()
    await expect(rows).to_have_count(2)
    await expect(rows.nth(1)).to_contain_text("Action")
    await page.reload()
    await expect(kind).to_have_value("event")  # it is in the address


async def test_older_entries_come_beneath(open_view: OpenView, api: httpx.Client, customer: str) -> None:
    grant(api, customer, 1_000)
    for _ in range(30):
        charge(api, customer)
    page = await open_view(f"wallets/{customer}")
    rows = page.get_by_role("group", name="Entries").get_by_role("row")
    await expect(rows).to_have_count(26)
    await page.get_by_role("button", name="Older").click()
    await expect(rows).to_have_count(33)  # with the head
    await expect(rows.nth(26)).to_be_focused()
    await expect(page.get_by_role("button", name="Older")).to_have_count(0)


async def test_a_wallet_stays_live_where_the_rest_cannot_be_read(
    open_view: OpenView, api: httpx.Client, customer: str
) -> None:
    page = await open_view(f"wallets/{customer}", expected=r"net::ERR_FAILED")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    await page.route(f"**/v1/wallets/{customer}/members**", lambda route: route.abort())
    await page.get_by_role("button", name="Grant credits").click()
    await form(page).get_by_label("Credits").fill("10")
    await press(page, "Grant")
    await expect(page.locator("#told")).to_contain_text("What is shown may be old")
    grant(api, customer, 1_000)
    await expect(page.locator(".balance")).to_have_text("1,110")


# ---------- Prices ----------


def row_of(page: Page, event: str) -> Locator:
    return page.get_by_role("group", name="Prices in force").get_by_role("row").filter(has_text=event)


async def test_a_price_is_tried_and_changed(open_view: OpenView, api: httpx.Client, customer: str, event: str) -> None:
    charge(api, customer, event, quantity=3)  # 15 credits
    page = await open_view("prices")
    await row_of(page, event).get_by_role("button", name=f"Edit {event}").click()
    await form(page).get_by_label("Credits for one unit").fill("7")
    await form(page).get_by_role("button", name="Simulate").click()
    await expect(form(page).get_by_role("group", name="Simulation")).to_contain_text("15 → 21")
    assert api.get(f"/v1/prices/{event}").json()["version"] == 1  # so far nothing is changed
    await form(page).get_by_role("button", name="Add a model").click()
    await form(page).get_by_label("Model").fill("gpt-5")
    await form(page).get_by_label("Credits", exact=True).fill("20")
    await form(page).get_by_label("At least, for an action").fill("9")
    await press(page, "Save")
    price = api.get(f"/v1/prices/{event}").json()
    assert (price["version"], price["credits"], price["per_model"], price["minimum"]) == (2, 7, {"gpt-5": 20}, 9)
    assert price["label"] == f"Test {event[-4:]}"
    await expect(row_of(page, event)).to_contain_text("gpt-5 20 · at least 9")


async def test_tiers_are_set_and_taken_away(open_view: OpenView, api: httpx.Client, event: str) -> None:
    page = await open_view("prices")
    await row_of(page, event).get_by_role("button", name=f"Edit {event}").click()
    for limit, credits in (("10", "5"), ("", "2")):
        await form(page).get_by_role("button", name="Add a tier").click()
        await form(page).get_by_label("Up to unit").last.fill(limit)
        await form(page).get_by_label("Credits", exact=True).last.fill(credits)
    await press(page, "Save")
    tiers = [{"up_to": 10, "credits": 5}, {"up_to": None, "credits": 2}]
    assert api.get(f"/v1/prices/{event}").json()["tiers"] == tiers
    await expect(row_of(page, event)).to_contain_text("5, 2 from 11 on")
    await row_of(page, event).get_by_role("button", name=f"Edit {event}").click()
    for _ in range(2):
        await form(page).get_by_role("button", name=re.compile("^Take away")).first.click()
    await press(page, "Save")
    assert api.get(f"/v1/prices/{event}").json()["tiers"] is None


async def test_a_row_that_lacks_a_number_is_not_taken_for_free(
    open_view: OpenView, api: httpx.Client, event: str
) -> None:
    page = await open_view("prices")
    await row_of(page, event).get_by_role("button", name=f"Edit {event}").click()
    await form(page).get_by_role("button", name="Add a model").click()
    await form(page).get_by_label("Model").fill("gpt-5")
    await form(page).get_by_role("button", name="Save").click()
    await expect(form(page)).to_contain_text("Every row needs credits.")
    await form(page).get_by_label("Credits", exact=True).fill("3")
    await form(page).get_by_role("button", name="Add a model").click()
    await form(page).get_by_label("Model").last.fill("gpt-5")
    await form(page).get_by_label("Credits", exact=True).last.fill("90")
    await form(page).get_by_role("button", name="Save").click()
    await expect(form(page)).to_contain_text("Model twice")
    assert api.get(f"/v1/prices/{event}").json()["version"] == 1


async def test_a_price_with_one_to_come_can_be_changed(open_view: OpenView, api: httpx.Client, event: str) -> None:
    later = {"credits": 9, "effective_at": "2030-01-01T00:00:00Z"}
    api.put(f"/v1/prices/{event}", json=later).raise_for_status()
    page = await open_view(f"prices?event={event}")
    await expect(row_of(page, event)).to_have_class("sought")
    await row_of(page, event).get_by_role("button", name=f"Edit {event}").click()
    await form(page).get_by_label("Credits for one unit").fill("6")
    await press(page, "Save")
    assert api.get(f"/v1/prices/{event}").json()["credits"] == 6
    await page.get_by_role("button", name="New price").click()
    await form(page).get_by_label("Event").fill(event)
    await form(page).get_by_label("Credits for one unit").fill("1")
    await form(page).get_by_role("button", name="Save").click()
    await expect(form(page)).to_contain_text("It has a price already")
    await page.keyboard.press("Escape")
    api.delete(f"/v1/prices/{event}").raise_for_status()
    await page.reload()
    await page.get_by_role("button", name="New price").click()
    await form(page).get_by_label("Event").fill(event)
    await form(page).get_by_label("Credits for one unit").fill("1")
    await press(page, "Save")  # one that was ended begins again
    assert api.get(f"/v1/prices/{event}").json()["credits"] == 1


async def test_of_two_who_change_a_price_one_is_told(open_view: OpenView, api: httpx.Client, event: str) -> None:
    page = await open_view("prices")
    await row_of(page, event).get_by_role("button", name=f"Edit {event}").click()
    api.put(f"/v1/prices/{event}", json={"credits": 6}).raise_for_status()
    await form(page).get_by_label("Credits for one unit").fill("7")
    await form(page).get_by_role("button", name="Save").click()
    await expect(form(page).get_by_role("alert")).to_contain_text(f"The latest version of '{event}' is 2, not 1.")
    assert api.get(f"/v1/prices/{event}").json()["credits"] == 6


async def test_a_price_is_scheduled_withdrawn_and_ended(open_view: OpenView, api: httpx.Client, event: str) -> None:
    page = await open_view("prices")
    await row_of(page, event).get_by_role("button", name=f"Edit {event}").click()
    await form(page).get_by_label("Credits for one unit").fill("7")
    await form(page).get_by_label("From").fill("2030-01-01T00:00")
    await press(page, "Save")
    assert [one["credits"] for one in api.get("/v1/prices").json()["upcoming"] if one["event"] == event] == [7]
    await row_of(page, event).get_by_role("button", name="History").click()
    await expect(form(page).get_by_role("row").nth(1)).to_contain_text("Scheduled")
    await form(page).get_by_role("button", name="Withdraw").click()
    await expect(form(page)).to_have_count(0)
    assert [one for one in api.get("/v1/prices").json()["upcoming"] if one["event"] == event] == []
    await row_of(page, event).get_by_role("button", name=f"Edit {event}").click()
    await form(page).get_by_label("Credits for one unit").fill("8")
    await press(page, "Save")  # it follows the version that was withdrawn
    assert api.get(f"/v1/prices/{event}").json()["version"] == 3
    await row_of(page, event).get_by_role("button", name="History").click()
    await form(page).get_by_role("button", name="End this price").click()
    await press(page, "End")
    await expect(row_of(page, event)).to_have_count(0)
    error_of(api.get(f"/v1/prices/{event}"), 404, "not_found")


async def test_a_new_price_and_its_cost(open_view: OpenView, api: httpx.Client, customer: str) -> None:
    event = f"test.{secrets.token_hex(4)}"
    page = await open_view("prices")
    await page.get_by_role("button", name="New price").click()
    await form(page).get_by_label("Event").fill("Not A Name")
    await form(page).get_by_label("Credits for one unit").fill("3")
    await form(page).get_by_role("button", name="Save").click()
    await expect(form(page).get_by_label("Event")).to_have_attribute("aria-invalid", "true")
    await expect(form(page)).to_contain_text("An event is named like 'chat.reply'")
    await form(page).get_by_label("Event").fill(event)
    await press(page, "Save")
    await page.get_by_role("button", name="New cost").click()
    await form(page).get_by_label("Event").fill(event)
    await form(page).get_by_label("Dollars for one unit").fill("-1")
    await form(page).get_by_role("button", name="Save").click()
    await expect(form(page).get_by_label("Dollars for one unit")).to_have_attribute("aria-invalid", "true")
    await form(page).get_by_label("Dollars for one unit").fill("0.0042")
    await press(page, "Save")
    charge(api, customer, event)
    assert whole_ledger(api, customer)[0]["cost_usd"] == "0.0042"
    costs = page.get_by_role("group", name="Provider costs")
    await expect(costs.get_by_role("row").filter(has_text=event)).to_contain_text("$0.0042")
    await costs.get_by_role("button", name=re.compile(f"History.*{re.escape(event)}")).click()
    await expect(form(page).get_by_role("row")).to_have_count(2)


# ---------- Advice ----------


def advice(page: Page, event: str) -> Locator:
    return page.locator(".advice > li").filter(
        has=page.get_by_text(re.compile(rf"(Raise|Lower|Price by model|Merge) {re.escape(event)}$"))
    )


async def test_advice_is_asked_for_read_and_decided(open_view: OpenView, api: httpx.Client) -> None:
    page = await open_view("prices")
    await page.get_by_label("Target margin, %").fill("100")
    await page.get_by_role("button", name="Advise").click()
    await expect(page.get_by_label("Target margin, %")).to_have_attribute("aria-invalid", "true")
    await page.get_by_label("Target margin, %").fill("50")
    await page.get_by_role("button", name="Advise").click()
    raise_ = advice(page, "doc.summarize")
    await expect(raise_).to_contain_text("target of 50 %")
    await expect(page.get_by_text("None of its units has a known provider cost")).to_be_visible()  # mail.classify
    await raise_.get_by_text("Facts (").click()
    await expect(raise_.get_by_text("target margin %")).to_be_visible()
    await raise_.get_by_role("button", name="Simulate").click()
    await expect(form(page).get_by_role("group", name="Simulation")).to_contain_text("doc.summarize")
    await page.keyboard.press("Escape")
    assert api.get("/v1/prices/doc.summarize").json()["version"] == 1
    await raise_.get_by_role("button", name="Apply").click()
    await expect(form(page).get_by_role("group", name="Prices")).to_contain_text("doc.summarize")
    await press(page, "Apply")
    price = api.get("/v1/prices/doc.summarize").json()
    assert price["version"] == 2
    await expect(row_of(page, "doc.summarize")).to_contain_text(str(price["credits"]))
    await expect(advice(page, "doc.summarize")).to_have_count(0)
    reject = advice(page, "image.generate")
    await reject.get_by_role("button", name="Reject").click()
    await form(page).get_by_label("Reason").fill("Pictures are what we are known for.")
    await press(page, "Reject")
    await expect(advice(page, "image.generate")).to_have_count(0)
    await page.get_by_role("button", name="History of recommendations").click()
    await expect(form(page).get_by_role("row").filter(has_text="Pictures are what we are known for.")).to_contain_text(
        "Rejected"
    )
    await expect(form(page).get_by_role("row").filter(has_text="doc.summarize").first).to_contain_text("Applied")
    await page.keyboard.press("Escape")
    # Another admin is faster.
    [open_one] = [
        one
        for one in api.get("/v1/pricing/recommendations?status=pending").json()["recommendations"]
        if one["event"] == "agent.run"
    ]
    await advice(page, "agent.run").get_by_role("button", name="Apply").click()
    api.post(f"/v1/pricing/recommendations/{open_one['id']}/reject").raise_for_status()
    await form(page).get_by_role("button", name="Apply", exact=True).click()
    await expect(form(page).get_by_role("alert")).not_to_be_empty()
    assert api.get("/v1/prices/agent.run").json()["version"] == open_one["version_from"]


# ---------- Packs, webhooks, keys ----------


async def test_a_pack_is_made_changed_and_taken_off_sale(open_view: OpenView, api: httpx.Client) -> None:
    code = f"pack_{secrets.token_hex(4)}"
    page = await open_view("packs")
    await page.get_by_role("button", name="New pack").click()
    await form(page).get_by_label("Code").fill(code)
    await form(page).get_by_label("Name").fill("Test pack")
    await form(page).get_by_label("Credits", exact=True).fill("700")
    await form(page).get_by_label("Price", exact=True).first.fill("14")
    await form(page).get_by_role("button", name="Add a currency").click()
    await form(page).get_by_label("Currency").last.fill("eur")
    await form(page).get_by_label("Price", exact=True).last.fill("13.00")
    await form(page).get_by_label("Bonus credits").fill("70")
    await form(page).get_by_label("Bonus lasts, in days").fill("30")
    await form(page).get_by_label("Buyer may choose from").fill("10")
    await form(page).get_by_label("Buyer may choose up to").fill("90.00")
    await press(page, "Save")
    row = page.get_by_role("row").filter(has_text=code)
    await expect(row).to_contain_text("$14.00")
    await row.get_by_role("button", name="Edit").click()
    await form(page).get_by_label("Name").fill("Better pack")
    await press(page, "Save")
    [pack] = [one for one in api.get("/v1/packs").json()["packs"] if one["code"] == code]
    assert pack == {
        "code": code,
        "name": "Better pack",
        "credits": 700,
        "amount": 1400,
        "currency": "usd",
        "bonus_credits": 70,
        "bonus_days": 30,
        "currencies": {"eur": 1300},
        "custom_amount": {"min": 1000, "max": 9000},
        "stripe_price": None,
        "expires_with_period": True,
        "version": 2,
    }
    await row.get_by_role("button", name="History").click()
    await expect(form(page).get_by_role("row")).to_have_count(3)
    await expect(form(page).get_by_role("row").last).to_contain_text("Test pack")
    await page.keyboard.press("Escape")
    await row.get_by_role("button", name="Take off sale").click()
    await press(page, "Take off sale")
    await expect(row).to_have_count(0)
    await page.get_by_role("button", name="New pack").click()
    for label, value in (("Code", code), ("Name", "Back again"), ("Credits", "5"), ("Price", "1")):
        await form(page).get_by_label(label, exact=True).first.fill(value)
    await press(page, "Save")
    await expect(row).to_contain_text("v4")


async def test_an_endpoint_is_made_tested_and_deleted(
    open_view: OpenView, api: httpx.Client, receiver: Receiver
) -> None:
    page = await open_view("webhooks")
    await page.get_by_role("button", name="New endpoint").click()
    await form(page).get_by_label("Address").fill(receiver.url)
    await form(page).get_by_label("Types").fill("wallet.loww")
    await form(page).get_by_role("button", name="Save").click()
    await expect(form(page)).to_contain_text("did you mean 'wallet.low'?")
    await form(page).get_by_label("Types").fill("price.changed")
    await form(page).get_by_role("button", name="Save").click()
    secret = await form(page).locator(".secret").inner_text()
    assert secret.startswith("whsec_")
    await press(page, "Close")
    card = page.locator(".endpoint").filter(has_text=receiver.url)
    await card.get_by_role("button", name="Send a test").click()
    message = receiver.next()
    assert message.type == "webhook.test"
    message.verify(secret)

    [endpoint] = [
        one for one in api.get("/v1/webhook-endpoints").json()["webhook_endpoints"] if one["url"] == receiver.url
    ]
    sent = f"/v1/webhook-endpoints/{endpoint['id']}/deliveries"
    eventually(lambda: api.get(sent).json()["deliveries"][0]["status"] == "delivered")
    await card.get_by_role("button", name="Read again").click()
    await expect(card.get_by_role("row").nth(1)).to_contain_text("Delivered")
    await card.get_by_role("button", name="Payload").click()
    await expect(form(page).locator("pre")).to_contain_text('"webhook.test"')
    await page.keyboard.press("Escape")
    await card.get_by_role("button", name="Send again").click()
    assert receiver.next().id == message.id
    await card.get_by_role("button", name="Disable").click()
    await expect(card).to_contain_text("Disabled")
    await card.get_by_role("button", name="Delete").click()
    await press(page, "Delete")
    await expect(card).to_have_count(0)


async def test_a_key_is_made_shown_once_and_revoked(open_view: OpenView, api: httpx.Client) -> None:
    name = f"key_{secrets.token_hex(4)}"
    page = await open_view("keys")
    await page.get_by_role("button", name="New key").click()
    await form(page).get_by_label("Name").fill(name)
    await form(page).get_by_label("Scope").select_option("meter")
    await form(page).get_by_role("button", name="Make it").click()
    key = await form(page).locator(".secret").inner_text()
    await press(page, "Close")
    await page.reload()
    row = page.get_by_role("row").filter(has_text=name)
    await expect(row).to_contain_text("In use")
    assert key not in await page.content()
    mine = {"Authorization": f"Bearer {key}"}
    assert api.get("/v1/prices", headers=mine).status_code == 200
    await row.get_by_role("button", name=f"Revoke {name}").click()
    await press(page, "Revoke")
    await expect(row).to_contain_text("Revoked")
    error_of(api.get("/v1/prices", headers=mine), 401, "invalid_key")
