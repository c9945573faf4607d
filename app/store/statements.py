"""The ledger's statements, in the words of each engine.

Each read is one statement with one row of JSON: Python's sqlite3 lets go of the GIL at every step, and a thread that
steps row by row waits for a busy event loop each time. Each write is one statement with many rows.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from app.rules.wallet import AutoTopUp, Entry, Grant, Hold, Member, Taken, Wallet
from app.store import schema
from app.store.dialect import Dialect, Insert, Update

WALLET_COLUMNS: Final = Wallet.__struct_fields__
ENTRY_COLUMNS: Final = Entry.__struct_fields__
WALLET_MOVES: Final = (
    "balance",
    "held",
    "debt",
    "open_holds",
    "version",
    "spent_day",
    "spent_week",
    "spent_month",
    "spent_at",
    "last_entry_at",
    "due_at",
)
"""What operations move in a wallet that is there, apart from its settings."""
GRANT_MOVES: Final = ("state", "version", "credits", "remaining", "debt_paid", "next_at", "lapsed", "taken")
"""What changes of a grant once it is made."""
_GRANT_COLUMNS: Final = Grant.__struct_fields__
_HOLD_COLUMNS: Final = Hold.__struct_fields__
_MEMBER_COLUMNS: Final = Member.__struct_fields__
_ENTRY_DOCUMENTS: Final = ("draws", "metadata", "detail")
_ENTRY_DOCUMENT_POSITIONS: Final = tuple(ENTRY_COLUMNS.index(name) for name in _ENTRY_DOCUMENTS)
_HOLD_DOCUMENTS: Final = ("metadata", "rate")
_HOLD_DOCUMENT_POSITIONS: Final = tuple(map(_HOLD_COLUMNS.index, _HOLD_DOCUMENTS))
_FROZEN: Final = WALLET_COLUMNS.index("frozen")
_AUTO_TOP_UP: Final = WALLET_COLUMNS.index("auto_top_up")
_TAKEN: Final = _GRANT_COLUMNS.index("taken")

encode_document: Final = msgspec.json.Encoder(order="deterministic").encode


class WalletRow(Wallet, frozen=True, kw_only=True, array_like=True):
    """A wallet as it is read: an array in JSON, half as long as an object and quicker on both sides."""


class GrantRow(Grant, frozen=True, kw_only=True, array_like=True):
    """A grant as it is read."""


class HoldRow(Hold, frozen=True, kw_only=True, array_like=True):
    """A hold as it is read."""


class MemberRow(Member, frozen=True, kw_only=True, array_like=True):
    """A member as they are read."""


class Locked(msgspec.Struct):
    """Wallets that a transaction has locked on PostgreSQL, with their versions as of when it had the locks.

    `now` is the database's clock then, and `waited_ms` how long it took, both in milliseconds. `connection` names the
    connection. As of when it asked: the catalogue's `generation`, and whether the entry that was asked for is there.
    """

    generation: int
    connection: str
    last_is_there: bool
    wallets: list[tuple[str, int]]
    now: int
    waited_ms: int


class WalletsRead(msgspec.Struct):
    """The wallets of a batch, as of the time `now` in milliseconds.

    `holds` are the open ones of wallets that are due then, `members` those whom they are for. What belongs to a wallet
    comes with its customer's id.
    """

    generation: int
    wallets: list[WalletRow]
    grants: list[tuple[str, GrantRow]]
    holds: list[tuple[str, HoldRow]]
    members: list[tuple[str, MemberRow]]
    now: int


class NamedRead(msgspec.Struct):
    """What the operations of a batch name."""

    grants: list[tuple[str, GrantRow]]
    holds: list[tuple[str, HoldRow]]
    members: list[tuple[str, MemberRow]]


class KeyOfCheckout(msgspec.Struct, frozen=True):
    """A key that a checkout has, and no entry may."""

    customer_id: str
    idempotency_key: str


class SeenRead(msgspec.Struct):
    """What has the ids and keys of a batch already."""

    entries: list[Entry]
    keys_of_checkouts: list[KeyOfCheckout]


class LedgerStatements:
    """Their texts for one engine. Parameters that are lists go as JSON."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.wallets_upsert = self._upsert(schema.wallets, WALLET_COLUMNS, ("customer_id",))
        self.wallets_update = Update(dialect, schema.wallets, ("customer_id",), WALLET_MOVES)
        key = ("customer_id", "id")
        self.grants_insert = Insert(dialect, schema.grants, ("customer_id", *_GRANT_COLUMNS))
        self.grants_draw = Update(dialect, schema.grants, key, ("remaining",))
        self.grants_update = Update(dialect, schema.grants, key, GRANT_MOVES)
        self.holds_upsert = self._upsert(schema.holds, ("customer_id", *_HOLD_COLUMNS), key, ("status", "closed_at"))
        self.members_upsert = self._upsert(schema.members, ("customer_id", *_MEMBER_COLUMNS), ("customer_id", "member"))
        self.entries_insert = Insert(dialect, schema.entries, ENTRY_COLUMNS)
        self.lock_wallets = self._lock_wallets()
        self.make_wallets = self._make_wallets()
        self.unlock_unopened = f"DELETE FROM wallets WHERE version = 0 AND customer_id IN {dialect.listed('?1')}"
        self.read_wallets = self._read_wallets()
        self.read_ground = (
            "SELECT generation, connection_number(), (SELECT data_version FROM pragma_data_version),"
            " ?1 = '' OR EXISTS (SELECT 1 FROM entries WHERE id = ?1) FROM instance"
        )
        """On SQLite: the catalogue's generation, and what a `wallet_cache.Ground` says of the entry `?1`."""
        self.read_named = self._read_named()
        self.read_seen = self._read_seen()

    def _upsert(
        self, table: Any, columns: Sequence[str], key: Sequence[str], changing: Sequence[str] | None = None
    ) -> Insert:
        rest = [name for name in columns if name not in key] if changing is None else changing
        sets = ", ".join(f"{name} = excluded.{name}" for name in rest)
        return Insert(self._dialect, table, columns, f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {sets}")

    def _lock_wallets(self) -> str:
        """On PostgreSQL: locks those of `?1` that are there, in the order of their ids; `?2` is an entry's id.

        A wallet's version is as of its lock, since PostgreSQL looks at a row again once it has it. All else that is
        read is as of the statement's start, the wallet's rows in other tables too: those are read afterwards.
        """
        clock = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
        fields = {
            "generation": "(SELECT generation FROM instance)",
            "connection": "coalesce(current_setting('chargly.connection', true), '')",
            "last_is_there": "(?2 = '' OR EXISTS (SELECT 1 FROM entries WHERE id = ?2))",
            "wallets": "coalesce(json_agg(json_build_array(customer_id, version)), '[]'::json)",
            "now": clock,
            "waited_ms": f"{clock} - {self._dialect.clock()}",
        }
        return (
            f"SELECT {self._dialect.json_object(fields)} FROM (SELECT customer_id, version FROM wallets"
            f" WHERE customer_id IN {self._dialect.listed('?1')} ORDER BY customer_id FOR UPDATE) AS locked"
        )

    def _make_wallets(self) -> str:
        """On PostgreSQL: makes those of `?1` that are not there, empty and at version 0.

        It comes before they are locked, so that two first uses cannot race.
        """
        zeros = ("balance", "held", "version", "overdraft_limit", "frozen", "created_at", "last_entry_at")
        return (
            f"INSERT INTO wallets (customer_id, {', '.join(zeros)}) SELECT value, {', '.join('0' * len(zeros))}"
            " FROM json_array_elements_text(CAST(?1 AS json)) AS value ON CONFLICT (customer_id) DO NOTHING"
        )

    def _read_wallets(self) -> str:
        """Takes the customers of a batch and the time in milliseconds, on PostgreSQL NULL for the database's clock."""
        dialect = self._dialect
        mine = f"customer_id IN {dialect.listed('?1')}"
        clock = dialect.clock()
        now = "?2" if clock is None else f"coalesce(CAST(?2 AS bigint), {clock})"
        due = f"SELECT customer_id FROM wallets WHERE {mine} AND (due_at <= {now} OR due_at <= last_entry_at)"
        fields = {
            "generation": "(SELECT generation FROM instance)",
            "wallets": dialect.json_rows(self._wallet_json, f"wallets WHERE {mine}"),
            "grants": dialect.json_rows(self._grant_json, f"grants WHERE {schema.GRANT_LIVE} AND {mine}"),
            "holds": dialect.json_rows(self._hold_json, f"holds WHERE {schema.HOLD_OPEN} AND customer_id IN ({due})"),
            "members": dialect.json_rows(
                self._owned(_MEMBER_COLUMNS), f"members WHERE held > 0 AND customer_id IN ({due})"
            ),
            "now": now,
        }
        return f"SELECT {dialect.json_object(fields)}"

    def _read_named(self) -> str:
        """Takes pairs (customer, grant), customers to find payers of debts for, pairs (customer, hold), (…, member)."""
        dialect = self._dialect
        asked = f"(customer_id, id) IN {dialect.listed_pairs('?1')}"
        payers = f"debt_paid > 0 AND customer_id IN {dialect.listed('?2')}"
        # With OR, PostgreSQL would walk through all grants. One that is found twice is the same one.
        either = f"(SELECT * FROM grants WHERE {asked} UNION ALL SELECT * FROM grants WHERE {payers}) AS asked"
        fields = {
            "grants": dialect.json_rows(self._grant_json, either),
            "holds": dialect.json_rows(
                self._hold_json, f"holds WHERE (customer_id, id) IN {dialect.listed_pairs('?3')}"
            ),
            "members": dialect.json_rows(
                self._owned(_MEMBER_COLUMNS),
                f"members WHERE (customer_id, member) IN {dialect.listed_pairs('?4')}",
            ),
        }
        return f"SELECT {dialect.json_object(fields)}"

    def _read_seen(self) -> str:
        """Takes ids and pairs (customer, key)."""
        dialect = self._dialect
        keys = f"(customer_id, idempotency_key) IN {dialect.listed_pairs('?2')} AND idempotency_key IS NOT NULL"
        found = (
            f"SELECT {self._entry_json} AS found FROM entries WHERE id IN {dialect.listed('?1')} UNION ALL "
            f"SELECT {self._entry_json} FROM entries WHERE {keys}"
        )
        key = dialect.json_object({name: name for name in KeyOfCheckout.__struct_fields__})
        fields = {
            "entries": dialect.json_rows(dialect.document("found"), f"({found}) AS seen"),
            "keys_of_checkouts": dialect.json_rows(key, f"checkouts WHERE {keys}"),
        }
        return f"SELECT {dialect.json_object(fields)}"

    @property
    def _wallet_json(self) -> str:
        columns = {name: name for name in WALLET_COLUMNS} | {
            "frozen": self._dialect.boolean("frozen"),
            "auto_top_up": self._dialect.document("auto_top_up"),
        }
        return self._dialect.json_array([*columns.values()])

    @property
    def _entry_json(self) -> str:
        documents = {name: self._dialect.document(name) for name in _ENTRY_DOCUMENTS}
        return self._dialect.json_object({name: name for name in ENTRY_COLUMNS} | documents)

    @property
    def _grant_json(self) -> str:
        return self._owned([self._dialect.document(name) if name == "taken" else name for name in _GRANT_COLUMNS])

    @property
    def _hold_json(self) -> str:
        return self._owned(
            [self._dialect.document(name) if name in _HOLD_DOCUMENTS else name for name in _HOLD_COLUMNS]
        )

    def _owned(self, columns: Sequence[str]) -> str:
        return self._dialect.json_array(["customer_id", self._dialect.json_array(columns)])


@cache
def ledger_statements(dialect: Dialect) -> LedgerStatements:
    """The statements of an engine, made once."""
    return LedgerStatements(dialect)


def wallet_row(wallet: Wallet) -> list[Any]:
    """A wallet as its table has it."""
    row = list(astuple(wallet))
    row[_FROZEN] = int(wallet.frozen)
    row[_AUTO_TOP_UP] = document_of(wallet.auto_top_up)
    return row


def document_of(value: Any) -> str | None:
    """Something as a column of JSON text has it."""
    return None if value is None else encode_document(value).decode()


def wallet_of(row: Sequence[Any]) -> Wallet:
    """The wallet of a row of `WALLET_COLUMNS`."""
    columns = dict(zip(WALLET_COLUMNS, row, strict=True))
    auto = columns["auto_top_up"]
    decoded = None if auto is None else msgspec.json.decode(auto, type=AutoTopUp)
    return Wallet(**columns | {"frozen": bool(columns["frozen"]), "auto_top_up": decoded})


def grant_row(customer_id: str, grant: Grant) -> tuple[Any, ...]:
    """A grant as its table has it."""
    row = list(astuple(grant))
    row[_TAKEN] = document_of(grant.taken)
    return (customer_id, *row)


def grant_of(row: Sequence[Any]) -> Grant:
    """The grant of a row of its columns, without the customer."""
    columns = dict(zip(_GRANT_COLUMNS, row, strict=True))
    if columns["taken"] is not None:
        columns["taken"] = msgspec.json.decode(columns["taken"], type=Taken)
    return Grant(**columns)


def wallet_moves(wallet: Wallet) -> tuple[Any, ...]:
    """A wallet's id, and `WALLET_MOVES`."""
    return (
        wallet.customer_id,
        wallet.balance,
        wallet.held,
        wallet.debt,
        wallet.open_holds,
        wallet.version,
        wallet.spent_day,
        wallet.spent_week,
        wallet.spent_month,
        wallet.spent_at,
        wallet.last_entry_at,
        wallet.due_at,
    )


def is_drawn_from(before: Grant, after: Grant) -> bool:
    """Whether all that may have changed of a grant is what remains of it."""
    return (
        before.state == after.state
        and before.version == after.version
        and before.debt_paid == after.debt_paid
        and before.next_at == after.next_at
        and before.lapsed == after.lapsed
        and before.taken is after.taken
    )


def grant_moves(customer_id: str, grant: Grant) -> tuple[Any, ...]:
    """A grant's key, and `GRANT_MOVES`."""
    return (
        customer_id,
        grant.id,
        grant.state,
        grant.version,
        grant.credits,
        grant.remaining,
        grant.debt_paid,
        grant.next_at,
        grant.lapsed,
        document_of(grant.taken),
    )


def entry_row(entry: Entry) -> list[Any]:
    """An entry as its table has it."""
    row = list(astuple(entry))
    for position in _ENTRY_DOCUMENT_POSITIONS:
        if row[position] is not None:
            row[position] = encode_document(row[position]).decode()
    return row


def hold_row(customer_id: str, hold: Hold) -> tuple[Any, ...]:
    """A hold as its table has it."""
    row = list(astuple(hold))
    for position in _HOLD_DOCUMENT_POSITIONS:
        row[position] = document_of(row[position])
    return (customer_id, *row)
