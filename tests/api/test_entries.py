"""The ledger as it is read: pages, filters, CSV, and what a customer sees of it."""

import csv
import io
import secrets

import httpx
import pytest
from ledgers import QUIET, capture, check_ledger, give, hold, release, reverse, soon, void, wait_until
from serving import ServerProcess, charge, error_of, grant, whole_ledger

OPERATORS_OWN = {"metadata", "cost_usd", "reason", "actor", "idempotency_key", "unit_credits", "price_version"} | {
    "hold_id",
    "draws",
}


KINDS = {
    "event": 3,
    "grant": 4,
    "adjustment": 1,
    "void": 1,
    "reversal": 1,
    "expiry": 1,
    "hold": 3,
    "release": 1,
    "hold_expiry": 1,
    "settings": 3,
}
SECRET = "for the operator alone"


@pytest.fixture(scope="module")
def full(server: ServerProcess) -> str:
    """A customer whose ledger has every kind of entry, each with what its reader must not see."""
    name = f"user_{secrets.token_hex(6)}"
    wallet = f"/v1/wallets/{name}"
    told = {"metadata": {"secret": SECRET}}
    with server.client() as api:
        give(api, name, 100, reason=SECRET)
        lapsing = give(api, name, 5, priority=200, expires_at=soon(0.9), reason=SECRET)
        made = [hold(api, name, 10, member="alice", **told) for _ in range(2)]
        forgotten = hold(api, name, 10, expires_in=1, member="alice", **told)
        capture(api, made[0]["id"], cost_usd="0.4242", idempotency_key=SECRET, **told)
        release(api, made[1]["id"], reason=SECRET)
        event = charge(api, name, cost_usd="0.4242", **told).json()
        reverse(api, event["id"], reason=SECRET)
        void(api, name, give(api, name, 7, priority=60)["id"], reason=SECRET)
        give(api, name, 7, effective_at="2999-01-01T00:00:00Z", reason=SECRET)
        api.post(f"{wallet}/adjustments", json={"credits": -3, "reason": SECRET})
        api.patch(wallet, json={"overdraft_limit": 5})
        api.patch(f"{wallet}/members/bob", json={"spend_limit": {"credits": 5, "per": "day"}})
        charge(api, name, credits=1)
        wait_until(max(lapsing["expires_at"], forgotten["expires_at"]))
        grant(api, name, 1)
        check_ledger(api, name)
    return name


@pytest.fixture
def busy(api: httpx.Client, customer: str) -> str:
    """A customer with a grant, seven events, an adjustment and a change of settings."""
    for number in range(7):
        charge(api, customer, "chat.reply" if number % 2 else "doc.summarize", metadata={"n": number}, cost_usd="0.1")
    api.post(f"/v1/wallets/{customer}/adjustments", json={"credits": 5, "reason": "kept secret"})
    api.patch(f"/v1/wallets/{customer}", json={"name": "Acme"})
    return customer


def test_the_ledger_reads_like_something_one_would_say(api: httpx.Client, busy: str) -> None:
    rows = [(one["kind"], one["description"], one["credits"], one["balance"]) for one in whole_ledger(api, busy)]
    assert rows[0] == ("adjustment", "Adjustment", 5, 33)
    assert rows[2] == ("event", "Chat reply", -8, 40)
    assert rows[-1] == ("grant", "Promotional credits", 100, 100)


def test_pages_of_any_size_make_the_whole_ledger(api: httpx.Client, busy: str) -> None:
    whole = whole_ledger(api, busy)
    assert [one["version"] for one in whole] == list(range(9, 0, -1))
    for size in ("1", "2", "3", "9"):
        assert whole_ledger(api, busy, limit=size) == whole
    balances = [one["balance"] for one in reversed(whole)]
    assert balances == [sum(one["credits"] for one in whole[::-1][: n + 1]) for n in range(len(whole))]


