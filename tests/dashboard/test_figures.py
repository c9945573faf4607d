"""What the dashboard shows is what the server answers; and its charts are read without seeing them."""

import csv
import os
import re
import secrets
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from dashboard.conftest import OpenView
from payments.waiting import eventually
from serving import charge

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Locator, Page, Response, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def chart(page: Page, title: str) -> Locator:
    return page.get_by_role("figure", name=title, exact=True)


def tile(page: Page, name: str) -> Locator:
    return page.locator(".tile").filter(has=page.get_by_text(name, exact=True)).locator(".figure")


async def answer_of(page: Page, path: str, **query: str) -> dict[str, Any]:
    """What the server answers for the time until now while the page is loaded again: what is shown is of that."""

    def is_it(response: Response) -> bool:
        url = httpx.URL(response.url)
        until = datetime.fromisoformat(url.params["to"]) if "to" in url.params else datetime.now(UTC)
        same = all(url.params.get(name) == value for name, value in query.items())
        return url.path == path and same and until > datetime.now(UTC) - timedelta(hours=1)

    async with page.expect_response(is_it) as found:
        await page.reload()
    answer: dict[str, Any] = await (await found.value).json()
    await expect(page.locator(".view h1")).to_be_visible()
    return answer


async def test_the_tiles_have_what_the_overview_has(open_view: OpenView) -> None:
    page = await open_view("overview")
    overview = await answer_of(page, "/v1/overview")
    assert overview["credits_out"] > 10_000
    thousands = (Decimal(overview["credits_out"]) / 1000).quantize(Decimal("0.1"), ROUND_HALF_UP)
    await expect(tile(page, "Credits out")).to_have_text(f"{thousands:f}K".replace(".0K", "K"))
    await expect(tile(page, "Margin on use")).to_have_text(f"{overview['margin_percent']:g}\u00a0%".replace("-", "−"))
    await expect(tile(page, "Wallets")).to_have_text(str(overview["wallets"]))
    shown = await tile(page, "Top-up revenue").inner_text()
    for amount in overview["top_up_revenue"].values():
        assert f"{amount / 100:,.2f}" in shown
    assert len(overview["top_up_revenue"]) == 2  # euros and dollars, which are not added up


def named(one: dict[str, Any]) -> str:
    return one["event"] if one["label"] == one["event"] else f"{one['label']} ({one['event']})"


async def test_the_verdict_names_what_needs_somebody(open_view: OpenView) -> None:
    page = await open_view("overview")
    events = (await answer_of(page, "/v1/usage/events"))["events"]
    verdict = page.locator(".verdict")
    losing = [one for one in events if one["loss_usd"] != "0"]
    [spike] = [one for one in events if one["is_spike"]]
    drifting = [one for one in events if one["is_drifting"]]
    assert losing
    assert drifting
    for one in losing:
        await expect(verdict.get_by_role("link", name=f"{named(one)} loses money")).to_be_visible()
    week = spike["weeks"][-1]["count"]
    await expect(verdict.get_by_role("link", name=f"{named(spike)} spikes: {week} in")).to_be_visible()
    for one in drifting:
        await expect(verdict.get_by_role("link", name=f"A unit of {named(one)} costs")).to_be_visible()
    await expect(verdict.get_by_role("link", name=re.compile(r"wallets? (is|are) low"))).to_be_visible()
    await verdict.get_by_role("link", name="are low").click()
    await expect(page.get_by_label("State")).to_have_value("low")


async def test_a_chart_is_read_by_keys(open_view: OpenView) -> None:
    page = await open_view("overview")
    flows = (await answer_of(page, "/v1/flows"))["rows"]
    mine = chart(page, "Credits in by kind")
    plot = mine.get_by_role("group")
    heard = mine.get_by_role("status")
    await plot.focus()
    await page.keyboard.press("End")
    last, before = flows[-1]["credits_in"], flows[-2]["credits_in"]
    await expect(heard).to_contain_text(f": {sum(last.values()):,} credits")
    await page.keyboard.press("ArrowLeft")
    await expect(heard).to_contain_text(f": {sum(before.values()):,} credits")
    await expect(mine.locator(".readout")).to_be_visible()
    await page.keyboard.press("Home")
    await page.keyboard.press("ArrowLeft")  # and no further
    await expect(heard).to_contain_text(f": {sum(flows[0]['credits_in'].values()):,} credits")
    await page.keyboard.press("Escape")
    await expect(mine.locator(".readout")).to_be_hidden()


async def test_a_chart_is_a_table_and_a_file_too(open_view: OpenView, tmp_path: Path) -> None:
    page = await open_view("overview")
    flows = (await answer_of(page, "/v1/flows"))["rows"]
    bought = [row["credits_in"].get("top_up", 0) for row in flows]
    mine = chart(page, "Credits issued")
    await mine.get_by_role("button", name="Table: Credits issued").press("Enter")
    header = await mine.locator("thead th").all_inner_texts()
    column = header.index("Bought")
    cells = [await row.locator("th, td").all_inner_texts() for row in await mine.locator("tbody tr").all()]
    assert [int(row[column].replace(",", "")) for row in cells] == bought
    await expect(mine.locator(".plot")).to_be_hidden()
    async with page.expect_download() as downloading:
        await mine.get_by_role("button", name="CSV: Credits issued").click()
    saved = tmp_path / "credits-issued.csv"
    await (await downloading.value).save_as(saved)
    with saved.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == header
    assert [int(row[column]) for row in rows[1:]] == bought
    await mine.get_by_role("button", name="Chart: Credits issued").click()
    await expect(mine.locator(".plot")).to_be_visible()


