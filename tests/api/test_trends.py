"""How credits, money and events go over time."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from api.timed import TimedServer
from serving import StartServer, charge, error_of


@pytest.fixture
def api(new_server: StartServer) -> Iterator[httpx.Client]:
    """A server of this test's own, whose sums are its alone."""
    with new_server().client() as client:
        yield client


@pytest.fixture
def customer(api: httpx.Client) -> str:
    """A customer with 1,000 credits that 20 dollars were paid for."""
    name = f"user_{secrets.token_hex(4)}"
    body = {"credits": 1_000, "category": "paid", "usd_value": "20"}
    api.post(f"/v1/wallets/{name}/grants", json=body).raise_for_status()
    return name


def read(api: httpx.Client, path: str, **query: str) -> dict[str, Any]:
    answer = api.get(path, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_flows_have_every_period_and_each_kind(api: httpx.Client, customer: str) -> None:
    charge(api, customer)
    returned = charge(api, customer, "agent.run").json()
    api.post(f"/v1/events/{returned['id']}/reverse", json={}).raise_for_status()
    body = {"credits": -5, "reason": "counted twice"}
    api.post(f"/v1/wallets/{customer}/adjustments", json=body).raise_for_status()
    flows = read(api, "/v1/flows")
    assert (flows["interval"], flows["complete"]) == ("day", True)
    assert len(flows["rows"]) in (31, 32)  # 30 days that begin and end within one
    moved: dict[str, int] = {}
    for row in flows["rows"]:  # of two days, where midnight was between
        assert row["top_up_revenue"] == {}
        for name in ("credits_in", "credits_out"):
            for kind, credits in row[name].items():
                moved[f"{kind} {name}"] = moved.get(f"{kind} {name}", 0) + credits
    assert moved == {
        "grant credits_in": 1_000,
        "reversal credits_in": 25,
        "event credits_out": 33,
        "adjustment credits_out": 5,
    }
    overview = read(api, "/v1/overview")
    assert overview["credits_in"] - overview["credits_out"] == 1_000 - 8


def test_events_tell_how_they_go(api: httpx.Client, customer: str) -> None:
    for _ in range(20):
        charge(api, customer, cost_usd="0.1")  # 8 credits, 16 cents
    charge(api, customer, "agent.run", model="gpt-5")
    reply, run = read(api, "/v1/usage/events")["events"]
    weeks = reply.pop("weeks")
    assert reply == {
        "event": "chat.reply",
        "label": "Chat reply",
        "count": 20,
        "credits": 160,
        "credits_before": 0,
        "change_percent": None,
        "is_spike": False,  # it has only begun
        "repriced_at": None,
        "count_since_repriced": None,
        "margin_since_repriced_percent": None,
        "loss_usd": "0",
        "is_large_loss": False,
        "cost_usd": "2",
        "revenue_usd": "3.2",
        "revenue_in": {},
        "margin_percent": 37.5,
        "margin_low_percent": 37.5,
        "margin_high_percent": 37.5,
        "unit_cost_before_usd": None,
        "unit_cost_now_usd": None,
        "unit_cost_change_percent": None,
        "is_drifting": False,
    }
    assert len(weeks) == 5  # that 30 days lie in
    assert weeks[-1] | {"from": ""} == {
        "from": "",
        "count": 20,
        "credits": 160,
        "margin_percent": 37.5,
        "unit_cost_usd": "0.1",
    }
    assert weeks[0]["count"] == 0
    assert (run["event"], run["credits"], run["cost_usd"], run["margin_percent"]) == ("agent.run", 25, None, None)


def test_events_of_another_time_are_those_of_that_time(api: httpx.Client, customer: str) -> None:
    charge(api, customer)
    long_ago = datetime.now(UTC) - timedelta(days=400)
    query = {"from": (long_ago - timedelta(days=7)).isoformat(), "to": long_ago.isoformat()}
    assert read(api, "/v1/usage/events", **query)["events"] == []
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    query = {"from": tomorrow.isoformat(), "to": (tomorrow + timedelta(days=1)).isoformat()}
    [reply] = read(api, "/v1/usage/events", **query)["events"]  # its weeks and the time before reach back to now
    assert (reply["count"], reply["credits"], reply["credits_before"], reply["weeks"][-1]["credits"]) == (0, 0, 8, 8)
    assert reply["change_percent"] == -100.0


@pytest.mark.parametrize("path", ["/v1/flows", "/v1/usage/events"])
def test_bad_parameters_are_named(api: httpx.Client, path: str) -> None:
    assert error_of(api.get(path, params={"from": "yesterday"}), 400, "invalid_request")["field"] == "from"
    span = {"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    assert error_of(api.get(path, params=span), 400, "invalid_request")["field"] == "from"
    assert error_of(api.get(path, params={"group_by": "event"}), 400, "invalid_request")["field"] == "group_by"


def test_flows_of_too_many_hours_are_refused(api: httpx.Client) -> None:
    span = {"from": "2025-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z", "interval": "hour"}
    assert error_of(api.get("/v1/flows", params=span), 400, "invalid_request")["field"] == "interval"
    span["interval"] = "fortnight"
    assert error_of(api.get("/v1/flows", params=span), 400, "invalid_request")["field"] == "interval"


def test_a_price_that_changed_is_judged_by_what_came_after_it(timed: TimedServer) -> None:
    api, customer = timed.api, f"user_{secrets.token_hex(4)}"
    body = {"credits": 1_000, "category": "paid", "usd_value": "20"}
    api.post(f"/v1/wallets/{customer}/grants", json=body).raise_for_status()

    def going() -> dict[str, Any]:
        [one] = [row for row in read(api, "/v1/usage/events")["events"] if row["event"] == "agent.run"]
        return one

    charge(api, customer, "agent.run", cost_usd="1")  # of 50 cents
    assert (going()["margin_percent"], going()["repriced_at"]) == (-100.0, None)
    assert (going()["loss_usd"], going()["is_large_loss"]) == ("0.5", True)
    changed = api.put("/v1/prices/agent.run", json={"credits": 100}).raise_for_status().json()
    assert (going()["repriced_at"], going()["count_since_repriced"]) == (changed["effective_at"], 0)
    assert (going()["margin_since_repriced_percent"], going()["loss_usd"]) == (None, "0")
    timed.move(hours=2)
    charge(api, customer, "agent.run", cost_usd="1")  # of 2 dollars
    row = going()
    assert (row["count_since_repriced"], row["margin_since_repriced_percent"]) == (1, 50.0)
    assert row["margin_percent"] == 20.0
