"""`chargly demo` as a visitor sees it: the page, the sandbox's checkout, and the page that they return to."""

import os
import re
from collections.abc import Iterator

import httpx
import pytest
from browser.conftest import OpenPage
from browser.host import STATIC
from serving import ServerProcess

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Locator, Page, Response, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

CUSTOMER = "demo"
DECLINED = r"status of 402 \(Payment Required\)"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A demo whose agents rest."""
    running = ServerProcess(tmp_path_factory.mktemp("demo"), "demo").start()
    with running.client() as api:
        traffic(api, running=False)
    yield running
    running.stop()


@pytest.fixture
def credits_left(demo: ServerProcess) -> Iterator[int]:
    """The demo's wallet, filled to 1,000 credits while the agents rest, whatever the test before left on."""
    with demo.client() as api:
        traffic(api, running=False)
        fill(api, 1_000)
        yield 1_000


def traffic(api: httpx.Client, *, running: bool) -> None:
    api.put("/demo/autoplay", json={"running": running, "speed": "fast"}).raise_for_status()


def fill(api: httpx.Client, credits: int) -> None:
    """Brings the demo's wallet to a balance. An agent may spend between the reading and the change: then once more."""
    for _ in range(20):
        missing = credits - api.get(f"/v1/wallets/{CUSTOMER}").json()["balance"]
        if not missing:
            return
        change = {"credits": missing, "reason": "test"}
        answer = api.post(f"/v1/wallets/{CUSTOMER}/adjustments", json=change)
        if answer.status_code == httpx.codes.PAYMENT_REQUIRED:
            continue
        answer.raise_for_status()
        if answer.json()["balance"] == credits:
            return
    pytest.fail(f"The wallet did not come to rest at {credits} credits")


def balance(page: Page) -> Locator:
    return page.locator("chargly-balance.hero .balance")


def newest(page: Page) -> Locator:
    """The newest row of the ledger."""
    return page.locator("chargly-activity .row").first


def action(page: Page, label: str) -> Locator:
    return page.locator("#action-list").get_by_role("button", name=label)


async def test_an_action_drains_and_writes_a_line(open_page: OpenPage, demo: ServerProcess, credits_left: int) -> None:
    page = await open_page(f"{demo.address}/demo")
    await expect(balance(page)).to_have_text("1,000")
    await action(page, "Chat reply").click()
    await expect(balance(page)).to_have_text("992")
    await expect(newest(page)).to_contain_text("Chat reply")
    await expect(newest(page)).to_contain_text("-8")
    await expect(newest(page)).to_contain_text("992 left")
    await expect(action(page, "Chat reply")).to_contain_text("8 credits · 124 left")
    await expect(page.locator("#latency")).to_have_text(re.compile(r"^\d+ ms$"))
    await expect(page.locator(".preview chargly-balance .balance")).to_have_text("992")


async def test_agents_drain_by_themselves_and_wait_when_it_is_empty(
    open_page: OpenPage, demo: ServerProcess, credits_left: int
) -> None:
    with demo.client() as api:
        page = await open_page(f"{demo.address}/demo")
        await expect(balance(page)).to_have_text("1,000")
        switch = page.get_by_role("switch", name="Agent traffic")
        await switch.click()
        await expect(switch).to_be_checked()
        await expect(balance(page)).not_to_have_text("1,000")
        fill(api, 3)
        await expect(page.locator("#autoplay-note")).to_have_text("Out of credits: agents wait for a top-up")
        await expect(action(page, "Chat reply")).to_contain_text("Needs 8, you have")
        await action(page, "Chat reply").click(force=True)
        await expect(page.locator("#notice")).to_contain_text("Top up to go on.")
        traffic(api, running=False)
        fill(api, 1_000)
        await expect(page.locator("#notice")).to_be_hidden()


async def test_a_pack_bought_in_the_sandbox_lands_in_the_open_page(
    open_page: OpenPage, demo: ServerProcess, credits_left: int
) -> None:
    page = await open_page(f"{demo.address}/demo", expected=DECLINED)
    await expect(balance(page)).to_have_text("1,000")
    packs = page.locator("chargly-top-up")
    async with page.expect_popup() as popup:
        await packs.get_by_role("button", name="500 credits Starter $10.00").click()
    checkout = await popup.value
    await expect(checkout.locator("#amount")).to_have_text("$10.00")
    await expect(packs).to_contain_text("Waiting for payment…")

    await checkout.get_by_text("Is declined").click()
    await checkout.get_by_role("button", name="Pay $10.00").click()
    await expect(checkout.get_by_role("alert")).to_have_text("Your card was declined.")
    await expect(checkout.locator("#card")).to_have_attribute("aria-invalid", "true")
    await checkout.get_by_text("Succeeds").click()
    await expect(checkout.get_by_role("alert")).to_have_text("")
    await checkout.get_by_role("button", name="Pay $10.00").click()

    await expect(checkout.get_by_role("heading", name="500 credits landed")).to_be_visible()
    await expect(balance(page)).to_have_text("1,500")
    await expect(packs).to_contain_text("500 credits added.")
    await expect(newest(page)).to_contain_text("Top-up")


