"""`<chargly-balance>` on a page of somebody else's origin, against a real server."""

import gzip
import os
import re
import secrets
import sys

import httpx
import pytest
from browser.conftest import OpenPage
from browser.host import WIDGET, Site
from serving import ServerProcess, StartServer, charge, grant

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import ConsoleMessage, Locator, Page, WebSocket, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

REFUSED = "ERR_CONNECTION_(REFUSED|RESET)"


@pytest.fixture
def customer(host_api: httpx.Client) -> str:
    """A customer with 100 credits."""
    made = f"user_{secrets.token_hex(6)}"
    grant(host_api, made, 100)
    return made


def element(server: ServerProcess, customer: str, **fields: object) -> str:
    return f'<chargly-balance token="{server.token(customer, **fields)}"></chargly-balance>'


def balance(page: Page) -> Locator:
    return page.locator("chargly-balance .balance")


def status(page: Page) -> Locator:
    return page.locator("chargly-balance .status")


def said(page: Page) -> Locator:
    return page.get_by_role("group").get_by_role("status").and_(page.locator(".said"))


def spend(api: httpx.Client, customer: str, credits: int) -> None:
    assert charge(api, customer, credits=credits).status_code == 201


class Sockets:
    """The websockets that a page opened, and what it sent on them."""

    def __init__(self, page: Page) -> None:
        self.opened = 0
        self.sent: list[str | bytes] = []
        page.on("websocket", self._on_socket)

    def _on_socket(self, socket: WebSocket) -> None:
        self.opened += 1
        socket.on("framesent", self._on_sent)

    def _on_sent(self, frame: str | bytes) -> None:
        self.sent.append(frame)


