"""Spend limits: what a wallet, or a member inside of one, may spend in a day, a week or a month."""

from typing import Literal

from app.errors import SpendLimitReached
from app.rules.periods import DAY_MS, Per, window_end, window_start
from app.rules.times import rfc3339
from app.rules.wallet import Member, Wallet

Spent = tuple[int, int, int]
"""Credits spent in the day, the week and the month that a time lies in."""


def spent_in(spender: Wallet | Member, now: int) -> Spent:
    """What has been spent in the windows that `now` lies in; those that ended since the last spending begin at 0."""
    at = spender.spent_at
    if at // DAY_MS == now // DAY_MS:
        return spender.spent_day, spender.spent_week, spender.spent_month
    return (
        0,
        spender.spent_week if window_start("week", at) == window_start("week", now) else 0,
        spender.spent_month if window_start("month", at) == window_start("month", now) else 0,
    )


def given_back(spent: Spent, credits: int, at: int, now: int) -> Spent:
    """What has been spent once the credits of an earlier time are not; a window that had ended then is not touched."""
    day, week, month = spent
    if window_start("day", at) == window_start("day", now):
        day = max(0, day - credits)
    if window_start("week", at) == window_start("week", now):
        week = max(0, week - credits)
    if window_start("month", at) == window_start("month", now):
        month = max(0, month - credits)
    return day, week, month


def check_limit(
    spender: Wallet | Member,
    scope: Literal["wallet", "member"],
    credits: int,
    now: int,
    *,
    held: int,
    held_before: int = 0,
    spent: Spent | None = None,
) -> None:
    """Lets so many more credits pass, with what the window has seen and the open holds, or refuses.

    Args:
        spender: whose limit it is.
        scope: what the refusal calls it.
        credits: the whole of what is to be spent or held.
        now: milliseconds.
        held: credits in open holds.
        held_before: how many of those this is captured from.
        spent: what the windows have seen; by default what the spender says.

    Raises:
        SpendLimitReached: it would be more than the limit.

    """
    limit, per = spender.limit_credits, spender.limit_per
    if limit is None or per is None or not credits:
        return
    day, week, month = spent if spent is not None else spent_in(spender, now)
    within = {"day": day, "week": week, "month": month}[per]
    required = credits - held_before
    if within + held + required > limit:
        raise SpendLimitReached(
            f"This {scope} may spend {limit} credits a {per}: {within} are spent, {held} held, this needs {required}.",
            scope=scope,
            limit=limit,
            per=per,
            spent=within,
            held=held,
            required=required,
            resets_at=rfc3339(window_end(per, now)),
        )


def left_of_limit(spender: Wallet | Member, now: int, *, held: int) -> int | None:
    """How many more credits the limit lets pass now; None where there is no limit."""
    limit, per = spender.limit_credits, spender.limit_per
    if limit is None or per is None:
        return None
    within = spent_in(spender, now)[("day", "week", "month").index(per)]
    return max(0, limit - within - held)


def limit_of(limit_credits: int | None, limit_per: Per | None) -> dict[str, int | str] | None:
    """A limit as entries and answers show it."""
    return None if limit_credits is None else {"credits": limit_credits, "per": limit_per or "day"}
