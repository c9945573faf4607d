"""What the store reads for an operation is enough for the rules, and what they change is what it keeps.

The random histories again, a transaction of SQLite for each operation: the rows have to be what the rules say of a
wallet that is known whole.
"""

import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from msgspec.structs import asdict, replace
from rules.tables import CATALOGUES
from rules.test_ledger_histories import STARTS_AT, STEPS_OF_EACH, Histories

from app.config import Config
from app.errors import ChargeError
from app.rules.operations import Operation
from app.rules.usage import flows_of, used_by
from app.rules.wallet import Applied
from app.rules.worth import Worth
from app.store import batch, usage
from app.store.dialect import SQLITE
from app.store.migrate import migrate
from app.store.statements import encode_document
from app.store.wallet_cache import WalletCache

HISTORIES = int(os.environ.get("CHARGLY_TESTS_HISTORIES_STORED", "80"))


@cache
def migrated() -> sqlite3.Connection:
    """A database with its tables, to copy from."""
    made = sqlite3.connect(":memory:")
    with tempfile.TemporaryDirectory() as folder:
        migrate(Config(database_url=f"sqlite:///{folder}/ledger.db"))
        on_disk = sqlite3.connect(f"{folder}/ledger.db")
        on_disk.backup(made)
        on_disk.close()
    return made


