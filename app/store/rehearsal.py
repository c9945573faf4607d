"""What the ledger would answer to operations, without a word written."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import TypeVar

from app.errors import IdempotencyConflict
from app.rules.operations import Operation
from app.rules.pricing import Catalogue
from app.rules.wallet import Wallet
from app.store.batch import Outcome, write_batch
from app.store.db import Script, Snapshot
from app.store.dialect import Dialect
from app.store.wallet_cache import WalletCache
from app.store.writer import Result

T = TypeVar("T")


class Rehearsal:
    """Answers as a `Writer` would, from one snapshot; each wallet's key is remembered as if it had been written.

    Ten million wallets fit in no memory, so they are remembered in a private file of SQLite's that goes with this.

    Args:
        snapshot: the database as of one moment.
        dialect: its engine's.
        welcome_credits: what a new wallet would be given.

    """

    def __init__(self, snapshot: Snapshot, dialect: Dialect, welcome_credits: int) -> None:
        self._snapshot = snapshot
        self._dialect = dialect
        self._welcome_credits = welcome_credits
        self._taken = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            self._taken.execute(f"PRAGMA {pragma}")
        self._taken.execute("CREATE TABLE taken (customer_id, key, hash, PRIMARY KEY (customer_id, key)) WITHOUT ROWID")

    def close(self) -> None:
        """Forgets what was remembered."""
        self._taken.close()

    async def submit_all(self, operations: Sequence[Operation]) -> Sequence[Result]:
        """What would become of operations, in their order.

        Raises:
            Unavailable: the database failed.

        """
        earlier = [self._earlier(operation) for operation in operations]
        fresh = [operation for operation, known in zip(operations, earlier, strict=True) if known is None]
        script = write_batch(self._dialect, fresh, Catalogue(0, {}), self._welcome_credits, cache=WalletCache(0))
        results = iter((await _without_writes(self._snapshot, script)).outcomes if fresh else ())
        answers = [known or next(results) for known in earlier]
        self._remember(op for op, answer in zip(operations, answers, strict=True) if isinstance(answer, Outcome))
        return answers

    def _earlier(self, op: Operation) -> Result | None:
        if op.key is None:
            return None
        query = "SELECT hash FROM taken WHERE customer_id = ? AND key = ?"
        found = self._taken.execute(query, (op.customer_id, op.key)).fetchone()
        if found is None:
            return None
        same = found[0] == op.request_hash
        return Outcome(None, Wallet(customer_id=op.customer_id), replayed=True) if same else IdempotencyConflict()

    def _remember(self, operations: Iterable[Operation]) -> None:
        rows = [(op.customer_id, op.key, op.request_hash) for op in operations if op.key is not None]
        self._taken.executemany("INSERT OR IGNORE INTO taken VALUES (?, ?, ?)", rows)


async def _without_writes(snapshot: Snapshot, script: Script[T]) -> T:
    """Drives a transaction's script: it reads from the snapshot, and what it writes or locks is passed over."""
    rows: list[tuple[object, ...]] | None = None
    try:
        while True:
            sql, parameters = script.send(rows)  # type: ignore[arg-type]
            reads = snapshot.stream(sql.replace(" FOR UPDATE", ""), parameters, 1)
            rows = [row async for chunk in reads for row in chunk] if sql.startswith("SELECT") else []
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
