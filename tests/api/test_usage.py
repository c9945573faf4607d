"""Usage and the overview: added up to the moment, by every grouping and interval, netted of reversals."""

import csv
import io
import secrets
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import StartServer, charge, error_of, with_limits

from app.rules.times import parse_rfc3339, rfc3339

HOUR = 3_600_000


@pytest.fixture
def api(new_server: StartServer) -> Iterator[httpx.Client]:
    """A server of this test's own, whose sums are its alone."""
    with new_server(CHARGLY_USD_RATES="eur=1.08").client() as client:
        yield client


@pytest.fixture
def customer(api: httpx.Client) -> str:
    """A customer with 1,000 credits that 20 dollars were paid for."""
    name = f"user_{secrets.token_hex(4)}"
    give(api, name, 1_000, usd_value="20")
    return name


def give(api: httpx.Client, customer: str, credits: int, category: str = "paid", **fields: Any) -> httpx.Response:
    body = {"credits": credits, "category": category, **fields}
    return api.post(f"/v1/wallets/{customer}/grants", json=body)


def usage(api: httpx.Client, **query: str) -> list[dict[str, Any]]:
    answer = api.get("/v1/usage", params=query)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


def by(rows: list[dict[str, Any]], name: str) -> dict[str | None, dict[str, Any]]:
    return {row[name]: row for row in rows}


def test_what_was_just_used_is_there(api: httpx.Client, customer: str) -> None:
    assert usage(api) == []
    charge(api, customer, quantity=2, cost_usd="0.1")  # 16 credits, 32 cents
    charge(api, customer, model="gpt-5")  # 8 credits
    charge(api, customer, "agent.run", cost_usd="0.6")  # 25 credits, 50 cents
    [reply, run] = sorted(usage(api), key=lambda row: row["event"], reverse=True)
    assert reply | {"period": ""} == {
        "period": "",
        "event": "chat.reply",
        "count": 2,
        "reversed": 0,
        "quantity": 3,
        "credits": 24,
        "paid_credits": 24,
        "costed": 2,
        "cost_usd": "0.1",
        "revenue_usd": "0.48",
        "revenue_in": {},
        "margin_percent": 79.2,
    }
    assert (run["credits"], run["cost_usd"], run["revenue_usd"], run["margin_percent"]) == (25, "0.6", "0.5", -20.0)


def test_what_was_reversed_is_taken_out_and_its_cost_stays(api: httpx.Client, customer: str) -> None:
    failed = charge(api, customer, cost_usd="0.1").json()
    charge(api, customer)
    api.post(f"/v1/events/{failed['id']}/reverse", json={})
    [row] = usage(api)
    assert (row["count"], row["reversed"], row["credits"], row["quantity"]) == (1, 1, 8, 1)
    assert (row["cost_usd"], row["costed"], row["revenue_usd"]) == ("0.1", 0, "0.16")


def test_it_is_grouped_by_what_is_asked(api: httpx.Client, customer: str) -> None:
    charge(api, customer, model="gpt-5", member="ann")
    charge(api, customer, model="o3", member="bob")
    charge(api, customer, member="ann")
    assert {name: row["count"] for name, row in by(usage(api, group_by="model"), "model").items()} == {
        None: 1,
        "gpt-5": 1,
        "o3": 1,
    }
    members = by(usage(api, group_by="member", customer_id=customer), "member")
    assert {name: row["credits"] for name, row in members.items()} == {"ann": 16, "bob": 8}
    give(api, "other", 100)
    charge(api, "other", "agent.run")
    customers = by(usage(api, group_by="customer"), "customer")
    assert {name: row["credits"] for name, row in customers.items()} == {customer: 24, "other": 25}
    assert by(usage(api, customer_id="other"), "event").keys() == {"agent.run"}
    assert usage(api, customer_id="nobody") == []


def test_promotional_credits_earn_nothing_and_an_overdraft_earns_when_it_is_paid(api: httpx.Client) -> None:
    give(api, "u", 10, "promotional")
    api.patch("/v1/wallets/u", json={"overdraft_limit": 100})
    charge(api, "u")
    charge(api, "u")  # 2 promotional credits, 6 owed
    [row] = usage(api)
    assert (row["credits"], row["paid_credits"], row["revenue_usd"], row["margin_percent"]) == (16, 0, "0", None)
    give(api, "u", 100, usd_value="10")
    rows = by(usage(api), "event")
    assert (rows[None]["count"], rows[None]["paid_credits"], rows[None]["revenue_usd"]) == (0, 6, "0.6")
    assert rows["chat.reply"]["revenue_usd"] == "0"