class StoredHistories(Histories):
    """Gives each operation to the rules and to the store."""

    def __init__(self) -> None:
        super().__init__()
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        migrated().backup(self.db)
        self.db.execute("PRAGMA foreign_keys = ON")
        self.db.create_function("connection_number", 0, lambda: 1)
        self.cache = WalletCache(10)
        [[self.generation]] = self.db.execute("SELECT generation FROM instance")
        self.patched = pytest.MonkeyPatch()
        self.patched.setattr(batch.time, "time_ns", lambda: self.clock * 1_000_000)

    def teardown(self) -> None:
        try:
            self.check_usage()
        finally:
            self.patched.undo()
            self.db.close()

    def check_usage(self) -> None:
        """What was noted adds up to what the ledger says, and what was earned to what was spent of each paid grant."""
        self.add_up()
        hours = self.db.execute(
            "SELECT event, model, hour, sum(count), sum(quantity), sum(credits), sum(cost_nanos)"
            " FROM usage_hours GROUP BY 1, 2, 3"
        ).fetchall()
        wanted: dict[tuple[str, str, int], list[int]] = {}
        by_id = {entry.id: entry for entry in self.entries}
        for entry in self.entries:
            if entry.kind not in ("event", "reversal"):
                continue
            happened = entry if entry.kind == "event" else by_id[(entry.detail or {})["event_id"]]
            key = (entry.event or "", entry.model or "", happened.created_at // 3_600_000 * 3_600_000)
            sums = wanted.setdefault(key, [0, 0, 0, 0])
            sign = 1 if entry.kind == "event" else -1
            sums[0] += sign
            sums[1] += sign * (entry.quantity or 1)
            sums[2] -= entry.credits
            sums[3] += entry.cost_nanos or 0
        assert {row[:3]: list(row[3:]) for row in hours if row[0]} == wanted
        [[moved]] = self.db.execute("SELECT coalesce(sum(credits_in) - sum(credits_out), 0) FROM credit_flows")
        assert moved == self.wallet.balance
        corrected = Counter[str]()
        for entry in self.entries:
            if entry.kind == "adjustment" and entry.credits < 0:
                corrected.update(dict(entry.draws or ()))
        earned: dict[str, int] = {}
        for grant in self.grants.values():
            taken = grant.taken.drawn + grant.taken.owed if grant.taken else 0
            spent = grant.credits - grant.remaining - grant.lapsed - taken - corrected[grant.id]
            if grant.worth_nanos is not None and grant.worth_currency is not None and grant.state != "pending":
                earned[grant.worth_currency] = earned.get(grant.worth_currency, 0) + spent * grant.worth_nanos
        for table in ("usage_hours", "usage_days", "usage_of_wallets"):
            found = dict(
                self.db.execute(
                    f"SELECT currency, sum(revenue_nanos) FROM {table} WHERE currency <> '' GROUP BY 1"
                ).fetchall()
            )
            assert {name: sum for name, sum in found.items() if sum} == {
                name: sum for name, sum in earned.items() if sum
            }

    def add_up(self) -> None:
        """As `UsageStore` does, on this connection."""
        noted = self.db.execute("SELECT id, wallets FROM usage_pending").fetchall()
        for id, wallets in noted:
            [[text]] = self.db.execute(usage._entries_of(SQLITE), {"spans": wallets}).fetchall()
            entries = usage._entries_in(text)
            grants = encode_document([grant for entry in entries for grant in entry.grants]).decode()
            rows = self.db.execute(usage._worths(SQLITE), {"grants": grants})
            sums = used_by(entries, {(row[0], row[1]): Worth(row[2], row[3]) for row in rows})
            script = usage._write(SQLITE, [id], sums, flows_of(entries))
            try:
                sql, parameters = next(script)
                while True:
                    sql, parameters = script.send(self.db.execute(sql, parameters).fetchall())
            except StopIteration:
                pass
        assert self.db.execute("SELECT * FROM usage_pending").fetchall() == []

    def apply(self, operation: Operation, welcome: int = 0) -> Applied:
        outcome = self.stored(operation, welcome)
        if isinstance(outcome, ChargeError):
            with pytest.raises(type(outcome)):
                super().apply(operation, welcome)
            raise outcome
        applied = super().apply(operation, welcome)
        assert asdict(outcome.wallet) == asdict(applied.state.wallet)
        assert msgspec.to_builtins(outcome.entry) == msgspec.to_builtins(applied.own)
        return applied

    def stored(self, operation: Operation, welcome: int) -> batch.Outcome | ChargeError:
        catalogue = replace(CATALOGUES[self.catalogue], generation=self.generation)
        script = batch.write_batch(SQLITE, [operation], catalogue, welcome, cache=self.cache)
        self.db.execute("BEGIN")
        try:
            sql, parameters = next(script)
            while True:
                sql, parameters = script.send(self.db.execute(sql, parameters).fetchall())
        except StopIteration as ended:
            self.db.execute("COMMIT")
            [outcome] = ended.value.outcomes
            return outcome  # type: ignore[no-any-return]

    def check(self) -> None:
        super().check()
        self.check_rows("wallets", "customer_id", {"u": self.wallet})
        self.check_rows("grants", "id", self.grants)
        self.check_rows("holds", "id", self.holds)
        self.check_rows("members", "member", self.members)
        self.check_rows("entries", "id", {entry.id: entry for entry in self.entries})

    def check_rows(self, table: str, key: str, wanted: Mapping[str, Any]) -> None:
        found = self.db.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in found.description]
        rows = {row[key]: row for row in (dict(zip(names, values, strict=True)) for values in found)}
        assert rows.keys() == wanted.keys()
        for id, row in wanted.items():
            fields = {
                name: encode_document(value).decode() if isinstance(value, msgspec.Struct) else value
                for name, value in asdict(row).items()
                if not isinstance(value, dict | tuple)
            }
            assert {name: rows[id][name] for name in fields} == fields


def test_a_member_whose_hold_ran_out_keeps_a_limit_and_what_was_spent() -> None:
    wallet = StoredHistories()
    wallet.clock = STARTS_AT[0]
    wallet.open_wallet(100)
    wallet.limit_member("alice", 50, "day")
    wallet.spend("other", credits=8, member="alice")
    wallet.set_apart(30, member="alice", seconds=1)
    wallet.clock += 1000
    wallet.begin()
    wallet.settle()
    wallet.check()
    alice = wallet.members["alice"]
    wallet.teardown()
    assert (alice.limit_credits, alice.spent_day, alice.held) == (50, 8, 0)


TestStoredHistories = StoredHistories.TestCase
TestStoredHistories.settings = settings(
    max_examples=HISTORIES, stateful_step_count=STEPS_OF_EACH, deadline=None, print_blob=True
)
