"""Subscriptions at Stripe that grant: each paid invoice over a mapped price, once."""

import logging
from collections.abc import Sequence

from app.payments.gateway import Gateway
from app.payments.landing import Landing
from app.payments.messages import Invoice, InvoiceLine, id_of
from app.rules.packs import Pack
from app.store import checkouts, stripe_customers
from app.store.catalogue import CatalogueStore
from app.store.checkouts import Checkout
from app.store.db import Database
from app.store.ids import now_ms

log = logging.getLogger("chargly.payments")


class Subscriptions:
    """Turns paid invoices into grants."""

    def __init__(self, db: Database, catalogue: CatalogueStore, gateway: Gateway, landing: Landing) -> None:
        self._db = db
        self._catalogue = catalogue
        self._gateway = gateway
        self._landing = landing

    async def paid(self, invoice_id: str) -> Checkout | None:
        """Lands what an invoice grants; None where it grants nothing of ours.

        Raises:
            ChargeError: it is not on disk.

        """
        found = await checkouts.find(self._db, checkout_id_of(invoice_id))
        if found is not None and found.status not in checkouts.PENDING:
            return found
        invoice = await self._gateway.api.read_invoice(invoice_id)
        if invoice.status != "paid":
            return None
        lines = await self._granting(invoice)
        if not lines:
            return None
        if (customer_id := await self._customer(invoice)) is None:
            log.error(
                "invoice %s is paid and names nobody; its subscription needs metadata chargly_customer", invoice.id
            )
            return None
        checkout = await checkouts.create_once(self._db, _checkout(invoice, customer_id, lines))
        await self._landing.invoice(checkout, invoice.amount_paid, invoice.intent)
        return checkout

    async def _granting(self, invoice: Invoice) -> list[tuple[InvoiceLine, Pack]]:
        if invoice.lines.has_more:
            log.error("invoice %s has more lines than Stripe gives at once; only those grant", invoice.id)
        packs = {pack.stripe_price: pack for pack in await self._catalogue.packs() if pack.stripe_price is not None}
        # A line below zero gives back part of a former price. What it had granted is bought, and stays.
        lines = [line for line in invoice.lines.data if line.amount >= 0 and line.price_id is not None]
        return [(line, packs[line.price_id]) for line in lines if line.price_id in packs]

    async def _customer(self, invoice: Invoice) -> str | None:
        if invoice.customer_id is not None:
            return invoice.customer_id
        buyer = id_of(invoice.customer)
        return None if buyer is None else await stripe_customers.customer_of(self._db, buyer)


def checkout_id_of(invoice_id: str) -> str:
    """The id of the purchase that an invoice is: it follows from the invoice's, so each grants once."""
    return f"co_{invoice_id}"


def _checkout(invoice: Invoice, customer_id: str, lines: Sequence[tuple[InvoiceLine, Pack]]) -> Checkout:
    ends = [line.period.end * 1000 if pack.expires_with_period else None for line, pack in lines]
    credits = sum(_credits(line, pack) for line, pack in lines)
    now = now_ms()
    names = ", ".join(dict.fromkeys(pack.name for _, pack in lines))
    return Checkout(
        id=checkout_id_of(invoice.id),
        customer_id=customer_id,
        pack=lines[0][1].code,
        description=f"{names}: {credits:,} credits",
        credits=credits,
        amount=sum(line.paid for line, _ in lines),
        currency=invoice.currency,
        status="open",
        created_at=now,
        expires_at=now,
        kind="subscription",
        # Where one of them lasts for ever, or they end at several times, no credit ends before its own time.
        credits_expire_at=None if None in ends else max(one for one in ends if one is not None),
        bonus_credits=sum(pack.bonus_credits * (line.quantity or 1) for line, pack in lines if not line.is_prorated),
        bonus_days=lines[0][1].bonus_days,
    )


def _credits(line: InvoiceLine, pack: Pack) -> int:
    """What a line grants: the pack for each unit, or as large a part of it as of the price where it is prorated."""
    units = line.quantity or 1
    whole = pack.credits * units
    if not line.is_prorated or not line.unit_amount:
        return whole
    return min(whole, int(whole * line.amount / (line.unit_amount * units))) or 1