def test_an_event_of_several_grants_earns_what_each_gave(api: httpx.Client) -> None:
    for credits, worth in ((5, "1"), (100, "10")):
        give(api, "u", credits, usd_value=worth)
    charge(api, "u")  # 5 at 20 cents, 3 at 10 cents
    assert usage(api)[0]["revenue_usd"] == "1.3"


def test_periods_are_those_of_the_calendar(api: httpx.Client, customer: str) -> None:
    charge(api, customer)
    now = round(time.time() * 1000)
    span = {"from": rfc3339(now - 3 * HOUR), "to": rfc3339(now + HOUR)}
    [row] = usage(api, interval="hour", **span)
    period = parse_rfc3339(row["period"])
    assert period % HOUR == 0
    assert period <= now < period + HOUR + 5_000
    for interval in ("day", "week", "month"):
        assert sum(row["count"] for row in usage(api, interval=interval)) == 1
    before = {"from": rfc3339(now - 5 * HOUR), "to": rfc3339(now - 2 * HOUR)}
    assert usage(api, **before) == []


def test_csv_has_the_same_rows(api: httpx.Client, customer: str) -> None:
    api.put("/v1/prices/=cmd", json={"credits": 1})
    charge(api, customer, model="=1+1", cost_usd="0.02")
    answer = api.get("/v1/usage", params={"group_by": "model"}, headers={"accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert (row["model"], row["count"], row["cost_usd"], row["margin_percent"]) == ("'=1+1", "1", "0.02", "87.5")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"interval": "fortnight"}, "interval"),
        ({"group_by": "colour"}, "group_by"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "from"),
        ({"interval": "hour", "from": "2020-01-01T00:00:00Z"}, "interval"),
        ({"customer_id": "a/b"}, "customer_id"),
        ({"to": "9999-12-31T23:59:59.999Z"}, "from"),
        ({"to": "0001-01-01T00:00:00Z"}, "from"),
        ({"to": "1970-01-02T00:00:00Z"}, "from"),
    ],
)
def test_what_cannot_be_asked(api: httpx.Client, query: dict[str, str], field: str) -> None:
    assert error_of(api.get("/v1/usage", params=query), 400, "invalid_request")["field"] == field


def test_events_of_any_cost_and_worth_stop_no_report(api: httpx.Client) -> None:
    api.put("/v1/prices/free.x", json={"credits": 0})
    events = [{"customer_id": "big", "event": "free.x", "cost_usd": "1000000", "quantity": 10**9}] * 1_000
    for _ in range(10):
        assert api.post("/v1/events/batch", json={"events": events}).json()["accepted"] == 1_000
    [row] = usage(api)
    assert (row["count"], row["cost_usd"]) == (10_000, "9000000000")  # as much as a sum holds
    give(api, "u", 10**12, usd_value="1000000")
    assert charge(api, "u", "free.x", credits=10**12).status_code == 201
    assert api.get("/v1/overview").json()["revenue_usd"] == "1000000"
    for path, body in (
        ("/v1/pricing/recommendations", {}),
        ("/v1/prices/simulate", {"prices": {"free.x": {"credits": 1}}}),
    ):
        assert api.post(path, json=body).status_code == 200


def test_a_usd_value_of_promotional_credits_is_refused(api: httpx.Client) -> None:
    answer = give(api, "u", 10, "promotional", usd_value="1")
    assert error_of(answer, 400, "invalid_request")["field"] == "usd_value"
    assert error_of(give(api, "u", 10, usd_value="-1"), 400, "invalid_request")["field"] == "usd_value"


def test_the_overview_tells_the_loop(api: httpx.Client, customer: str) -> None:
    give(api, "broke", 8, "promotional")
    api.patch("/v1/wallets/broke", json={"low_balance_threshold": 5})
    charge(api, "broke")
    reversed_one = charge(api, customer, cost_usd="0.04").json()
    charge(api, customer, cost_usd="0.04")
    api.post(f"/v1/events/{reversed_one['id']}/reverse", json={})
    api.post(f"/v1/wallets/{customer}/adjustments", json={"credits": 5, "reason": "sorry"})
    overview = api.get("/v1/overview").json()
    assert overview["credits_in_by"] == {"grant": 1_008, "adjustment": 5}
    assert (overview["credits_in"], overview["credits_out"], overview["events"]) == (1_013, 16, 2)
    assert (overview["cost_usd"], overview["revenue_usd"], overview["margin_percent"]) == ("0.08", "0.16", 50.0)
    assert (overview["wallets"], overview["low_wallets"], overview["top_up_revenue"]) == (2, 1, {})
    balances = {one["up_to"]: one["wallets"] for one in overview["balances"] if one["wallets"]}
    assert balances == {0: 1, 1_000: 1}
    assert sum(Decimal(row["cost_usd"] or 0) for row in usage(api)) == Decimal("0.08")