async def test_a_year_goes_by_weeks(open_view: OpenView) -> None:
    page = await open_view("overview")
    await page.get_by_role("link", name="A year").click()
    await expect(page.get_by_role("link", name="A year")).to_have_attribute("aria-current", "true")
    bars = chart(page, "Credits out by event").get_by_role("group")
    await expect(bars).to_have_attribute("aria-label", re.compile("5[34] bars"))
    await page.go_back()
    await expect(bars).to_have_attribute("aria-label", re.compile("30 bars"))


async def test_usage_is_shown_by_each_grouping(open_view: OpenView) -> None:
    page = await open_view("usage")
    for group, title in (("event", "Event"), ("model", "Model"), ("customer", "Customer")):
        await page.get_by_role("link", name=f"By {group}").click()
        await expect(page.get_by_role("link", name=f"By {group}")).to_have_attribute("aria-current", "true")
        await expect(page.get_by_role("columnheader", name=title).last).to_be_visible()
        rows = (await answer_of(page, "/v1/usage", group_by=group))["rows"]
        most: dict[str | None, int] = {}
        for row in rows:
            most[row[group]] = most.get(row[group], 0) + row["credits"]
        table = page.get_by_role("group", name="Totals")
        most["All"] = sum(most.values())
        await expect(table.locator("tbody tr")).to_have_count(len(most))
        shown = {
            (await row.locator("th").inner_text()): await row.locator("td").nth(2).inner_text()
            for row in await table.locator("tbody tr").all()
        }
        assert sorted(int(credits.replace(",", "").replace("−", "-")) for credits in shown.values()) == sorted(
            most.values()
        )
    await page.get_by_role("group", name="Totals").get_by_role("link").first.click()
    await expect(page.get_by_role("heading", name="Ledger")).to_be_visible()


async def test_the_csv_of_usage_is_the_servers(open_view: OpenView) -> None:
    page = await open_view("usage?days=7")
    async with page.expect_download() as downloading:
        await page.get_by_role("button", name="CSV by period").click()
    text = Path(await (await downloading.value).path()).read_text()
    assert text.startswith("period,event,count,reversed,quantity,credits,")
    assert len(text.splitlines()) > 20


async def test_one_card_that_cannot_be_read_leaves_the_others(open_view: OpenView, api: httpx.Client) -> None:
    page = await open_view("overview")
    refusal = {"error": {"code": "invalid_request", "message": "interval: these are too many.", "field": "interval"}}
    await page.route("**/v1/usage?**", lambda route: route.fulfill(status=400, json=refusal))
    await page.reload()
    await expect(page.get_by_text("interval: these are too many.")).to_be_visible()
    await expect(chart(page, "Credits in by kind")).to_be_visible()
    await page.get_by_role("link", name="7 days").click()
    await expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")


async def test_debt_and_losses_without_revenue_are_told(open_view: OpenView, api: httpx.Client) -> None:
    customer, event = f"user_{secrets.token_hex(4)}", f"test.{secrets.token_hex(4)}"
    api.put(f"/v1/prices/{event}", json={"credits": 9}).raise_for_status()
    api.post("/v1/wallets", json={"customer_id": customer}).raise_for_status()
    api.patch(f"/v1/wallets/{customer}", json={"overdraft_limit": 100}).raise_for_status()
    charge(api, customer, event, cost_usd="90")  # and nobody has paid for a credit of it
    page = await open_view("overview")
    loss = page.locator(".verdict").get_by_role("link", name=f"{event} loses money")
    await expect(loss).to_contain_text("it earned $0.00 and cost $90.00 in 30 days")
    eventually(lambda: api.get("/v1/overview").json()["in_debt_wallets"] > 0)
    await page.reload()
    await page.locator(".verdict").get_by_role("link", name="in debt").click()
    await expect(page.get_by_role("link", name=customer)).to_be_visible()
    api.put(f"/v1/prices/{event}", json={"credits": 9_000}).raise_for_status()
    page = await open_view("overview")
    await expect(page.locator(".verdict").get_by_role("link", name=f"{event} has a new price")).to_be_visible()
    await expect(page.locator(".verdict").get_by_role("link", name=f"{event} loses money")).to_have_count(0)


async def test_times_that_are_looked_at_do_not_change_what_needs_somebody(open_view: OpenView) -> None:
    page = await open_view("overview")
    items = page.locator(".verdict li")
    needs = await items.all_inner_texts()
    for span in ("7 days", "A year"):
        await page.get_by_role("link", name=span).click()
        await expect(page.get_by_role("link", name=span)).to_have_attribute("aria-current", "true")
        assert len(needs) == await items.count()
        assert [text.split(":")[0] for text in await items.all_inner_texts()] == [text.split(":")[0] for text in needs]
