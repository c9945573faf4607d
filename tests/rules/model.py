"""A wallet as the contract describes it: a list of grants, a list of holds, and nothing clever.

It is written from the documents and shares no code with the rules it judges. Each method says what must come of an
operation: `refusals_of_…` the errors that may answer it, and the method of its name the entries it must write, which
gather in `told` as (kind, credits, {grant id: credits drawn}).
"""

import calendar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from app.errors import (
    ChargeError,
    HoldNotOpen,
    InsufficientCredits,
    InvalidRequest,
    SpendLimitReached,
    UnknownEvent,
    WalletFrozen,
)

DAY = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Told = tuple[str, int, dict[str, int]]
Refusals = set[type[ChargeError]]
Limit = tuple[int | None, str | None]


@dataclass(kw_only=True)
class Lot:
    """A grant. `age` orders by when its credits came in; `first` is the first of the recurring ones it belongs to."""

    id: str
    age: int
    credits: int
    left: int
    paid: bool
    state: str = "active"
    priority: int = 50
    starts: int = 0
    ends: int | None = None
    to_debt: int = 0
    every: str | None = None
    all: bool = False
    first: str = ""
    anchor: int = 0
    period: int = 0
    comes_again: int | None = None
    ends_for_good: int | None = None
    gone: int = 0
    """What expired or was withdrawn of it."""
    taken: dict[str, int] = field(default_factory=lambda: {"drawn": 0, "owed": 0, "gone": 0})
    """What was taken back because its money went back: from it, from the wallet, and of what was gone already."""

    @property
    def lapsed(self) -> bool:
        return self.state in ("expired", "voided")

    def over(self, now: int) -> bool:
        """Whether nothing goes back to it; one that was used up is over when its time has come."""
        return self.lapsed or (self.ends is not None and self.ends <= now)


@dataclass
class Pledge:
    """A hold."""

    id: str
    credits: int
    member: str | None
    ends: int
    unit: int | None
    status: str = "open"


@dataclass(kw_only=True)
class Spent:
    """An event, or the capture of a hold."""

    id: str
    age: int
    at: int
    credits: int
    member: str | None
    draws: list[tuple[str, int]]
    reversed: bool = False