async def test_balance_drains_live_in_a_strict_page(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page(site.page(host_server, element(host_server, customer)))
    await expect(balance(page)).to_have_text("100")
    for left in ("92", "84", "76"):
        assert charge(host_api, customer).status_code == 201
        await expect(balance(page)).to_have_text(left)
    grant(host_api, customer, 1_500)
    await expect(page.locator("chargly-balance .flash")).to_have_text("+1,500")
    await expect(balance(page)).to_have_text("1,576")
    await expect(said(page)).to_have_text("1,500 credits added. 1,576 left")


async def test_restart_of_the_server_needs_no_reload(
    open_page: OpenPage, site: Site, new_server: StartServer, customer_id: str
) -> None:
    server = new_server(CHARGLY_ALLOWED_ORIGINS=site.origin)
    with server.client() as api:
        grant(api, customer_id, 100)
        page = await open_page(site.page(server, element(server, customer_id)), expected=REFUSED)
        loads: list[str] = []
        page.on("load", lambda loaded: loads.append(loaded.url))
        await expect(balance(page)).to_have_text("100")

        server.stop()
        await expect(status(page)).to_have_text("Reconnecting…")
        await expect(balance(page)).to_have_css("opacity", "0.5")
        await expect(balance(page)).to_have_text("100")
        assert await page.evaluate("document.querySelector('chargly-balance').matches(':state(offline)')")

        server.start()
        spend(api, customer_id, 8)
        await expect(balance(page)).to_have_text("92", timeout=20_000)
        await expect(status(page)).to_have_text("")
        spend(api, customer_id, 8)
        await expect(balance(page)).to_have_text("84")
        assert loads == []


async def test_token_is_renewed_in_place_before_it_ends(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    url = site.token_url(lambda: host_server.token(customer, expires_in=3))
    page = await open_page("about:blank")
    sockets = Sockets(page)
    async with page.expect_request(url):
        await page.goto(site.page(host_server, f'<chargly-balance token-url="{url}"></chargly-balance>'))
    await expect(balance(page)).to_have_text("100")
    for _ in range(2):  # when the third token is fetched, the first has ended
        async with page.expect_response(url):
            pass
    spend(host_api, customer, 8)
    await expect(balance(page)).to_have_text("92")
    await expect(status(page)).to_have_text("")
    assert sockets.opened == 1
    assert len(set(sockets.sent)) >= 2


async def test_renewal_in_a_silent_wallet_keeps_the_socket(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page("about:blank")
    sockets = Sockets(page)
    await page.clock.install()
    await page.goto(site.page(host_server, element(host_server, customer)))
    await expect(balance(page)).to_have_text("100")
    newer = host_server.token(customer, expires_in=1_800)
    await page.locator("chargly-balance").evaluate("(node, token) => node.setAttribute('token', token)", newer)
    await page.clock.fast_forward(15_000)
    spend(host_api, customer, 8)
    await expect(balance(page)).to_have_text("92")
    assert sockets.opened == 1
    assert [newer in str(frame) for frame in sockets.sent] == [False, True]


async def test_elements_of_one_wallet_share_a_socket(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    elements = element(host_server, customer) * 2 + element(host_server, customer, scopes=["read"])
    page = await open_page("about:blank")
    sockets = Sockets(page)
    await page.goto(site.page(host_server, elements))
    await expect(balance(page)).to_have_text(["100"] * 3)
    await page.evaluate("document.querySelector('chargly-balance').remove()")
    spend(host_api, customer, 8)
    await expect(balance(page)).to_have_text(["92"] * 2)
    assert sockets.opened == 1


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
async def test_reduced_motion_shows_the_value_at_once(
    open_page: OpenPage,
    site: Site,
    host_server: ServerProcess,
    host_api: httpx.Client,
    customer: str,
    motion: str,
) -> None:
    page = await open_page(site.page(host_server, element(host_server, customer)), reduced_motion=motion)
    await expect(balance(page)).to_have_text("100")
    await balance(page).evaluate(
        "(node) => { window.shown = [];"
        " new MutationObserver(() => window.shown.push(node.textContent)).observe(node, { childList: true }); }"
    )
    spend(host_api, customer, 60)
    await expect(balance(page)).to_have_text("40")
    shown = await page.evaluate("window.shown")
    assert shown[-1] == "40"
    assert (shown == ["40"]) == (motion == "reduce")


async def test_low_is_said_once_and_empty_is_said(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    host_api.patch(f"/v1/wallets/{customer}", json={"low_balance_threshold": 50}).raise_for_status()
    page = await open_page(site.page(host_server, element(host_server, customer)))
    falls: list[str] = []
    page.on("console", lambda message: falls.append(message.text) if message.text.startswith("chargly-low") else None)
    await expect(balance(page)).to_have_text("100")
    await expect(status(page)).to_have_text("")

    spend(host_api, customer, 60)
    await expect(status(page)).to_have_text("Running low")
    await expect(said(page)).to_have_text("Running low: 40 left")
    assert await page.evaluate("document.querySelector('chargly-balance').matches(':state(low)')")
    spend(host_api, customer, 10)
    await expect(balance(page)).to_have_text("30")
    await expect(said(page)).to_have_text("Running low: 40 left")

    spend(host_api, customer, 30)
    await expect(status(page)).to_have_text("Out of credits")
    await expect(said(page)).to_have_text("Out of credits")
    await expect(balance(page)).to_have_text("0")
    assert await page.evaluate("document.querySelector('chargly-balance').matches(':state(empty)')")
    assert len(falls) == 1

    grant(host_api, customer, 100)
    await expect(balance(page)).to_have_text("100")
    spend(host_api, customer, 60)
    await expect(said(page)).to_have_text("Running low: 40 left")
    assert len(falls) == 2


async def test_what_came_in_behind_a_gap_is_not_announced_in_part(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page(site.page(host_server, element(host_server, customer)), expected="ERR_INTERNET_DISCONNECTED")
    await expect(balance(page)).to_have_text("100")
    await page.context.set_offline(True)
    await expect(status(page)).to_have_text("Reconnecting…")
    for _ in range(25):  # more than the entries that come with a state
        grant(host_api, customer, 100)
    await page.context.set_offline(False)
    await expect(balance(page)).to_have_text("2,600")
    await expect(page.locator("chargly-balance .flash")).to_be_hidden()
    await expect(said(page)).to_have_text("")


async def test_a_caption_may_be_left_out_and_the_name_stays(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str
) -> None:
    tag = f'<chargly-balance label="" token="{host_server.token(customer)}"></chargly-balance>'
    page = await open_page(site.page(host_server, tag))
    await expect(balance(page)).to_have_text("100")
    await expect(page.locator("chargly-balance .label")).to_have_text("")
    await expect(page.locator("chargly-balance .base")).to_have_accessible_name("Credits")


async def test_top_up_only_where_the_token_allows_it(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str
) -> None:
    page = await open_page(site.page(host_server, element(host_server, customer, scopes=["read"])))
    await expect(balance(page)).to_have_text("100")
    await expect(page.get_by_role("button")).to_have_count(0)

    buyer = host_server.token(customer, scopes=["read", "top_up"])
    await page.locator("chargly-balance").evaluate("(node, token) => node.setAttribute('token', token)", buyer)
    await expect(page.get_by_role("button", name="Top up")).to_be_visible()


@pytest.mark.parametrize("how", ["Enter", "Space", "click"])
async def test_top_up_opens_packs_that_keys_alone_reach(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str, how: str
) -> None:
    page = await open_page(site.page(host_server, element(host_server, customer)))
    button = page.get_by_role("button", name="Top up")
    await expect(button).to_be_visible()
    menu = page.locator("chargly-balance .menu")
    await expect(menu).to_be_hidden()
    if how == "click":
        await button.click()
    else:
        await page.keyboard.press("Tab")
        await expect(button).to_be_focused()
        await page.keyboard.press(how)
    await expect(menu).to_be_visible()
    await expect(menu).to_have_accessible_name("Top up")
    packs = menu.get_by_role("listitem").get_by_role("button")
    await expect(packs).to_have_text(["500 creditsStarter$10.00", "1,200 creditsGrowth$20.00"])
    for pack in await packs.all():
        await page.keyboard.press("Tab")
        await expect(pack).to_be_focused()
        assert await pack.evaluate("(node) => getComputedStyle(node).outlineStyle") == "solid"
    await page.keyboard.press("Escape")
    await expect(menu).to_be_hidden()
    await expect(button).to_be_focused()


async def test_an_origin_that_is_not_allowed_sees_no_balance(
    open_page: OpenPage, site: Site, server: ServerProcess, customer_id: str
) -> None:
    with server.client() as api:
        grant(api, customer_id, 100)
    page = await open_page("about:blank", expected="CHARGLY_ALLOWED_ORIGINS")

    def refused(message: ConsoleMessage) -> bool:
        return message.text.startswith("chargly-error")

    async with page.expect_console_message(refused) as waited:
        await page.goto(site.page(server, element(server, customer_id)))
    assert '"code":"origin_not_allowed"' in (await waited.value).text
    await expect(balance(page)).to_have_text("–")
    await expect(status(page)).to_have_text("Unavailable")
    await expect(page.get_by_role("button")).to_have_count(0)


async def test_a_token_that_is_none_is_an_error(open_page: OpenPage, site: Site, host_server: ServerProcess) -> None:
    page = await open_page(
        site.page(host_server, '<chargly-balance token="nonsense"></chargly-balance>'), expected="invalid_token"
    )
    await expect(status(page)).to_have_text("Unavailable")
    await expect(balance(page)).to_have_text("–")


async def test_widget_is_one_small_file() -> None:
    source = WIDGET.read_text(encoding="utf-8")
    assert not re.search(r"^\s*import\b|\bimport\(|\bfrom \"", source, re.MULTILINE)
    size = len(gzip.compress(source.encode(), mtime=0))
    sys.stdout.write(f"widget.js is {size:,} bytes gzipped\n")
    assert size <= 12_000, f"{size - 12_000} bytes too many"
