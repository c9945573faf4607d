"""How the elements stand in a page: whatever its styles, its colours and its numbers, they stay whole and in place."""

import json
import os
import secrets

import httpx
import pytest
from browser.conftest import OpenPage
from browser.elements import (
    ACTIVITY,
    BALANCE,
    PRICE,
    TOP_UP,
    HeldSockets,
    boxes,
    charges,
    everything,
    new_customer,
    spend,
    tag,
)
from browser.host import Site
from serving import ServerProcess, grant

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Locator, Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

INHERITED = "body { font: 900 40px/4 cursive; color: red; letter-spacing: 9px; text-transform: uppercase; zoom: 1 }"
RESETS = {
    "inherited type": f"{INHERITED} body {{ text-align: center; white-space: pre; word-spacing: 1em; direction: ltr }}",
    "buttons": "button, small, b, ul, li, span, div { all: unset; border: 9px solid; display: grid; position: fixed }",
    "a border box for all": "*, *::before, *::after { box-sizing: border-box; margin: 0; padding: 0; border: 0 }",
}
"""Styles that pages have, and that must change nothing in the elements."""
PIECES = [
    f"{BALANCE} .base",
    f"{BALANCE} .label",
    f"{BALANCE} .balance",
    f"{BALANCE} .button",
    f"{ACTIVITY} .base",
    f"{ACTIVITY} .row",
    f"{TOP_UP} .pack",
]
OVERLAPS = """() => {
  const found = [];
  for (const { shadowRoot, localName } of document.querySelectorAll("chargly-balance, chargly-activity")) {
    const seen = [...shadowRoot.querySelectorAll("button, .label, .status, .balance, .row, .pack b")]
      .filter((node) => node.checkVisibility() && node.textContent && !node.closest(":popover-open"))
      .map((node) => [node, node.getBoundingClientRect()]);
    for (const [one, a] of seen) {
      for (const [other, b] of seen) {
        if (one === other || one.contains(other) || other.contains(one)) continue;
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 1 && high > 1) found.push(`${localName}: “${one.textContent}” over “${other.textContent}”`);
      }
    }
  }
  return found;
}"""
LONG = "Credits of the whole research and evaluation department " * 5 + "in a label of 300 characters"


@pytest.fixture
def customer(host_api: httpx.Client) -> str:
    """A customer with 1,000 credits."""
    return new_customer(host_api, 1_000)


async def all_there(page: Page) -> None:
    """Waits until each element shows what it is for."""
    await expect(balance(page)).to_have_text("1,000")
    await expect(page.locator(f"{PRICE} .covers")).to_have_text("· 125 left")
    await expect(page.locator(f"{ACTIVITY} .row")).to_have_count(1)
    await expect(page.locator(f"{TOP_UP} .pack")).to_have_count(2)


async def style(page: Page, css: str) -> None:
    """Gives a page styles that its policy would not let in as text."""
    give = (
        "(css) => { const sheet = new CSSStyleSheet(); sheet.replaceSync(css); document.adoptedStyleSheets = [sheet]; }"
    )
    await page.evaluate(give, css)


def balance(page: Page) -> Locator:
    return page.locator(f"{BALANCE} .balance")


def sizes(found: dict[str, dict[str, float] | None]) -> dict[str, tuple[float, float] | None]:
    return {piece: box and (round(box["width"], 1), round(box["height"], 1)) for piece, box in found.items()}


@pytest.mark.parametrize("name", RESETS)
async def test_a_pages_own_styles_do_not_reach_inside(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str, name: str
) -> None:
    page = await open_page(site.page(host_server, everything(token=host_server.token(customer))))
    await style(page, "body { margin: 0; padding: 0 }")
    await all_there(page)
    before = sizes(await boxes(page, PIECES))
    await style(page, f"{RESETS[name]} body {{ margin: 0; padding: 0 }}")
    assert sizes(await boxes(page, PIECES)) == before


@pytest.mark.parametrize(
    "css",
    [
        "* { all: unset }",
        "* { line-height: 4 !important; font-size: 30px }",
        "* { letter-spacing: .5em; text-transform: uppercase; font-family: monospace }",
        "* { display: block; float: left; position: relative; box-sizing: content-box; padding: 4px; margin: 4px }",
    ],
)
async def test_a_style_for_all_leaves_the_elements_whole(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str, css: str
) -> None:
    page = await open_page(site.page(host_server, everything(token=host_server.token(customer))))
    await all_there(page)
    await style(page, css)
    assert await page.evaluate(OVERLAPS) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.get_by_role("button", name="Top up").click()
    await page.locator(f"{BALANCE} .pack").first.click(trial=True)


@pytest.mark.parametrize("by", ["token", "token-url"])
async def test_nothing_moves_when_it_goes_live_and_drains(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, by: str
) -> None:
    token = host_server.token(customer)
    attributes = {"token": token} if by == "token" else {"token_url": site.token_url(lambda: token)}
    page = await open_page("about:blank", reduced_motion="reduce")
    sockets = await HeldSockets.on(page)
    url = site.page(
        host_server, f"<p>Before {tag(BALANCE, **attributes)} <b id='after'>after</b></p><p id='below'>Below</p>"
    )
    await page.goto(url)
    button = page.get_by_role("button", name="Top up")
    await expect(balance(page)).to_have_text("…")
    pieces = [BALANCE, f"{BALANCE} .label", f"{BALANCE} .button", "#after", "#below"]
    await expect(button).to_be_enabled()
    connecting = await boxes(page, pieces)
    sockets.release()
    for credits, shown in ((0, "1,000"), (1, "999"), (990, "9"), (5, "4"), (4, "0")):
        if credits:
            spend(host_api, customer, credits)
        await expect(balance(page)).to_have_text(shown)
        assert await boxes(page, pieces) == connecting, f"things moved at {shown}"
    grant(host_api, customer, 5_000)
    await expect(balance(page)).to_have_text("5,000")
    await expect(page.locator(f"{BALANCE} .flash")).to_be_visible()
    assert await boxes(page, pieces) == connecting, "things moved as credits landed"
    hold = {"customer_id": customer, "event": "agent.run"}
    host_api.post("/v1/holds", json=hold).raise_for_status()
    await expect(page.locator(f"{BALANCE} .held")).to_have_text("25 held")
    assert await boxes(page, pieces) == connecting, "things moved as credits were held"