async def test_a_second_window_shows_the_same(open_page: OpenPage, demo: ServerProcess, credits_left: int) -> None:
    page = await open_page(f"{demo.address}/demo")
    async with page.context.expect_page() as opened:
        await page.get_by_role("link", name="Open a second window").click()
    second = await opened.value
    await expect(balance(second)).to_have_text("1,000")
    await action(page, "Image generation").click()
    for window in (page, second):
        await expect(balance(window)).to_have_text("960")
        await expect(newest(window)).to_contain_text("Image generation")


@pytest.mark.parametrize("width", [390, 1280])
async def test_the_page_stays_in_its_width_and_does_not_move(
    open_page: OpenPage, demo: ServerProcess, credits_left: int, width: int
) -> None:
    page = await open_page(f"{demo.address}/demo", viewport={"width": width, "height": 844}, reduced_motion="reduce")
    await expect(page.locator("chargly-top-up .pack")).to_have_count(2)
    await expect(balance(page)).to_have_text("1,000")
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    heights = "[...document.querySelectorAll('.board, #chart')].map((node) => node.offsetHeight)"
    before = await page.evaluate(heights)
    for left in ("992", "984", "976"):  # each draws the chart again
        await action(page, "Chat reply").click()
        await expect(newest(page)).to_contain_text(f"{left} left")
    assert await page.evaluate(heights) == before


async def test_keys_alone_reach_and_press_an_action(
    open_page: OpenPage, demo: ServerProcess, credits_left: int
) -> None:
    page = await open_page(f"{demo.address}/demo")
    await expect(balance(page)).to_have_text("1,000")
    wanted = action(page, "Chat reply")
    await expect(wanted).to_be_visible()
    for _ in range(12):
        await page.keyboard.press("Tab")
        if await wanted.evaluate("(node) => node === document.activeElement"):
            break
    await expect(wanted).to_be_focused()
    assert await wanted.evaluate("(node) => getComputedStyle(node).outlineStyle") == "solid"
    await page.keyboard.press("Enter")
    await expect(balance(page)).to_have_text("992")
    await page.keyboard.press("Space")
    await expect(balance(page)).to_have_text("984")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_balance_can_be_read(
    open_page: OpenPage, demo: ServerProcess, credits_left: int, scheme: str
) -> None:
    page = await open_page(f"{demo.address}/demo", color_scheme=scheme)
    await expect(balance(page)).to_have_text("1,000")
    ink, paper = await balance(page).evaluate(
        """(node) => {
          let behind = node;
          const background = () => getComputedStyle(behind).backgroundColor;
          while (/^rgba\\(.*, 0\\)$/.test(background())) behind = behind.parentElement ?? behind.getRootNode().host;
          return [getComputedStyle(node).color, background()];
        }"""
    )
    assert contrast(ink, paper) >= 4.5
    assert (luminance(paper) < 0.2) == (scheme == "dark")


def luminance(color: str) -> float:
    """The relative luminance of `rgb(…)`, as WCAG defines it."""
    found = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", color)
    assert found, color
    parts = (int(part) / 255 for part in found.groups())
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


async def test_every_file_of_ours_is_loaded_without_error(open_page: OpenPage, demo: ServerProcess) -> None:
    # The sandbox knows no such session; the gallery shows what goes wrong, too.
    page = await open_page("about:blank", expected="status of 404|^<chargly-")
    answers: dict[str, int] = {}

    def note(response: Response) -> None:
        if "/static/" in response.url:
            answers[response.url.rpartition("/")[2]] = response.status

    page.on("response", note)
    for path in ("/demo", "/static/gallery.html", "/sandbox", "/sandbox/pay/none", "/top-up/return"):
        await page.goto(f"{demo.address}{path}", wait_until="networkidle" if path != "/demo" else "load")
        # A Chromium without windows shows no icon, and so asks for none.
        await page.evaluate("fetch(document.querySelector('link[rel=icon]').href)")
    files = {file.name for file in STATIC.iterdir() if file.is_file()}
    assert {name for name in files if not name.endswith((".html", ".d.ts"))} == set(answers) - {"gallery.html"}
    assert set(answers.values()) <= {200, 304}
    with demo.client() as api:
        for name in files:
            assert api.get(f"/static/{name}").status_code == 200, name
