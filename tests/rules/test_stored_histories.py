"""What the store reads for an operation is enough for the rules, and what they change is what it keeps.

The random histories again, a transaction of SQLite for each operation: the rows have to be what the rules say of a
wallet that is known whole.
"""

import os
import sqlite3
import tempfile
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
from app.rules.wallet import Applied
from app.store import batch
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
        self.patched.undo()
        self.db.close()

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
