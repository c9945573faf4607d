"""The past priced again: what it would have brought in, whom it would have left dry, and that it changes nothing."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import StartServer, balance, charge, error_of

PATH = "/v1/prices/simulate"


@pytest.fixture
def api(new_server: StartServer) -> Iterator[httpx.Client]:
    """A server of this test's own, whose usage is its alone."""
    with new_server().client() as client:
        yield client


def give(api: httpx.Client, customer: str, credits: int, usd_value: str | None = None) -> None:
    """Credits that were paid for where they have a value."""
    money = {"category": "promotional"} if usd_value is None else {"category": "paid", "usd_value": usd_value}
    assert api.post(f"/v1/wallets/{customer}/grants", json={"credits": credits, **money}).status_code == 201


def simulate(api: httpx.Client, days: int = 30, **prices: Any) -> dict[str, Any]:
    named = {event.replace("__", "."): price for event, price in prices.items()}
    answer = api.post(PATH, json={"prices": named, "days": days})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_same_events_at_another_price(api: httpx.Client) -> None:
    give(api, "u", 1_000, usd_value="20")  # 2 cents a credit
    for _ in range(3):
        charge(api, "u", cost_usd="0.05")
    charge(api, "u", model="gpt-5", quantity=2)
    found = simulate(api, chat__reply={"credits": 10, "per_model": {"gpt-5": 30}})
    [row] = found["rows"]
    assert (row["event"], row["count"], row["credits_now"], row["credits_then"]) == ("chat.reply", 4, 40, 90)
    # Of three at 8 credits, 48 cents become 60; of one at 16, 32 become 120.
    assert (row["revenue_usd_now"], row["revenue_usd_then"], row["cost_usd"]) == ("0.8", "1.8", "0.15")
    assert (row["margin_percent_now"], row["margin_percent_then"]) == (81.2, 91.7)
    assert row["wallets_short_then"] == 0
    assert {one["model"]: (one["count"], one["credits_then"]) for one in row["models"]} == {
        None: (3, 30),
        "gpt-5": (1, 60),
    }
    assert {name: found[name] for name in ("count", "credits_then", "revenue_usd_then")} == {
        "count": 4,
        "credits_then": 90,
        "revenue_usd_then": "1.8",
    }
    assert api.get("/v1/prices/chat.reply").json()["version"] == 1
    assert balance(api, "u") == 960


def test_tiers_and_minimums_price_each_event_by_its_own_quantity(api: httpx.Client) -> None:
    give(api, "u", 10_000)
    for quantity in (1, 1, 11, 20):
        charge(api, "u", quantity=quantity)
    tiers = [{"up_to": 10, "credits": 5}, {"up_to": None, "credits": 2}]
    [row] = simulate(api, chat__reply={"credits": 5, "tiers": tiers, "minimum": 8})["rows"]
    assert (row["credits_now"], row["credits_then"]) == (33 * 8, 8 + 8 + 52 + 70)


def test_what_was_reversed_is_left_out_and_what_its_caller_priced_stays(api: httpx.Client) -> None:
    give(api, "u", 1_000)
    failed = charge(api, "u").json()
    api.post(f"/v1/events/{failed['id']}/reverse", json={})
    charge(api, "u", credits=3)
    charge(api, "u", credits=4)
    hold = api.post("/v1/holds", json={"customer_id": "u", "event": "chat.reply"}).json()
    api.post(f"/v1/holds/{hold['id']}/capture", json={})
    [row] = simulate(api, chat__reply={"credits": 100})["rows"]
    assert (row["count"], row["credits_now"], row["credits_then"]) == (3, 15, 107)


def test_wallets_that_would_have_run_dry(api: httpx.Client) -> None:
    for customer, credits in (("rich", 1_000), ("short", 30), ("late", 16)):
        give(api, customer, credits)
    for customer in ("rich", "short", "late"):
        charge(api, customer)
        charge(api, customer)
    give(api, "late", 100)  # too late: its second event would have been refused
    charge(api, "short", "doc.summarize")
    found = simulate(api, chat__reply={"credits": 10}, agent__run={"credits": 1}, doc__summarize={"credits": 12})
    short = {row["event"]: row["wallets_short_then"] for row in found["rows"]}
    # 30 − 2 × 10 − 12 = −2: the summary is what it lacks for.
    assert short == {"chat.reply": 1, "agent.run": 0, "doc.summarize": 1}
    assert found["wallets_short_then"] == 2


def test_what_is_cheaper_leaves_nobody_dry_and_an_overdraft_counts(api: httpx.Client) -> None:
    give(api, "u", 8)
    api.patch("/v1/wallets/u", json={"overdraft_limit": 4})
    charge(api, "u")
    assert simulate(api, chat__reply={"credits": 12})["wallets_short_then"] == 0
    assert simulate(api, chat__reply={"credits": 13})["wallets_short_then"] == 1
    assert simulate(api, chat__reply={"credits": 0})["wallets_short_then"] == 0


def test_what_was_free_would_earn_what_a_credit_does(api: httpx.Client) -> None:
    api.put("/v1/prices/ping", json={"credits": 0})
    give(api, "u", 100, usd_value="10")  # 10 cents a credit
    charge(api, "u")
    charge(api, "u", "ping")
    [row] = simulate(api, ping={"credits": 5})["rows"]
    assert (row["credits_now"], row["credits_then"]) == (0, 5)
    assert (row["revenue_usd_now"], row["revenue_usd_then"]) == ("0", "0.5")


def test_an_empty_period_has_rows_of_nothing(api: httpx.Client) -> None:
    found = simulate(api, never__used={"credits": 5})
    [row] = found["rows"]
    assert (row["event"], row["count"], row["credits_then"], row["models"]) == ("never.used", 0, 0, [])
    assert (row["cost_usd"], row["margin_percent_then"], found["wallets_short_then"]) == (None, None, 0)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prices": {}}, "prices"),
        ({"prices": {f"e{n}": {"credits": 1} for n in range(101)}}, "prices"),
        ({"prices": {"Chat": {"credits": 1}}}, "prices.Chat"),
        ({"prices": {"a": {"credits": -1}}}, "prices.credits"),
        ({"prices": {"a": {"credits": 5, "tiers": [{"up_to": 3, "credits": 5}]}}}, "prices.a.tiers[0].up_to"),
        ({"prices": {"a": {"credits": 1, "cost": 2}}}, "prices.cost"),
        ({"prices": {"a": {"credits": 1}}, "days": 0}, "days"),
        ({"days": 3}, "prices"),
    ],
)
def test_what_cannot_be_tried(api: httpx.Client, body: dict[str, Any], field: str) -> None:
    assert error_of(api.post(PATH, json=body), 400, "invalid_request")["field"] == field


def test_a_price_that_would_pass_the_limit_of_one_operation(api: httpx.Client) -> None:
    give(api, "u", 1_000)
    charge(api, "u", quantity=100)
    answer = api.post(PATH, json={"prices": {"chat.reply": {"credits": 10**12}}})
    assert error_of(answer, 400, "invalid_request")["field"] == "prices.chat.reply"
