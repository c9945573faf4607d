"""Who our customers are at Stripe, and which card of theirs may be charged."""

from typing import Final

import msgspec
from sqlalchemy import select

from app.store import schema
from app.store.db import Database, Script
from app.store.ids import now_ms


class StripeCustomer(msgspec.Struct, frozen=True):
    """Who a customer is at Stripe, and the card that may be charged."""

    stripe_customer: str
    payment_method: str | None


async def find(db: Database, customer_id: str) -> StripeCustomer | None:
    """Who a customer is at Stripe, None who never bought."""
    table = schema.stripe_customers
    row = await db.fetch_one(table.select().where(table.c.customer_id == customer_id))
    return StripeCustomer(row.stripe_customer, row.payment_method) if row else None


async def customer_of(db: Database, stripe_customer: str) -> str | None:
    """The customer whom Stripe knows by that id."""
    table = schema.stripe_customers
    row = await db.fetch_one(select(table.c.customer_id).where(table.c.stripe_customer == stripe_customer).limit(1))
    return row.customer_id if row else None


async def keep(db: Database, customer_id: str, stripe_customer: str, payment_method: str | None) -> None:
    """Keeps who a customer is at Stripe: the first stays, but for one whose card may be charged."""

    def script() -> Script[None]:
        yield _KEEP, (customer_id, stripe_customer, payment_method, now_ms())

    await db.transact(script)


async def forget(db: Database, customer_id: str, stripe_customer: str) -> None:
    """Forgets one whom Stripe does not know any more."""

    def script() -> Script[None]:
        yield (
            "DELETE FROM stripe_customers WHERE customer_id = ? AND stripe_customer = ?",
            (customer_id, stripe_customer),
        )

    await db.transact(script)


_KEEP: Final = (
    "INSERT INTO stripe_customers (customer_id, stripe_customer, payment_method, updated_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (customer_id) DO UPDATE SET stripe_customer = excluded.stripe_customer,"
    " payment_method = excluded.payment_method, updated_at = excluded.updated_at"
    " WHERE excluded.payment_method IS NOT NULL"
)
