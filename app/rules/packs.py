"""What is for sale: credits for money, with credits on top, in one currency or several, in one size or at a rate."""

from collections.abc import Mapping, Sequence

import msgspec

from app.config import AMOUNT_MAX, CREDITS_MAX
from app.errors import InvalidRequest


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """Credits on sale.

    `amount` is what `credits` cost, in minor units of `currency`; `currencies` has the amount in others. On top come
    `bonus_credits`, which are promotional and last for `bonus_days` (None: for ever). With `amount_min` and
    `amount_max` the buyer chooses an amount between them, and gets credits at the rate of the pack.

    A paid invoice over `stripe_price` grants the pack too; its credits end with the invoice's period where
    `expires_with_period` says so.
    """

    code: str
    name: str
    credits: int
    amount: int
    currency: str
    bonus_credits: int = 0
    bonus_days: int | None = None
    currencies: Mapping[str, int] = {}
    amount_min: int | None = None
    amount_max: int | None = None
    stripe_price: str | None = None
    expires_with_period: bool = True

    @property
    def is_custom(self) -> bool:
        """Whether the buyer chooses the amount."""
        return self.amount_min is not None and self.amount_max is not None


class Terms(msgspec.Struct, frozen=True):
    """What one purchase is over: `amount` in minor units of `currency`."""

    credits: int
    bonus_credits: int
    amount: int
    currency: str


def terms_of(pack: Pack, *, currency: str | None = None, amount: int | None = None) -> Terms:
    """What a buyer gets for what.

    Args:
        pack: what is bought.
        currency: the pack's own by default.
        amount: in minor units of that currency, for a pack whose amount is the buyer's choice; by default the pack's.

    Raises:
        InvalidRequest: the pack is not sold in that currency, for that amount, or at one of the buyer's choice.

    """
    currency = currency or pack.currency
    price = pack.amount if currency == pack.currency else pack.currencies.get(currency)
    if price is None:
        sold = ", ".join((pack.currency, *sorted(pack.currencies)))
        raise InvalidRequest(f"currency: this pack is sold in {sold}.", field="currency")
    if amount is None or amount == price:
        return Terms(pack.credits, pack.bonus_credits, price, currency)
    if pack.amount_min is None or pack.amount_max is None:
        raise InvalidRequest(f"amount: this pack costs {price}, and no other amount.", field="amount")
    low, high = (-(-bound * price // pack.amount) for bound in (pack.amount_min, pack.amount_max))
    if not low <= amount <= high:
        raise InvalidRequest(f"amount: from {low} to {high} in minor units of {currency}.", field="amount")
    check_amount(amount, currency, "amount")
    credits = pack.credits * amount // price
    if not 1 <= credits <= CREDITS_MAX:
        raise InvalidRequest("amount: it does not buy one credit, or buys more than may move at once.", field="amount")
    return Terms(credits, min(CREDITS_MAX, pack.bonus_credits * amount // price), amount, currency)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an invoice over a price that a pack is mapped to.

    `amount` is before promotions, in minor units, below zero where it gives back unused time. `unit_amount` is what one
    unit costs for a whole period, where the line is over part of one; None where that has no one answer.
    """

    pack: Pack
    amount: int
    quantity: int
    is_prorated: bool = False
    unit_amount: int | None = None


def credits_of_invoice(lines: Sequence[Line], *, paid: int, total: int) -> int:
    """What a paid invoice grants: as large a part of what its lines are worth as was paid of it.

    A line is worth its pack for each unit. One that is prorated is worth the part that its amount is of the price, and
    counts against the others where it gives back unused time. What the buyer's balance at Stripe pays grants nothing:
    it came from time that was given back, and the credits of that stayed. So no change to and fro makes credits.

    Args:
        lines: those over mapped prices.
        paid: what was charged for the invoice, in minor units.
        total: what was to be paid, with tax and less promotions. 0 is an invoice that a promotion made free.

    """
    if total < 0:
        return 0
    worth = sum(_worth(line) for line in lines)
    return min(CREDITS_MAX, max(0, worth * min(paid, total) // total if total else worth))


def _worth(line: Line) -> int:
    """In credits, below zero for unused time. A line of nothing, as a trial has it, is worth nothing."""
    if not line.amount or line.quantity <= 0:
        return 0
    whole = line.pack.credits * line.quantity
    if not line.is_prorated:
        return whole if line.amount > 0 else 0
    if not line.unit_amount:
        return 0
    part = min(whole, whole * abs(line.amount) // (line.unit_amount * line.quantity))
    return part if line.amount > 0 else -part


_WHOLE_IN_HUNDREDTHS = frozenset(("isk", "ugx"))
"""Those that have no smaller unit any more, and that Stripe still takes in hundredths."""
IN_THOUSANDTHS = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))
"""Those with three decimals, of which Stripe takes two (docs.stripe.com/currencies)."""


def check_amount(amount: int, currency: str, field: str) -> int:
    """An amount that Stripe can charge in a currency.

    Raises:
        InvalidRequest: it has more digits than Stripe takes, or a fraction that the currency does not have.

    """
    step = 100 if currency in _WHOLE_IN_HUNDREDTHS else 10 if currency in IN_THOUSANDTHS else 1
    if not 1 <= amount <= AMOUNT_MAX or amount % step:
        multiple = f", a multiple of {step}" if step > 1 else ""
        raise InvalidRequest(f"{field}: from 1 to {AMOUNT_MAX} minor units of {currency}{multiple}.", field=field)
    return amount
