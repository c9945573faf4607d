"""What tests ask of holds and grants, and the check that a wallet's whole ledger holds together."""

import concurrent.futures
import datetime as dt
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import httpx
from serving import whole_ledger

T = TypeVar("T")
QUIET = ("hold", "release", "hold_expiry", "settings")
"""Kinds that move no credits, and are listed only when they are asked for."""
SPENDING = ("event", "hold", "expiry", "void")
"""Kinds that never take what is available below zero."""


def hold(api: httpx.Client, customer_id: str, credits: int | None = None, **fields: Any) -> dict[str, Any]:
    """A new hold."""
    amount = {} if credits is None else {"credits": credits}
    answer = api.post("/v1/holds", json={"customer_id": customer_id, **amount, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def capture(api: httpx.Client, hold_id: str, **fields: Any) -> httpx.Response:
    return api.post(f"/v1/holds/{hold_id}/capture", json=fields)


def release(api: httpx.Client, hold_id: str, **fields: Any) -> httpx.Response:
    return api.post(f"/v1/holds/{hold_id}/release", json=fields)


def reverse(api: httpx.Client, event_id: str, **fields: Any) -> httpx.Response:
    return api.post(f"/v1/events/{event_id}/reverse", json=fields)


def give(api: httpx.Client, customer_id: str, credits: int, **fields: Any) -> dict[str, Any]:
    """A new grant, promotional unless it is said to be paid."""
    body = {"credits": credits, "category": "promotional", **fields}
    answer = api.post(f"/v1/wallets/{customer_id}/grants", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def void(api: httpx.Client, customer_id: str, grant_id: str, **fields: Any) -> httpx.Response:
    return api.post(f"/v1/wallets/{customer_id}/grants/{grant_id}/void", json=fields)


def wallet_of(api: httpx.Client, customer_id: str) -> dict[str, Any]:
    answer = api.get(f"/v1/wallets/{customer_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def quote(api: httpx.Client, customer_id: str, event: str = "chat.reply", **fields: Any) -> dict[str, Any]:
    answer = api.post("/v1/quote", json={"customer_id": customer_id, "event": event, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def soon(seconds: float) -> str:
    """The time in so many seconds, as the contract writes it."""
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wait_until(at: str) -> None:
    """Waits for the clock to pass a time."""
    seconds = (dt.datetime.fromisoformat(at) - dt.datetime.now(dt.UTC)).total_seconds()
    time.sleep(max(0.0, seconds) + 0.002)


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Makes calls that all begin in one moment, each in a thread of its own."""
    gate = threading.Barrier(len(calls))

    def begin(call: Callable[[], T]) -> T:
        gate.wait(10)
        return call()

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))


def statuses(answers: Sequence[httpx.Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)


def every_entry(api: httpx.Client, customer_id: str) -> list[dict[str, Any]]:
    """The ledger with what moves no credits, oldest first."""
    found = whole_ledger(api, customer_id)
    for kind in QUIET:
        found += whole_ledger(api, customer_id, kind=kind)
    return sorted(found, key=lambda entry: entry["version"])


def every_hold(api: httpx.Client, customer_id: str, **query: str) -> list[dict[str, Any]]:
    """A wallet's holds, newest first, by following the cursor."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = api.get(f"/v1/wallets/{customer_id}/holds", params={"limit": "100", **query, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["holds"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def check_ledger(api: httpx.Client, customer_id: str) -> list[dict[str, Any]]:
    """The whole ledger, oldest first, after checking that it holds together.

    Versions rise by one and times never fall; every entry goes on from the one before it by what it says it did; the
    last one is the wallet; what is held is the open holds; the balance is what remains of the grants but for a debt;
    and the server's own audit finds nothing.
    """
    while True:  # until nothing, such as an expiry, came while it was read
        before = wallet_of(api, customer_id)
        entries, holds = every_entry(api, customer_id), every_hold(api, customer_id)
        wallet = wallet_of(api, customer_id)
        if before["version"] == wallet["version"]:
            break
    assert [entry["version"] for entry in entries] == list(range(1, wallet["version"] + 1))
    assert len({entry["id"] for entry in entries}) == len(entries)
    times = [entry["created_at"] for entry in entries]
    assert times == sorted(times)
    check_steps(entries, {one["id"]: one for one in holds})
    last = entries[-1]
    for name in ("balance", "held", "available"):
        assert wallet[name] == last[name], name
    assert wallet["available"] == wallet["balance"] - wallet["held"] + wallet["overdraft_limit"]
    assert wallet["held"] == sum(one["credits"] for one in holds if one["status"] == "open")
    remaining = sum(one["remaining"] for one in wallet["grants"] if one["status"] != "pending")
    overdrawn = any(entry["available"] > entry["balance"] - entry["held"] for entry in entries)
    assert remaining == wallet["balance"] or (overdrawn and remaining > wallet["balance"])
    audit = api.get(f"/v1/verify/{customer_id}").json()
    assert audit["ok"], audit
    return entries


def check_steps(entries: Sequence[dict[str, Any]], holds: dict[str, dict[str, Any]]) -> None:
    """Each entry against the one before it."""
    balance = held = available = overdraft = 0
    for entry in entries:
        kind, credits = entry["kind"], entry["credits"]
        balance += credits
        prefix, _, rest = entry["id"].partition("_")
        mine = holds.get(f"hold_{rest}")
        if kind == "hold":
            held += holds[entry["id"]]["credits"]
        elif mine is not None and (prefix, kind) in (("evt", "event"), ("rel", "release"), ("exp", "hold_expiry")):
            held -= mine["credits"]
            assert mine["status"] == {"event": "captured", "release": "released", "hold_expiry": "expired"}[kind]
        if kind == "settings":
            overdraft = entry["available"] - entry["balance"] + entry["held"]
        assert (entry["balance"], entry["held"]) == (balance, held), entry
        assert entry["available"] == balance - held + overdraft, entry
        if kind in SPENDING or (kind == "adjustment" and credits < 0):
            assert entry["available"] >= min(0, available), entry
        assert credits == 0 or kind not in QUIET
        assert credits <= 0 or kind not in ("event", "expiry", "void")
        assert credits >= 0 or kind not in ("grant", "top_up", "reversal")
        available = entry["available"]
