"""Purchases: what somebody is about to buy, by whatever way. A checkout's row commits before Stripe is called."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import select, tuple_

from app.errors import IdempotencyConflict, TransactionFailed
from app.rules.notices import top_up_failed
from app.rules.operations import FailTopUp, Operation, PurchaseKind, TakeBack, TopUp
from app.rules.taking_back import status_of
from app.rules.wallet import Attempt
from app.store import schema
from app.store.db import Database, Script
from app.store.dialect import Statement
from app.store.ids import now_ms
from app.store.statements import encode_document, ledger_statements
from app.store.webhooks import Message, deliveries_of

Status = Literal["open", "processing", "paid", "expired", "failed", "partially_refunded", "refunded", "disputed"]
PENDING: Final = ("open", "processing")
_PENDING: Final = "status IN ('open', 'processing')"


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """One purchase of a pack: `amount` in minor units of `currency`, times in milliseconds since 1970.

    `amount_paid` is what was charged, with tax and less what a promotion took off; of it, so much was refunded and is
    disputed. `ask_at` is when Stripe is asked about it next by itself, None for never, and `asked` how often it was.
    """

    id: str
    customer_id: str
    pack: str
    description: str
    credits: int
    amount: int
    currency: str
    status: Status
    session_id: str | None = None
    url: str | None = None
    created_at: int
    expires_at: int
    idempotency_key: str | None = None
    request_hash: str | None = None
    kind: PurchaseKind = "checkout"
    bonus_credits: int = 0
    bonus_days: int | None = None
    credits_expire_at: int | None = None
    save_card: bool = False
    payment_intent: str | None = None
    stripe_customer: str | None = None
    payment_method: str | None = None
    amount_paid: int | None = None
    amount_refunded: int = 0
    amount_disputed: int = 0
    failure: str | None = None
    asked: int = 0
    ask_at: int | None = None


_COLUMNS = Checkout.__struct_fields__
_INSERT = f"INSERT INTO checkouts ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM checkouts"
_BY_KEY = f"{_SELECT} WHERE customer_id = ? AND idempotency_key = ?"
_BY_ID = f"{_SELECT} WHERE id = ?"
_OPENED = "UPDATE checkouts SET session_id = ?, url = ?, expires_at = ?, ask_at = ? WHERE id = ? AND session_id IS NULL"
_PAID = (
    "UPDATE checkouts SET status = 'paid', payment_intent = ?, amount_paid = ?, failure = NULL, ask_at = NULL"
    " WHERE id = ?"
)
_TAKEN_BACK = "UPDATE checkouts SET status = ?, amount_refunded = ?, amount_disputed = ? WHERE id = ?"
_FAILED = f"UPDATE checkouts SET status = 'failed', failure = ?, ask_at = NULL WHERE id = ? AND {_PENDING}"
_CHARGED_NEXT = (
    "UPDATE checkouts SET stripe_customer = coalesce(stripe_customer, ?), payment_method = coalesce(payment_method, ?),"
    f" asked = asked + 1, ask_at = ? WHERE id = ? AND {_PENDING}"
)
_REFUNDS: Final = ("rfd_", "rfd`")
"""Between these are the ids of refunds that were asked for."""
_ENTRY_BY_KEY = "SELECT 1 FROM entries WHERE customer_id = ? AND idempotency_key = ?"


def _row(checkout: Checkout) -> list[Any]:
    return [int(value) if isinstance(value, bool) else value for value in msgspec.structs.astuple(checkout)]


def _checkout(row: Sequence[Any]) -> Checkout:
    columns = dict(zip(_COLUMNS, row, strict=True))
    return Checkout(**columns | {"save_card": bool(columns["save_card"])})


class Bought(msgspec.Struct, frozen=True):
    """A purchase that took money, and the refunds of it that were asked for here: each one's id and amount."""

    checkout: Checkout
    refunds: Sequence[tuple[str, int]]


# Within the ledger's transaction

OF_CHECKOUTS: Final = (TopUp, TakeBack, FailTopUp)
"""Operations that move a checkout."""


def moves_of(op: Operation) -> Iterator[Statement]:
    """How an operation that was applied moves its checkout, in the same transaction."""
    if isinstance(op, TopUp):
        yield _PAID, (op.payment_intent, op.paid, op.checkout_id)
    elif isinstance(op, TakeBack):
        status = status_of(op.charged, op.refunded, op.disputed)
        yield _TAKEN_BACK, (status, op.refunded, op.disputed, op.checkout_id)
    elif isinstance(op, FailTopUp):
        yield _FAILED, (op.reason, op.checkout_id)


