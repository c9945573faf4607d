"""Subscriptions at Stripe that grant: each paid invoice over a mapped price, once."""

import logging
from collections.abc import Sequence

from app.config import CREDITS_MAX
from app.payments.gateway import Gateway
from app.payments.landing import Landing
from app.payments.messages import Invoice, InvoiceLine, id_of
from app.payments.refusals import StripeRefused
from app.rules.names import is_customer_id
from app.rules.packs import Line, Pack, credits_of_invoice
from app.store import checkouts, stripe_customers
from app.store.checkouts import Checkout
from app.store.db import Database
from app.store.ids import now_ms
from app.store.packs import PackStore

log = logging.getLogger("chargly.payments")


class GrantingLine(Line, frozen=True, kw_only=True):
    """A line with what was paid for it, less promotions, in minor units, and when its credits end (ms)."""

    paid: int
    ends_at: int | None


class Subscriptions:
    """Turns paid invoices into grants."""

    def __init__(self, db: Database, packs: PackStore, gateway: Gateway, landing: Landing) -> None:
        self._db = db
        self._packs = packs
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
        lines = [await self._line(line, pack) for line, pack in await self._mapped(invoice)]
        credits = credits_of_invoice(lines, paid=invoice.amount_paid, total=invoice.total)
        if not credits:
            return None
        if (customer_id := await self._customer(invoice)) is None:
            log.error(
                "invoice %s is paid and names nobody; its subscription needs metadata chargly_customer", invoice.id
            )
            return None
        checkout = await checkouts.create_once(self._db, _checkout(invoice, customer_id, credits, lines))
        await self._landing.land(checkout, invoice.amount_paid, invoice.intent)
        return checkout

    async def _mapped(self, invoice: Invoice) -> list[tuple[InvoiceLine, Pack]]:
        if invoice.lines.has_more:
            log.error("invoice %s has more lines than Stripe gives at once; only those grant", invoice.id)
        prices = {line.price_id for line in invoice.lines.data if line.price_id is not None}
        packs = await self._packs.of_prices(prices)
        return [(line, packs[line.price_id]) for line in invoice.lines.data if line.price_id in packs]

    async def _line(self, line: InvoiceLine, pack: Pack) -> GrantingLine:
        # Only the price itself tells what a whole period costs: a prorated line may show its own part of it.
        price = await self._price(line.price_id or "") if line.is_prorated and line.amount else None
        if line.is_prorated and line.amount and not price:
            log.error("a prorated line over %s grants nothing: its price has no one amount", line.price_id)
        return GrantingLine(
            pack=pack,
            amount=line.amount,
            quantity=1 if line.quantity is None else line.quantity,
            is_prorated=line.is_prorated,
            unit_amount=price,
            paid=line.paid,
            ends_at=line.period.end * 1000 if pack.expires_with_period else None,
        )

    async def _price(self, price_id: str) -> int | None:
        try:
            return (await self._gateway.api.read_price(price_id)).unit_amount
        except StripeRefused:  # it is not there any more
            return None

    async def _customer(self, invoice: Invoice) -> str | None:
        named = invoice.customer_id
        if named is not None and is_customer_id(named):
            return named
        buyer = id_of(invoice.customer)
        return None if buyer is None else await stripe_customers.customer_of(self._db, buyer)


def checkout_id_of(invoice_id: str) -> str:
    """The id of the purchase that an invoice is: it follows from the invoice's, so each grants once."""
    return f"co_{invoice_id}"


def _checkout(invoice: Invoice, customer_id: str, credits: int, lines: Sequence[GrantingLine]) -> Checkout:
    granting = [line for line in lines if line.amount > 0 or line.paid > 0] or list(lines)
    names = ", ".join(dict.fromkeys(line.pack.name for line in granting))
    with_bonus = [line for line in granting if line.pack.bonus_credits and not line.is_prorated]
    now = now_ms()
    return Checkout(
        id=checkout_id_of(invoice.id),
        customer_id=customer_id,
        pack=granting[0].pack.code,
        description=f"{names}: {credits:,} credits",
        credits=credits,
        amount=sum(line.paid for line in granting),
        currency=invoice.currency,
        status="open",
        created_at=now,
        expires_at=now,
        kind="subscription",
        # Where one of them lasts for ever, or they end at several times, no credit ends before its own time.
        credits_expire_at=_latest([line.ends_at for line in granting]),
        bonus_credits=min(CREDITS_MAX, sum(line.pack.bonus_credits * line.quantity for line in with_bonus)),
        bonus_days=_latest([line.pack.bonus_days for line in with_bonus]),
    )


def _latest(ends: Sequence[int | None]) -> int | None:
    """The last of some ends; None where one never comes, or there are none."""
    return None if None in ends else max((one for one in ends if one is not None), default=None)
