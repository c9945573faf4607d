"""What Stripe says, as much of it as the ledger rests on. Amounts are in minor units of their currency."""

from typing import Annotated, Any, Final, TypeAlias

import msgspec

Expandable: TypeAlias = str | dict[str, Any] | None
"""Stripe names an object by its id, or gives it whole where that was asked for."""

_TAKES: Final = frozenset({"needs_response", "under_review", "lost", "appeal_needs_response", "appeal_under_review"})
"""Disputes for which Stripe holds the money, or has lost it. An inquiry (`warning_…`) moves none."""
_GIVES: Final = frozenset({"succeeded", "pending", "requires_action"})
"""Refunds whose money has gone, or is on its way; one that failed or was canceled comes back."""


Money: TypeAlias = Annotated[int, msgspec.Meta(ge=-(10**15), le=10**15)]
"""In minor units; more would be no money, and no database holds it."""


def id_of(value: Expandable) -> str | None:
    """The id of what Stripe names or gives."""
    if isinstance(value, dict):
        found = value.get("id")
        return found if isinstance(found, str) else None
    return value


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A Stripe Checkout session."""

    id: str
    status: str | None = None
    payment_status: str | None = None
    amount_subtotal: Money | None = None
    amount_total: Money | None = None
    currency: str | None = None
    url: str | None = None
    expires_at: int | None = None
    customer: Expandable = None
    payment_intent: Expandable = None
    metadata: dict[str, str] | None = None

    @property
    def is_paid(self) -> bool:
        """Whether its money has come, or none was to come."""
        return self.status == "complete" and self.payment_status in ("paid", "no_payment_required")


class _Failure(msgspec.Struct, frozen=True, kw_only=True):
    code: str | None = None
    decline_code: str | None = None


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """The money of a payment."""

    id: str
    amount: Money = 0
    amount_captured: Money = 0
    currency: str | None = None
    payment_intent: Expandable = None


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A payment, from its first attempt on."""

    id: str
    status: str
    amount: Money
    amount_received: Money = 0
    currency: str
    customer: Expandable = None
    payment_method: Expandable = None
    latest_charge: str | Charge | None = None
    last_payment_error: _Failure | None = None
    metadata: dict[str, str] | None = None

    @property
    def checkout_id(self) -> str | None:
        """Which of our checkouts it is for."""
        return (self.metadata or {}).get("chargly_checkout")

    @property
    def failure(self) -> str:
        """Why it is not paid: a code."""
        error = self.last_payment_error
        code = (error.decline_code or error.code) if error else None
        return code or ("authentication_required" if self.status == "requires_action" else "payment_failed")

    @property
    def charged(self) -> int:
        """How much money came."""
        captured = self.latest_charge.amount_captured if isinstance(self.latest_charge, Charge) else 0
        return captured or self.amount_received


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """Money that goes back."""

    id: str
    amount: Money = 0
    status: str | None = None
    charge: Expandable = None
    payment_intent: Expandable = None
    metadata: dict[str, str] | None = None

    @property
    def asked_by(self) -> str | None:
        """Which of our requests made it."""
        return (self.metadata or {}).get("chargly_refund")

    @property
    def gives(self) -> bool:
        """Whether its money has left us."""
        return self.status in _GIVES


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """Money that the buyer's bank wants back."""

    id: str
    amount: Money = 0
    currency: str | None = None
    status: str = ""
    charge: Expandable = None
    payment_intent: Expandable = None

    @property
    def takes(self) -> bool:
        """Whether its money has left us."""
        return self.status in _TAKES


class _Period(msgspec.Struct, frozen=True):
    end: int = 0


class _PriceDetails(msgspec.Struct, frozen=True):
    price: Expandable = None


class _Pricing(msgspec.Struct, frozen=True):
    price_details: _PriceDetails | None = None


class _LineDetails(msgspec.Struct, frozen=True):
    proration: bool | None = None


