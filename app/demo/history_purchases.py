"""What the history's customers buy, and the money of it that goes back."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from app.demo.history_cast import PACKS, USD_RATES, Buyer
from app.rules.operations import TakeBack, TopUp, top_up_id_of
from app.rules.packs import Pack, terms_of
from app.store.checkouts import Checkout
from app.store.ids import new_id
from app.store.past import Moment

_FIRST_PACKS: Final = (
    Pack(code="chargly_500", name="Starter", credits=500, amount=1_000, currency="usd"),
    Pack(code="chargly_1200", name="Growth", credits=1_200, amount=2_000, currency="usd"),
)
"""Those that a ledger is made with."""
_MINUTE_MS: Final = 60_000
_PAGE_MINUTES: Final = 30
_ABANDONED: Final = 0.06
_REFUNDED: Final[Mapping[int, int]] = {12: 100, 37: 50, 71: 100, 118: 25, 160: 100}
"""Which purchases, by their numbers, are refunded, and by how many percent."""
_DISPUTED: Final = 90
_BACK_AFTER_DAYS: Final = (2, 6)


class Purchases:
    """Checkouts, from the page that is opened to the money that lands or does not.

    Args:
        rng: its chance.
        usd_rates: of the settings; where they name no rate, the history has its own.

    """

    def __init__(self, rng: random.Random, usd_rates: Mapping[str, int]) -> None:
        self._rng = rng
        self._usd_rates = {**USD_RATES, **usd_rates}
        self._packs = {pack.code: pack for pack in (*_FIRST_PACKS, *PACKS)}
        self._paid = 0
        self._back: defaultdict[int, list[TakeBack]] = defaultdict(list)

    def buy(self, buyer: Buyer, day: int, at: int) -> tuple[Checkout, Sequence[Moment]]:
        """A customer buys its pack: the checkout as it begins, and what lands at a time, unless it is given up."""
        pack = self._packs[buyer.pack]
        terms = terms_of(pack, currency=buyer.currency)
        began = at - self._rng.randrange(_MINUTE_MS, 5 * _MINUTE_MS)
        checkout = Checkout(
            id=new_id("co", buyer.id, began),
            customer_id=buyer.id,
            pack=pack.code,
            description=f"{pack.name}: {terms.credits:,} credits",
            credits=terms.credits,
            amount=terms.amount,
            currency=terms.currency,
            status="open",
            created_at=began,
            expires_at=began + _PAGE_MINUTES * _MINUTE_MS,
            bonus_credits=terms.bonus_credits,
            bonus_days=pack.bonus_days,
        )
        if self._rng.random() < _ABANDONED:
            return replace(checkout, status="expired"), ()
        self._paid += 1
        self._note_money_back(checkout, day, _REFUNDED.get(self._paid, 0), is_disputed=self._paid == _DISPUTED)
        return checkout, [(at, self._landed(checkout))]

    def _landed(self, checkout: Checkout) -> TopUp:
        return TopUp(
            customer_id=checkout.customer_id,
            id=top_up_id_of(checkout.id),
            actor="stripe",
            credits=checkout.credits,
            checkout_id=checkout.id,
            description=_words(checkout),
            amount=checkout.amount,
            currency=checkout.currency,
            pack=checkout.pack,
            bonus_credits=checkout.bonus_credits,
            bonus_days=checkout.bonus_days,
            paid=checkout.amount,
            payment_intent=f"pi_{checkout.id.partition('_')[2]}",
            usd_rate=self._usd_rates.get(checkout.currency),
        )

    def _note_money_back(self, checkout: Checkout, day: int, refunded_percent: int, *, is_disputed: bool) -> None:
        if not refunded_percent and not is_disputed:
            return
        back = TakeBack(
            customer_id=checkout.customer_id,
            id="",
            actor="stripe",
            checkout_id=checkout.id,
            description=_words(checkout),
            charged=checkout.amount,
            refunded=checkout.amount * refunded_percent // 100,
            disputed=checkout.amount if is_disputed else 0,
            seen=0,
        )
        self._back[day + self._rng.randint(*_BACK_AFTER_DAYS)].append(back)

    def money_back(self, day: int) -> list[TakeBack]:
        """What goes back on a day; the ids follow, with the time."""
        return self._back.pop(day, [])


def _words(checkout: Checkout) -> str:
    return checkout.description.partition(":")[0]
