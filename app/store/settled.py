"""Reads that are true to the moment: what time has brought is settled before it is read.

Whether a wallet is due is judged here by this process's clock, and settled by the database's: where this one is behind,
a read may be as much behind; where it is ahead, a read costs a transaction that changes nothing.
"""

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
    return wallet if wallet is None else await _settled(writer, wallet)


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
    db: Database, writer: Writer, *, query: str | None, state: reads.WalletState | None, limit: int, after: str | None
) -> tuple[list[Wallet], str | None]:
    """A page of wallets as they stand now, as `reads.wallets` gives it; raises as `settled_wallet`.

    What makes a wallet `low`, or no longer, may be due and not settled yet: for as long as the settling job takes.
    """
    read = partial(reads.wallets, db, query=query, state=state, limit=limit, after=after)
    found = await read()
    due = [settling_of(wallet.customer_id) for wallet in found[0] if _is_due(wallet, now_ms())]
    if not due:
        return found
    for result in await writer.submit_all(due):
        if isinstance(result, ChargeError):
            raise result
    return await read()


async def settled_state(
    db: Database, writer: Writer, customer_id: str, *, member: str | None = None
) -> tuple[State, int] | None:
    """A wallet with its grants as they stand now, and when that is (`reads.state`); otherwise as `settled_wallet`."""
    found = await reads.state(db, customer_id, member=member)
    if found is None or not _is_due(found[0].wallet, found[1]):
        return found
    await _settled(writer, found[0].wallet)
    return await reads.state(db, customer_id, member=member)


async def _settled(writer: Writer, wallet: Wallet) -> Wallet:
    """Settles a wallet for as long as it is due and something comes of it."""
    while _is_due(wallet, now_ms()):
        before, wallet = wallet, (await writer.submit(settling_of(wallet.customer_id))).wallet
        if wallet.due_at == before.due_at:  # by the database's clock it is not due yet
            break
    return wallet


def _is_due(wallet: Wallet, now: int) -> bool:
    """Whether time may have changed it since its last entry."""
    return wallet.due_at is not None and wallet.due_at <= now


def settling_of(customer_id: str) -> Settle:
    """The operation that brings a wallet what time has brought."""
    return Settle(customer_id=customer_id, id=new_id("settle", customer_id))
