"""A subscription's invoices, which Stripe makes and charges by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.demo.stripe_cards import CARDS, GOOD_CARD
from app.demo.stripe_objects import StripeObject, invoice, invoice_line, invoice_payment, list_of, new_id
from app.demo.stripe_payments import Payments
from app.demo.stripe_prices import price
from app.demo.stripe_record import Record

_MONTH_SECONDS: Final = 30 * 86_400


@dataclass(frozen=True, kw_only=True)
class InvoiceLine:
    """A line: the price's id, and the amount in minor units; an amount below 0 gives back unused time.

    `unit_amount` is the price's own, where the line is over a part of it.
    """

    price: str
    amount: int
    quantity: int = 1
    proration: bool = False
    unit_amount: int | None = None


class Invoices:
    """Makes paid invoices."""

    def __init__(self, record: Record, payments: Payments) -> None:
        self._record = record
        self._payments = payments

    def pay(
        self,
        customer: StripeObject,
        lines: Sequence[InvoiceLine],
        *,
        currency: str,
        period: tuple[int, int] | None,
        subscription: str | None,
        metadata: Mapping[str, str],
        billing_reason: str,
        invoice_id: str | None = None,
        intent_id: str | None = None,
    ) -> StripeObject:
        """A subscription's invoice, drafted, charged and paid. Its metadata is a copy of the subscription's.

        It has a new id unless one is given, and so has its payment.
        """
        now = self._record.now
        start, end = period or (now, now + _MONTH_SECONDS)
        invoice_id, of = invoice_id or new_id("in"), subscription or new_id("sub")
        amount = sum(line.amount for line in lines)
        for line in lines:
            whole = line.unit_amount or max(0, line.amount) // line.quantity
            if self._record.find("price", line.price) is None:
                self._record.add(price(id=line.price, unit_amount=whole, currency=currency, created=now))
        made = invoice(
            id=invoice_id,
            amount_due=max(amount, 0),
            billing_reason=billing_reason,
            created=now,
            currency=currency,
            customer=customer["id"],
            customer_email=customer["email"],
            lines=list_of(
                (
                    invoice_line(
                        id=new_id("il"),
                        price=line.price,
                        subscription=of,
                        proration=line.proration,
                        unit_amount=line.unit_amount,
                        amount=line.amount,
                        currency=currency,
                        invoice=invoice_id,
                        metadata=dict(metadata),
                        period={"start": start, "end": end},
                        quantity=line.quantity,
                    )
                    for line in lines
                ),
                f"/v1/invoices/{invoice_id}/lines",
            ),
            parent={
                "quote_details": None,
                "subscription_details": {"metadata": dict(metadata), "subscription": of},
                "type": "subscription_details",
            },
            period_end=now,
            period_start=now,
        )
        self._record.add(made)
        self._record.tell("invoice.created", made)
        made.update(status="open", effective_at=now, number=f"{customer['invoice_prefix']}-0001")
        made["status_transitions"]["finalized_at"] = now
        self._record.tell("invoice.finalized", made)
        if made["amount_due"]:
            self._charge(made, customer["id"], intent_id or new_id("pi"))
        self._paid(made)
        return made

    def _charge(self, made: StripeObject, customer_id: str, intent_id: str) -> None:
        amount, currency = made["amount_due"], made["currency"]
        methods = self._record.of("payment_method", customer=customer_id)
        method = methods[0] if methods else self._payments.method(CARDS[GOOD_CARD], made["customer_email"], customer_id)
        intent = self._payments.intent(
            amount,
            currency,
            id=intent_id,
            customer=customer_id,
            description="Subscription update",
            setup_future_usage="off_session",
        )
        self._payments.attempt(intent, method, None)
        payment = invoice_payment(
            id=new_id("inpay"),
            amount_paid=amount,
            amount_requested=amount,
            created=self._record.now,
            currency=currency,
            invoice=made["id"],
            payment={"payment_intent": intent["id"], "type": "payment_intent"},
            status_transitions={"canceled_at": None, "paid_at": self._record.now},
        )
        self._record.add(payment)

    def _paid(self, made: StripeObject) -> None:
        amount = made["amount_due"]
        made.update(
            status="paid", amount_paid=amount, amount_remaining=0, attempt_count=1, attempted=True, auto_advance=False
        )
        made["status_transitions"]["paid_at"] = self._record.now
        for kind in ("invoice.paid", "invoice.payment_succeeded"):
            self._record.tell(kind, made)
        for payment in self._record.of("invoice_payment", invoice=made["id"]):
            self._record.tell("invoice_payment.paid", payment)
