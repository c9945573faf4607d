"""What is for sale: credits for money, with credits on top, in one currency or several, in one size or at a rate."""

from collections.abc import Mapping

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
    if amount is None or (amount == price and not pack.is_custom):
        return Terms(pack.credits, pack.bonus_credits, price, currency)
    if pack.amount_min is None or pack.amount_max is None:
        raise InvalidRequest(f"amount: this pack costs {price}, and no other amount.", field="amount")
    low, high = (-(-bound * price // pack.amount) for bound in (pack.amount_min, pack.amount_max))
    if not low <= amount <= high:
        raise InvalidRequest(f"amount: from {low} to {high} in minor units of {currency}.", field="amount")
    credits = pack.credits * amount // price
    if not 1 <= credits <= CREDITS_MAX:
        raise InvalidRequest("amount: it does not buy one credit, or buys more than may move at once.", field="amount")
    return Terms(credits, pack.bonus_credits * amount // price, amount, currency)


_WITHOUT_MINOR_UNITS = frozenset(
    "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split()  # noqa: SIM905 - a table, read as one
)
"""Currencies whose amounts Stripe takes whole, e.g. 500 for ¥500."""
_WHOLE_IN_HUNDREDTHS = frozenset(("isk", "ugx"))
"""Those that have no smaller unit any more, and that Stripe still takes in hundredths."""
_IN_THOUSANDTHS = frozenset("bhd jod kwd omr tnd".split())  # noqa: SIM905


def minor_units_of(currency: str) -> int:
    """How many minor units make one of a currency: 1, 100 or 1000 (docs.stripe.com/currencies)."""
    if currency in _WITHOUT_MINOR_UNITS:
        return 1
    return 1000 if currency in _IN_THOUSANDTHS else 100


def check_amount(amount: int, currency: str, field: str) -> int:
    """An amount that Stripe can charge in a currency.

    Raises:
        InvalidRequest: it has more digits than Stripe takes, or a fraction that the currency does not have.

    """
    step = 100 if currency in _WHOLE_IN_HUNDREDTHS else 10 if currency in _IN_THOUSANDTHS else 1
    if not 1 <= amount <= AMOUNT_MAX or amount % step:
        multiple = f", a multiple of {step}" if step > 1 else ""
        raise InvalidRequest(f"{field}: from 1 to {AMOUNT_MAX} minor units of {currency}{multiple}.", field=field)
    return amount
