"""The elements' languages: numbers, plural forms, the direction of the script, and what is said aloud."""

import json
import os
import re
import secrets
from typing import Any

import httpx
import pytest
from browser.conftest import OpenPage
from browser.elements import ACTIVITY, BALANCE, CORS, PRICE, TOP_UP, everything, set_attribute, set_price, spend, tag
from browser.host import Site
from serving import ServerProcess, grant

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

GERMAN = {
    "balance": "Guthaben",
    "topUp": "Aufladen",
    "credits": {"one": "{n} Credit", "other": "{n} Credits"},
    "left": "noch {n}",
    "landed": {"one": "{n} Credit kam an.", "other": "{n} Credits kamen an."},
}
POLISH = {"credits": {"one": "{n} kredyt", "few": "{n} kredyty", "many": "{n} kredytów", "other": "{n} kredytu"}}
SAID = """(said) => {
  window.said = [];
  const note = () => window.said.push(said.textContent);
  new MutationObserver(note).observe(said, { childList: true, characterData: true, subtree: true });
}"""


@pytest.fixture
def customer(host_api: httpx.Client) -> str:
    """A customer with 123,456 credits."""
    made = f"user_{secrets.token_hex(6)}"
    grant(host_api, made, 123_456)
    return made


def balance(page: Page) -> Locator:
    return page.locator(f"{BALANCE} .balance")


def price(page: Page) -> Locator:
    return page.locator(f"{PRICE} .base")


async def give_labels(page: Page, labels: dict[str, Any]) -> None:
    """Has each element find its labels as it is defined, as an app does that sets them first."""
    found = "document.querySelectorAll('chargly-balance, chargly-price, chargly-activity, chargly-top-up')"
    script = f"document.addEventListener('readystatechange', () => {found}.forEach((node) => node.labels ??= %s), true)"
    await page.add_init_script(script % json.dumps(labels))


@pytest.mark.parametrize(
    ("lang", "number", "covers", "money"),
    [
        ("de", "123.456", "15.432", "10,00\xa0$"),
        ("fr", "123\u202f456", "15\u202f432", "10,00\xa0$US"),
        ("ar-EG", "١٢٣٬٤٥٦", "١٥٬٤٣٢", "\u200f١٠٫٠٠\xa0US$"),
        ("pt_BR", "123.456", "15.432", "US$\xa010,00"),
        ("nonsense-", "123,456", "15,432", "$10.00"),
    ],
)
async def test_numbers_follow_the_nearest_language(
    open_page: OpenPage,
    site: Site,
    host_server: ServerProcess,
    customer: str,
    lang: str,
    number: str,
    covers: str,
    money: str,
) -> None:
    page = await open_page(
        site.page(host_server, f'<div lang="{lang}">{everything(token=host_server.token(customer))}</div>')
    )
    await expect(balance(page)).to_have_text(number)
    await expect(price(page)).to_contain_text(f"{covers} left")
    await expect(page.locator(f"{ACTIVITY} .row span:last-child small")).to_have_text(f"{number} left")
    await expect(page.locator(f"{TOP_UP} .pack").first.locator("span:last-child b")).to_have_text(money)


async def test_an_elements_own_language_may_change_at_run_time(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str
) -> None:
    page = await open_page(site.page(host_server, everything(token=host_server.token(customer))))
    await expect(balance(page)).to_have_text("123,456")
    for name in (BALANCE, ACTIVITY):
        await set_attribute(page.locator(name), "lang", "de")
    await expect(balance(page)).to_have_text("123.456")
    await expect(page.locator(f"{ACTIVITY} .credits")).to_have_text("+123.456")


