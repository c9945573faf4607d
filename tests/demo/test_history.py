"""`chargly demo --history`: a year that an operator's dashboard can show, written whole or not at all."""

import contextlib
import signal
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import ServerProcess

from app.config import Config
from app.demo.history import STEPS, begin_with_history, patient
from app.rules.periods import DAY_MS, HOUR_MS
from app.store.db import Database
from app.store.verify import Audit

HAS_BEGUN = "begins with a year of history"
HAS_IT_ALREADY = "has its year of history already"
IS_USED = "this one has been used"
SUNDAY_MIDNIGHT = 1_790_467_200_000
"""2026-09-27T00:00:00Z."""
SUMMED = {
    "usage_of_wallets": "customer_id, hour, event, model, member, currency, count, credits, cost_nanos",
    "credit_flows": "hour, kind, entries, credits_in, credits_out",
    "wallets": "customer_id, balance, held, debt, version, last_entry_at",
    "usage_pending": "id",
}
"""Tables of which a history is the same each time, by all but its ids."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path_factory.mktemp("history"), "demo --history").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def operator(demo: ServerProcess) -> Iterator[httpx.Client]:
    """Whoever looks at the dashboard."""
    with demo.client() as client:
        yield client


def _ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).isoformat().replace("+00:00", "Z")


def _usage(operator: httpx.Client, **query: str) -> list[dict[str, Any]]:
    answer = operator.get("/v1/usage", params=query).raise_for_status().json()
    assert answer["complete"]
    rows: list[dict[str, Any]] = answer["rows"]
    return rows


def _counts(rows: list[dict[str, Any]], by: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row[by]] += row["count"]
    return counts


def _wallets(operator: httpx.Client, **query: str) -> list[dict[str, Any]]:
    answer = operator.get("/v1/wallets", params={"limit": "100", **query}).raise_for_status().json()
    assert answer["next_cursor"] is None
    wallets: list[dict[str, Any]] = answer["wallets"]
    return wallets


def _checkouts(operator: httpx.Client, status: str) -> list[dict[str, Any]]:
    answer = operator.get("/v1/checkouts", params={"status": status, "limit": "100"}).raise_for_status()
    found: list[dict[str, Any]] = answer.json()["checkouts"]
    return found


def test_every_promise_of_the_ledger_holds(demo: ServerProcess) -> None:
    assert HAS_BEGUN in demo.log.read_text()
    verified = demo.run("verify")
    assert (verified.returncode, "every promise holds" in verified.stdout) == (0, True), verified.stdout
    assert "60 wallets" in verified.stdout


def test_the_year_grows_month_by_month_up_to_now(operator: httpx.Client) -> None:
    months = _counts(_usage(operator, **{"from": _ago(days=366), "interval": "month"}), "period")
    assert len(months) >= 13
    assert 20_000 <= sum(months.values()) <= 40_000
    whole = [months[month] for month in sorted(months)][1:-1]
    assert whole[-1] > 2 * whole[0]
    hours = _usage(operator, **{"from": _ago(hours=1), "interval": "hour"})
    assert sum(row["count"] for row in hours) >= 5
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat().replace("+00:00", "Z")
    next_hour = _ago(hours=-1)
    assert _usage(operator, **{"from": next_hour, "to": later}) == []


def test_weekends_and_nights_are_quiet(operator: httpx.Client) -> None:
    of_days, of_hours = Counter[bool](), Counter[bool]()
    for row in _usage(operator, **{"from": _ago(days=60), "interval": "hour"}):
        at = datetime.fromisoformat(row["period"])
        of_days[at.weekday() >= 5] += row["count"]
        of_hours[at.hour < 6] += row["count"]
    assert of_days[True] / 2 < of_days[False] / 5 / 2
    assert of_hours[True] < of_hours[False] / 8


def test_one_event_spikes_in_the_last_week(operator: httpx.Client) -> None:
    before = _counts(_usage(operator, **{"from": _ago(days=14), "to": _ago(days=7)}), "event")
    since = _counts(_usage(operator, **{"from": _ago(days=7)}), "event")
    assert [event for event in before if before[event] >= 20 and since[event] >= 2 * before[event]] == [
        "image.generate"
    ]


def test_one_events_cost_has_been_drifting_for_ten_weeks(operator: httpx.Client) -> None:
    costs: dict[str, list[float]] = defaultdict(list)
    for days in (120, 70, 50, 30, 7):
        rows = _usage(operator, **{"from": _ago(days=days), "to": _ago(days=days - 7), "interval": "month"})
        units: Counter[str] = Counter()
        dollars: Counter[str] = Counter()
        for row in rows:
            units[row["event"]] += row["costed"]
            dollars[row["event"]] += round(float(row["cost_usd"] or 0) * 10**6)
        for event in units:
            costs[event].append(dollars[event] / (units[event] or 1) / 10**6)
    assert costs["mail.classify"] == [0] * 5, "nobody knows what it costs"
    drifting = costs["chat.reply"]
    assert drifting == sorted(drifting)
    assert drifting[-1] > 1.8 * drifting[0]
    for steady in ("image.generate", "agent.step.read"):
        assert max(costs[steady]) < 1.2 * min(costs[steady])


@pytest.mark.parametrize("days", [30, 90])
def test_advice_is_of_several_kinds(operator: httpx.Client, days: int) -> None:
    answer = operator.post("/v1/pricing/recommendations", json={"days": days}).raise_for_status().json()
    advice = {one["event"]: one for one in answer["recommendations"]}
    kinds = {event: one["kind"] for event, one in advice.items()}
    assert kinds.pop("agent.step.search", kinds.pop("agent.step.read", None)) == "merge"
    assert kinds == {
        "agent.run": "per_model",
        "chat.reply": "raise",
        "doc.summarize": "raise",
        "image.generate": "lower",
    }
    assert "loses" in advice["doc.summarize"]["reason"]
    assert [one["event"] for one in answer["withheld"]] == ["mail.classify"]


def test_prices_and_costs_have_versions_of_the_past(operator: httpx.Client) -> None:
    versions = operator.get("/v1/prices/agent.run/versions").raise_for_status().json()["versions"]
    assert [(one["version"], one["credits"], one["status"]) for one in versions] == [
        (2, 30, "in_force"),
        (1, 25, "superseded"),
    ]
    assert _ago(days=200) < versions[0]["effective_at"] < _ago(days=160)
    assert versions[1]["effective_at"] < _ago(days=364)
    costs = operator.get("/v1/costs/doc.summarize/versions").raise_for_status().json()["versions"]
    assert [one["version"] for one in costs] == [2, 1]


def test_money_came_in_two_currencies_and_some_went_back(operator: httpx.Client) -> None:
    overview = operator.get("/v1/overview", params={"from": _ago(days=366)}).raise_for_status().json()
    assert set(overview["top_up_revenue"]) == {"usd", "eur"}
    assert set(overview["credits_in_by"]) == {"top_up", "grant", "adjustment"}
    assert min(overview["credits_expired"], overview["credits_taken_back"]) > 0
    assert overview["revenue_in"] == {}, "margins need one currency"
    assert 20 < overview["margin_percent"] < 80
    counts = {status: len(_checkouts(operator, status)) for status in ("refunded", "partially_refunded", "disputed")}
    assert counts == {"refunded": 3, "partially_refunded": 2, "disputed": 1}
    assert len(_checkouts(operator, "paid")) == 100
    assert len(_checkouts(operator, "expired")) > 5
    refunded = _checkouts(operator, "refunded")[0]["customer_id"]
    entries = operator.get(f"/v1/wallets/{refunded}/entries", params={"kind": "refund"}).raise_for_status().json()
    assert entries["entries"][0]["actor"] == "stripe"


def test_wallets_stand_in_every_way(operator: httpx.Client) -> None:
    wallets = _wallets(operator)
    assert len(wallets) == 60
    assert len([one for one in wallets if one["frozen"]]) == 1
    [overdrawn] = [one for one in wallets if one["balance"] < 0]
    assert overdrawn["available"] > 0
    assert len([one for one in wallets if one["balance"] == 0]) >= 1
    assert 2 <= len(_wallets(operator, low="true")) <= 15
    members = _counts(_usage(operator, group_by="member", interval="month"), "member")
    assert len([member for member in members if member]) == 6


def test_the_ledger_has_every_kind_of_entry(demo: ServerProcess) -> None:
    with contextlib.closing(sqlite3.connect(demo.folder / "ledger.db")) as ledger:
        [recurring] = ledger.execute("SELECT count(*) FROM grants WHERE period > 0").fetchone()
        kinds = dict(ledger.execute("SELECT kind, count(*) FROM entries GROUP BY kind"))
        late = ledger.execute(
            "SELECT max(e.created_at - g.expires_at) FROM entries AS e JOIN grants AS g"
            " ON g.customer_id = e.customer_id AND g.id = json_extract(e.draws, '$[0][0]') WHERE e.kind = 'expiry'"
        ).fetchone()[0]
        places = ledger.execute(
            "SELECT count(*) FROM entries AS e JOIN entries AS f ON f.customer_id = e.customer_id"
            " AND f.version = e.version + 1 WHERE f.created_at < e.created_at"
        ).fetchone()[0]
    wanted = "adjustment dispute event expiry grant hold hold_expiry refund release reversal settings top_up"
    assert set(wanted.split()) == set(kinds)
    assert recurring > 20
    assert (late < HOUR_MS, places) == (True, 0)


def test_the_demos_own_wallet_has_part_in_it_and_works(operator: httpx.Client, demo: ServerProcess) -> None:
    wallet = operator.get("/v1/wallets/demo").raise_for_status().json()
    assert wallet["balance"] > 1_000
    assert wallet["created_at"] < _ago(days=60)
    with demo.client(None) as page:
        state = page.get("/demo/state").json()
        assert {one["event"] for one in state["actions"]} >= {"chat.reply", "agent.run"}
        assert page.post("/demo/actions", json={"event": "chat.reply"}).status_code == 201


def _sums(folder: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        return ledger.execute("SELECT count(*), sum(credits), sum(cost_nanos) FROM entries").fetchall()


def test_one_that_is_killed_in_the_midst_is_begun_anew_and_a_whole_one_is_gone_on_from(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "demo --history")
    server.process = server._begin()
    log = tmp_path / "ledger.db-wal"
    deadline = time.monotonic() + 20
    while not log.exists() or log.stat().st_size < 4 << 20:  # some megabytes of the year are in the file
        assert server.process.poll() is None, server.log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    server.stop(signal.SIGKILL)
    assert HAS_BEGUN not in server.log.read_text()
    assert _sums(tmp_path) == [(0, None, None)]
    try:
        server.start()
        assert HAS_BEGUN in server.log.read_text()
        first = _sums(tmp_path)
        assert first[0][0] > 20_000
        server.stop()
        server.start()
        assert HAS_IT_ALREADY in server.log.read_text()
        assert _sums(tmp_path) == first
    finally:
        server.stop()


def test_a_ledger_that_is_used_stays_as_it_is(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "demo").start()
    server.stop()
    before = _sums(tmp_path)
    server.command = "demo --history"
    server.start()
    try:
        assert IS_USED in server.log.read_text()
        assert _sums(tmp_path) == before
    finally:
        server.stop()


async def _rows(db: Database, table: str, columns: str) -> list[tuple[Any, ...]]:
    rows = await db.fetch_all(f"SELECT {columns} FROM {table} ORDER BY {columns}")
    return [tuple(row[at] for at in range(len(columns.split(", ")))) for row in rows]


async def _written(database_url: str, now: int) -> tuple[dict[str, Any], int]:
    """A history's sums, and how many days it told of."""
    config = patient(Config(database_url=database_url))
    db = Database(config)
    await db.open()
    steps = []
    showing = partial(contextlib.nullcontext, partial(steps.append, 1))
    try:
        assert HAS_BEGUN in await begin_with_history(db, config, showing, now=now)
        assert [one async for one in Audit(db).mismatches()] == []
        sums = {table: await _rows(db, table, columns) for table, columns in SUMMED.items()}
    finally:
        await db.close()
    return sums, len(steps)


@pytest.mark.postgresql
async def test_it_is_the_same_each_time(database_url: str, migrated_file: Path, tmp_path: Path) -> None:
    """On either database; and where it ends just after midnight, its last hour lies in the day before."""
    other = tmp_path / "other.db"
    other.write_bytes(migrated_file.read_bytes())
    now = SUNDAY_MIDNIGHT + 5 * 60_000
    sums, days = await _written(f"sqlite:///{other}", now)
    assert (sums, days) == await _written(database_url, now)
    assert (days, sums["usage_pending"]) == (STEPS, [])
    last = max(wallet[-1] for wallet in sums["wallets"])
    assert now - 10 * 60_000 < last < now
    assert sums["credit_flows"][0][0] >= (now // DAY_MS - STEPS + 1) * DAY_MS
