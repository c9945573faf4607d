"""What a credit is worth in money: what was paid for it, or what the packs on sale ask for one.

Money of unlike currencies is never added up. What was paid in another currency than US dollars is converted once, at
the rate in the settings when it landed; without a rate it stays in its own.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import Final

import msgspec

from app.rules.packs import IN_THOUSANDTHS, Pack

_WHOLE: Final = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
)
"""Currencies without a smaller unit (docs.stripe.com/currencies)."""
_NANOS: Final = 10**9


class Worth(msgspec.Struct, frozen=True, gc=False):
    """What one credit is worth, in billionths of a currency's major unit."""

    nanos: int
    currency: str


def of_money(amount: int, currency: str, credits: int, usd_rate: int | None = None) -> Worth:
    """What each of some credits is worth that were paid for.

    Args:
        amount: what was paid, in minor units of `currency`.
        currency: as Stripe writes it.
        credits: what it bought.
        usd_rate: billionths of a US dollar for one major unit of the currency, None where no rate is set.

    """
    nanos = Fraction(amount * _NANOS, 10 ** (0 if currency in _WHOLE else 3 if currency in IN_THOUSANDTHS else 2))
    if usd_rate is None or currency == "usd":
        return Worth(round(nanos / credits), currency)
    return Worth(round(nanos * usd_rate / _NANOS / credits), "usd")


def of_packs(packs: Iterable[Pack]) -> Worth | None:
    """What the packs on sale ask for a credit, all of them together; None where there is none.

    In US dollars where any is sold for them, else in the currency of most; credits on top earn nothing.
    """
    asked: dict[str, tuple[int, int]] = {}
    sold: dict[str, int] = {}
    for pack in packs:
        for currency, amount in {**pack.currencies, pack.currency: pack.amount}.items():
            before = asked.get(currency, (0, 0))
            asked[currency] = before[0] + amount, before[1] + pack.credits
            sold[currency] = sold.get(currency, 0) + 1
    if not asked:
        return None
    currency = "usd" if "usd" in asked else min(sold, key=lambda name: (-sold[name], name))
    amount, credits = asked[currency]
    return of_money(amount, currency, credits)