async def test_labels_given_before_the_elements_are_defined(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page("about:blank")
    await give_labels(page, GERMAN)
    await page.goto(site.page(host_server, everything(token=host_server.token(customer), lang="de")))
    group = page.get_by_role("group", name="Guthaben")
    await expect(group.get_by_role("button", name="Aufladen")).to_be_visible()
    await expect(price(page)).to_have_text("8 Credits · noch 15.432")
    await expect(page.locator(f"{ACTIVITY} .row")).to_contain_text("noch 123.456")
    await expect(page.locator(f"{TOP_UP} .pack").first).to_contain_text("500 Credits")
    grant(host_api, customer, 1_000)
    await expect(group.locator(".said")).to_have_text("1.000 Credits kamen an. noch 124.456")


async def test_labels_may_be_given_and_taken_later(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str
) -> None:
    page = await open_page(site.page(host_server, everything(token=host_server.token(customer))))
    await expect(price(page)).to_have_text("8 credits · 15,432 left")
    element = page.locator(PRICE)
    await element.evaluate("(node, labels) => { node.labels = labels; }", GERMAN)
    await expect(price(page)).to_have_text("8 Credits · noch 15,432")
    assert await element.evaluate("(node) => node.labels") == GERMAN
    await element.evaluate("(node) => { node.labels = null; }")
    await expect(price(page)).to_have_text("8 credits · 15,432 left")


async def test_packs_and_what_is_told_under_them_follow_labels_and_language(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str
) -> None:
    page = await open_page(site.page(host_server, everything(token=host_server.token(customer))))
    pack, note = page.locator(f"{TOP_UP} .pack").last, page.locator(f"{TOP_UP} .note")
    await expect(pack).to_contain_text("1,200 credits")
    checkout = {"id": "co_1", "status": "open", "url": site.page(host_server, "")}
    await page.route(re.compile("/v1/checkouts"), lambda route: route.fulfill(json=checkout, headers=CORS))
    async with page.expect_popup():
        await pack.click()
    await expect(note).to_have_text("Waiting for payment… Stop waiting")
    german = GERMAN | {"waiting": "Wartet auf die Zahlung …", "stop": "Nicht mehr warten"}
    await page.locator(TOP_UP).evaluate("(node, labels) => { node.labels = labels; }", german)
    await expect(pack).to_contain_text("1,200 Credits")
    await expect(note).to_have_text("Wartet auf die Zahlung … Nicht mehr warten")
    await set_attribute(page.locator(TOP_UP), "lang", "de")
    await expect(pack).to_contain_text("1.200 Credits")


async def test_a_label_with_a_place_that_nobody_fills_breaks_nothing(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str
) -> None:
    page = await open_page(site.page(host_server, everything(token=host_server.token(customer))))
    await expect(price(page)).to_have_text("8 credits · 15,432 left")
    await page.locator(PRICE).evaluate("(node) => { node.labels = { left: 'for {name}' }; }")
    await expect(price(page)).to_contain_text("8 credits · for")


@pytest.mark.parametrize(
    ("credits", "words"), [(1, "1 kredyt"), (3, "3 kredyty"), (5, "5 kredytów"), (22, "22 kredyty")]
)
async def test_plural_forms_are_the_languages(
    open_page: OpenPage,
    site: Site,
    host_server: ServerProcess,
    host_api: httpx.Client,
    customer: str,
    credits: int,
    words: str,
) -> None:
    set_price(host_api, event := f"ask.{secrets.token_hex(6)}", credits)
    page = await open_page("about:blank")
    await give_labels(page, POLISH)
    await page.goto(site.page(host_server, tag(PRICE, token=host_server.token(customer), event=event, lang="pl")))
    await expect(page.locator(f"{PRICE} .price")).to_have_text(words)


async def test_what_is_one_is_singular(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    set_price(host_api, event := f"ask.{secrets.token_hex(6)}", 1)
    token = host_server.token(customer)
    page = await open_page(site.page(host_server, tag(BALANCE, token=token) + tag(PRICE, token=token, event=event)))
    await expect(page.locator(f"{PRICE} .price")).to_have_text("1 credit")
    grant(host_api, customer, 1)
    await expect(page.locator(f"{BALANCE} .said")).to_have_text("1 credit added. 123,457 left")


async def test_from_right_to_left_the_button_is_on_the_left(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    narrow = {"width": 360, "height": 700}
    host_api.post("/v1/holds", json={"customer_id": customer, "event": "chat.reply"}).raise_for_status()
    page = await open_page(site.page(host_server, everything(token=host_server.token(customer))), viewport=narrow)
    await page.evaluate("document.documentElement.dir = 'rtl'")
    button = page.get_by_role("button", name="Top up")
    await expect(balance(page)).to_have_text("123,456")
    number, beside = await balance(page).bounding_box(), await button.bounding_box()
    assert number is not None
    assert beside is not None
    assert beside["x"] + beside["width"] <= number["x"], f"the button {beside} is not left of the number {number}"
    held = await page.locator(f"{BALANCE} .held").bounding_box()
    caption = await page.locator(f"{BALANCE} .label").bounding_box()
    assert held is not None
    assert caption is not None
    assert held["x"] + held["width"] < number["x"], "what is held touches the number"
    right, above = number["x"] + number["width"], caption["x"] + caption["width"]
    assert abs(right - above) < 1, "the number does not begin under its caption"

    row = page.locator(f"{ACTIVITY} .row")
    credits, words = await row.locator(".credits").bounding_box(), await row.locator("b").first.bounding_box()
    assert credits is not None
    assert words is not None
    assert credits["x"] < words["x"]
    left = await row.locator("span:last-child small").bounding_box()
    assert left is not None
    assert abs(left["x"] - credits["x"]) < 1, "the amount and what was left are not aligned"

    await button.click()
    menu = page.locator(f"{BALANCE} .menu")
    await expect(menu.locator(".pack")).to_have_count(2)
    box = await menu.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= narrow["width"], f"the packs {box} leave the page"
    assert await page.evaluate("document.documentElement.scrollWidth") == narrow["width"]


async def test_only_low_empty_and_landed_are_said_aloud(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client
) -> None:
    grant(host_api, customer := f"user_{secrets.token_hex(6)}", 100)
    page = await open_page(site.page(host_server, tag(BALANCE, token=host_server.token(customer), low=50)))
    await expect(balance(page)).to_have_text("100")
    await page.locator(f"{BALANCE} .said").evaluate(SAID)
    for left in ("92", "84", "76", "44", "36", "0"):
        spend(host_api, customer, int(await balance(page).inner_text()) - int(left))
        await expect(balance(page)).to_have_text(left)
    failed = host_api.get(f"/v1/wallets/{customer}/entries", params={"limit": "1"}).json()["entries"][0]
    host_api.post(f"/v1/events/{failed['id']}/reverse").raise_for_status()
    await expect(balance(page)).to_have_text("36")
    grant(host_api, customer, 500)
    await expect(balance(page)).to_have_text("536")
    spend(host_api, customer, 8)
    await expect(balance(page)).to_have_text("528")
    assert await page.evaluate("window.said") == [
        "Running low: 44 left",
        "Out of credits",
        "500 credits added. 536 left",
    ]


async def test_what_was_said_is_not_read_for_ever(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page("about:blank")
    await page.clock.install()
    await page.goto(site.page(host_server, tag(BALANCE, token=host_server.token(customer))))
    await expect(balance(page)).to_have_text("123,456")
    grant(host_api, customer, 1_000)
    said = page.locator(f"{BALANCE} .said")
    await expect(said).to_have_text("1,000 credits added. 124,456 left")
    await page.clock.fast_forward(11_000)
    await expect(said).to_have_text("")


async def test_what_is_said_aloud_takes_no_room(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page(site.page(host_server, tag(BALANCE, token=host_server.token(customer))))
    await expect(balance(page)).to_have_text("123,456")
    said = page.locator(f"{BALANCE} .said")
    for long in ("", "one word " * 40):
        await said.evaluate("(node, words) => { node.textContent = words; }", long)
        box = await said.bounding_box()
        assert box is not None
        assert box["height"] <= 20, f"{len(long)} characters make a hidden column {box['height']} px high"
    grant(host_api, customer, 1_000)
    await expect(said).to_have_text("1,000 credits added. 124,456 left")
    assert await page.evaluate("document.documentElement.scrollHeight <= innerHeight")