async def test_a_first_paint_has_the_place_of_the_button(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str
) -> None:
    page = await open_page("about:blank")
    answer = "**/token"
    url = site.token_url(lambda: host_server.token(customer), f"/{secrets.token_hex(4)}/token")
    box = "document.querySelector('chargly-balance').getBoundingClientRect().width"
    widths: list[float] = []

    async def measured(route: Route) -> None:
        widths.append(await page.evaluate(box))
        await route.continue_()

    await page.route(answer, measured)
    await page.goto(site.page(host_server, tag(BALANCE, token_url=url)))
    await expect(balance(page)).to_have_text("1,000")
    widths.append(await page.evaluate(box))
    assert widths[0] == widths[1], f"it was {widths[0]} px wide before it had a token, and is {widths[1]}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_forced_colours_keep_every_outline_and_word(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, scheme: str
) -> None:
    url = site.page(host_server, everything(token=host_server.token(customer)))
    page = await open_page(url, forced_colors="active", color_scheme=scheme)
    await all_there(page)
    for piece in (f"{BALANCE} .button", f"{BALANCE} .base", f"{TOP_UP} .pack", f"{ACTIVITY} .csv"):
        drawn = page.locator(piece).first
        await expect(drawn, f"{piece} has no outline").to_have_css("border-top-style", "solid")
        await expect(drawn, f"{piece} has no outline").not_to_have_css("border-top-color", "rgba(0, 0, 0, 0)")
    spend(host_api, customer, 1_000)
    await expect(page.locator(f"{BALANCE} .status")).to_have_text("Out of credits")
    ink, paper = await balance(page).evaluate(
        "(node) => [getComputedStyle(node).color, getComputedStyle(node.closest('.base')).backgroundColor]"
    )
    assert ink != paper


async def test_reduced_motion_stills_the_flash_and_the_packs(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page(
        site.page(host_server, everything(token=host_server.token(customer))), reduced_motion="reduce"
    )
    await all_there(page)
    grant(host_api, customer, 5)
    await expect(page.locator(f"{BALANCE} .flash")).to_have_text("+5")
    await page.get_by_role("button", name="Top up").click()
    for piece in (".flash", ".menu"):
        await expect(page.locator(f"{BALANCE} {piece}")).to_have_css("animation-name", "none")


@pytest.mark.parametrize("width", [320, 1280])
async def test_a_label_of_300_characters_and_9_quadrillion_credits_stay_inside(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, width: int
) -> None:
    much = {"customer_id": customer, "type": "wallet", "epoch": "a ledger", "version": 10**9, "low": False, "prices": 0}
    state = {
        **much,
        "balance": 9 * 10**15,
        "held": 10**15,
        "available": 8 * 10**15,
        "entries": [],
        "gap": False,
        "at": "",
    }
    page = await open_page("about:blank", viewport={"width": width, "height": 900})
    await page.route_web_socket(
        "**/v1/live", lambda socket: socket.on_message(lambda _: socket.send(json.dumps(state)))
    )
    await page.goto(site.page(host_server, everything(token=host_server.token(customer), label=LONG)))
    await expect(balance(page)).to_have_text("9,000,000,000,000,000")
    await expect(page.locator(f"{PRICE} .covers")).to_have_text("· 1,000,000,000,000,000 left")
    assert await page.evaluate(OVERLAPS) == []
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    label = await page.locator(f"{BALANCE} .label").bounding_box()
    assert label is not None
    assert label["height"] < 30, f"the label is {label['height']} px high"


async def test_a_wallet_in_debt_shows_its_debt(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    host_api.patch(f"/v1/wallets/{customer}", json={"overdraft_limit": 10}).raise_for_status()
    spend(host_api, customer, 1_003)
    page = await open_page(site.page(host_server, everything(token=host_server.token(customer))))
    await expect(balance(page)).to_have_text("-3")
    await expect(page.locator(f"{PRICE} .covers")).to_have_text("· 1 more needed")
    await expect(page.locator(f"{ACTIVITY} .row").first).to_contain_text("-3 left")
    host_api.patch(f"/v1/wallets/{customer}", json={"overdraft_limit": 0}).raise_for_status()
    await expect(page.locator(f"{PRICE} .covers")).to_have_text("· 11 more needed")  # a debt is paid first
    await expect(page.locator(f"{BALANCE} .status")).to_have_text("Out of credits")


async def test_a_description_of_200_characters_without_a_space_stays_in_its_row(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    charges(host_api, customer, ["chat.reply", "x" * 100])
    narrow = {"width": 320, "height": 700}
    page = await open_page(site.page(host_server, everything(token=host_server.token(customer))), viewport=narrow)
    await expect(page.locator(f"{ACTIVITY} .row")).to_have_count(3)
    assert await page.evaluate("document.documentElement.scrollWidth") == narrow["width"]
    assert await page.evaluate(OVERLAPS) == []