def attempted(customer_id: str, attempt: Attempt) -> Statement:
    """Keeps an automatic top-up that is to be made: the job that charges finds it."""
    checkout = Checkout(
        id=attempt.id,
        customer_id=customer_id,
        pack=attempt.pack,
        description=attempt.description,
        credits=attempt.credits,
        amount=attempt.amount,
        currency=attempt.currency,
        status="open",
        created_at=attempt.at,
        expires_at=attempt.at,
        kind="auto_top_up",
        bonus_credits=attempt.bonus_credits,
        bonus_days=attempt.bonus_days,
        ask_at=attempt.at,
    )
    return kept(checkout)


def kept(checkout: Checkout) -> Statement:
    """The statement that keeps a new checkout."""
    return _INSERT, _row(checkout)


# By themselves


async def create(db: Database, checkout: Checkout) -> Checkout:
    """Keeps a new checkout; the same key with the same request gives the first one back.

    Raises:
        IdempotencyConflict: the key came with another request before.

    """
    sql = ledger_statements(db.dialect)
    customers = encode_document([checkout.customer_id]).decode()

    def script() -> Script[Checkout]:
        if checkout.idempotency_key is None:
            yield kept(checkout)
            return checkout
        # An event of another process with the same key is found, or waits and finds this. A customer without a wallet
        # has nothing to lock, so an empty one is made, as the ledger does it, and taken away again.
        if not db.dialect.is_sqlite:
            yield sql.make_wallets, (customers,)
            yield sql.lock_wallets, (customers, "")
        first = yield from _first_with_key(checkout)
        if first is None:
            yield kept(checkout)
        if not db.dialect.is_sqlite:
            yield sql.unlock_unopened, (customers,)
        return first or checkout

    try:
        return await db.transact(script)
    except TransactionFailed as error:
        if not error.rows_refused or checkout.idempotency_key is None:
            raise
        return await db.transact(script)  # another process had the key first, and what it wrote is found now


async def create_once(db: Database, checkout: Checkout) -> Checkout:
    """Keeps a checkout whose id follows from what was bought, an invoice; gives the one that is there."""

    def script() -> Script[list[Any]]:
        yield f"{_INSERT} ON CONFLICT (id) DO NOTHING", _row(checkout)
        return (yield _BY_ID, (checkout.id,))

    [row] = await db.transact(script)
    return _checkout(row)


def _first_with_key(checkout: Checkout) -> Script[Checkout | None]:
    rows = yield _BY_KEY, (checkout.customer_id, checkout.idempotency_key)
    if rows:
        return _same_request(_checkout(rows[0]), checkout.request_hash)
    if (yield _ENTRY_BY_KEY, (checkout.customer_id, checkout.idempotency_key)):
        raise IdempotencyConflict
    return None


async def find_by_key(db: Database, customer_id: str, key: str, request_hash: str | None) -> Checkout | None:
    """The checkout that a key made before.

    Raises:
        IdempotencyConflict: by another request.

    """
    table = schema.checkouts
    found = await _find(db, (table.c.customer_id == customer_id) & (table.c.idempotency_key == key))
    return _same_request(found, request_hash) if found else None


def _same_request(first: Checkout, request_hash: str | None) -> Checkout:
    if first.request_hash != request_hash:
        raise IdempotencyConflict
    return first


async def opened(
    db: Database, checkout_id: str, session_id: str, url: str, *, expires_at: int, ask_at: int
) -> Checkout:
    """Keeps what Stripe answered: its session and the page where it is paid. The first to be kept stays.

    Args:
        db: where.
        checkout_id: whose.
        session_id: Stripe's.
        url: where it is paid.
        expires_at: when the page closes, in milliseconds.
        ask_at: when Stripe is asked about it first, where nobody tells, in milliseconds.

    """

    def script() -> Script[list[Any]]:
        yield _OPENED, (session_id, url, expires_at, ask_at, checkout_id)
        return (yield _BY_ID, (checkout_id,))

    [row] = await db.transact(script)
    return _checkout(row)


async def move(
    db: Database, checkout: Checkout, status: Literal["processing", "expired", "failed"], *, failure: str | None = None
) -> None:
    """Moves a checkout that is not paid yet; a paid one stays paid, whatever is reported late.

    A payment that failed after it had seemed to come is told to the host's backend, once.
    """

    def script() -> Script[None]:
        # One that failed or expired may be asked about no more.
        ask_at = "ask_at" if status == "processing" else "NULL"
        sets = f"status = ?, failure = ?, ask_at = {ask_at}"
        move = f"UPDATE checkouts SET {sets} WHERE id = ? AND {_PENDING} AND status <> ? RETURNING id"
        moved = yield move, (status, failure, checkout.id, status)
        if moved and status == "failed":
            yield deliveries_of(db.dialect, [_failed(checkout, failure)])

    await db.transact(script)


