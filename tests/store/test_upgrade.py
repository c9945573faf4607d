"""A ledger that the first revision's code wrote keeps its promises after the upgrade, and goes on."""

import json
import sqlite3
from pathlib import Path

import pytest
from store.writing import open_ledger

from app.config import Config
from app.rules.operations import AddGrant
from app.store import migrate as store_migrate
from app.store import reads
from app.store.upgrade import upgrade
from app.store.verify import Audit

T = 1_795_526_655_984


def grant(customer_id: str, id: str, version: int, credits: int, remaining: int) -> tuple[object, ...]:
    return (customer_id, id, version, "paid", credits, remaining, 50, "grant", T, T, None, None, None)


def entry(
    customer_id: str, version: int, id: str, kind: str, credits: int, after: int, **fields: object
) -> list[object]:
    columns = {"event": None, "member": None, "draws": None, "detail": None, "key": None, "overdraft": 50} | fields
    available = after + int(str(columns["overdraft"]))
    numbers = (None, None, None, None) if kind != "event" else (1, 8, 1, None)
    keyed = (columns["key"], "h" if columns["key"] else None)
    texts = [None if columns[name] is None else json.dumps(columns[name]) for name in ("draws", "detail")]
    return [
        *(customer_id, version, id, kind, "Chat reply", credits, after, 0, available, T + version),
        *(columns["event"], None, columns["member"], *numbers, texts[0], None, None, None, texts[1], *keyed),
    ]


def made(id: str, version: int, credits: int, remaining: int) -> dict[str, object]:
    """What an entry of the first revision told of the grant that it made."""
    times = {"created_at": T, "effective_at": T, "expires_at": None}
    money = {"amount": None, "currency": None}
    kept = {"id": id, "version": version, "credits": credits, "remaining": remaining, "priority": 50, "source": "grant"}
    return {"grant": kept | times | money | {"category": "paid"}}


OPENED = {
    "grants": [],
    "wallet": {
        "customer_id": "u",
        "name": "Ada",
        "balance": 0,
        "held": 0,
        "version": 1,
        "overdraft_limit": 0,
        "low_balance_threshold": None,
        "frozen": False,
        "created_at": T,
        "last_entry_at": T,
    },
}
ENTRIES = [
    entry("u", 1, "set_1", "settings", 0, 0, overdraft=0, detail=OPENED, key="open"),
    entry("u", 2, "set_2", "settings", 0, 0, detail={"overdraft_limit": 50}),
    entry("u", 3, "evt_3", "event", -40, -40, event="chat.reply", draws=[]),
    entry("u", 4, "grant_4", "grant", 100, 60, detail=made("grant_4", 4, 100, 60), key="given"),
    entry("u", 5, "evt_5", "event", -8, 52, event="chat.reply", member="alice", draws=[["grant_4", 8]]),
    entry("u", 6, "adj_6", "adjustment", -5, 47, draws=[["grant_4", 5]]),
    entry("v", 1, "grant_7", "grant", 3, 3, overdraft=0, detail=made("grant_7", 1, 3, 3)),
]


@pytest.fixture
def old(tmp_path: Path) -> Config:
    """A file at the first revision, with a wallet that was overdrawn and paid, and another."""
    path = tmp_path / "old.db"
    config = Config(database_url=f"sqlite:///{path}")
    engine = store_migrate._sqlite_engine(config, path)
    with engine.begin() as connection:
        upgrade(connection, "the old ledger", "0001")
        connection.exec_driver_sql(f"PRAGMA application_id = {store_migrate.APPLICATION_ID}")
    engine.dispose()
    database = sqlite3.connect(path)
    wallets = [("u", "Ada", 47, 0, 6, 50, None, 0, T, T + 6), ("v", None, 3, 0, 1, 0, None, 0, T, T + 1)]
    database.executemany(f"INSERT INTO wallets VALUES ({','.join('?' * 10)})", wallets)
    grants = [grant("u", "grant_4", 4, 100, 47), grant("v", "grant_7", 1, 3, 3)]
    database.executemany(f"INSERT INTO grants VALUES ({','.join('?' * 13)})", grants)
    database.executemany(f"INSERT INTO entries VALUES ({','.join('?' * 24)})", ENTRIES)
    database.commit()
    database.close()
    store_migrate.migrate(config)
    return config


async def test_an_older_ledger_keeps_its_promises_after_the_upgrade(old: Config) -> None:
    async with open_ledger(old) as ledger:
        audit = Audit(ledger.db)
        assert [mismatch.sentence async for mismatch in audit.mismatches()] == []
        assert (audit.progress.wallets, audit.progress.entries) == (2, 7)


async def test_what_was_spent_and_what_paid_a_debt_is_known_after_the_upgrade(old: Config) -> None:
    async with open_ledger(old) as ledger:
        found = await reads.state(ledger.db, "u", member="alice")
        assert found is not None
        state, _ = found
        assert (state.wallet.spent_day, state.wallet.spent_month, state.wallet.spent_at) == (48, 48, T + 5)
        assert state.members["alice"].spent_week == 8
        assert [(grant.remaining, grant.debt_paid) for grant in state.grants] == [(47, 40)]


async def test_a_key_of_an_older_ledger_still_replays(old: Config) -> None:
    async with open_ledger(old) as ledger:
        again = AddGrant(customer_id="u", id="grant_new", key="given", request_hash="h", credits=100, category="paid")
        outcome = await ledger.writer.submit(again)
        assert outcome.replayed
        assert outcome.entry is not None
        assert outcome.entry.id == "grant_4"
        await ledger.meter("u", member="alice")
        assert [mismatch.sentence async for mismatch in Audit(ledger.db).mismatches()] == []
