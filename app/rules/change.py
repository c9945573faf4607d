"""A wallet while one operation is applied to it: the moves that every rule is made of."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from app.config import BALANCE_MAX, GRANTS_MAX
from app.errors import InsufficientCredits, InvalidRequest
from app.rules.limits import Spent, check_limit, given_back, spent_in
from app.rules.notices import Notice, NoticeType
from app.rules.operations import Operation, grant_id_for
from app.rules.periods import DAY_MS
from app.rules.wallet import (
    Applied,
    Attempt,
    Category,
    Entry,
    EntryKind,
    Grant,
    Hold,
    HoldStatus,
    Member,
    State,
    Wallet,
    burn_down_order,
)

_GIVEN_BACK_FOR_MS: Final = DAY_MS
"""How long credits of a lapsed grant last once they are given back."""
Draws = tuple[tuple[str, int], ...]


class Change:
    """Lives inside one call of `ledger.apply` and never leaves it; what it was given stays as it was."""

    __slots__ = (
        "_attempts",
        "_before",
        "_entries",
        "_grants",
        "_holds",
        "_members",
        "_notices",
        "_own",
        "balance",
        "debt",
        "due_at",
        "grants",
        "held",
        "holds",
        "members",
        "now",
        "open_holds",
        "opened",
        "operation",
        "others",
        "overdraft_limit",
        "spent",
        "version",
        "wallet",
    )

    def __init__(self, state: State, operation: Operation, now: int) -> None:
        wallet = state.wallet
        self.wallet = wallet
        """As it was before, apart from settings."""
        self.now = now
        self.operation = operation
        self.balance = wallet.balance
        self.held = wallet.held
        self.debt = wallet.debt
        self.open_holds = wallet.open_holds
        self.version = wallet.version
        self.due_at = wallet.due_at
        self.overdraft_limit = wallet.overdraft_limit
        self.spent: Spent | None = None
        self.grants = state.grants
        self.others = state.others
        self.holds = state.holds
        self.members = state.members
        self.opened = False
        self._before = state
        self._entries: list[Entry] = []
        self._own: Entry | None = None
        self._grants: dict[str, Grant] = {}
        self._holds: dict[str, Hold] = {}
        self._members: dict[str, Member] = {}
        self._attempts: tuple[Attempt, ...] = ()
        self._notices: tuple[Notice, ...] = ()

    @property
    def available(self) -> int:
        """What may be spent now."""
        return self.balance - self.held + self.overdraft_limit

    @property
    def balance_before(self) -> int:
        """The balance that the operation found."""
        return self._before.wallet.balance

    @property
    def was_low(self) -> bool:
        """Whether the operation found, or made, a wallet below its threshold."""
        return self.opened or self._before.wallet.low

    @property
    def has_entries(self) -> bool:
        """Whether anything was entered."""
        return bool(self._entries)

    @property
    def is_due(self) -> bool:
        """Whether time has brought what is not settled yet."""
        return self.due_at is not None and self.due_at <= self.now

    def set(self, **settings: Any) -> None:
        """Changes settings of the wallet."""
        self.wallet = replace(self.wallet, **settings)
        self.overdraft_limit = self.wallet.overdraft_limit

    # Spending

    def check_funds(self, credits: int, *, held_before: int = 0) -> None:
        """Refuses what is not available.

        Args:
            credits: the whole of what is to be spent.
            held_before: how many of them a hold has set apart already.

        Raises:
            InsufficientCredits: the rest is more than is available.

        """
        required, available = credits - held_before, self.available
        if credits and required > available:
            beyond = f" beyond the {held_before} held" if held_before else ""
            raise InsufficientCredits(
                f"This needs {required} credits{beyond} and {max(available, 0)} are available.",
                required=required,
                available=available,
                balance=self.balance,
            )

    def burn(self, credits: int, *, lapsed_first: bool = False) -> Draws:
        """Takes credits from the grants in burn-down order; what they lack becomes debt.

        What lapsed grants kept is for the holds that were open then, so only a capture takes it, and before all else.
        """
        draws: list[tuple[str, int]] = []
        left = credits
        if lapsed_first and self.others:
            for grant in sorted((g for g in self.others.values() if g.has_ended and g.remaining), key=burn_down_order):
                if not left:
                    break
                left -= self._draw(grant, left, draws)
        while left and self.grants:
            left -= self._draw(self.grants[0], left, draws)
        self.debt += left
        self.balance -= credits
        return tuple(draws)

    def _draw(self, grant: Grant, most: int, draws: list[tuple[str, int]]) -> int:
        taken = min(most, grant.remaining)
        draws.append((grant.id, taken))
        self.put(replace(grant, remaining=grant.remaining - taken))
        return taken

    def check_limits(self, credits: int, member: str | None, *, held_before: int = 0) -> None:
        """Refuses what the wallet's limit or the member's does not let pass; arguments as of `check_funds`.

        Raises:
            SpendLimitReached: it would be more than one of them.

        """
        if self.wallet.limit_credits is not None:
            check_limit(
                self.wallet, "wallet", credits, self.now, held=self.held, held_before=held_before, spent=self.spent
            )
        if member is not None and (known := self.members.get(member)) is not None:
            check_limit(known, "member", credits, self.now, held=known.held, held_before=held_before)

    def count_spent(self, credits: int, member: str | None) -> None:
        """Counts credits in the windows of the wallet and of the member."""
        day, week, month = self.spent if self.spent is not None else spent_in(self.wallet, self.now)
        self.spent = day + credits, week + credits, month + credits
        if member is not None:
            known = self.member(member)
            day, week, month = spent_in(known, self.now)
            self._put_spent(known, (day + credits, week + credits, month + credits))

    def count_given_back(self, credits: int, member: str | None, at: int) -> None:
        """Takes credits that were spent at an earlier time out of the windows that it lies in."""
        spent = self.spent if self.spent is not None else spent_in(self.wallet, self.now)
        self.spent = given_back(spent, credits, at, self.now)
        if member is not None:
            known = self.member(member)
            self._put_spent(known, given_back(spent_in(known, self.now), credits, at, self.now))

    def _put_spent(self, member: Member, spent: Spent) -> None:
        day, week, month = spent
        self.put_member(replace(member, spent_day=day, spent_week=week, spent_month=month, spent_at=self.now))

    def pay_debt(self) -> Draws:
        """Lets the grants pay what the wallet owes, in burn-down order; gives what they paid."""
        paid: list[tuple[str, int]] = []
        while self.debt and self.grants:
            grant = self.grants[0]
            part = min(self.debt, grant.remaining)
            self.debt -= part
            self.put(replace(grant, remaining=grant.remaining - part, debt_paid=grant.debt_paid + part))
            paid.append((grant.id, part))
        return tuple(paid)

    # Credits coming in

    def open(self, welcome_credits: int) -> None:
        """Makes the wallet, with its welcome."""
        self.opened = True
        self.wallet = replace(self.wallet, created_at=self.now)
        if welcome_credits:
            made = grant_id_for(self.operation.id, "w")
            self.give("grant", "Welcome credits", made, welcome_credits, "promotional", "welcome", entry_id=made)

    def give(
        self,
        kind: EntryKind,
        label: str,
        grant_id: str,
        credits: int,
        category: Category,
        source: str,
        *,
        entry_id: str | None = None,
        reason: str | None = None,
        **columns: Any,
    ) -> None:
        """Makes a grant that may be spent from now on, by an entry."""
        self.check_room(credits)
        grant = Grant(
            id=grant_id,
            version=self.version + 1,
            state="active",
            category=category,
            credits=credits,
            remaining=credits,
            source=source,
            created_at=self.now,
            effective_at=self.now,
            **columns,
        )
        grant, draws = self.bring_in(grant)
        detail = {"grant": msgspec.structs.asdict(grant)}
        self.enter(kind, label, credits, draws=draws, reason=reason, detail=detail, entry_id=entry_id)

    def check_number_of_grants(self) -> None:
        """Refuses one more grant by hand where a wallet has as many as it may.

        Raises:
            InvalidRequest: `GRANTS_MAX` are not used up yet.

        """
        if len(self.grants) + sum(one.state == "pending" for one in self.others.values()) >= GRANTS_MAX:
            raise InvalidRequest(f"A wallet has at most {GRANTS_MAX} grants that are not used up.", field="credits")

    def check_room(self, credits: int) -> None:
        """Refuses what a wallet cannot hold.

        Raises:
            InvalidRequest: with it the balance would pass `BALANCE_MAX`.

        """
        if self.balance + credits > BALANCE_MAX:
            raise InvalidRequest(f"A wallet holds at most {BALANCE_MAX} credits.", field="credits")

    def bring_in(self, grant: Grant) -> tuple[Grant, Draws | None]:
        """Adds a grant to the balance. A debt is paid first; returns it as it is then, and what it paid as a draw."""
        paid = min(grant.remaining, self.debt)
        self.balance += grant.remaining
        self.debt -= paid
        grant = replace(grant, remaining=grant.remaining - paid, debt_paid=grant.debt_paid + paid)
        self.put(grant)
        return grant, ((grant.id, paid),) if paid else None

    def give_back(self, credits: int, draws: Draws, since: int) -> Draws:
        """Returns credits that an entry took: to a debt first, then to the grants that they came from.

        What came from no grant was debt then; if that is paid now, it goes back to the grants that paid it. The part of
        a grant that has lapsed since comes back as a promotional grant of a day.

        Args:
            credits: all that the entry took.
            draws: the part of them that grants gave.
            since: the entry's version.

        Returns:
            What was given back, as draws below zero.

        """
        self.check_room(credits)
        self.balance += credits
        paid = min(credits, self.debt)
        self.debt -= paid
        left, lapsed, back = credits - paid, 0, []
        for grant_id, taken in reversed(draws):
            grant = self.grant(grant_id)
            returned = min(taken, left)
            left -= returned
            if grant is None or grant.ended(self.now):
                lapsed += returned
                continue
            # What pays a debt here would have come back to this grant, so the grant has paid it.
            self.put(replace(grant, remaining=grant.remaining + returned, debt_paid=grant.debt_paid + taken - returned))
            back.append((grant_id, -returned))
        for payer in self._payers_of_debt(since):
            if not left:
                break
            returned = min(payer.debt_paid, left)
            left -= returned
            ended = payer.ended(self.now)
            remaining = payer.remaining + (0 if ended else returned)
            self.put(replace(payer, remaining=remaining, debt_paid=payer.debt_paid - returned))
            if ended:
                lapsed += returned
            else:
                back.append((payer.id, -returned))
        if lapsed or left:
            self._give_anew(lapsed, left)
        return tuple(back)

    def _payers_of_debt(self, since: int) -> list[Grant]:
        """Grants that paid debts: those after an entry first, since they may have paid its own."""
        payers = [grant for grant in (*self.grants, *self.others.values()) if grant.debt_paid]
        return sorted(payers, key=lambda grant: (grant.version < since, grant.version))

    def _give_anew(self, for_a_day: int, for_ever: int) -> None:
        for suffix, credits, ends_at in (("d", for_a_day, self.now + _GIVEN_BACK_FOR_MS), ("", for_ever, None)):
            if credits:
                self.put(
                    Grant(
                        id=grant_id_for(self.operation.id, suffix),
                        version=self.version + 1,
                        state="active",
                        category="promotional",
                        credits=credits,
                        remaining=credits,
                        source=self.operation.id,
                        created_at=self.now,
                        effective_at=self.now,
                        expires_at=ends_at,
                    )
                )

    # What is kept

    def grant(self, grant_id: str) -> Grant | None:
        """A grant that the state has."""
        found = self.others.get(grant_id)
        return found or next((grant for grant in self.grants if grant.id == grant_id), None)

    def put(self, grant: Grant) -> None:
        """Keeps a grant as it is now, in its place of the burn-down order or beside it."""
        self._grants[grant.id] = grant
        spendable = grant.state == "active" and grant.remaining > 0
        grants = self.grants
        if spendable and grants and grants[0].id == grant.id:  # the one that most events draw from
            self.grants = (grant, *grants[1:]) if len(grants) > 1 else (grant,)
        else:
            kept = tuple(one for one in self.grants if one.id != grant.id)
            self.grants = tuple(sorted((*kept, grant), key=burn_down_order)) if spendable else kept
            others = {key: value for key, value in self.others.items() if key != grant.id}
            self.others = others if spendable else others | {grant.id: grant}
        if grant.state == "pending":
            self.due(grant.effective_at)
        elif spendable and grant.expires_at is not None:
            self.due(grant.expires_at)
        if grant.next_at is not None:
            self.due(grant.next_at)

    def put_hold(self, hold: Hold) -> None:
        """Keeps a hold as it is now."""
        self._holds[hold.id] = hold
        self.holds = {**self.holds, hold.id: hold}
        if hold.status == "open":
            self.due(hold.expires_at)

    def count_held(self, credits: int, member: str | None) -> None:
        """Sets credits apart for a hold, or frees them where it is below zero."""
        self.held += credits
        self.open_holds += 1 if credits > 0 else -1
        if member is not None:
            known = self.member(member)
            self.put_member(replace(known, held=known.held + credits))

    def close_hold(self, hold: Hold, status: HoldStatus) -> Hold:
        """Ends an open hold and frees what it set apart."""
        self.count_held(-hold.credits, hold.member)
        closed = replace(hold, status=status, closed_at=self.now)
        self.put_hold(closed)
        return closed

    def member(self, name: str) -> Member:
        """Somebody inside the wallet, seen before or not."""
        return self.members.get(name) or Member(member=name)

    def put_member(self, member: Member) -> None:
        """Keeps a member as they are now."""
        self._members[member.member] = member
        self.members = {**self.members, member.member: member}

    def due(self, at: int) -> None:
        """Notes that time changes something then."""
        if self.due_at is None or at < self.due_at:
            self.due_at = at

    # What comes of it elsewhere

    def attempt(self, attempt: Attempt) -> None:
        """Lets an automatic top-up be made."""
        self._attempts = (*self._attempts, attempt)

    def tell(self, type: NoticeType, facts: Mapping[str, Any]) -> None:
        """Notes what the host's backend is told, as of the last entry."""
        data = {"customer_id": self.wallet.customer_id, **facts, "balance": self.balance, "available": self.available}
        self._notices = (*self._notices, Notice(type, self.version, data))

    # Entries

    def enter(
        self,
        kind: EntryKind,
        description: str,
        credits: int,
        *,
        entry_id: str | None = None,
        by_time: bool = False,
        draws: Draws | None = None,
        event: str | None = None,
        model: str | None = None,
        member: str | None = None,
        quantity: int | None = None,
        unit_credits: int | None = None,
        price_version: int | None = None,
        cost_nanos: int | None = None,
        metadata: dict[str, Any] | None = None,
        reason: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Writes the entry of what was just done: the operation's own, unless it is given another id.

        Args:
            kind: what happened.
            description: in words that one would say to a paying customer.
            credits: by how much the balance moved.
            entry_id: the id of one that is written beside the operation's own.
            by_time: nobody asked for it.
            draws: what was taken from which grant.
            event: of the action.
            model: of the action.
            member: of the action.
            quantity: of the action.
            unit_credits: of the action.
            price_version: of the action.
            cost_nanos: of the action.
            metadata: the caller's own.
            reason: why, in somebody's words.
            detail: what the answer needs beside all that.

        """
        op = self.operation
        own = entry_id is None
        self.version += 1
        # Every field is named: this is the ledger's hottest call, and a dictionary of them would cost as much again.
        entry = Entry(
            customer_id=op.customer_id,
            version=self.version,
            id=op.id if entry_id is None else entry_id,
            kind=kind,
            description=description,
            credits=credits,
            balance=self.balance,
            held=self.held,
            available=self.balance - self.held + self.overdraft_limit,
            created_at=self.now,
            event=event,
            model=model,
            member=member,
            quantity=quantity,
            unit_credits=unit_credits,
            price_version=price_version,
            cost_nanos=cost_nanos,
            draws=draws,
            metadata=metadata,
            reason=reason,
            actor=None if by_time else op.actor,
            detail=detail,
            idempotency_key=op.key if own else None,
            request_hash=op.request_hash if own else None,
        )
        self._entries.append(entry)
        if own:
            self._own = entry

    def as_opened(self) -> dict[str, Any]:
        """The wallet as its opening entry leaves it: a replay answers with it, whatever has happened since."""
        wallet = replace(self._wallet(), version=self.version + 1, last_entry_at=self.now)
        return {
            "wallet": msgspec.structs.asdict(wallet),
            "grants": [msgspec.structs.asdict(grant) for grant in self.grants],
        }

    def result(self) -> Applied:
        """What the operation did."""
        if not self._entries and not self._grants and self.due_at == self._before.wallet.due_at:
            return Applied(self._before, (), None)
        return Applied(
            State(self._wallet(), self.grants, self.others, self.holds, self.members),
            tuple(self._entries),
            self._own,
            tuple(self._grants.values()),
            tuple(self._holds.values()),
            tuple(self._members.values()),
            self._attempts,
            self._notices,
        )

    def _wallet(self) -> Wallet:
        wallet = self.wallet
        if self.spent is None:
            day, week, month, spent_at = wallet.spent_day, wallet.spent_week, wallet.spent_month, wallet.spent_at
        else:
            (day, week, month), spent_at = self.spent, self.now
        return replace(
            wallet,
            balance=self.balance,
            held=self.held,
            debt=self.debt,
            open_holds=self.open_holds,
            version=self.version,
            spent_day=day,
            spent_week=week,
            spent_month=month,
            spent_at=spent_at,
            last_entry_at=self.now if self._entries else wallet.last_entry_at,
            due_at=self.due_at,
        )
