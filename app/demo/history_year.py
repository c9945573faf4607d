"""How the demo's history goes, day by day: who joins, buys, spends, gets money back, leaves."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from app.demo.history_cast import (
    ACTIONS,
    BACKEND,
    COSTS,
    DAYS,
    OPERATOR,
    PACKS,
    PRICES,
    SPIKE_DAYS,
    SPIKE_FACTOR,
    Action,
    Buyer,
    buyers,
)
from app.demo.history_purchases import Purchases
from app.demo.history_traffic import Traffic, settling
from app.demo.seed import CUSTOMER, TRIAL_CREDITS
from app.rules.operations import (
    AddGrant,
    Adjust,
    ChangeSettings,
    Event,
    LimitMember,
    OpenWallet,
    Operation,
    Reverse,
    derived_id,
)
from app.rules.periods import DAY_MS, HOUR_MS
from app.rules.wallet import Entry, Wallet
from app.store.checkouts import Checkout
from app.store.ids import new_id
from app.store.past import Moment, Slice, Story
from app.store.writer import Result

_SEED: Final = 20_251

_MONDAY: Final = 4
"""1970-01-01 was a Thursday, so day 4 was one."""
_WEEK: Final = (1.15, 1.2, 1.2, 1.15, 1.0, 0.4, 0.35)
_HOURS: Final = (2, 1, 1, 1, 1, 2, 4, 8, 14, 19, 21, 20, 16, 18, 21, 21, 19, 15, 11, 9, 8, 6, 5, 3)
_CREDITS_OF_AN_ACTION: Final = 28
"""On average, and roughly: a customer buys when what is left lasts for a week."""
_BUYS_WITHIN_DAYS: Final = 7
_BUYS: Final = 0.6
_TRIAL_DAYS: Final = 30
_TRIALS: Final = (300, 500, 800)
_PLAN_CREDIT_NANOS: Final = 14_000_000
_CAMPAIGN_DAY: Final = 200
_CAMPAIGN_DAYS: Final = 21
_CAMPAIGN_CREDITS: Final = 200
_GROWTH: Final = (0.6, 1.5)
"""How busy a customer is on the first day and on the last."""
_FIRST_DAYS_SHARE: Final = 0.3
_SETTLES_IN_DAYS: Final = 30
_FADES_DAYS: Final = 21
_LAST_HOUR_EVENTS: Final = 16
_LAST_HOUR_MS: Final = HOUR_MS - 60_000
_ENOUGH: Final = 400
_REVERSED: Final = 0.006
_WHY_REVERSED: Final = ("An empty answer", "Reported by the customer", "Cut off in the middle")
_ADJUSTED: Final[Mapping[int, tuple[int, int, str]]] = {
    44: (3, 150, "Goodwill for the outage"),
    131: (8, 400, "Migrated balance"),
    209: (1, 80, "Goodwill for a slow agent"),
    251: (5, -120, "Double grant corrected"),
    312: (15, 60, "Support ticket 4821"),
    356: (2, 200, "Goodwill for the outage"),
}
"""By day: a buyer's number, credits, and why."""


def year(began_day: int, now: int, usd_rates: Mapping[str, int]) -> Story:
    """The history's story, up to now.

    Args:
        began_day: its first day, in days since 1970.
        now: milliseconds since 1970; nothing happens after it.
        usd_rates: of the settings.

    """
    told = _Year(began_day, now, usd_rates)
    for day in range(DAYS + 1):
        one = told.day(day)
        told.learn(one.operations, (yield one))


