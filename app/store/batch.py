"""One transaction of the ledger: read the wallets of a batch, apply its operations in order, write what changed."""

import itertools
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import astuple

from app.config import LOCK_WAIT_NOTICED_MS
from app.errors import ChargeError, IdempotencyConflict, Internal, NotFound
from app.rules import ledger
from app.rules.operations import (
    Capture,
    ChangeSettings,
    Event,
    FailTopUp,
    LimitMember,
    MakeHold,
    Operation,
    Release,
    Reverse,
    TakeBack,
    TopUp,
    VoidGrant,
    bonus_id_of,
    grant_id_of,
)
from app.rules.pricing import Catalogue
from app.rules.wallet import Applied, Entry, Grant, Hold, Member, State, Wallet, burn_down_order
from app.store.catalogue import catalogue_sql, decode_catalogue
from app.store.checkouts import OF_CHECKOUTS, attempted, moves_of
from app.store.db import Script, Statement
from app.store.dialect import Dialect
from app.store.statements import (
    KeyOfCheckout,
    LedgerStatements,
    Locked,
    NamedRead,
    SeenRead,
    WalletsRead,
    encode_document,
    entry_row,
    grant_moves,
    grant_row,
    hold_row,
    is_drawn_from,
    ledger_statements,
    wallet_moves,
    wallet_row,
)
from app.store.usage import noted
from app.store.wallet_cache import Ground, WalletCache
from app.store.webhooks import Message, deliveries_of, position_of

log = logging.getLogger("chargly.store")

_WITH_DERIVED_ID: Final = (TopUp, FailTopUp, Reverse, Capture, Release, VoidGrant)
"""Operations whose id follows from what they are about: the second of two finds the first one's entry by it."""

_FOR_MEMBERS: Final = (Event, MakeHold, LimitMember)
_OF_HOLDS: Final = (Capture, Release)
_NONE: Final[Mapping[str, Any]] = {}
_locked_decoder: Final = msgspec.json.Decoder(Locked)
_wallets_decoder: Final = msgspec.json.Decoder(WalletsRead)
_named_decoder: Final = msgspec.json.Decoder(NamedRead)
_seen_decoder: Final = msgspec.json.Decoder(SeenRead)


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one operation.

    `entry` is its own row of the ledger, None where it changed nothing; `replayed` says that the same request had been
    answered before, and `wallet` is the wallet after it.
    """

    entry: Entry | None
    wallet: Wallet
    replayed: bool = False


class WalletChange(msgspec.Struct, frozen=True, gc=False):
    """A wallet as a batch left it, and its new entries, oldest first."""

    wallet: Wallet
    entries: tuple[Entry, ...]


class Committed(msgspec.Struct, frozen=True):
    """What a batch did: one outcome or refusal for each operation, in order, and the wallets that changed."""

    outcomes: list[Outcome | ChargeError]
    changes: list[WalletChange]
    catalogue: Catalogue


def write_batch(
    dialect: Dialect,
    operations: Sequence[Operation],
    known: Catalogue,
    welcome_credits: int,
    *,
    retried: bool = False,
    cache: WalletCache,
    times: Sequence[int] = (),
) -> Script[Committed]:
    """The script of a batch.

    Args:
        dialect: the engine's that it runs on.
        operations: in the order in which they are applied.
        known: the catalogue as last read; it is read again where its generation has moved.
        welcome_credits: what a new wallet is given.
        retried: whether an earlier attempt may have committed, so that each operation's id is looked up first.
        cache: of the wallets as the batches before left them.
        times: when each operation happened, from the earliest on, where they are of the past. Without them the clock
            that the ledger goes by says it for all.

    """
    sql = ledger_statements(dialect)
    customers = sorted({op.customer_id for op in operations})
    names = _named_by(operations)
    begin = _begin_on_sqlite(sql, cache) if dialect.is_sqlite else _begin_on_postgresql(sql, customers, cache)
    generation, now, versions = yield from begin
    if times:
        now = times[-1]  # what is due by the last of them is read
    # What an operation names belongs to a state too, so the wallet is read with it.
    unnamed = [id for id in customers if names is None or id not in names.customers]
    at_hand = cache.known(unnamed, now, versions)
    read = WalletsRead(generation, [], [], [], [], now)
    if len(at_hand) < len(customers):
        unread = encode_document([id for id in customers if id not in at_hand]).decode()
        [[text]] = yield sql.read_wallets, (unread, now)
        read = _wallets_decoder.decode(text)
    catalogue = known
    if read.generation != known.generation:
        [[text]] = yield catalogue_sql(dialect), ()
        catalogue = decode_catalogue(text)
    named = NamedRead([], [], [])
    if names is not None:
        [[text]] = yield sql.read_named, names.parameters()
        named = _named_decoder.decode(text)
    seen = SeenRead([], [])
    if (asked := _looked_up(operations, retried=retried)) is not None:
        [[text]] = yield sql.read_seen, asked
        seen = _seen_decoder.decode(text)
    before = states(read, named) | at_hand
    batch = _Batch(before, seen, retried=retried)
    in_force = catalogue.at(now)
    outcomes = [
        batch.apply(operation, in_force, at, welcome_credits)
        for operation, at in zip(operations, times or itertools.repeat(now), strict=False)
    ]
    # As a generator: a script is sent the rows of each statement, which a list cannot take.
    yield from (statement for statement in dialect.together([*batch.statements(sql)]))
    # As a generator too.
    yield from (statement for statement in [*batch.consequences(dialect)])
    if not dialect.is_sqlite and (unopened := batch.unopened(operations)):
        yield sql.unlock_unopened, (encode_document(unopened).decode(),)
    cache.leave(*batch.left())
    return Committed(outcomes, batch.changes(), catalogue)


class _Start(NamedTuple):
    """What a batch goes by: the catalogue's generation, and one time for all that it does, in milliseconds since 1970.

    `versions` are those that its wallets are at, where other processes move them on too.
    """

    generation: int
    now: int
    versions: Mapping[str, int] | None


def _begin_on_sqlite(sql: LedgerStatements, cache: WalletCache) -> Script[_Start]:
    """A file has one process, whose clock counts, and a transaction has its lock from the start."""
    [[generation, *ground]] = yield sql.read_ground, (cache.last_entry_id,)
    cache.begin(Ground(*ground))
    return _Start(generation, time.time_ns() // 1_000_000, None)


def _begin_on_postgresql(sql: LedgerStatements, customers: Sequence[str], cache: WalletCache) -> Script[_Start]:
    """Every process goes by the database's clock, as of when the wallets are locked."""
    locked = yield from _lock(sql, customers, cache.last_entry_id)
    cache.begin(Ground(locked.connection, 0, locked.last_is_there))
    generation = locked.generation
    if locked.waited_ms >= LOCK_WAIT_NOTICED_MS:  # prices may have changed meanwhile
        [[generation]] = yield "SELECT generation FROM instance", ()
    return _Start(generation, locked.now, dict(locked.wallets))


