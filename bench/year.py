"""A year of a ledger, written at once: wallets, their events, and the sums that a server would have made of them.

In SQL, with the indexes of entries made afterwards: through the server, ten million events would take half an hour.
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from app.config import Config
from app.rules.periods import DAY_MS, HOUR_MS
from app.store.ids import now_ms
from app.store.migrate import migrate

EVENTS: Final = 12
MODELS: Final = 3
LOW_WALLETS: Final = 5
"""Fewer than a page has: it ends only where all that may be low have been looked at."""
_DAYS: Final = 365
_PRICE: Final = 8
_EVENTS_OF_A_PURCHASE: Final = 100
_ENTRIES_AT_ONCE: Final = 1_000_000


class Year(msgspec.Struct, frozen=True):
    """How much happens in it: so many events, the same number in each wallet."""

    events: int
    wallets: int

    @property
    def each(self) -> int:
        """Entries of one wallet: a grant, then its events."""
        return self.events // self.wallets + 1


def write_year(path: Path, year: Year) -> int:
    """Writes a ledger that `chargly verify` finds whole, whose year ends now. Gives the bytes of its file.

    The sums of single wallets (`usage_of_wallets`) are left out: no page of an overview asks for them.
    """
    migrate(Config(database_url=f"sqlite:///{path}"))
    until = now_ms() // HOUR_MS * HOUR_MS
    what = {
        "wallets": year.wallets,
        "each": year.each,
        "events": year.events,
        "at": until - _DAYS * DAY_MS,
        "span": _DAYS * DAY_MS,
        "low": LOW_WALLETS,
        "purchases": max(1, year.events // _EVENTS_OF_A_PURCHASE),
    }
    connection = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(connection):
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "foreign_keys = OFF", "cache_size = -1000000"):
            connection.execute(f"PRAGMA {pragma}")
        [(index,)] = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'entries_by_id'")
        connection.execute("DROP INDEX entries_by_id")
        for sql in (_WALLETS, _SPENDING, _GRANTS, _PRICES, _CHECKOUTS):
            connection.execute(sql, what)
        wallets_at_once = max(1, _ENTRIES_AT_ONCE // year.each)
        for first in range(1, year.wallets + 1, wallets_at_once):
            last = min(year.wallets, first + wallets_at_once - 1)
            connection.execute(_ENTRIES, what | {"first": _customer(first), "last": _customer(last)})
        connection.execute(index)
        for sql in _SUMS:
            connection.execute(sql, what)
        connection.execute("PRAGMA journal_mode = WAL")
    return path.stat().st_size


def _customer(number: int) -> str:
    return f"user_{number:06d}"


_NUMBERS: Final = "WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})"
_NUMBER: Final = "CAST(substr(customer_id, 6) AS integer)"
_LEFT: Final = "iif(n <= :low, 40, 60 + n * 37 % 5000)"
"""What a wallet has at the end: less than its threshold in a few."""
_SPENT: Final = f"{_PRICE} * (:each - 1)"
_TIME: Final = f":at + 1 + ((n - 2) * :wallets + {_NUMBER} - 1) * (:span / :events)"
"""When an entry was written: the wallets take turns."""
_LAST: Final = ":at + 1 + ((:each - 2) * :wallets + n - 1) * (:span / :events)"
_EVENT: Final = f"({_NUMBER} + n) % {EVENTS}"
_MODEL: Final = f"({_NUMBER} / {EVENTS} + n) % {MODELS}"

_WALLETS: Final = (
    _NUMBERS.format(first=1, last=":wallets")
    + " INSERT INTO wallets (customer_id, balance, held, version, overdraft_limit, low_balance_threshold, frozen,"
    " created_at, last_entry_at, spent_day, spent_week, spent_month, spent_at) SELECT printf('user_%06d', n),"
    f" {_LEFT}, 0, :each, 0, 50, 0, :at, {_LAST}, 0, 0, 0, {_LAST} FROM numbers"
)
_WINDOWS: Final = (  # how long ago the day, the week and the month of a wallet's last event began
    f"last_entry_at % {DAY_MS}",
    f"(last_entry_at + {3 * DAY_MS}) % {7 * DAY_MS}",
    "last_entry_at - 1000 * CAST(strftime('%s', last_entry_at / 1000, 'unixepoch', 'start of month') AS integer)",
)
_SPENDING: Final = "UPDATE wallets SET " + ", ".join(
    f"spent_{per} = {_PRICE} * min(:each - 1, 1 + ({since}) / (:wallets * (:span / :events)))"
    for per, since in zip(("day", "week", "month"), _WINDOWS, strict=True)
)
_GRANTS: Final = (
    "INSERT INTO grants (customer_id, id, version, category, credits, remaining, priority, source, created_at,"
    " effective_at, worth_nanos, worth_currency) SELECT customer_id, 'grant_' || customer_id, 1, 'paid',"
    f" balance + {_SPENT}, balance, 50, 'grant', :at, :at, 10000000, 'usd' FROM wallets"
)
_PRICES: Final = (
    _NUMBERS.format(first=0, last=EVENTS - 1)
    + " INSERT INTO prices (event, version, credits, label, per_model, archived, created_at)"
    f" SELECT printf('feature_%02d.use', n), 1, {_PRICE}, printf('Feature %d', n), '{{}}', 0, :at FROM numbers"
)
_CHECKOUTS: Final = (  # which nobody paid: they are looked at as any, and a paid one needs its entry
    _NUMBERS.format(first=1, last=":purchases")
    + " INSERT INTO checkouts (id, customer_id, pack, description, credits, amount, currency, status, created_at,"
    " expires_at) SELECT printf('co_%026d', n), printf('user_%06d', 1 + n % :wallets), 'starter', 'Starter', 100, 500,"
    " 'usd', 'expired', :at + n * (:span / :purchases), :at + n * (:span / :purchases) + 1800000 FROM numbers"
)
_GRANT: Final = (
    "json_object('grant', json_object('amount', NULL, 'anchor_at', NULL, 'category', 'paid', 'created_at', :at,"
    f" 'credits', balance + {_SPENT}, 'currency', NULL, 'debt_paid', 0, 'effective_at', :at, 'ends_at', NULL, 'every',"
    " NULL, 'expires_at', NULL, 'id', 'grant_' || customer_id, 'next_at', NULL, 'period', 0, 'priority', 50,"
    f" 'remaining', balance + {_SPENT}, 'rollover', NULL, 'source', 'grant', 'state', 'active', 'version', 1))"
)
_THEN: Final = f"wallets.balance + {_PRICE} * (:each - n)"
_ENTRIES: Final = (
    _NUMBERS.format(first=1, last=":each")
    + " INSERT INTO entries (customer_id, version, id, kind, description, credits, balance, held, available,"
    " created_at, event, model, quantity, unit_credits, price_version, cost_nanos, draws, actor, detail)"
    " SELECT customer_id, n, iif(n = 1, 'grant_' || customer_id, printf('evt_05%010x%014x', n, substr(customer_id,"
    " 6))), iif(n = 1, 'grant', 'event'), iif(n = 1, 'Paid credits', printf('Feature %d', "
    f"{_EVENT})), iif(n = 1, balance + {_SPENT}, -{_PRICE}), {_THEN}, 0, {_THEN}, iif(n = 1, :at, {_TIME}),"
    f" iif(n = 1, NULL, printf('feature_%02d.use', {_EVENT})), iif(n = 1, NULL, printf('model-%d', {_MODEL})),"
    f" iif(n = 1, NULL, 1), iif(n = 1, NULL, {_PRICE}), iif(n = 1, NULL, 1),"
    f" iif(n = 1, NULL, 1000000 * (1 + {_MODEL})),"
    f" iif(n = 1, NULL, json_array(json_array('grant_' || customer_id, {_PRICE}))), 'CHARGLY_API_KEY',"
    f" iif(n = 1, {_GRANT}, NULL) FROM wallets, numbers WHERE customer_id BETWEEN :first AND :last"
)
_HOUR: Final = f"created_at - created_at % {HOUR_MS}"
_HOURS: Final = (
    "INSERT INTO usage_hours (hour, event, model, currency, count, reversed, quantity, credits, costed, cost_nanos,"
    f" paid_credits, revenue_nanos, cost_low, cost_high) SELECT {_HOUR} AS hour, event, model, '', count(*), 0,"
    " sum(quantity), -sum(credits), count(*), sum(cost_nanos), 0, 0, min(cost_nanos), max(cost_nanos) FROM entries"
    " WHERE kind = 'event' GROUP BY 1, 2, 3"
)
_EARNED: Final = (
    "INSERT INTO usage_hours (hour, event, model, currency, count, reversed, quantity, credits, costed, cost_nanos,"
    " paid_credits, revenue_nanos) SELECT hour, event, model, 'usd', 0, 0, 0, 0, 0, 0, credits, credits * 10000000"
    " FROM usage_hours"
)
_BY_DAY: Final = (
    "INSERT INTO usage_days (day, event, model, currency, count, reversed, quantity, credits, costed, cost_nanos,"
    f" paid_credits, revenue_nanos, cost_low, cost_high) SELECT hour - hour % {DAY_MS} AS day, event, model, currency,"
    " sum(count), 0, sum(quantity), sum(credits), sum(costed), sum(cost_nanos), sum(paid_credits), sum(revenue_nanos),"
    " min(cost_low), max(cost_high) FROM usage_hours GROUP BY 1, 2, 3, 4"
)
_FLOWS: Final = (
    "INSERT INTO credit_flows (hour, kind, entries, credits_in, credits_out) SELECT hour, 'event', sum(count), 0,"
    " sum(credits) FROM usage_hours WHERE currency = '' GROUP BY hour"
    f" UNION ALL SELECT :at - :at % {HOUR_MS}, 'grant', count(*), sum(credits), 0 FROM grants"
)
_SUMS: Final = (_HOURS, _EARNED, _BY_DAY, _FLOWS)