def test_a_page_stays_where_it_was_while_new_entries_arrive(api: httpx.Client, busy: str) -> None:
    first = api.get(f"/v1/wallets/{busy}/entries", params={"limit": 2}).json()
    charge(api, busy, credits=1)
    second = api.get(f"/v1/wallets/{busy}/entries", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [one["version"] for one in (*first["entries"], *second["entries"])] == [9, 8, 7, 6]


def test_entries_are_filtered_by_kind_and_event(api: httpx.Client, busy: str) -> None:
    assert len(whole_ledger(api, busy, kind="event")) == 7
    assert len(whole_ledger(api, busy, event="chat.reply")) == 3
    assert [one["kind"] for one in whole_ledger(api, busy, kind="adjustment")] == ["adjustment"]
    assert whole_ledger(api, busy, kind="top_up") == []
    assert whole_ledger(api, busy, kind="grant", event="chat.reply") == []


@pytest.mark.parametrize(("kind", "count"), KINDS.items())
def test_each_kind_is_listed_when_it_is_asked_for(
    server: ServerProcess, api: httpx.Client, full: str, kind: str, count: int
) -> None:
    """By a key and by a token, as JSON and as CSV; without asking only what moved credits, or could have."""
    listed = whole_ledger(api, full, kind=kind)
    assert [one["kind"] for one in listed] == [kind] * count
    assert all(one["credits"] == 0 for one in listed) or kind not in QUIET
    path, accept = f"/v1/wallets/{full}/entries", {"Accept": "text/csv"}
    rows = list(csv.DictReader(io.StringIO(api.get(path, params={"kind": kind}, headers=accept).text)))
    assert [(row["id"], row["kind"], int(row["version"])) for row in rows] == [
        (one["id"], kind, one["version"]) for one in listed
    ]
    with server.client(server.token(full)) as browser:
        seen = whole_ledger(browser, full, kind=kind)
        text = browser.get(path, params={"kind": kind}, headers=accept).text
    assert [one["id"] for one in seen] == [one["id"] for one in listed]
    assert OPERATORS_OWN.isdisjoint({name for one in seen for name in one})
    for word in (SECRET, "0.4242", "CHARGLY_API_KEY"):
        assert word not in text + str(seen)
    assert {one["kind"] for one in whole_ledger(api, full)}.isdisjoint(QUIET)


def test_all_kinds_together_have_every_version(api: httpx.Client, full: str) -> None:
    listed = whole_ledger(api, full, kind="all")
    assert [one["version"] for one in listed] == list(range(len(listed), 0, -1))
    assert {one["kind"] for one in listed} == set(KINDS)
    assert len(listed) == sum(KINDS.values())


def test_an_operator_reads_what_was_drawn_from_which_grant_and_for_which_hold(api: httpx.Client, customer: str) -> None:
    gift = api.get(f"/v1/wallets/{customer}").json()["grants"][0]["id"]
    event_id = charge(api, customer, credits=30).json()["id"]
    held = hold(api, customer, 10)
    capture(api, held["id"])
    reverse(api, event_id)
    told = [(one["kind"], one["draws"], one["hold_id"]) for one in whole_ledger(api, customer, kind="all")[:4]]
    assert told == [
        ("reversal", [{"grant_id": gift, "credits": -30}], None),
        ("event", [{"grant_id": gift, "credits": 10}], held["id"]),
        ("hold", None, held["id"]),
        ("event", [{"grant_id": gift, "credits": 30}], None),
    ]


@pytest.mark.parametrize("kind", ["All", "Hold", "holds", "hold,release", "capture", " hold"])
def test_a_kind_that_is_none_is_refused(api: httpx.Client, full: str, kind: str) -> None:
    answer = api.get(f"/v1/wallets/{full}/entries", params={"kind": kind})
    assert error_of(answer, 400, "invalid_request")["field"] == "kind"


def test_the_operator_sees_who_held_released_reversed_and_why(api: httpx.Client, full: str) -> None:
    for kind in ("release", "reversal", "void", "adjustment"):
        entry = whole_ledger(api, full, kind=kind)[-1]
        assert (entry["reason"], entry["actor"]) == (SECRET, "CHARGLY_API_KEY")
    captured = whole_ledger(api, full, kind="event")[-1]
    assert (captured["cost_usd"], captured["idempotency_key"]) == ("0.4242", SECRET)
    for kind in ("expiry", "hold_expiry"):
        [entry] = whole_ledger(api, full, kind=kind)
        assert (entry["actor"], entry["idempotency_key"]) == (None, None)


def test_what_a_token_is_told_of_a_wallet_is_the_customers(server: ServerProcess, full: str) -> None:
    with server.client(server.token(full)) as browser:
        text = browser.get(f"/v1/wallets/{full}").text
    for word in (SECRET, "0.4242", "CHARGLY_API_KEY"):
        assert word not in text


def test_a_change_of_settings_is_listed_only_when_it_is_asked_for(api: httpx.Client, busy: str) -> None:
    assert "settings" not in {one["kind"] for one in whole_ledger(api, busy)}
    [entry] = whole_ledger(api, busy, kind="settings")
    assert (entry["description"], entry["credits"], entry["version"]) == ("Settings changed", 0, 10)


def test_entries_are_filtered_by_time_with_the_start_and_without_the_end(api: httpx.Client, busy: str) -> None:
    whole = whole_ledger(api, busy)
    times = sorted({one["created_at"] for one in whole})
    middle = times[len(times) // 2]
    newer, older = whole_ledger(api, busy, **{"from": middle}), whole_ledger(api, busy, to=middle)
    assert newer + older == whole
    assert all(one["created_at"] >= middle for one in newer)
    offset = middle.replace("Z", "+00:00")
    assert whole_ledger(api, busy, **{"from": offset}) == newer
    assert whole_ledger(api, busy, **{"from": "2999-01-01T00:00:00Z"}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "everything"),
        ("kind", ""),
        ("event", "Bad Name"),
        ("from", "yesterday"),
        ("from", "2026-01-01"),
        ("to", "2026-13-01T00:00:00Z"),
        ("to", "0000-01-01T00:00:00Z"),
        ("to", "2026-01-01T00:00:00"),
        ("limit", "1000"),
        ("cursor", "zz"),
        ("cursor", "2d31"),
        ("cursor", "39" * 30),
        ("until", "now"),
    ],
)
def test_a_bad_parameter_is_refused_by_its_name(api: httpx.Client, customer: str, name: str, value: str) -> None:
    answer = api.get(f"/v1/wallets/{customer}/entries", params={name: value})
    assert error_of(answer, 400, "invalid_request")["field"] == name