@dataclass
class Model:
    """One wallet. Times are milliseconds; `now` is the later of the clock and the last entry."""

    prices: dict[str, int]
    lots: dict[str, Lot] = field(default_factory=dict)
    pledges: dict[str, Pledge] = field(default_factory=dict)
    spent: dict[str, Spent] = field(default_factory=dict)
    debt: int = 0
    overdraft: int = 0
    frozen: bool = False
    limit: Limit = (None, None)
    limits_of_members: dict[str, Limit] = field(default_factory=dict)
    age: int = 0
    now: int = 0
    told: list[Told] = field(default_factory=list)

    # What it says of itself

    @property
    def balance(self) -> int:
        return sum(lot.left for lot in self.lots.values() if lot.state != "pending") - self.debt

    @property
    def held(self) -> int:
        return sum(pledge.credits for pledge in self.pledges.values() if pledge.status == "open")

    @property
    def available(self) -> int:
        return self.balance - self.held + self.overdraft

    def held_of(self, member: str) -> int:
        return sum(p.credits for p in self.pledges.values() if p.status == "open" and p.member == member)

    def spent_in(self, per: str, member: str | None = None) -> int:
        """What the events in the window around now took, without those that were reversed."""
        window = window_of(per, self.now)
        return sum(
            event.credits
            for event in self.spent.values()
            if not event.reversed and (member is None or event.member == member) and window_of(per, event.at) == window
        )

    def changes_next(self) -> int | None:
        """The next time that changes something by itself."""
        times = [pledge.ends for pledge in self.pledges.values() if pledge.status == "open"]
        for lot in self.lots.values():
            if lot.state == "pending":
                times.append(lot.starts)
            elif lot.state == "active" and lot.left and lot.ends is not None:
                times.append(lot.ends)
            if lot.comes_again is not None:
                times.append(lot.comes_again)
        return min(times, default=None)

    # What time brings

    def advance(self, now: int) -> None:
        """Brings what is due, in the order of its times; at one time holds, ends, starts, and what comes again."""
        self.now = now
        while due := min(self._dues(), default=None):
            at, what, id = due
            if what == 0:
                self.pledges[id].status = "expired"
                self._tell("hold_expiry", 0)
                self._let_go()
            elif what == 1:
                self.lots[id].state = "expired"
                self._take_lapsed(self.lots[id])
            elif what == 2:
                lot = self.lots[id]
                lot.state, lot.age = "active", self._older()
                self._come_in(lot)
                self._tell("grant", lot.credits, {lot.id: lot.to_debt})
            else:
                self._come_again(self.lots[id], at)

    def _dues(self) -> list[tuple[int, int, str]]:
        now = self.now
        dues = [(p.ends, 0, p.id) for p in self.pledges.values() if p.status == "open" and p.ends <= now]
        for lot in self.lots.values():
            if lot.state == "active" and lot.left and lot.ends is not None and lot.ends <= now:
                dues.append((lot.ends, 1, lot.id))
            if lot.state == "pending" and lot.starts <= now:
                dues.append((lot.starts, 2, lot.id))
            if lot.comes_again is not None and lot.comes_again <= now:
                dues.append((lot.comes_again, 3, lot.id))
        return dues

    def _come_again(self, lot: Lot, at: int) -> None:
        assert lot.every is not None
        period = lot.period + 1
        while not lot.all and after(lot.anchor, lot.every, period + 1) <= self.now:
            period += 1  # what an unseen period gave would be gone by now
        at = after(lot.anchor, lot.every, period)
        lot.comes_again = None
        if lot.ends_for_good is not None and at >= lot.ends_for_good:
            return
        made = Lot(
            id=f"{lot.first}_{period}",
            age=self._older(),
            credits=lot.credits,
            left=lot.credits,
            paid=lot.paid,
            priority=lot.priority,
            starts=at,
            every=lot.every,
            all=lot.all,
            first=lot.first,
            anchor=lot.anchor,
            period=period,
            ends_for_good=lot.ends_for_good,
        )
        self._end_of_period(made)
        self._come_in(made)
        self._tell("grant", made.credits, {made.id: made.to_debt})

    def _end_of_period(self, lot: Lot) -> None:
        assert lot.every is not None
        following = after(lot.anchor, lot.every, lot.period + 1)
        more = lot.ends_for_good is None or following < lot.ends_for_good
        lot.comes_again = following if more else None
        lot.ends = following if more and not lot.all else lot.ends_for_good

    def _let_go(self) -> None:
        """A hold is closed: what lapsed grants kept for it goes, oldest first."""
        for lot in sorted(self.lots.values(), key=lambda lot: lot.age):
            if lot.lapsed:
                self._take_lapsed(lot)

    def let_needless_go(self) -> None:
        """What is kept and no hold needs any more goes as soon as it can, oldest first."""
        for lot in sorted(self.lots.values(), key=lambda lot: lot.age):
            kept = sum(one.left for one in self.lots.values() if one.lapsed)
            if lot.lapsed and kept > self.held:
                self._take_lapsed(lot, kept - self.held)

    def _take_lapsed(self, lot: Lot, most: int | None = None) -> None:
        taken = min(lot.left, max(0, self.available))
        taken = taken if most is None else min(taken, most)
        if taken:
            lot.left -= taken
            lot.gone += taken
            self._tell("void" if lot.state == "voided" else "expiry", -taken, {lot.id: taken})

    # Credits coming in

    def give(self, id: str, credits: int, kind: str, **fields: Any) -> None:
        """A grant that may be spent from now on."""
        lot = Lot(id=id, age=self._older(), credits=credits, left=credits, starts=self.now, **fields)
        self._come_in(lot)
        self._tell(kind, credits, {id: lot.to_debt})

    def refusals_of_grant(self, starts: int | None, ends: int | None) -> Refusals:
        starts = self.now if starts is None else max(starts, self.now)
        return {InvalidRequest} if ends is not None and ends <= starts else set()

    def grant(self, id: str, credits: int, *, starts: int | None, ends: int | None, **fields: Any) -> None:
        """A grant given by hand."""
        starts = self.now if starts is None else max(starts, self.now)
        lot = Lot(id=id, first=id, age=self._older(), credits=credits, left=credits, starts=starts, ends=ends, **fields)
        if lot.every is not None:
            lot.anchor, lot.ends_for_good = starts, ends
            self._end_of_period(lot)
        if starts > self.now:
            lot.state = "pending"
            self.lots[id] = lot
            self._tell("settings", 0)
        else:
            self._come_in(lot)
            self._tell("grant", credits, {id: lot.to_debt})

    def _come_in(self, lot: Lot) -> None:
        lot.to_debt = min(lot.left, self.debt)
        lot.left -= lot.to_debt
        self.debt -= lot.to_debt
        self.lots[lot.id] = lot

    def refusals_of_void(self, id: str) -> Refusals:
        lot = self.lots[id]
        return {InvalidRequest} if lot.lapsed or (not lot.left and lot.comes_again is None) else set()

    def void(self, id: str) -> None:
        """Takes back what is left, or what leaves `available` at 0."""
        lot = self.lots[id]
        pending = lot.state == "pending"
        taken = lot.left if pending else min(lot.left, max(0, self.available))
        lot.left -= taken
        lot.gone += taken
        lot.state, lot.comes_again = "voided", None
        self._tell("settings" if pending else "void", 0 if pending else -taken, {id: taken})

    # Spending

    def price(self, event: str, quantity: int, model: str | None) -> int | None:
        unit = self.prices.get(f"{event}/{model}", self.prices.get(event))
        return None if unit is None else unit * quantity

    def refusals_of_spending(self, credits: int | None, member: str | None, *, of_hold: int = 0) -> Refusals:
        """Why so many credits may not be spent or held, `of_hold` of which are held already."""
        refusals: Refusals = {WalletFrozen} if self.frozen else set()
        if credits is None:
            return refusals | {UnknownEvent}
        if not credits:
            return refusals
        if credits - of_hold > self.available:
            refusals.add(InsufficientCredits)
        if any(credits - of_hold > left for left in self.left_of_limits(member)):
            refusals.add(SpendLimitReached)
        return refusals

    def left_of_limits(self, member: str | None) -> list[int]:
        """What the limits leave, with what their windows have seen and the open holds."""
        left = []
        credits, per = self.limit
        if credits is not None and per is not None:
            left.append(credits - self.spent_in(per) - self.held)
        if member is not None:
            credits, per = self.limits_of_members.get(member, (None, None))
            if credits is not None and per is not None:
                left.append(credits - self.spent_in(per, member) - self.held_of(member))
        return left

    def most(self, member: str | None) -> int:
        """The most that may be spent now."""
        return min(self.available, *self.left_of_limits(member), 10**12)

    def event(self, id: str, credits: int, member: str | None) -> None:
        """Takes credits in burn-down order; what the grants lack is debt."""
        self._spend(id, credits, member, self._burn(credits))

    def _spend(self, id: str, credits: int, member: str | None, draws: list[tuple[str, int]]) -> None:
        self.spent[id] = Spent(id=id, age=self._older(), at=self.now, credits=credits, member=member, draws=draws)
        self._tell("event", -credits, dict(draws))

    def _burn(self, credits: int, *, lapsed: bool = False) -> list[tuple[str, int]]:
        chosen = sorted(
            (lot for lot in self.lots.values() if lot.left and (lot.lapsed if lapsed else lot.state == "active")),
            key=lambda lot: (lot.priority, lot.ends is None, lot.ends, lot.paid, lot.age),
        )
        draws = []
        for lot in chosen:
            taken = min(lot.left, credits)
            if taken:
                lot.left -= taken
                credits -= taken
                draws.append((lot.id, taken))
        if not lapsed:
            self.debt += credits
        return draws

    def refusals_of_adjustment(self, credits: int) -> Refusals:
        """Of one by so many credits, below zero where they go."""
        return {InsufficientCredits} if credits < 0 and -credits > self.available else set()

    def adjust_down(self, credits: int) -> None:
        self._tell("adjustment", -credits, dict(self._burn(credits)))

    # Holds

    def hold(self, pledge: Pledge) -> None:
        self.pledges[pledge.id] = pledge
        self._tell("hold", 0)

    def price_of_capture(self, id: str, credits: int | None, quantity: int | None) -> int | None:
        """What a capture takes: what it says, so many units of the pinned price, or all that is held."""
        pledge = self.pledges[id]
        if credits is not None:
            return credits
        if quantity is None:
            return pledge.credits
        return None if pledge.unit is None else pledge.unit * quantity

    def refusals_of_capture(self, id: str, credits: int | None) -> Refusals:
        pledge = self.pledges[id]
        if pledge.status != "open":
            return {HoldNotOpen}
        if credits is None:
            return {InvalidRequest}
        if credits <= pledge.credits:
            return set()
        return self.refusals_of_spending(credits, pledge.member, of_hold=pledge.credits)

    def capture(self, id: str, event_id: str, credits: int) -> None:
        pledge = self.pledges[id]
        pledge.status = "captured"
        kept = self._burn(credits, lapsed=True)
        draws = kept + self._burn(credits - sum(taken for _, taken in kept))
        self._spend(event_id, credits, pledge.member, draws)
        self._let_go()

    def refusals_of_release(self, id: str) -> Refusals:
        return set() if self.pledges[id].status == "open" else {HoldNotOpen}

    def release(self, id: str) -> None:
        self.pledges[id].status = "released"
        self._tell("release", 0)
        self._let_go()

    # Reversals

    def reverse(self, id: str) -> None:
        """Pays the debt, then the grants it came from, the last drawn first, then those that paid its debt."""
        event = self.spent[id]
        event.reversed = True
        draws, *anew = self._return(event.credits, event.draws, event.age)
        self._tell("reversal", event.credits, draws)
        self._give_anew(id.partition("_")[2], *anew)

    def _return(self, credits: int, drawn: list[tuple[str, int]], age: int) -> tuple[dict[str, int], int, int]:
        """Gives credits back that were taken at an age; gives the draws, what is for a day, and what is for nobody."""
        left = credits
        paid = min(left, self.debt)
        self.debt -= paid
        left -= paid
        draws: dict[str, int] = {}
        for_a_day = 0
        for grant_id, taken in reversed(drawn):
            lot = self.lots[grant_id]
            returned = min(taken, left)
            left -= returned
            if lot.over(self.now):
                for_a_day += returned
            else:
                lot.left += returned
                lot.to_debt += taken - returned
                draws[grant_id] = draws.get(grant_id, 0) - returned
        payers = [lot for lot in self.lots.values() if lot.to_debt]
        for lot in sorted(payers, key=lambda lot: (lot.age < age, lot.age)):
            returned = min(lot.to_debt, left)
            left -= returned
            lot.to_debt -= returned
            if lot.over(self.now):
                for_a_day += returned
            else:
                lot.left += returned
                draws[lot.id] = draws.get(lot.id, 0) - returned
        return draws, for_a_day, left

    def _give_anew(self, tail: str, for_a_day: int, for_ever: int) -> None:
        for suffix, credits, ends in (("d", for_a_day, self.now + DAY), ("", for_ever, None)):
            if credits:
                made = f"grant_{tail}{suffix}"
                self.lots[made] = Lot(
                    id=made, age=self._older(), credits=credits, left=credits, paid=False, starts=self.now, ends=ends
                )

    # Money that goes back

    def move_money(self, id: str, bought: list[str], share: Fraction, kind: str) -> bool:
        """Brings what a payment bought to the share of its money that has gone: taken of each as large a part of it."""
        lots = [self.lots[lot_id] for lot_id in bought]
        more = {lot.id: int(lot.credits * share) - sum(lot.taken.values()) for lot in lots}
        lots = [lot for lot in lots if more[lot.id]]
        if not lots:
            return False
        if max(more.values()) > 0:
            credits, draws = self._take(lots, more)
        else:
            credits, draws = self._restore(id, lots, more)
        self._tell(kind, credits, draws)
        return True

    def _take(self, lots: list[Lot], more: dict[str, int]) -> tuple[int, dict[str, int]]:
        draws: dict[str, int] = {}
        before = self.balance
        for lot in lots:
            drawn = min(more[lot.id], lot.left)
            of_gone = min(more[lot.id] - drawn, lot.gone - lot.taken["gone"])
            owed = more[lot.id] - drawn - of_gone
            lot.left -= drawn
            self.debt += owed
            draws[lot.id] = drawn
            for name, credits in (("drawn", drawn), ("gone", of_gone), ("owed", owed)):
                lot.taken[name] += credits
        credits = self.balance - before
        for lot_id, paid in self._burn(
            min(self.debt, sum(one.left for one in self.lots.values() if one.state == "active"))
        ):
            self.debt -= paid
            self.lots[lot_id].to_debt += paid
            draws[lot_id] = draws.get(lot_id, 0) + paid
        return credits, draws

    def _restore(self, id: str, lots: list[Lot], more: dict[str, int]) -> tuple[int, dict[str, int]]:
        """What the wallet owed comes back first, then nothing for what was gone, then what was drawn."""
        drawn: list[tuple[str, int]] = []
        credits = 0
        for lot in lots:
            less = -more[lot.id]
            for name in ("owed", "gone", "drawn"):
                part = min(less, lot.taken[name])
                lot.taken[name] -= part
                less -= part
                if name != "gone":
                    credits += part
                if name == "drawn" and part:
                    drawn.append((lot.id, part))
        draws, *anew = self._return(credits, drawn, min(lot.age for lot in lots))
        lapsed = anew[0]
        for lot_id, part in drawn:
            lot = self.lots[lot_id]
            if lot.over(self.now):
                of_day = min(lapsed, part)
                lapsed -= of_day
                lot.gone += of_day
        self._give_anew(id.partition("_")[2], *anew)
        return credits, draws

    def _tell(self, kind: str, credits: int, draws: dict[str, int] | None = None) -> None:
        self.told.append((kind, credits, {id: taken for id, taken in (draws or {}).items() if taken}))

    def _older(self) -> int:
        self.age += 1
        return self.age


def window_of(per: str, at: int) -> tuple[int, ...]:
    """The calendar day, ISO week or month of a time."""
    moment = EPOCH + timedelta(milliseconds=at)
    if per == "week":
        return tuple(moment.isocalendar())[:2]
    return (moment.year, moment.month) if per == "month" else (moment.year, moment.month, moment.day)


def after(anchor: int, every: str, count: int) -> int:
    """So many days, weeks or months after a time; a month that is too short ends sooner."""
    moment = EPOCH + timedelta(milliseconds=anchor)
    if every == "month":
        year, month = divmod(moment.year * 12 + moment.month - 1 + count, 12)
        last = calendar.monthrange(year, month + 1)[1]
        moment = moment.replace(year=year, month=month + 1, day=min(moment.day, last))
    else:
        moment += timedelta(days=count * (1 if every == "day" else 7))
    return (moment - EPOCH) // timedelta(milliseconds=1)