def _lock(sql: LedgerStatements, customers: Sequence[str], last_entry_id: str) -> Script[Locked]:
    """Locks the wallets of a batch, in the order of their ids, and makes those that are not there."""
    [[text]] = yield sql.lock_wallets, (encode_document(customers).decode(), last_entry_id)
    locked = _locked_decoder.decode(text)
    there = {customer_id for customer_id, _ in locked.wallets}
    if missing := [id for id in customers if id not in there]:
        some = encode_document(missing).decode()
        yield sql.make_wallets, (some,)
        [[text]] = yield sql.lock_wallets, (some, last_entry_id)
        made = _locked_decoder.decode(text)
        made.wallets += locked.wallets
        made.waited_ms += locked.waited_ms
        return made
    return locked


def states(read: WalletsRead, named: NamedRead) -> dict[str, State]:
    """What was read, by wallet."""
    grants: dict[str, dict[str, Grant]] = {}
    for customer_id, grant in (*read.grants, *named.grants):
        grants.setdefault(customer_id, {})[grant.id] = grant
    holds: dict[str, dict[str, Hold]] = {}
    for customer_id, hold in (*read.holds, *named.holds):
        holds.setdefault(customer_id, {})[hold.id] = hold
    members: dict[str, dict[str, Member]] = {}
    for customer_id, member in (*read.members, *named.members):
        members.setdefault(customer_id, {})[member.member] = member
    found = {}
    for wallet in read.wallets:
        id = wallet.customer_id
        found[id] = _state(wallet, grants.get(id, _NONE), holds.get(id, _NONE), members.get(id, _NONE))
    return found


def _state(
    wallet: Wallet, grants: Mapping[str, Grant], holds: Mapping[str, Hold], members: Mapping[str, Member]
) -> State:
    live = [grant for grant in grants.values() if grant.state == "active" and grant.remaining]
    others = _NONE
    if len(live) < len(grants):
        others = {id: grant for id, grant in grants.items() if grant.state != "active" or not grant.remaining}
    if len(live) > 1:
        live.sort(key=burn_down_order)
    return State(wallet, tuple(live), others, holds, members)


