"""One transaction of the ledger: read the wallets a batch touches, apply its operations in order, write what changed.

Each read is one statement with one row of JSON: Python's sqlite3 lets go of the GIL at every step, and a thread that
steps row by row waits for a busy event loop each time. Each write is one statement with many rows, bound.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from app.errors import ChargeError, IdempotencyConflict, Internal
from app.rules import ledger
from app.rules.ledger import Applied, Entry, Grant, Operation, State, Wallet
from app.rules.pricing import Catalogue
from app.store.catalogue import CATALOGUE_SQL, decode_catalogue
from app.store.db import Script, Statement

log = logging.getLogger("chargly.store")

_ROWS_PER_INSERT_MAX: Final = 128
"""Rows of one INSERT: a text for each size, which SQLite keeps prepared, and few enough for its limit of parameters."""

_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_JSON_COLUMNS: Final = ("draws", "metadata", "detail")
_ENTRY_COLUMNS: Final = Entry.__struct_fields__
_JSON_POSITIONS: Final = tuple(_ENTRY_COLUMNS.index(name) for name in _JSON_COLUMNS)


class _StoredGrant(msgspec.Struct, frozen=True):
    """A grant with the wallet that it belongs to: one row of `grants`."""

    customer_id: str
    grant: Grant


class Outcome(msgspec.Struct, frozen=True):
    """What became of one operation.

    `entry` is its own row of the ledger, None where it changed nothing; `replayed` says that its key had been used by
    the same request before, and `wallet` is the wallet after it.
    """

    entry: Entry | None
    wallet: Wallet
    replayed: bool = False


class Change(msgspec.Struct, frozen=True):
    """A wallet as a batch left it, and its new entries, oldest first."""

    wallet: Wallet
    entries: tuple[Entry, ...]


class Committed(msgspec.Struct, frozen=True):
    """What a batch did: one outcome or refusal for each operation, in order, and the wallets that changed."""

    outcomes: list[Outcome | ChargeError]
    changes: list[Change]
    catalogue: Catalogue


def write_batch(
    operations: Sequence[Operation], known: Catalogue, welcome_credits: int, *, retried: bool = False
) -> Script[Committed]:
    """The script of a batch.

    Args:
        operations: in the order in which they are applied.
        known: the catalogue as last read; it is read again where its generation has moved.
        welcome_credits: what a new wallet is given.
        retried: whether an earlier attempt may have committed, so that each operation's id is looked up first.

    """
    [[rows]] = yield _read_statement(operations)
    generation, wallet_rows, grant_rows = _decode_read(rows)
    catalogue = known
    if generation != known.generation:
        [[text]] = yield CATALOGUE_SQL, ()
        catalogue = decode_catalogue(text)
    seen = _Seen([], [])
    looked_up = _seen_statement(operations, retried=retried)
    if looked_up is not None:
        [[text]] = yield looked_up
        seen = _seen_decoder.decode(text)
    batch = _Batch(wallet_rows, grant_rows, seen)
    now = time.time_ns() // 1_000_000
    outcomes = [batch.apply(operation, catalogue, now, welcome_credits) for operation in operations]
    yield from batch.statements()
    return Committed(outcomes, batch.changes(retried=retried), catalogue)


class _Batch:
    """The wallets of one transaction while its operations are applied."""

    def __init__(self, wallets: list[Wallet], grants: list[_StoredGrant], seen: "_Seen") -> None:
        by_wallet: dict[str, list[Grant]] = {}
        for stored in grants:
            by_wallet.setdefault(stored.customer_id, []).append(stored.grant)
        self._states: dict[str, State] = {
            wallet.customer_id: State(
                wallet, tuple(sorted(by_wallet.get(wallet.customer_id, ()), key=ledger.burn_down_order))
            )
            for wallet in wallets
        }
        self._by_id = {entry.id: entry for entry in seen.entries}
        self._by_key = {(entry.customer_id, entry.idempotency_key): entry for entry in seen.entries}
        self._keys_of_checkouts = set(seen.keys_of_checkouts)
        self._found: list[Entry] = []
        self._entries: list[Entry] = []
        self._grants: dict[tuple[str, str], Grant] = {}
        self._paid_checkouts: list[str] = []

    def apply(self, op: Operation, catalogue: Catalogue, now: int, welcome_credits: int) -> Outcome | ChargeError:
        state = self._states.get(op.customer_id) or State(Wallet(customer_id=op.customer_id))
        try:
            entry = self._seen(op)
            if entry is not None:
                first = ledger.replay(entry, op)
                self._found.append(first)
                return Outcome(first, state.wallet, replayed=first.id != op.id)
            applied = ledger.apply(state, op, catalogue, now, welcome_credits)
        except ChargeError as refusal:
            return refusal
        except Exception:
            log.exception("operation %s of %s failed", type(op).__name__, op.id)
            return Internal()
        self._take(op, applied)
        return Outcome(applied.entries[-1] if applied.entries else None, applied.state.wallet)

    def _seen(self, op: Operation) -> Entry | None:
        if op.key is not None and (entry := self._by_key.get((op.customer_id, op.key))):
            return entry
        if (op.customer_id, op.key) in self._keys_of_checkouts:
            raise IdempotencyConflict
        return self._by_id.get(op.id)

    def _take(self, op: Operation, applied: Applied) -> None:
        self._states[op.customer_id] = applied.state
        self._entries += applied.entries
        for grant in applied.grants:
            self._grants[op.customer_id, grant.id] = grant
        if applied.entries and op.key is not None:
            self._by_key[op.customer_id, op.key] = applied.entries[-1]
        if isinstance(op, ledger.TopUp):
            self._by_id[op.id] = applied.entries[-1]
            self._paid_checkouts.append(op.checkout_id)

    def statements(self) -> Iterator[Statement]:
        """What is to be written, wallets first: the other tables point to them."""
        if not self._entries:
            return
        changed = {entry.customer_id for entry in self._entries}
        yield from _WALLETS_UPSERT.statements([astuple(self._states[customer_id].wallet) for customer_id in changed])
        yield from _GRANTS_UPSERT.statements(
            [(customer_id, *astuple(g)) for (customer_id, _), g in self._grants.items()]
        )
        yield from _ENTRIES_INSERT.statements([_entry_row(entry) for entry in self._entries])
        for checkout_id in self._paid_checkouts:
            yield "UPDATE checkouts SET status = 'paid' WHERE id = ?", (checkout_id,)

    def changes(self, *, retried: bool) -> list[Change]:
        # An attempt whose commit was not known to succeed told nobody: what a retry finds is news to the listeners.
        by_wallet: dict[str, list[Entry]] = {}
        for entry in (*(self._found if retried else ()), *self._entries):
            by_wallet.setdefault(entry.customer_id, []).append(entry)
        return [Change(self._states[customer_id].wallet, tuple(entries)) for customer_id, entries in by_wallet.items()]


class _Insert:
    """A multi-row INSERT of some columns, its text made once for each size."""

    def __init__(self, table: str, columns: Sequence[str], conflict: str = "") -> None:
        self._one = "(" + ",".join("?" * len(columns)) + ")"
        self._head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "
        self._conflict = conflict
        self._texts: dict[int, str] = {}

    def statements(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[Statement]:
        for start in range(0, len(rows), _ROWS_PER_INSERT_MAX):
            chunk = rows[start : start + _ROWS_PER_INSERT_MAX]
            yield self._text(len(chunk)), list(chain.from_iterable(chunk))

    def _text(self, size: int) -> str:
        text = self._texts.get(size)
        if text is None:
            text = self._texts[size] = self._head + ",".join([self._one] * size) + self._conflict
        return text


def _set_excluded(columns: Sequence[str]) -> str:
    return ", ".join(f"{name} = excluded.{name}" for name in columns)


_WALLET_COLUMNS: Final = Wallet.__struct_fields__
_GRANT_COLUMNS: Final = ("customer_id", *Grant.__struct_fields__)
_WALLETS_UPSERT: Final = _Insert(
    "wallets", _WALLET_COLUMNS, f" ON CONFLICT (customer_id) DO UPDATE SET {_set_excluded(_WALLET_COLUMNS[1:])}"
)
_GRANTS_UPSERT: Final = _Insert(
    "grants", _GRANT_COLUMNS, " ON CONFLICT (customer_id, id) DO UPDATE SET remaining = excluded.remaining"
)
_ENTRIES_INSERT: Final = _Insert("entries", _ENTRY_COLUMNS)


def _entry_row(entry: Entry) -> tuple[Any, ...]:
    row = list(astuple(entry))
    for position in _JSON_POSITIONS:
        if row[position] is not None:
            row[position] = _encode(row[position]).decode()
    return tuple(row)


def json_object(columns: Sequence[str], *, booleans: Sequence[str] = (), documents: Sequence[str] = ()) -> str:
    """SQL that makes one JSON object of a row, for `msgspec` to read straight into a struct."""
    parts = []
    for name in columns:
        value = name
        if name in booleans:
            value = f"json(CASE {name} WHEN 0 THEN 'false' ELSE 'true' END)"
        elif name in documents:
            value = f"json({name})"
        parts.append(f"'{name}', {value}")
    return f"json_object({', '.join(parts)})"


WALLET_JSON: Final = json_object(_WALLET_COLUMNS, booleans=("frozen",))
GRANT_JSON: Final = f"json_object('customer_id', customer_id, 'grant', {json_object(Grant.__struct_fields__)})"
ENTRY_JSON: Final = json_object(_ENTRY_COLUMNS, documents=_JSON_COLUMNS)

_READ_SQL: Final = (
    "SELECT json_object("
    "'generation', (SELECT generation FROM instance),"
    f"'wallets', json((SELECT json_group_array({WALLET_JSON}) FROM wallets"
    " WHERE customer_id IN (SELECT value FROM json_each(?1)))),"
    f"'grants', json((SELECT json_group_array({GRANT_JSON}) FROM grants"
    " WHERE remaining > 0 AND customer_id IN (SELECT value FROM json_each(?1)))))"
)
_KEYS_ASKED: Final = "(customer_id, idempotency_key) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?2))"
_SEEN_SQL: Final = (
    "SELECT json_object('entries', json((SELECT json_group_array(json(found)) FROM ("
    f"SELECT {ENTRY_JSON} AS found FROM entries WHERE id IN (SELECT value FROM json_each(?1)) UNION "
    f"SELECT {ENTRY_JSON} FROM entries WHERE {_KEYS_ASKED} AND idempotency_key IS NOT NULL))),"
    "'keys_of_checkouts', json((SELECT json_group_array(json_array(customer_id, idempotency_key)) FROM checkouts"
    f" WHERE {_KEYS_ASKED} AND idempotency_key IS NOT NULL)))"
)


class _Read(msgspec.Struct):
    generation: int
    wallets: list[Wallet]
    grants: list[_StoredGrant]


class _Seen(msgspec.Struct):
    """What has the ids and keys of a batch already: entries, and checkouts, whose keys no entry may have."""

    entries: list[Entry]
    keys_of_checkouts: list[tuple[str, str]]


_read_decoder: Final = msgspec.json.Decoder(_Read)
_seen_decoder: Final = msgspec.json.Decoder(_Seen)


def _read_statement(operations: Sequence[Operation]) -> Statement:
    return _READ_SQL, (_encode(list({op.customer_id for op in operations})).decode(),)


def _decode_read(text: str) -> tuple[int, list[Wallet], list[_StoredGrant]]:
    read = _read_decoder.decode(text)
    return read.generation, read.wallets, read.grants


def _seen_statement(operations: Sequence[Operation], *, retried: bool) -> Statement | None:
    keys = [(op.customer_id, op.key) for op in operations if op.key is not None]
    ids = [op.id for op in operations if retried or isinstance(op, ledger.TopUp)]
    if not keys and not ids:
        return None
    return _SEEN_SQL, (_encode(ids).decode(), _encode(keys).decode())
