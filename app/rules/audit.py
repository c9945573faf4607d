"""The ledger's promises, checked on what is kept of one wallet.

The rows are read again and added up on their own: nothing here calls the rules that wrote them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from app.rules.operations import grant_id_of
from app.rules.periods import DAY_MS, window_start
from app.rules.wallet import Grant, Hold, Member, Wallet

AUDITED_COLUMNS: Final = (
    "customer_id",
    "version",
    "id",
    "kind",
    "credits",
    "balance",
    "held",
    "available",
    "created_at",
    "member",
    "draws",
    "detail",
)
"""What a row of the ledger that is audited consists of, in this order."""

_SPENDS: Final = frozenset({"event", "hold", "adjustment", "expiry", "void"})
"""Kinds that never take `available` below zero."""
_decode_draws: Final = msgspec.json.Decoder(list[tuple[str, int]]).decode
_decode_detail: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Mismatch(msgspec.Struct, frozen=True, kw_only=True):
    """A broken promise: where, what it is about, and the two values that should be one.

    `version` is that of the entry where it shows, None where it shows in the wallet as it stands.
    """

    customer_id: str
    version: int | None
    what: str
    expected: Any
    found: Any

    @property
    def sentence(self) -> str:
        """For a person."""
        where = "" if self.version is None else f" at version {self.version}"
        return f"wallet {self.customer_id}{where}: {self.what} is {self.found!r} and should be {self.expected!r}"


class _Broken(Exception):
    def __init__(self, what: str, expected: Any, found: Any) -> None:
        super().__init__(what)
        self.what, self.expected, self.found = what, expected, found


class _Spent:
    """Credits spent in the day, week and month of the last spending."""

    __slots__ = ("at", "day", "month", "week")

    def __init__(self) -> None:
        self.day = self.week = self.month = self.at = 0

    def move_to(self, now: int) -> None:
        if self.at // DAY_MS != now // DAY_MS:
            self.day = 0
            if window_start("week", self.at) != window_start("week", now):
                self.week = 0
            if window_start("month", self.at) != window_start("month", now):
                self.month = 0
        self.at = now

    def add(self, credits: int, now: int) -> None:
        self.move_to(now)
        self.day += credits
        self.week += credits
        self.month += credits

    def give_back(self, credits: int, at: int, now: int) -> None:
        self.move_to(now)
        if window_start("day", at) == window_start("day", now):
            self.day = max(0, self.day - credits)
        if window_start("week", at) == window_start("week", now):
            self.week = max(0, self.week - credits)
        if window_start("month", at) == window_start("month", now):
            self.month = max(0, self.month - credits)

    def check(self, who: str, spender: Wallet | Member) -> None:
        found = (spender.spent_day, spender.spent_week, spender.spent_month, spender.spent_at)
        _same(f"what {who} has spent (day, week, month, at)", (self.day, self.week, self.month, self.at), found)


class WalletAudit:
    """One wallet's audit: `take` its entries in the order of their versions, then `finish`.

    Args:
        wallet: its row.
        grants: all of its grants.
        holds: its open holds.
        members: all of its members.

    """

    def __init__(
        self, wallet: Wallet, grants: Sequence[Grant], holds: Sequence[Hold], members: Sequence[Member]
    ) -> None:
        self.mismatch: Mismatch | None = None
        """The first one, None so far."""
        self._wallet = wallet
        self._grants = grants
        self._holds = {hold.id: hold.credits for hold in holds}
        self._earliest_due = _earliest_due(grants, holds)
        self._members = {member.member: member for member in members}
        self._given_anew = _credits_by_source(grants)
        self._version = self._balance = self._held = self._overdraft = self._debt = self._at = 0
        self._available = 0
        self._drawn: dict[str, int] = {}
        self._open: dict[str, int] = {}
        self._held_by: dict[str, int] = {}
        self._money: dict[str, tuple[int, int, int]] = {}
        """By checkout, what its last entry says of its money: the version, what was refunded, what is disputed."""
        self._spent = _Spent()
        self._spent_by: dict[str, _Spent] = {}

    def take(self, row: Sequence[Any]) -> None:
        """The next entry, as `AUDITED_COLUMNS`; after a mismatch the rest is passed over."""
        if self.mismatch is not None:
            return
        try:
            self._take(row)
        except _Broken as broken:
            self._note(broken, row[1])
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
            self._note(_Broken("the entry's detail", "readable", str(error)), row[1])

    def _take(self, row: Sequence[Any]) -> None:
        _, version, _, kind, credits, balance, held, available, at, member, draws, detail = row
        if version != self._version + 1:
            raise _Broken("the version", self._version + 1, version)
        if at < self._at:
            raise _Broken("the time", f"{self._at} or later", at)
        if balance != self._balance + credits:
            raise _Broken("the balance", self._balance + credits, balance)
        drawn = self._draw(draws) if draws is not None else 0
        if kind == "event":
            self._event(credits, drawn, at, member, detail)
        else:
            self._other(row, kind, credits, drawn, at, member, detail)
        if held != self._held:
            raise _Broken("held", self._held, held)
        if available != balance - held + self._overdraft:
            raise _Broken("available", balance - held + self._overdraft, available)
        if available < 0 and kind in _SPENDS and available < self._available and credits <= 0:
            raise _Broken("available", "0 or more", available)
        self._version, self._balance, self._available, self._at = version, balance, available, at

    def _draw(self, draws: str) -> int:
        total = 0
        for grant_id, credits in _decode_draws(draws):
            total += credits
            self._drawn[grant_id] = self._drawn.get(grant_id, 0) + credits
        return total

    def _event(self, credits: int, drawn: int, at: int, member: str | None, detail: str | None) -> None:
        self._owe(-credits - drawn)
        self._spent.add(-credits, at)
        if member is not None:
            self._spent_of(member).add(-credits, at)
        if detail is not None:
            captured = _decode_detail(detail)
            self._close(captured["hold_id"], captured["held"], member)

    def _other(
        self, row: Sequence[Any], kind: str, credits: int, drawn: int, at: int, member: str | None, detail: str | None
    ) -> None:
        told = _decode_detail(detail) if detail is not None else {}
        if "amount_refunded" in told:
            self._money[told["checkout_id"]] = row[1], told["amount_refunded"], told["amount_disputed"]
        match kind:
            case "hold":
                hold = told["hold"]
                self._open[hold["id"]] = hold["credits"]
                self._move_held(hold["credits"], member)
            case "release" | "hold_expiry":
                self._close(told["hold"]["id"], told["hold"]["credits"], member)
            case "reversal":
                self._owe(-(credits + drawn - self._given_anew.get(row[2], 0)))
                self._give_back(credits, told["event_at"], at, member)
            case "refund" | "dispute_reversal" if credits > 0:
                self._owe(-(credits + drawn - self._given_anew.get(row[2], 0)))
            case "settings":
                self._overdraft = told.get("overdraft_limit", self._overdraft)
            case "expiry" | "void":
                _same("what was taken from grants", -credits, drawn)
            case _ if credits > 0:
                self._owe(-(drawn if row[10] is not None else self._paid_before_draws_were_kept(told)))
            case _:
                self._owe(-credits - drawn)

    def _paid_before_draws_were_kept(self, told: Mapping[str, Any]) -> int:
        """Entries of the first release tell what a new grant paid of a debt only by what remained of it."""
        grant = told.get("grant")
        if grant is None or "debt_paid" in grant:
            return 0
        paid: int = grant["credits"] - grant["remaining"]
        self._drawn[grant["id"]] = self._drawn.get(grant["id"], 0) + paid
        return paid

    def _owe(self, credits: int) -> None:
        self._debt += credits
        if self._debt < 0:
            raise _Broken("the debt", "0 or more", self._debt)

    def _spent_of(self, member: str) -> _Spent:
        return self._spent_by.setdefault(member, _Spent())

    def _give_back(self, credits: int, event_at: int, at: int, member: str | None) -> None:
        self._spent.give_back(credits, event_at, at)
        if member is not None:
            self._spent_of(member).give_back(credits, event_at, at)

    def _close(self, hold_id: str, credits: int, member: str | None) -> None:
        _same(f"what hold {hold_id} had set apart", self._open.pop(hold_id, None), credits)
        self._move_held(-credits, member)

    def _move_held(self, credits: int, member: str | None) -> None:
        self._held += credits
        if member is not None:
            self._held_by[member] = self._held_by.get(member, 0) + credits

    def finish(self) -> Mismatch | None:
        """Compares the wallet as it stands with what its entries add up to; the first mismatch of all."""
        if self.mismatch is None:
            try:
                self._finish()
            except _Broken as broken:
                self._note(broken, None)
        return self.mismatch

    def _finish(self) -> None:
        wallet = self._wallet
        _same("the version", self._version, wallet.version)
        _same("the balance", self._balance, wallet.balance)
        _same("held", self._held, wallet.held)
        _same("the overdraft limit", self._overdraft, wallet.overdraft_limit)
        _same("the debt", self._debt, wallet.debt)
        _same("the time of the last entry", self._at, wallet.last_entry_at)
        _same("the open holds", self._open, self._holds)
        _same("the number of open holds", len(self._open), wallet.open_holds)
        for grant in self._grants:
            left = grant.credits - self._drawn.pop(grant.id, 0)
            _same(f"what remains of {grant.id}", left, grant.remaining)
            if grant.id == grant_id_of(grant.source):
                self._check_taken(grant)
        _same("draws from grants that are not there", {}, {id: n for id, n in self._drawn.items() if n})
        effective = sum(grant.remaining for grant in self._grants if grant.state != "pending")
        _same("the balance", effective - wallet.debt, wallet.balance)
        self._check_members()
        self._spent.check("the wallet", wallet)
        if self._earliest_due is not None and (wallet.due_at is None or wallet.due_at > self._earliest_due):
            raise _Broken("the time when something is due", f"{self._earliest_due} at the latest", wallet.due_at)

    def _check_taken(self, grant: Grant) -> None:
        """What a bought grant says was taken of it rests on what the ledger last said of its money."""
        taken = grant.taken
        known = None if taken is None else (taken.version, taken.refunded, taken.disputed)
        _same(f"what is known of the money of {grant.id}", self._money.get(grant.source), known)
        if taken is not None and not 0 <= taken.drawn + taken.owed <= taken.credits <= grant.credits:
            raise _Broken(f"what was taken of {grant.id}", f"{grant.credits} at the most", taken.credits)

    def _check_members(self) -> None:
        for name, member in self._members.items():
            _same(f"what is held for {name!r}", self._held_by.pop(name, 0), member.held)
            self._spent_by.pop(name, _Spent()).check(repr(name), member)
        _same("members that are not there", set(), self._spent_by.keys() | self._held_by.keys())

    def _note(self, broken: _Broken, version: int | None) -> None:
        self.mismatch = Mismatch(
            customer_id=self._wallet.customer_id,
            version=version,
            what=broken.what,
            expected=broken.expected,
            found=broken.found,
        )


def _same(what: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise _Broken(what, expected, found)


def _credits_by_source(grants: Sequence[Grant]) -> dict[str, int]:
    credits: dict[str, int] = {}
    for grant in grants:
        credits[grant.source] = credits.get(grant.source, 0) + grant.credits
    return credits


def _earliest_due(grants: Sequence[Grant], holds: Sequence[Hold]) -> int | None:
    times = [hold.expires_at for hold in holds]
    for grant in grants:
        if grant.next_at is not None:
            times.append(grant.next_at)
        if grant.state == "pending":
            times.append(grant.effective_at)
        elif grant.state == "active" and grant.remaining and grant.expires_at is not None:
            times.append(grant.expires_at)
    return min(times, default=None)