def test_the_operator_sees_what_each_event_cost_and_who_asked(api: httpx.Client, customer: str) -> None:
    charge(api, customer, cost_usd="0.004200", metadata={"a": 1}, idempotency_key="k")
    entry = whole_ledger(api, customer)[0]
    assert entry.keys() >= OPERATORS_OWN
    assert (entry["cost_usd"], entry["metadata"], entry["idempotency_key"]) == ("0.0042", {"a": 1}, "k")
    assert entry["actor"] == "CHARGLY_API_KEY"


def test_a_token_reads_its_ledger_without_what_is_the_operators_own(
    server: ServerProcess, api: httpx.Client, busy: str
) -> None:
    with server.client(server.token(busy)) as browser:
        seen = whole_ledger(browser, busy)
        text = browser.get(f"/v1/wallets/{busy}/entries", headers={"Accept": "text/csv"}).text
    assert len(seen) == len(whole_ledger(api, busy))
    assert OPERATORS_OWN.isdisjoint({name for one in seen for name in one})
    assert OPERATORS_OWN.isdisjoint(next(csv.reader(io.StringIO(text))))
    assert "kept secret" not in text


def test_the_whole_ledger_comes_as_csv(api: httpx.Client, busy: str) -> None:
    answer = api.get(f"/v1/wallets/{busy}/entries", headers={"Accept": "text/csv"}, params={"limit": 2})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["id"], int(row["credits"]), int(row["balance"])) for row in rows] == [
        (one["id"], one["credits"], one["balance"]) for one in whole_ledger(api, busy)
    ]
    assert rows[1]["cost_usd"] == "0.1"


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_a_cell_that_a_spreadsheet_would_run_is_shown_as_it_is(api: httpx.Client, customer: str, start: str) -> None:
    event = f"formula.{secrets.token_hex(4)}"
    label = f'{start}1+1,"x"'
    api.put(f"/v1/prices/{event}", json={"credits": 1, "label": label})
    charge(api, customer, event, model=f"{start}cmd", member=f"{start}A1")
    answer = api.get(f"/v1/wallets/{customer}/entries", headers={"Accept": "text/csv"})
    row = next(csv.DictReader(io.StringIO(answer.text)))
    assert (row["description"], row["model"], row["member"]) == (f"'{label}", f"'{start}cmd", f"'{start}A1")
    assert row["credits"] == "-1"


def test_csv_takes_the_filters_too(api: httpx.Client, busy: str) -> None:
    answer = api.get(f"/v1/wallets/{busy}/entries", headers={"Accept": "text/csv"}, params={"kind": "grant"})
    assert [row["kind"] for row in csv.DictReader(io.StringIO(answer.text))] == ["grant"]


def test_a_ledger_longer_than_one_page_of_csv_comes_whole(api: httpx.Client, customer_id: str) -> None:
    grant(api, customer_id, 2000)
    items = [{"customer_id": customer_id, "event": "x.y", "credits": 1}] * 525
    for _ in range(2):
        assert api.post("/v1/events/batch", json={"events": items}).json()["accepted"] == 525
    answer = api.get(f"/v1/wallets/{customer_id}/entries", headers={"Accept": "text/csv"})
    versions = [int(row["version"]) for row in csv.DictReader(io.StringIO(answer.text))]
    assert versions == list(range(1051, 0, -1))