class _Batch:
    """The wallets of one transaction while its operations are applied."""

    def __init__(self, states: dict[str, State], seen: SeenRead, *, retried: bool) -> None:
        self._states = states
        self._grants_there = {
            (customer_id, grant.id): grant
            for customer_id, state in states.items()
            for grant in (*state.grants, *state.others.values())
        }
        self._retried = retried
        self._by_id = {entry.id: entry for entry in seen.entries}
        self._by_key = {(entry.customer_id, entry.idempotency_key): entry for entry in seen.entries}
        self._keys_of_checkouts = set(seen.keys_of_checkouts)
        self._found: list[Entry] = []
        self._entries: list[Entry] = []
        self._moved: set[str] = set()
        self._made_or_set: set[str] = set()
        self._grants: dict[tuple[str, str], Grant] = {}
        self._holds: dict[tuple[str, str], Hold] = {}
        self._members: dict[tuple[str, str], Member] = {}
        self._of_checkouts: list[Statement] = []
        self._messages: list[Message] = []
        self._proof = ""

    def apply(self, op: Operation, catalogue: Catalogue, now: int, welcome_credits: int) -> Outcome | ChargeError:
        state = self._states.get(op.customer_id) or State(Wallet(customer_id=op.customer_id))
        try:
            entry = self._seen(op)
            if entry is not None:
                first = ledger.replay(entry, op)
                self._found.append(first)
                return Outcome(first, state.wallet, replayed=first.id != op.id or not self._retried)
            applied = ledger.apply(state, op, catalogue, now, welcome_credits)
        except ChargeError as refusal:
            return refusal
        except Exception:
            log.exception("operation %s of %s failed", type(op).__name__, op.id)
            return Internal()
        if applied.state is not state:
            self._take(op, state, applied, now)
        if isinstance(op, OF_CHECKOUTS):
            self._of_checkouts += moves_of(op)
        return Outcome(applied.own, applied.state.wallet)

    def _seen(self, op: Operation) -> Entry | None:
        if op.key is not None:
            if (entry := self._by_key.get((op.customer_id, op.key))) is not None:
                return entry
            if self._keys_of_checkouts and KeyOfCheckout(op.customer_id, op.key) in self._keys_of_checkouts:
                raise IdempotencyConflict
        entry = self._by_id.get(op.id)
        if entry is not None and entry.customer_id != op.customer_id:  # an id that a path names beside a wallet
            raise NotFound("There is no such thing in this wallet.")
        return entry

    def _take(self, op: Operation, before: State, applied: Applied, now: int) -> None:
        customer_id = op.customer_id
        whole = not before.wallet.version or isinstance(op, ChangeSettings) or _is_set(before, applied.state)
        (self._made_or_set if whole else self._moved).add(customer_id)
        self._states[customer_id] = applied.state
        self._entries += applied.entries
        for grant in applied.grants:
            self._grants[customer_id, grant.id] = grant
        if applied.holds or applied.members:
            self._holds.update(((customer_id, hold.id), hold) for hold in applied.holds)
            self._members.update(((customer_id, member.member), member) for member in applied.members)
        if applied.attempts:
            self._of_checkouts += [attempted(customer_id, attempt) for attempt in applied.attempts]
        if applied.notices:
            self._messages += _messages(op, applied, now)
        if applied.own is None:
            return
        if op.key is not None:
            self._by_key[customer_id, op.key] = applied.own
        if isinstance(op, _WITH_DERIVED_ID):
            self._by_id[op.id] = applied.own
        else:  # another process can write an entry with an id that is derived, but none with one made by chance
            self._proof = op.id

    def statements(self, sql: LedgerStatements) -> Iterator[Statement]:
        """What is to be written, no row by two of them; wallets first, since the other tables point to them."""
        wallets = [self._states[id].wallet for id in self._moved - self._made_or_set]
        yield from sql.wallets_update.statements([wallet_moves(wallet) for wallet in wallets])
        yield from sql.wallets_upsert.statements([wallet_row(self._states[id].wallet) for id in self._made_or_set])
        drawn, moved, made = [], [], []
        for key, grant in self._grants.items():
            before = self._grants_there.get(key)
            if before is None:
                made.append(grant_row(key[0], grant))
            elif is_drawn_from(before, grant):
                drawn.append((*key, grant.remaining))
            else:
                moved.append(grant_moves(key[0], grant))
        yield from sql.grants_draw.statements(drawn)
        yield from sql.grants_update.statements(moved)
        yield from sql.grants_insert.statements(made)
        yield from sql.holds_upsert.statements([hold_row(id, hold) for (id, _), hold in self._holds.items()])
        yield from sql.members_upsert.statements([(id, *astuple(one)) for (id, _), one in self._members.items()])
        yield from sql.entries_insert.statements([entry_row(entry) for entry in self._entries])
        if (note := noted(self._entries)) is not None:
            yield note

    def consequences(self, dialect: Dialect) -> Iterator[Statement]:
        """What operations lead to beside the ledger: checkouts that move or are to be made, and what is to be told."""
        yield from self._of_checkouts
        if self._messages:
            yield deliveries_of(dialect, self._messages)

    def unopened(self, operations: Iterable[Operation]) -> list[str]:
        """Wallets that were made to be locked, and that no operation opened."""
        ids = {op.customer_id for op in operations}
        return [id for id in ids if id in self._states and not self._version(id)]

    def left(self) -> tuple[list[State], str]:
        """The wallets that it changed as it leaves them, and the id of an entry that proves it; empty for none."""
        return [self._states[id] for id in self._moved | self._made_or_set], self._proof

    def _version(self, customer_id: str) -> int:
        return self._states[customer_id].wallet.version

    def changes(self) -> list[WalletChange]:
        # An attempt whose commit was not known to succeed told nobody: what a retry finds is news to the listeners.
        by_wallet: dict[str, list[Entry]] = {}
        for entry in (*(self._found if self._retried else ()), *self._entries):
            by_wallet.setdefault(entry.customer_id, []).append(entry)
        return [
            WalletChange(self._states[customer_id].wallet, tuple(entries)) for customer_id, entries in by_wallet.items()
        ]