class _Year:
    def __init__(self, began_day: int, now: int, usd_rates: Mapping[str, int]) -> None:
        self._rng = random.Random(_SEED)  # noqa: S311 - the same history each time, and no secret
        self._cast = buyers(self._rng)
        self._began_day = began_day
        self._now = now
        self._purchases = Purchases(self._rng, usd_rates)
        self._traffic = Traffic(self._rng, now)
        self._wallets: dict[str, Wallet] = {}
        self._failed: list[Entry] = []
        self._operations: list[Moment] = []
        self._checkouts: list[Checkout] = []
        self._begins = 0

    def day(self, day: int) -> Slice:
        """What is asked of the ledger on a day."""
        self._operations, self._checkouts = [], []
        self._begins = (self._began_day + day) * DAY_MS
        self._settle_due()
        self._give_back(day)
        for buyer in self._cast:
            if buyer.joined == day:
                self._open(buyer)
            elif buyer.joined < day:
                self._decide(buyer, day)
                self._act(buyer, day)
        self._correct(day)
        if day == DAYS:
            self._act_lately()
        self._operations.sort(key=lambda one: one[0])
        return Slice(
            begins_at=self._begins,
            prices=PRICES.get(day, ()),
            costs=COSTS.get(day, ()),
            packs=PACKS if day == 0 else (),
            checkouts=self._checkouts,
            operations=self._operations,
        )

    def learn(self, operations: Sequence[Moment], results: Sequence[Result]) -> None:
        """How the wallets stand after a day, and which of its events turn out to have failed."""
        for (_, operation), result in zip(operations, results, strict=True):
            if isinstance(result, Exception):
                continue  # an empty wallet's event, for one
            self._wallets[operation.customer_id] = result.wallet
            if isinstance(operation, Event) and self._rng.random() < _REVERSED and result.entry is not None:
                self._failed.append(result.entry)

    def _ask(self, at: int, operation: Operation) -> None:
        if at <= self._now:
            self._operations.append((at, operation))

    def _in_hours(self, first: int, last: int) -> int:
        """A time of this day, between two hours."""
        return self._begins + self._rng.randrange(first * HOUR_MS, last * HOUR_MS)

    # Once a day

    def _settle_due(self) -> None:
        for wallet in self._wallets.values():
            if wallet.due_at is not None and wallet.due_at < self._begins + DAY_MS:
                self._ask(*settling(wallet.customer_id, max(wallet.due_at, self._begins)))

    def _give_back(self, day: int) -> None:
        """Credits of yesterday's events that failed, and money of purchases."""
        for entry in self._failed:
            reverse = Reverse(
                customer_id=entry.customer_id,
                id=derived_id("rev", entry.id),
                actor=BACKEND,
                event=entry,
                reason=self._rng.choice(_WHY_REVERSED),
            )
            self._ask(self._in_hours(8, 11), reverse)
        self._failed = []
        for back in self._purchases.money_back(day):
            at = self._in_hours(9, 17)
            self._ask(at, replace(back, id=new_id("back", back.customer_id, at)))

    def _correct(self, day: int) -> None:
        if day in _ADJUSTED:
            number, credits, reason = _ADJUSTED[day]
            at, id = self._in_hours(10, 16), self._cast[number].id
            adjust = Adjust(customer_id=id, id=new_id("adj", id, at), actor=OPERATOR, credits=credits, reason=reason)
            self._ask(at, adjust)
        if day == DAYS - 2:  # the demo's wallet has enough left to watch it drain
            self._grant(CUSTOMER, self._in_hours(9, 10), TRIAL_CREDITS, reason="For a look around")

    # A customer

    def _open(self, buyer: Buyer) -> None:
        id, at = buyer.id, self._in_hours(8, 12)
        opened = OpenWallet(
            customer_id=id,
            id=new_id("set", id, at),
            actor=BACKEND,
            name=buyer.name,
            low_balance_threshold=buyer.low,
        )
        self._ask(at, opened)
        if not buyer.plan:
            ends = at + _TRIAL_DAYS * DAY_MS
            self._grant(id, at + 40, self._rng.choice(_TRIALS), ends=ends, reason="Trial")
        if buyer.gift:
            self._grant(id, at + 80, buyer.gift, monthly=True, reason="Partner credits")
        if buyer.plan:
            plan = AddGrant(
                customer_id=id,
                id=new_id("grant", id, at + 120),
                actor=OPERATOR,
                credits=buyer.plan,
                category="paid",
                every="month",
                reason="Annual contract",
                usd_nanos=buyer.plan * _PLAN_CREDIT_NANOS,
            )
            self._ask(at + 120, plan)
        if buyer.overdraft:
            self._set(id, at + 160, overdraft_limit=buyer.overdraft)
        for number, member in enumerate(buyer.members[1:3]):
            moment = at + 200 + number
            limit = LimitMember(
                customer_id=id,
                id=new_id("set", id, moment),
                actor=BACKEND,
                member=member,
                limit_credits=4_000 + 4_000 * number,
                limit_per="month",
            )
            self._ask(moment, limit)

    def _grant(
        self, id: str, at: int, credits: int, *, reason: str, ends: int | None = None, monthly: bool = False
    ) -> None:
        grant = AddGrant(
            customer_id=id,
            id=new_id("grant", id, at),
            actor=OPERATOR,
            credits=credits,
            category="promotional",
            reason=reason,
            expires_at=ends,
            every="month" if monthly else None,
        )
        self._ask(at, grant)

    def _set(self, id: str, at: int, **changes: int | bool) -> None:
        self._ask(at, ChangeSettings(customer_id=id, id=new_id("set", id, at), actor=OPERATOR, changes=changes))

    def _decide(self, buyer: Buyer, day: int) -> None:
        """What a customer and the operator make of the balance that is left."""
        if day == buyer.frozen_on:
            self._set(buyer.id, self._in_hours(10, 16), frozen=True)
        if day == _CAMPAIGN_DAY and self._is_here(buyer, day):
            at = self._in_hours(9, 10)
            self._grant(
                buyer.id, at, _CAMPAIGN_CREDITS, ends=at + _CAMPAIGN_DAYS * DAY_MS, reason="For trying the agent"
            )
        self._consider_buying(buyer, day)

    def _consider_buying(self, buyer: Buyer, day: int) -> None:
        wallet, lasts = self._wallets.get(buyer.id), buyer.pace * _CREDITS_OF_AN_ACTION * _BUYS_WITHIN_DAYS
        is_leaving = buyer.left is not None and day >= buyer.left - _FADES_DAYS
        if is_leaving or not self._is_here(buyer, day) or _is_past(buyer.pays_until, day):
            return
        if wallet is None or wallet.balance >= lasts or self._rng.random() >= _BUYS:
            return
        at = self._in_hours(8, 18)
        if at <= self._now:
            checkout, moments = self._purchases.buy(buyer, day, at)
            self._checkouts.append(checkout)
            self._operations += moments

    def _is_here(self, buyer: Buyer, day: int) -> bool:
        return not (_is_past(buyer.left, day) or _is_past(buyer.frozen_on, day))

    # What the product does

    def _act(self, buyer: Buyer, day: int) -> None:
        if not self._is_here(buyer, day):
            return
        often = buyer.pace * self._rhythm(buyer, day)
        spikes_from = self._now - SPIKE_DAYS * DAY_MS
        for action in ACTIONS:
            if day < action.launched:
                continue
            is_spiking = action.spikes and self._begins + DAY_MS > spikes_from
            for _ in range(self._count(often * action.share * (SPIKE_FACTOR if is_spiking else 1.0))):
                [hour] = self._rng.choices(range(24), weights=_HOURS)
                at = self._in_hours(hour, hour + 1)
                if is_spiking and at < spikes_from and self._rng.random() * SPIKE_FACTOR > 1:
                    continue
                self._run(buyer, action, at)

    def _rhythm(self, buyer: Buyer, day: int) -> float:
        """How busy a day is, 1 for an ordinary one: by its weekday, by how the product and the customer grow."""
        weekday = (self._began_day + day - _MONDAY) % 7
        growth = _GROWTH[0] + (_GROWTH[1] - _GROWTH[0]) * day / DAYS
        settling_in = min(1.0, _FIRST_DAYS_SHARE + (day - buyer.joined) / _SETTLES_IN_DAYS)
        fading = 1.0 if buyer.left is None else min(1.0, (buyer.left - day) / _FADES_DAYS)
        return _WEEK[weekday] * growth * settling_in * fading

    def _act_lately(self) -> None:
        """The last hour has some traffic, whatever hour it is; the more, the later."""
        able = [buyer for buyer in self._cast if self._may_spend(buyer)]
        for _ in range(_LAST_HOUR_EVENTS if able else 0):
            at = self._now - 1 - round(self._rng.random() ** 3 * _LAST_HOUR_MS)
            [action] = self._rng.choices(ACTIONS, weights=[action.share for action in ACTIONS])
            self._run(self._rng.choice(able), action, at)

    def _run(self, buyer: Buyer, action: Action, at: int) -> None:
        for moment in self._traffic.run(buyer, action, at):
            self._ask(*moment)

    def _may_spend(self, buyer: Buyer) -> bool:
        wallet = self._wallets.get(buyer.id)
        return wallet is not None and wallet.available > _ENOUGH and self._is_here(buyer, DAYS)

    def _count(self, mean: float) -> int:
        """How often something happens that happens so often on average (Poisson's)."""
        limit, product, count = math.exp(-mean), self._rng.random(), 0
        while product > limit:
            product *= self._rng.random()
            count += 1
        return count


def _is_past(end: int | None, day: int) -> bool:
    return end is not None and day >= end
