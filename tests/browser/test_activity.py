"""`<chargly-activity>`: the customer's ledger, as the server keeps it."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser.conftest import OpenPage
from browser.elements import (
    ACTIVITY,
    CORS,
    HeldSockets,
    Traffic,
    charges,
    customer_ledger,
    has_heard,
    new_customer,
    set_attribute,
    set_price,
    shows_rows,
    spend,
    tag,
)
from browser.host import Site
from serving import ServerProcess, charge, grant, whole_ledger

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Locator, Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

ENTRIES = "**/entries?*"
"""What it reads at a time."""
LIVE_ENTRIES_MAX = 20
"""What one message of the server carries."""


@pytest.fixture
def customer(host_api: httpx.Client) -> str:
    """A customer with 1,000 credits."""
    return new_customer(host_api, 1_000)


def activity(server: ServerProcess, customer: str, **attributes: str | int) -> str:
    return tag(ACTIVITY, token=server.token(customer), **attributes)


def rows(page: Page) -> Locator:
    return page.locator(f"{ACTIVITY} .row")


def note(page: Page) -> Locator:
    return page.locator(f"{ACTIVITY} .note")


def more(page: Page) -> Locator:
    return page.get_by_role("button", name="Load more")


def alike(count: int) -> Sequence[str]:
    """Events that come by turns, so that no two beside each other make one row."""
    return [("chat.reply", "doc.summarize")[at % 2] for at in range(count)]


async def test_rows_are_the_ledger_in_plain_words_and_new_ones_come_live(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    failed = charge(host_api, customer).json()
    spend(host_api, customer, 12, "doc.summarize")
    host_api.post(f"/v1/events/{failed['id']}/reverse", json={"reason": "a secret of ours"}).raise_for_status()
    spend(host_api, customer, 3, "an.event.without.a.price")
    page = await open_page(site.page(host_server, activity(host_server, customer)))
    ledger = whole_ledger(host_api, customer)
    assert len(ledger) == 5
    await shows_rows(page, ledger)
    await expect(page.locator(ACTIVITY)).not_to_contain_text("secret")

    for event in ("image.generate", "agent.run"):
        assert charge(host_api, customer, event).status_code == 201
        await shows_rows(page, whole_ledger(host_api, customer))
    grant(host_api, customer, 2_500)
    await shows_rows(page, whole_ledger(host_api, customer))
    await expect(rows(page).first).to_have_class("row pair in")
    await expect(more(page)).to_be_hidden()


async def test_a_busy_run_is_one_row_until_something_else_happens(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page(site.page(host_server, activity(host_server, customer)))
    await expect(rows(page)).to_have_count(1)
    for _ in range(5):
        assert charge(host_api, customer).status_code == 201
    latest = rows(page).first
    await expect(latest.locator("b")).to_have_text(["Chat reply × 5", "-40"])
    await expect(latest).to_contain_text("960 left")
    assert charge(host_api, customer, "agent.run").status_code == 201
    assert charge(host_api, customer).status_code == 201
    await expect(rows(page).locator("span:first-child b")).to_have_text(
        ["Chat reply", "Agent run", "Chat reply × 5", whole_ledger(host_api, customer)[-1]["description"]]
    )


async def test_actions_of_two_members_are_two_rows(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page(site.page(host_server, activity(host_server, customer)))
    for member in ("ada", "ada", "bo"):
        assert charge(host_api, customer, member=member).status_code == 201
    await expect(rows(page).locator(".credits")).to_have_text(["-8", "-16", "+1,000"])


async def test_two_top_ups_are_two_rows(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    grant(host_api, customer, 500)
    grant(host_api, customer, 500)
    page = await open_page(site.page(host_server, activity(host_server, customer)))
    await shows_rows(page, whole_ledger(host_api, customer))


async def test_keys_are_not_lost_when_there_is_no_more_to_load(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    charges(host_api, customer, alike(5))
    page = await open_page(site.page(host_server, activity(host_server, customer, rows=4)))
    await more(page).focus()
    await page.keyboard.press("Enter")
    await expect(rows(page)).to_have_count(6)
    await expect(more(page)).to_be_hidden()
    await expect(page.locator(f"{ACTIVITY} .note")).to_be_focused()


async def test_load_more_leads_through_the_whole_ledger_without_gap_or_double(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    charges(host_api, customer, alike(129))
    page = await open_page(site.page(host_server, activity(host_server, customer, rows=30)))
    ledger = whole_ledger(host_api, customer)
    assert len(ledger) == 130
    await shows_rows(page, ledger[:30])
    for shown in (60, 90, 120):
        await more(page).click()
        await shows_rows(page, ledger[:shown])
        assert charge(host_api, customer, "image.generate").status_code == 201
        assert charge(host_api, customer, "agent.run").status_code == 201
        ledger = whole_ledger(host_api, customer)
        await shows_rows(page, ledger[:shown])
    await more(page).click()
    await shows_rows(page, ledger)
    await expect(more(page)).to_be_hidden()


async def test_what_happened_while_the_page_was_away_is_there_when_it_comes_back(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    charges(host_api, customer, alike(70))
    page = await open_page(site.page(host_server, activity(host_server, customer, rows=40)), expected="INTERNET_DISC")
    await more(page).click()
    await shows_rows(page, whole_ledger(host_api, customer))
    for missed, shown in ((6, 77), (LIVE_ENTRIES_MAX + 10, 80)):
        await page.context.set_offline(True)
        charges(host_api, customer, alike(missed))
        await page.context.set_offline(False)
        await shows_rows(page, whole_ledger(host_api, customer)[:shown])
    await more(page).click()
    await shows_rows(page, whole_ledger(host_api, customer))


async def test_what_happens_between_the_first_page_and_the_first_state_is_not_lost(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page("about:blank")
    sockets = await HeldSockets.on(page)
    await page.goto(site.page(host_server, activity(host_server, customer)))
    await page.wait_for_load_state("networkidle")
    assert charge(host_api, customer).status_code == 201
    sockets.release()
    await shows_rows(page, whole_ledger(host_api, customer))


async def test_nothing_yet_and_then_the_first_row(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client
) -> None:
    nobody = f"user_{secrets.token_hex(6)}"
    page = await open_page(site.page(host_server, activity(host_server, nobody)))
    await expect(note(page)).to_have_text("Nothing yet.")
    await expect(page.get_by_role("button")).to_have_count(0)
    grant(host_api, nobody, 1)
    await shows_rows(page, whole_ledger(host_api, nobody))
    await expect(note(page)).to_have_text("")
    await expect(page.get_by_role("button", name="Download CSV")).to_be_visible()


async def test_a_row_that_comes_while_an_empty_ledger_is_read_stays(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client
) -> None:
    made = f"user_{secrets.token_hex(6)}"
    host_api.post("/v1/wallets", json={"customer_id": made}).raise_for_status()
    page = await open_page("about:blank")

    async def late(route: Route) -> None:
        answer = await route.fetch()
        await has_heard(page.locator(ACTIVITY), 0)
        grant(host_api, made, 5)
        await has_heard(page.locator(ACTIVITY), 5)
        await route.fulfill(response=answer)

    await page.route(ENTRIES, late)
    async with page.expect_response(ENTRIES):
        await page.goto(site.page(host_server, activity(host_server, made)))
    await shows_rows(page, whole_ledger(host_api, made))


@pytest.mark.parametrize("how", ["refused", "unreachable"])
async def test_a_ledger_that_cannot_be_read_says_so_and_is_read_at_the_next_try(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, how: str
) -> None:
    page = await open_page("about:blank", expected="status of 500|ERR_FAILED")

    async def fail(route: Route) -> None:
        error = {"error": {"code": "internal", "message": "Something went wrong."}}
        await (route.fulfill(status=500, json=error, headers=CORS) if how == "refused" else route.abort())

    await page.route(ENTRIES, fail)
    await page.goto(site.page(host_server, activity(host_server, customer)))
    await expect(note(page)).to_have_text("That didn’t work. Try again")
    assert charge(host_api, customer).status_code == 201
    await expect(rows(page)).to_have_count(1)
    await expect(note(page), "a row that comes live is not the ledger").to_have_text("That didn’t work. Try again")
    await page.unroute(ENTRIES)
    await page.get_by_role("button", name="Try again").click()
    await shows_rows(page, whole_ledger(host_api, customer))
    await expect(note(page)).to_have_text("")


async def test_a_page_of_it_that_cannot_be_read_is_asked_for_again(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    charges(host_api, customer, alike(70))
    page = await open_page(site.page(host_server, activity(host_server, customer, rows=40)), expected="ERR_FAILED")
    ledger = whole_ledger(host_api, customer)
    await shows_rows(page, ledger[:40])
    await page.route(ENTRIES, lambda route: route.abort())
    await more(page).click()
    await expect(note(page)).to_have_text("That didn’t work. Try again")
    await shows_rows(page, ledger[:50])
    await page.unroute(ENTRIES)
    await page.get_by_role("button", name="Try again").click()
    await shows_rows(page, ledger)
    await expect(note(page)).to_have_text("")


async def test_the_csv_is_the_servers(
    open_page: OpenPage,
    site: Site,
    host_server: ServerProcess,
    host_api: httpx.Client,
    customer: str,
    tmp_path: Path,
) -> None:
    charges(host_api, customer, alike(70))
    set_price(host_api, formula := f"formula.{secrets.token_hex(6)}", 1, label="=1+1, “quoted”")
    assert charge(host_api, customer, formula).status_code == 201
    page = await open_page(site.page(host_server, activity(host_server, customer)), expected="ERR_FAILED")
    button = page.get_by_role("button", name="Download CSV")
    async with page.expect_download() as download:
        await button.click()
    saved = await download.value
    assert saved.suggested_filename == "credits.csv"
    await saved.save_as(tmp_path / "credits.csv")
    assert (tmp_path / "credits.csv").read_bytes() == customer_ledger(host_server, customer)

    await page.route("**/entries", lambda route: route.abort())
    await button.click()
    await expect(note(page)).to_have_text("That didn’t work. Try again")
    await page.unroute("**/entries")
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Try again").click()
    assert Path(await (await download.value).path()).read_bytes() == customer_ledger(host_server, customer)
    await expect(note(page)).to_have_text("")


async def test_rows_is_how_many_are_shown_at_first_and_may_change(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    charges(host_api, customer, alike(119))
    page = await open_page("about:blank")
    traffic = Traffic(page)
    await page.goto(site.page(host_server, activity(host_server, customer, rows=3)))
    for wanted, shown in (("25", 25), ("nonsense", 10), ("0", 10), (None, 10), ("1", 1)):
        await set_attribute(page.locator(ACTIVITY), "rows", wanted)
        await expect(rows(page), f"with rows={wanted}").to_have_count(shown)
    reads = [request for request in traffic.to("/entries") if request.startswith("GET")]
    assert len(reads) == 1, reads


async def test_more_rows_than_a_page_of_the_server_has_are_shown_at_first(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    charges(host_api, customer, alike(119))
    page = await open_page(site.page(host_server, activity(host_server, customer, rows=80)))
    ledger: list[dict[str, Any]] = whole_ledger(host_api, customer)
    await shows_rows(page, ledger[:80])