def test_how_wallets_stand_is_as_of_a_moment_ago_and_says_so(new_server: StartServer, tmp_path: Path) -> None:
    with new_server(**with_limits(tmp_path, standings_seconds_max=0.5)).client() as api:
        give(api, "one", 8)
        first = api.get("/v1/overview").json()
        give(api, "two", 8)
        second = api.get("/v1/overview").json()
        assert (first["wallets"], second["credits_in"]) == (1, 16)  # sums are never a moment old
        deadline = time.monotonic() + 15
        while (last := api.get("/v1/overview").json())["wallets"] < 2:
            assert last["balances_at"] == first["balances_at"]
            assert time.monotonic() < deadline
        assert parse_rfc3339(last["balances_at"]) >= parse_rfc3339(first["balances_at"]) + 500


def test_however_often_and_by_how_many_it_is_asked_each_event_counts_once(api: httpx.Client, customer: str) -> None:
    give(api, customer, 10_000)
    events = [{"customer_id": customer, "event": "chat.reply"}] * 20

    def use_and_ask() -> None:
        for _ in range(10):
            assert api.post("/v1/events/batch", json={"events": events}).json()["accepted"] == 20
            usage(api)

    with ThreadPoolExecutor(4) as several:
        for done in [several.submit(use_and_ask) for _ in range(4)]:
            done.result()
    assert [row["count"] for row in usage(api)] == [800]
    assert [row["count"] for row in usage(api, customer_id=customer)] == [800]


def test_a_server_that_is_killed_adds_up_each_event_once(new_server: StartServer) -> None:
    server = new_server()
    with server.client() as api:
        give(api, "u", 10_000)
        for _ in range(50):
            charge(api, "u")
        server.stop(signal.SIGKILL)
    server.start()
    with server.client() as api:
        assert [row["count"] for row in usage(api)] == [50]


def test_the_largest_groups_stand_by_themselves(api: httpx.Client, customer: str) -> None:
    for event, times in (("agent.run", 3), ("chat.reply", 2), ("doc.summarize", 1)):  # 75, 16 and 12 credits
        for _ in range(times):
            charge(api, customer, event, cost_usd="0.1")
    every = usage(api, interval="month")
    [largest, others] = usage(api, interval="month", top="1")
    assert (largest["event"], largest["credits"], "others" in largest) == ("agent.run", 75, False)
    assert (others["event"], others["others"], others["credits"], others["cost_usd"]) == (None, True, 28, "0.3")
    assert sum(row["count"] for row in every) == largest["count"] + others["count"]
    assert usage(api, interval="month", top="3") == every
    assert len(usage(api, interval="month", top="1", group_by="customer")) == 1
    text = api.get("/v1/usage", params={"top": "1", "interval": "month"}, headers={"Accept": "text/csv"}).text
    assert [row["event"] for row in csv.DictReader(io.StringIO(text))] == ["agent.run", "(others)"]
    for top in ("0", "201", "ten", "1.5", "-1", "9" * 5_000):
        assert error_of(api.get("/v1/usage", params={"top": top}), 400, "invalid_request")["field"] == "top"


def test_the_largest_customers_stand_by_themselves(api: httpx.Client) -> None:
    """All others are what is left of everyone's sums: by currency, with what is beside all events, and no less."""
    for name, times in (("ada", 3), ("bob", 2), ("cid", 1), ("dan", 1)):
        api.post("/v1/wallets", json={"customer_id": name}).raise_for_status()
        api.patch(f"/v1/wallets/{name}", json={"overdraft_limit": 100}).raise_for_status()
        for _ in range(times):
            charge(api, name, cost_usd="0.1")
        give(api, name, 500, usd_value="10")  # which pays the debt: earned beside all events
        charge(api, name, "agent.run", member="m")
    every = {row["customer"]: row for row in usage(api, group_by="customer", interval="month")}
    [ada, others] = usage(api, group_by="customer", interval="month", top="1")
    assert ada == every.pop("ada")
    assert (others["customer"], others["others"]) == (None, True)
    for name in ("count", "quantity", "credits", "paid_credits", "costed"):
        assert others[name] == sum(row[name] for row in every.values()), name
    for name in ("cost_usd", "revenue_usd"):
        assert Decimal(others[name]) == sum(Decimal(row[name]) for row in every.values()), name
    assert usage(api, group_by="customer", interval="month", top="4") == [ada, *every.values()]


