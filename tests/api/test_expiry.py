"""What time brings: holds run out, grants expire, begin and come again, to the moment and with an entry each."""

import csv
import datetime as dt
import io
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from api.timed import TimedServer
from ledgers import (
    at_once,
    capture,
    check_ledger,
    every_hold,
    give,
    hold,
    quote,
    release,
    reverse,
    soon,
    void,
    wait_until,
    wallet_of,
)
from serving import ServerProcess, balance, charge, error_of, grant, next_wallet, whole_ledger


def told(api: httpx.Client, customer_id: str) -> list[tuple[str, int, int]]:
    return [(one["kind"], one["credits"], one["balance"]) for one in check_ledger(api, customer_id)]


# To the moment, whoever looks first


def test_any_read_sees_at_once_that_a_hold_has_run_out_and_a_grant_has_expired(
    timed: TimedServer, customer_id: str
) -> None:
    api = timed.api

    def csv_of(kind: str) -> Callable[[str], Any]:
        def read(one: str) -> int:
            path, accept = f"/v1/wallets/{one}/entries", {"Accept": "text/csv"}
            return len(list(csv.DictReader(io.StringIO(api.get(path, params={"kind": kind}, headers=accept).text))))

        return read

    def by_a_token(one: str) -> tuple[int, int]:
        with timed.server.client(timed.server.token(one)) as browser:
            wallet = wallet_of(browser, one)
            return wallet["balance"], wallet["held"]

    reads: list[tuple[Callable[[str], Any], Any]] = [
        (lambda one: [wallet_of(api, one)[name] for name in ("balance", "held", "available")], [60, 0, 60]),
        (lambda one: api.get(f"/v1/holds/{holds[one]}").json()["status"], "expired"),
        (lambda one: api.get(f"/v1/holds/{holds[one]}").json()["available"], 60),
        (lambda one: [hold["status"] for hold in every_hold(api, one)], ["expired"]),
        (lambda one: len(every_hold(api, one, status="open")), 0),
        (lambda one: [entry["kind"] for entry in whole_ledger(api, one)], ["expiry", "grant", "grant"]),
        (lambda one: len(whole_ledger(api, one, kind="hold_expiry")), 1),
        (csv_of("hold_expiry"), 1),
        (csv_of("expiry"), 1),
        (lambda one: [quote(api, one)[name] for name in ("balance", "available", "covers")], [60, 60, 7]),
        (by_a_token, (60, 0)),
        (lambda one: charge(api, one, credits=60).status_code, 201),
        (lambda one: charge(api, one, credits=61).status_code, 402),
        (lambda one: hold(api, one, 60)["available"], 0),
        (lambda one: capture(api, holds[one]).json()["error"]["status"], "expired"),
        (lambda one: release(api, holds[one]).json()["error"]["status"], "expired"),
        (lambda one: give(api, one, 5)["remaining"], 5),
    ]
    customers = [f"{customer_id}_{number}" for number in range(len(reads))]
    holds: dict[str, str] = {}
    for one in customers:
        grant(api, one, 60)
        give(api, one, 40, expires_at=timed.soon(minutes=2))
        holds[one] = hold(api, one, 90, expires_in=60)["id"]
    timed.move(minutes=3)
    for one, (read, expected) in zip(customers, reads, strict=True):
        assert read(one) == expected
    for one in customers:
        check_ledger(api, one)


def test_what_a_member_held_is_free_at_once_when_it_runs_out(timed: TimedServer, customer_id: str) -> None:
    api = timed.api
    readers: list[Callable[[str], Any]] = [
        lambda one: api.get(f"/v1/wallets/{one}/members/alice").json()["held"],
        lambda one: api.get(f"/v1/wallets/{one}/members").json()["members"][0]["held"],
        lambda one: wallet_of(api, one)["held"],
        lambda one: charge(api, one, credits=30, member="bob").json()["held"],
        lambda one: charge(api, one, credits=30).json()["held"],
        lambda one: give(api, one, 1)["remaining"] - 1,
    ]
    customers = [f"{customer_id}_{number}" for number in range(len(readers))]
    for one in customers:
        grant(api, one, 50)
        limit = {"spend_limit": {"credits": 100, "per": "month"}}
        assert api.patch(f"/v1/wallets/{one}/members/alice", json=limit).status_code == 200
        charge(api, one, credits=3, member="alice")
        hold(api, one, 20, member="alice", expires_in=60)
        hold(api, one, 10, member="alice", expires_in=7200)
        hold(api, one, 5, member="carol", expires_in=60)
    timed.move(seconds=61)
    for one, read in zip(customers, readers, strict=True):
        assert read(one) in (0, 10)
        alice = api.get(f"/v1/wallets/{one}/members/alice").json()
        assert (alice["held"], alice["spent"]["month"]) == (10, 3)
        assert alice["spend_limit"] == {"credits": 100, "per": "month"}
        assert api.get(f"/v1/wallets/{one}/members/carol").json()["held"] == 0
        check_ledger(api, one)