class _LineParent(msgspec.Struct, frozen=True):
    subscription_item_details: _LineDetails | None = None
    invoice_item_details: _LineDetails | None = None


class _Discount(msgspec.Struct, frozen=True):
    amount: Money = 0


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an invoice. Where its price stands depends on the version of Stripe's API."""

    amount: Money = 0
    quantity: int | None = None
    period: _Period = _Period()
    pricing: _Pricing | None = None
    price: Expandable = None
    parent: _LineParent | None = None
    proration: bool | None = None
    discount_amounts: list[_Discount] | None = None

    @property
    def price_id(self) -> str | None:
        """Stripe's price of what the line is over."""
        details = self.pricing.price_details if self.pricing else None
        return id_of(details.price) if details and details.price else id_of(self.price)

    @property
    def is_prorated(self) -> bool:
        """Whether it is over part of a period, after a change in its midst."""
        parent = self.parent or _LineParent()
        details = (parent.subscription_item_details, parent.invoice_item_details)
        return bool(self.proration) or any(one.proration for one in details if one)

    @property
    def paid(self) -> int:
        """Its amount, less what a promotion took off."""
        return max(0, self.amount - sum(one.amount for one in self.discount_amounts or ()))


class _Lines(msgspec.Struct, frozen=True):
    data: list[InvoiceLine] = []
    has_more: bool = False


class _WithMetadata(msgspec.Struct, frozen=True):
    metadata: dict[str, str] | None = None


class _InvoiceParent(msgspec.Struct, frozen=True):
    subscription_details: _WithMetadata | None = None


class _Payment(msgspec.Struct, frozen=True):
    payment_intent: Expandable = None


class _InvoicePayment(msgspec.Struct, frozen=True):
    payment: _Payment | None = None
    status: str | None = None


class _InvoicePayments(msgspec.Struct, frozen=True):
    data: list[_InvoicePayment] = []


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice of a subscription."""

    id: str
    status: str | None = None
    customer: Expandable = None
    currency: str
    total: Money = 0
    amount_paid: Money = 0
    lines: _Lines = _Lines()
    metadata: dict[str, str] | None = None
    parent: _InvoiceParent | None = None
    subscription_details: _WithMetadata | None = None
    payment_intent: Expandable = None
    payments: _InvoicePayments | None = None

    @property
    def customer_id(self) -> str | None:
        """Whose wallet it fills, as the metadata of the invoice or of its subscription says."""
        of_parent = self.parent.subscription_details if self.parent else None
        for one in (_WithMetadata(self.metadata), of_parent, self.subscription_details):
            if one and (found := (one.metadata or {}).get("chargly_customer")):
                return found
        return None

    @property
    def intent(self) -> str | None:
        """The payment that paid it, if one did."""
        for one in self.payments.data if self.payments else ():
            if one.status == "paid" and one.payment and one.payment.payment_intent:
                return id_of(one.payment.payment_intent)
        return id_of(self.payment_intent)


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscription's line is over; `unit_amount` in minor units, None where it has tiers or fractions."""

    id: str
    unit_amount: int | None = None


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """A payment's money as Stripe has it now: of what was `charged`, so much was refunded and is disputed.

    `requests` are those of ours that refunds of it name.
    """

    requests: frozenset[str | None]
    charged: int
    refunded: int
    disputed: int


class StripeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event: its type, whether it is real money, whose account it is of, and the object that it is about."""

    id: str
    type: str
    livemode: bool
    created: int = 0
    account: str | None = None
    object: dict[str, Any]


class _Data(msgspec.Struct):
    object: dict[str, Any]


class EventBody(msgspec.Struct):
    """An event as Stripe writes it."""

    id: str
    type: str
    data: _Data
    livemode: bool = False
    created: int = 0
    account: str | None = None

    def event(self) -> StripeEvent:
        """As we read it."""
        return StripeEvent(
            id=self.id,
            type=self.type,
            livemode=self.livemode,
            created=self.created,
            account=self.account,
            object=self.data.object,
        )