def test_more_groups_than_an_answer_has_can_be_had_by_the_largest(new_server: StartServer, tmp_path: Path) -> None:
    with new_server(**with_limits(tmp_path, usage_rows_max=6)).client() as api:
        give(api, "ada", 1_000)
        for event in ("agent.run", "chat.reply", "doc.summarize", "image.generate"):
            charge(api, "ada", event)
        refused = error_of(api.get("/v1/usage"), 400, "invalid_request")
        assert (refused["field"], "top" in refused["message"]) == ("interval", True)
        assert [row["event"] for row in usage(api, top="2")] == ["agent.run", "image.generate", None]


def test_the_loop_of_credits_closes(api: httpx.Client, customer: str) -> None:
    """What came in, less all that went, is what the wallets have."""
    grant = give(api, customer, 40, "promotional").json()
    charge(api, customer)
    returned = charge(api, customer, "agent.run").json()
    api.post(f"/v1/events/{returned['id']}/reverse", json={})
    api.post(f"/v1/wallets/{customer}/grants/{grant['id']}/void", json={})
    for credits in (7, -5):
        api.post(f"/v1/wallets/{customer}/adjustments", json={"credits": credits, "reason": "counted"})
    loop = api.get("/v1/overview").json()
    assert (loop["credits_in"], loop["credits_out"], loop["credits_corrected"]) == (1_047, 8, 5)
    gone = ("credits_out", "credits_expired", "credits_taken_back", "credits_voided", "credits_corrected")
    left = api.get(f"/v1/wallets/{customer}").json()["balance"]
    assert loop["credits_in"] - sum(loop[name] for name in gone) == left


def test_what_has_no_known_cost_is_no_profit(api: httpx.Client, customer: str) -> None:
    charge(api, customer, cost_usd="0.08")  # of 16 cents
    assert api.get("/v1/overview").json()["margin_covers_percent"] == 100.0
    charge(api, customer, "agent.run")  # 50 cents, at nobody knows what cost
    overview = api.get("/v1/overview").json()
    assert (overview["revenue_usd"], overview["margin_percent"]) == ("0.66", 50.0)
    assert overview["margin_covers_percent"] == 24.2
    charge(api, customer, "doc.summarize", cost_usd="0")  # 24 cents for nothing
    assert api.get("/v1/overview").json()["margin_percent"] == 80.0


def test_events_that_are_not_told_apart_are_no_profit_either(new_server: StartServer, tmp_path: Path) -> None:
    with new_server(**with_limits(tmp_path, usage_groups_max=1)).client() as api:
        give(api, "ada", 1_000, usd_value="20")
        charge(api, "ada", "agent.run", cost_usd="0.25")  # of 50 cents
        charge(api, "ada", cost_usd="0.01")  # 16 cents
        overview = api.get("/v1/overview").json()
    assert (overview["revenue_usd"], overview["cost_usd"]) == ("0.66", "0.26")
    assert (overview["margin_percent"], overview["margin_covers_percent"]) == (50.0, 75.8)


def test_wallets_in_debt_and_frozen_are_counted(api: httpx.Client, customer: str) -> None:
    for name in ("in_debt", "empty", "frozen"):
        api.post("/v1/wallets", json={"customer_id": name}).raise_for_status()
    api.patch("/v1/wallets/in_debt", json={"overdraft_limit": 100})
    charge(api, "in_debt")
    api.patch("/v1/wallets/frozen", json={"frozen": True})
    overview = api.get("/v1/overview").json()
    assert (overview["wallets"], overview["in_debt_wallets"], overview["credits_owed"]) == (4, 1, 8)
    assert overview["frozen_wallets"] == 1
    assert overview["balances"][:2] == [{"up_to": -1, "wallets": 1}, {"up_to": 0, "wallets": 2}]
    for state, names in (("in_debt", ["in_debt"]), ("empty", ["empty", "frozen"]), ("frozen", ["frozen"]), ("low", [])):
        wallets = api.get("/v1/wallets", params={"state": state}).json()["wallets"]
        assert [wallet["customer_id"] for wallet in wallets] == names
    assert error_of(api.get("/v1/wallets", params={"state": "sad"}), 400, "invalid_request")["field"] == "state"
