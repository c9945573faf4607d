"""Pages that the server turns away: they neither press on nor give up."""

import os

import pytest
from browser.conftest import OpenPage
from browser.elements import BALANCE, PRICE, Traffic, in_state, tag
from browser.host import Site
from serving import ServerProcess

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Page, WebSocketRoute, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

LOOK = "document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))"


async def refuse(page: Page, code: int) -> list[WebSocketRoute]:
    """Closes each websocket of a page at its first message; gives them."""
    refused: list[WebSocketRoute] = []

    async def closed(socket: WebSocketRoute) -> None:
        refused.append(socket)
        socket.on_message(lambda _: socket.close(code=code))

    await page.route_web_socket("**/v1/live", closed)
    return refused


async def test_a_full_server_is_not_asked_again_by_a_look_at_the_page(
    open_page: OpenPage, site: Site, host_server: ServerProcess
) -> None:
    page = await open_page("about:blank", expected="unreachable")
    await page.clock.install()
    refused = await refuse(page, 4429)
    await page.goto(site.page(host_server, tag(BALANCE, token=host_server.token("ada"))))
    await page.clock.run_for(3_000)
    await expect(page.locator(f"{BALANCE} .status")).to_have_text("Connecting…")
    for _ in range(5):
        await page.evaluate(LOOK)
        await page.clock.run_for(5_000)
    assert len(refused) == 1
    for _ in range(35):  # in steps, for the refusal itself comes in real time
        await page.clock.run_for(1_000)
    assert 2 <= len(refused) <= 3


async def test_an_origin_that_is_not_allowed_asks_for_no_more_prices(
    open_page: OpenPage, site: Site, server: ServerProcess
) -> None:
    page = await open_page("about:blank", expected="origin_not_allowed|CORS|ERR_FAILED")
    await page.clock.install()
    traffic = Traffic(page)
    await page.goto(site.page(server, tag(PRICE, token=server.token("ada"), event="chat.reply")))
    await in_state(page.locator(PRICE), "error")
    asked = len(traffic.to("/v1/quote"))
    for _ in range(60):
        await page.clock.run_for(1_000)
    assert len(traffic.to("/v1/quote")) == asked


async def test_tokens_that_no_server_takes_are_asked_for_less_and_less(
    open_page: OpenPage, site: Site, host_server: ServerProcess
) -> None:
    page = await open_page("about:blank", expected="token_expired|unreachable")
    await page.clock.install()
    await refuse(page, 4401)
    traffic = Traffic(page)
    url = site.token_url(lambda: host_server.token("ada"))
    await page.goto(site.page(host_server, tag(BALANCE, token_url=url)))
    path = url.removeprefix(site.origin)
    for _ in range(240):
        await page.clock.run_for(1_000)
    asked = len(traffic.to(path))
    assert 8 <= asked <= 60, f"{asked} tokens in four minutes"