def _is_set(before: State, after: State) -> bool:
    """Whether more of a wallet changed than operations move as a rule."""
    return before.wallet.alert != after.wallet.alert or before.wallet.auto_top_up is not after.wallet.auto_top_up


def _messages(op: Operation, applied: Applied, now: int) -> Iterator[Message]:
    """What a wallet has to say of an operation, in the order in which it came to pass."""
    of_version: Counter[int] = Counter()
    for number, notice in enumerate(applied.notices):
        place = of_version[notice.version]
        of_version[notice.version] += 1
        yield Message(
            id=f"msg_{op.id}_{number}",
            type=notice.type,
            customer_id=op.customer_id,
            position=position_of(notice.version, place),
            data=notice.data,
            at=now,
        )


class _Named(NamedTuple):
    """What operations name beside their wallets, as pairs of a customer and an id or name.

    `payers` are customers whose grants that paid debts are asked for.
    """

    grants: list[tuple[str, str]]
    payers: list[str]
    holds: list[tuple[str, str]]
    members: list[tuple[str, str]]

    @property
    def customers(self) -> set[str]:
        return {*self.payers, *(id for pairs in (self.grants, self.holds, self.members) for id, _ in pairs)}

    def parameters(self) -> tuple[str, ...]:
        """Of the statement that reads them."""
        return tuple(encode_document(one).decode() for one in self)


def _named_by(operations: Sequence[Operation]) -> _Named | None:
    """What operations name, None where they name nothing."""
    named = _Named([], [], [], [])
    for op in operations:
        if isinstance(op, _FOR_MEMBERS):
            if op.member is not None:
                named.members.append((op.customer_id, op.member))
        elif isinstance(op, _OF_HOLDS):
            named.holds.append((op.customer_id, op.hold_id))
            if op.member is not None:
                named.members.append((op.customer_id, op.member))
        elif isinstance(op, VoidGrant):
            named.grants.append((op.customer_id, op.grant_id))
        elif isinstance(op, TakeBack):
            named.grants.append((op.customer_id, grant_id_of(op.checkout_id)))
            named.grants.append((op.customer_id, bonus_id_of(op.checkout_id)))
            named.payers.append(op.customer_id)
        elif isinstance(op, Reverse):
            named.grants.extend((op.customer_id, grant_id) for grant_id, _ in op.event.draws or ())
            named.payers.append(op.customer_id)
            if op.event.member is not None:
                named.members.append((op.customer_id, op.event.member))
    return named if any(named) else None


def _looked_up(operations: Sequence[Operation], *, retried: bool) -> tuple[str, str] | None:
    keys = [(op.customer_id, op.key) for op in operations if op.key is not None]
    ids = [op.id for op in operations if retried or isinstance(op, _WITH_DERIVED_ID)]
    if not keys and not ids:
        return None
    return encode_document(ids).decode(), encode_document(keys).decode()
