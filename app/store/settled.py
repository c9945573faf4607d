"""Reads that are true to the moment: what time has brought is settled before it is read."""

from functools import partial

from app.errors import ChargeError, NotFound
from app.rules.operations import Settle
from app.rules.wallet import State, Wallet
from app.store import reads
from app.store.db import Database
from app.store.ids import new_id, now_ms
from app.store.writer import Writer


async def settled_wallet(db: Database, writer: Writer, customer_id: str) -> Wallet | None:
    """A wallet as it stands now, None for a customer never seen.

    Raises:
        Unavailable, ShuttingDown: it was due, and could not be settled.

    """
    wallet = await reads.wallet(db, customer_id)
    if wallet is None or not is_due(wallet):
        return wallet
    return (await writer.submit(settle(customer_id))).wallet


async def existing_wallet(db: Database, writer: Writer, customer_id: str) -> Wallet:
    """A wallet as it stands now; otherwise as `settled_wallet`.

    Raises:
        NotFound: the customer was never seen.

    """
    wallet = await settled_wallet(db, writer, customer_id)
    if wallet is None:
        raise NotFound("There is no wallet for this customer yet.", customer_id=customer_id)
    return wallet


async def settled_wallets(
    db: Database, writer: Writer, *, query: str | None, low: bool, limit: int, after: str | None
) -> tuple[list[Wallet], str | None]:
    """A page of wallets as they stand now, as `reads.wallets` gives it; raises as `settled_wallet`."""
    read = partial(reads.wallets, db, query=query, low=low, limit=limit, after=after)
    found = await read()
    due = [settle(wallet.customer_id) for wallet in found[0] if is_due(wallet)]
    if not due:
        return found
    for result in await writer.submit_all(due):
        if isinstance(result, ChargeError):
            raise result
    return await read()


async def settled_state(db: Database, writer: Writer, customer_id: str, *, member: str | None = None) -> State | None:
    """A wallet with its grants as they stand now; otherwise as `settled_wallet`."""
    state = await reads.state(db, customer_id, member=member)
    if state is None or not is_due(state.wallet):
        return state
    await writer.submit(settle(customer_id))
    return await reads.state(db, customer_id, member=member)


def is_due(wallet: Wallet) -> bool:
    """Whether time may have changed it since its last entry."""
    return wallet.due_at is not None and wallet.due_at <= now_ms()


def settle(customer_id: str) -> Settle:
    """The operation that does it."""
    return Settle(customer_id=customer_id, id=new_id("settle", customer_id))