def _failed(checkout: Checkout, reason: str | None) -> Message:
    now = now_ms()
    return Message(
        id=f"msg_failed_{checkout.id}",
        type="top_up.failed",
        customer_id="",  # it is of no entry of the wallet, and so in no order with what those say
        position=0,
        data={"customer_id": checkout.customer_id}
        | top_up_failed(
            pack=checkout.pack,
            reason=reason or "payment_failed",
            checkout_id=checkout.id,
            amount=checkout.amount,
            currency=checkout.currency,
        ),
        at=now,
    )


async def about_to_charge(
    db: Database, checkout_id: str, stripe_customer: str, payment_method: str, ask_at: int
) -> Checkout | None:
    """Keeps which card an attempt charges before Stripe is asked, so that each further try asks the same.

    Returns the attempt, None where it is over. `ask_at` is when it is tried again if nothing comes of this, in ms.
    """

    def script() -> Script[list[Any]]:
        yield _CHARGED_NEXT, (stripe_customer, payment_method, ask_at, checkout_id)
        return (yield f"{_BY_ID} AND {_PENDING}", (checkout_id,))

    rows = await db.transact(script)
    return _checkout(rows[0]) if rows else None


async def keep_payment(db: Database, checkout_id: str, payment_intent: str, amount_paid: int) -> None:
    """Keeps which payment paid a checkout, where that was not kept; `amount_paid` in minor units."""

    def script() -> Script[None]:
        keep = "UPDATE checkouts SET payment_intent = ?, amount_paid = ? WHERE id = ? AND payment_intent IS NULL"
        yield keep, (payment_intent, amount_paid, checkout_id)

    await db.transact(script)


async def ask_later(db: Database, checkout_id: str, ask_at: int | None) -> None:
    """Notes that Stripe was asked about one, and when it is asked again; None for never."""

    def script() -> Script[None]:
        yield f"UPDATE checkouts SET asked = asked + 1, ask_at = ? WHERE id = ? AND {_PENDING}", (ask_at, checkout_id)

    await db.transact(script)


async def to_ask(db: Database, *, kind: PurchaseKind, limit: int) -> list[Checkout]:
    """Those of a kind that are not settled and that it is time to ask Stripe about, the longest due first."""
    table = schema.checkouts
    due = (table.c.ask_at <= now_ms()) & table.c.status.in_(PENDING) & (table.c.kind == kind)
    rows = await db.fetch_all(table.select().where(due).order_by(table.c.ask_at).limit(limit))
    return [_of_columns(row) for row in rows]


async def find(db: Database, checkout_id: str) -> Checkout | None:
    """A checkout by its id."""
    return await _find(db, schema.checkouts.c.id == checkout_id)


async def find_by_payment(db: Database, payment_intent: str) -> Checkout | None:
    """The checkout that a payment was for."""
    return await _find(db, schema.checkouts.c.payment_intent == payment_intent)


async def page_of(
    db: Database, customer_id: str | None, *, status: str | None, limit: int, before: tuple[int, str] | None
) -> tuple[list[Checkout], tuple[int, str] | None]:
    """A page of checkouts, newest first, of one customer or of all, and where to go on, None on the last.

    Args:
        db: where they are.
        customer_id: whose, None for everyone's.
        status: only those.
        limit: rows at most.
        before: the place of the last one of the page before: its time and its id.

    """
    table = schema.checkouts
    query = table.select().order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit + 1)
    if customer_id is not None:
        query = query.where(table.c.customer_id == customer_id)
    if status is not None:
        query = query.where(table.c.status == status)
    if before is not None:
        query = query.where(tuple_(table.c.created_at, table.c.id) < tuple_(*before))
    found = [_of_columns(row) for row in await db.fetch_all(query)]
    last = found[limit - 1] if len(found) > limit else None
    return found[:limit], (last.created_at, last.id) if last else None


async def bought(db: Database, *, limit: int) -> list[Bought]:
    """The newest purchases that took money, oldest first."""
    table, entries = schema.checkouts, schema.entries
    took_money = table.c.payment_intent.is_not(None) & (table.c.amount_paid > 0)
    newest = table.select().where(took_money).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
    found = [_of_columns(row) for row in await db.fetch_all(newest)][::-1]
    # An id says what an entry is, and is in an index.
    asked = (entries.c.id > _REFUNDS[0]) & (entries.c.id < _REFUNDS[1])
    requests = select(entries.c.id, entries.c.detail).where(asked).order_by(entries.c.id.desc()).limit(limit)
    refunds: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in (await db.fetch_all(requests))[::-1]:
        refund = msgspec.json.decode(row.detail)["refund"]
        refunds[refund["checkout_id"]].append((row.id, refund["amount"]))
    return [Bought(one, refunds[one.id]) for one in found]


async def _find(db: Database, where: Any) -> Checkout | None:
    row = await db.fetch_one(schema.checkouts.select().where(where).limit(1))
    return _of_columns(row) if row else None


def _of_columns(row: Any) -> Checkout:
    return _checkout([getattr(row, name) for name in _COLUMNS])