async def test_a_live_page_is_told_at_its_subscribe_what_has_run_out(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    made = hold(api, customer, 60, expires_in=1)
    token = server.token(customer)
    wait_until(made["expires_at"])
    async with server.live(token) as ws:
        first = await next_wallet(ws)
    assert (first["held"], first["available"]) == (0, 100)


def test_what_has_run_out_is_settled_though_nobody_asks(api: httpx.Client, customer: str) -> None:
    """The list of wallets settles nothing by itself."""
    hold(api, customer, 60, expires_in=1)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        [shown] = api.get("/v1/wallets", params={"query": customer}).json()["wallets"]
        if not shown["held"]:
            break
        time.sleep(0.05)
    assert (shown["held"], shown["available"], shown["version"]) == (0, 100, 3)


def test_forty_readers_at_the_moment_of_expiry_make_one_entry(api: httpx.Client, customer_id: str) -> None:
    made = give(api, customer_id, 10, expires_at=soon(0.5))
    wait_until(made["expires_at"])
    assert at_once([lambda: balance(api, customer_id)] * 40) == [0] * 40
    assert told(api, customer_id) == [("grant", 10, 10), ("expiry", -10, 0)]


def test_a_server_that_was_away_when_time_passed_makes_up_for_it(timed: TimedServer, customer_id: str) -> None:
    api = timed.api
    give(api, customer_id, 30, expires_at=timed.soon(hours=1))
    give(api, customer_id, 50, effective_at=timed.soon(hours=2))
    hold(api, customer_id, 20, expires_in=60)
    timed.server.stop()
    timed.move(hours=3)
    timed.server.start()
    assert told(api, customer_id) == [
        ("grant", 30, 30),
        ("settings", 0, 30),
        ("hold", 0, 30),
        ("hold_expiry", 0, 30),
        ("expiry", -30, 0),
        ("grant", 50, 50),
    ]


# Grants by the clock


def test_an_expiry_takes_what_was_left_and_says_so(timed: TimedServer, customer_id: str) -> None:
    api = timed.api
    lapsing = give(api, customer_id, 10, expires_at=timed.soon(hours=1))
    give(api, customer_id, 5)
    charge(api, customer_id, credits=4)
    timed.move(minutes=59)
    assert balance(api, customer_id) == 11
    timed.move(minutes=2)
    error_of(charge(api, customer_id, credits=6), 402, "insufficient_credits")
    entry = whole_ledger(api, customer_id)[0]
    assert (entry["kind"], entry["description"], entry["credits"], entry["balance"]) == (
        "expiry",
        "Credits expired",
        -6,
        5,
    )
    assert (entry["actor"], entry["idempotency_key"]) == (None, None)
    refusal = error_of(void(api, customer_id, lapsing["id"]), 400, "invalid_request")
    assert refusal["status"] == "expired"
    check_ledger(api, customer_id)


def test_a_grant_that_was_used_up_expires_without_a_word(timed: TimedServer, customer_id: str) -> None:
    api = timed.api
    give(api, customer_id, 10, expires_at=timed.soon(hours=1))
    charge(api, customer_id, credits=10)
    timed.move(hours=2)
    assert told(api, customer_id) == [("grant", 10, 10), ("event", -10, 0)]


def test_a_future_grant_comes_at_its_time_by_an_entry_and_pays_a_debt_first(
    timed: TimedServer, customer_id: str
) -> None:
    api = timed.api
    give(api, customer_id, 10)
    made = give(api, customer_id, 50, effective_at=timed.soon(hours=1), expires_at=timed.soon(hours=3))
    api.patch(f"/v1/wallets/{customer_id}", json={"overdraft_limit": 20})
    charge(api, customer_id, credits=30)
    timed.move(hours=1, seconds=1)
    wallet = wallet_of(api, customer_id)
    assert (wallet["balance"], wallet["grants"][0]["id"], wallet["grants"][0]["remaining"]) == (30, made["id"], 30)
    assert wallet["grants"][0]["status"] == "active"
    entry = whole_ledger(api, customer_id, kind="grant")[0]
    assert (entry["credits"], entry["balance"]) == (50, 30)
    timed.move(hours=2)
    assert balance(api, customer_id) == 0
    check_ledger(api, customer_id)


def test_a_future_grant_that_begins_and_ends_unseen_leaves_both_entries(timed: TimedServer, customer_id: str) -> None:
    api = timed.api
    give(api, customer_id, 50, effective_at=timed.soon(hours=1), expires_at=timed.soon(hours=2))
    timed.move(hours=3)
    assert [one[:2] for one in told(api, customer_id)] == [("settings", 0), ("grant", 50), ("expiry", -50)]


def test_what_expires_while_it_is_held_goes_when_its_holds_close(timed: TimedServer, customer_id: str) -> None:
    api = timed.api
    give(api, customer_id, 100, expires_at=timed.soon(hours=1))
    captured, released, forgotten = (hold(api, customer_id, 30, expires_in=7200) for _ in range(3))
    timed.move(hours=1, seconds=1)
    wallet = wallet_of(api, customer_id)
    assert (wallet["balance"], wallet["held"], wallet["available"]) == (90, 90, 0)
    assert capture(api, captured["id"], credits=20).json()["balance"] == 70
    assert balance(api, customer_id) == 60
    release(api, released["id"])
    assert (balance(api, customer_id), wallet_of(api, customer_id)["available"]) == (30, 0)
    timed.move(hours=1)
    assert (balance(api, customer_id), wallet_of(api, customer_id)["grants"]) == (0, [])
    assert api.get(f"/v1/holds/{forgotten['id']}").json()["status"] == "expired"
    assert [credits for _, credits, _ in told(api, customer_id) if credits] == [100, -10, -20, -10, -30, -30]


def test_what_is_reversed_after_its_grant_expired_lives_for_a_day(timed: TimedServer, customer_id: str) -> None:
    api = timed.api
    give(api, customer_id, 100, category="paid", expires_at=timed.soon(hours=1))
    event = charge(api, customer_id, credits=40).json()
    timed.move(hours=2)
    assert balance(api, customer_id) == 0
    assert reverse(api, event["id"]).json()["balance"] == 40
    timed.move(hours=23)
    assert charge(api, customer_id, credits=15).json()["balance"] == 25
    timed.move(hours=2)
    assert balance(api, customer_id) == 0
    assert [credits for _, credits, _ in told(api, customer_id)] == [100, -40, -60, 40, -15, -25]


@pytest.mark.parametrize(("rollover", "balances"), [("none", [10, 10, 10]), ("all", [16, 26, 46])])
def test_a_recurring_grant_comes_each_day_and_its_rest_goes_or_stays(
    timed: TimedServer, customer_id: str, rollover: str, balances: list[int]
) -> None:
    api = timed.api
    made = give(api, customer_id, 10, every="day", rollover=rollover)
    charge(api, customer_id, credits=4)
    seen = []
    for days in (1, 1, 2):
        timed.move(days=days, seconds=1)
        seen.append(balance(api, customer_id))
    assert seen == balances
    newest = max(wallet_of(api, customer_id)["grants"], key=lambda one: one["effective_at"])
    first, again = (dt.datetime.fromisoformat(at) for at in (made["effective_at"], newest["next_at"]))
    assert again - first == dt.timedelta(days=5)
    check_ledger(api, customer_id)
    assert void(api, customer_id, newest["id"]).status_code == 200
    stood = balance(api, customer_id)
    timed.move(days=3)
    assert balance(api, customer_id) == (0 if rollover == "none" else stood)
    assert stood == (0 if rollover == "none" else 36)
    check_ledger(api, customer_id)


def test_a_limit_begins_anew_at_the_time_that_its_refusal_told(timed: TimedServer, customer_id: str) -> None:
    api = timed.api
    grant(api, customer_id, 100)
    api.patch(f"/v1/wallets/{customer_id}", json={"spend_limit": {"credits": 10, "per": "day"}})
    api.patch(f"/v1/wallets/{customer_id}/members/alice", json={"spend_limit": {"credits": 15, "per": "month"}})
    event = charge(api, customer_id, credits=10, member="alice").json()
    refusal = error_of(charge(api, customer_id, credits=1), 402, "spend_limit_reached")
    resets_at = dt.datetime.fromisoformat(refusal["resets_at"])
    assert dt.timedelta() < resets_at - timed.now() <= dt.timedelta(days=1)
    timed.move(seconds=(resets_at - timed.now()).total_seconds() + 1)
    assert quote(api, customer_id, "chat.reply")["covers"] == 1
    same_month = resets_at.day != 1
    answer = charge(api, customer_id, credits=10, member="alice")
    if same_month:
        assert error_of(answer, 402, "spend_limit_reached")["scope"] == "member"
        assert charge(api, customer_id, credits=5, member="alice").status_code == 201
    reverse(api, event["id"])
    spent = wallet_of(api, customer_id)["spent"]
    assert spent["day"] == (5 if same_month else 10)
    check_ledger(api, customer_id)
