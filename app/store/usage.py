"""Usage added up by the hour and the day, beside the ledger: a batch notes what it wrote, and a job adds that up.

The note is written in the batch's own commit and taken away in that of its sums, so each entry is added up once,
whoever crashes or does it at the same time. What is asked for is brought up to the moment first.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import astuple

from app.config import Limits
from app.errors import InvalidRequest, Unavailable
from app.rules.periods import DAY_MS, window_end, window_start
from app.rules.usage import Flow, Key, Used, UsedEntry, add, flows_of, used_by, without
from app.rules.wallet import QUIET_KINDS, Entry
from app.rules.worth import Worth
from app.store import schema
from app.store.db import Database, Script, Statement
from app.store.dialect import Dialect, Insert
from app.store.ids import new_id

log = logging.getLogger("chargly.store")

Grouping = Literal["event", "model", "member", "customer"]

GroupUse = tuple[int, str, str, Used]
"""When a period begins, a group's name, the currency of the revenue ('' for all but that), and the sums."""
OTHERS: Final = "\n"
"""Stands for the name of all groups that are not shown: no name has a line's end."""
_Span = tuple[str, int, int]
"""A wallet, and the first and the last of its versions."""
_spans_in: Final = msgspec.json.Decoder(list[_Span]).decode
_entries_in: Final = msgspec.json.Decoder(list[UsedEntry]).decode
_encode: Final = msgspec.json.Encoder().encode
_QUIET: Final = frozenset(QUIET_KINDS)
_SUMS: Final = Used.__struct_fields__
_KEYS: Final = {
    "usage_hours": ("hour", "event", "model", "currency"),
    "usage_days": ("day", "event", "model", "currency"),
    "usage_of_wallets": Key.__struct_fields__,
}
_SUM_MAX: Final = 9 * 10**18
"""What a sum stays at once it is as large as a column can hold: one that could not be written would stop all others."""
_PART: Final = 10**9
_BOUNDS: Final = ("CAST(period.value ->> 0 AS bigint)", "CAST(period.value ->> 1 AS bigint)")
"""Where a period begins and ends."""
_LEAST_AND_MOST: Final = {"cost_low": "min", "cost_high": "max"}
_COLUMNS: Final[Mapping[Grouping, str]] = {
    "event": "event",
    "model": "model",
    "member": "member",
    "customer": "customer_id",
}


class _TakenBefore(Exception):
    """Another process has added up some of the same."""


def noted(entries: Iterable[Entry]) -> Statement | None:
    """The statement that notes what a batch wrote, to be added up; None where nothing of it counts.

    Args:
        entries: of a batch, those of a wallet by version.

    """
    spans: dict[str, tuple[int, int]] = {}
    for entry in entries:
        if entry.kind not in _QUIET:
            first = spans.get(entry.customer_id, (entry.version, 0))[0]
            spans[entry.customer_id] = first, entry.version
    if not spans:
        return None
    document = _encode([(customer_id, *span) for customer_id, span in spans.items()]).decode()
    return "INSERT INTO usage_pending (id, wallets) VALUES (?, ?)", (new_id("use", ""), document)


class UsageStore:
    """Adds up what was noted, and reads the sums.

    Args:
        db: where they are.
        limits: how much at once.

    """

    def __init__(self, db: Database, limits: Limits) -> None:
        self._db = db
        self._limits = limits

    async def catch_up(self) -> bool:
        """Adds up what had been noted when it was called, or as much of it as one call may; whether that was all.

        Raises:
            ChargeError: the database cannot be asked.

        """
        last = await self._db.fetch_one("SELECT max(id) FROM usage_pending")
        for _ in range(self._limits.usage_catch_ups_max):
            if last is None or last[0] is None or not await self._add_up(last[0]):
                return True
        return False

    async def catch_up_whole(self) -> None:
        """The same for what must not go by a part.

        Raises:
            Unavailable: there is more left than one call may add up; a job goes on with it.
            ChargeError: the database cannot be asked.

        """
        if not await self.catch_up():
            raise Unavailable("Usage is still being added up: try again in a moment.")

    async def _add_up(self, last: str) -> bool:
        """Adds up some of what is noted up to an id; whether there was any."""
        query = "SELECT id, wallets FROM usage_pending WHERE id <= :last ORDER BY id LIMIT :most"
        rows = await self._db.fetch_all(query, {"last": last, "most": self._limits.usage_batches_at_once})
        if not rows:
            return False
        taken: list[str] = []
        spans: list[_Span] = []
        entries = 0
        for id, wallets in ((row[0], row[1]) for row in rows):
            of_batch = _spans_in(wallets)
            entries += sum(last - first + 1 for _, first, last in of_batch)
            if taken and entries > self._limits.usage_entries_at_once:
                break
            taken.append(id)
            spans += of_batch
        found, worths = await self._read(spans)
        sums, flows = used_by(found, worths), flows_of(found)
        try:
            await self._db.transact(lambda: _write(self._db.dialect, taken, sums, flows))
        except _TakenBefore:
            log.debug("another process adds up usage too")
        return True

    async def _read(self, spans: Sequence[_Span]) -> tuple[list[UsedEntry], dict[tuple[str, str], Worth]]:
        row = await self._db.fetch_one(_entries_of(self._db.dialect), {"spans": _encode(spans).decode()})
        entries = _entries_in(row[0]) if row else []
        grants = sorted({grant for entry in entries for grant in entry.grants})
        if not grants:
            return entries, {}
        worths = await self._db.fetch_all(_worths(self._db.dialect), {"grants": _encode(grants).decode()})
        return entries, {(row[0], row[1]): Worth(row[2], row[3]) for row in worths}

    async def largest(
        self,
        since: int,
        until: int,
        grouping: Grouping,
        customer_id: str | None,
        most: int,
        *,
        by: Literal["credits", "cost_nanos"] = "credits",
    ) -> list[str]:
        """The names of the groups that were charged the most, or cost the most, between two whole hours.

        Customers are told by what they were charged.

        Args:
            since: milliseconds since 1970.
            until: the same.
            grouping: what is added up apart.
            customer_id: of one wallet alone.
            most: how many.
            by: what counts.

        """
        if grouping == "customer" and customer_id is None and by == "credits":
            query, values = _customers_charged(self._db.dialect), _whole_months(since, until)
        else:
            query, values = self._parts([(since, until)], grouping, customer_id, None)
        rows = await self._db.fetch_all(
            f"SELECT name FROM ({query}) AS parts GROUP BY name ORDER BY sum({by} * 1.0) DESC, name LIMIT :most",
            {**values, "most": most},
        )
        return [row[0] for row in rows]

    async def report(
        self,
        periods: Sequence[tuple[int, int]],
        grouping: Grouping,
        customer_id: str | None,
        names: Sequence[str] | None = None,
        *,
        rows_max: int | None = None,
    ) -> list[GroupUse]:
        """Sums for each period and group, in the order of both.

        Args:
            periods: when each begins and ends, on whole hours, in milliseconds since 1970; no two begin together.
            grouping: what is added up apart.
            customer_id: of one wallet alone.
            names: of the groups that are shown; all others are together, under `OTHERS`. None shows each.
            rows_max: how many rows may be read, each currency in one of its own; `usage_rows_max` by default.

        Raises:
            InvalidRequest: there are more rows than one answer has.

        """
        if grouping == "customer" and customer_id is None and names is not None:
            return await self._of_customers(periods, names)
        query, values = self._parts(periods, grouping, customer_id, names)
        most = rows_max or self._limits.usage_rows_max
        rows = await self._db.fetch_all(
            f"SELECT begins, name, currency, {_added_up('')} FROM ({query}) AS parts"
            " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT :most",
            {**values, "most": most + 1},
        )
        if len(rows) > most:
            raise InvalidRequest(
                f"interval: these are more than {most:,} rows: take a longer one, less time, or top.",
                field="interval",
            )
        return [(row[0], row[1], row[2], _used(row, 3)) for row in map(_plain, rows)]

    async def _of_customers(self, periods: Sequence[tuple[int, int]], names: Sequence[str]) -> list[GroupUse]:
        """A report of some customers by their own rows, and of all others as what is left of the sums of all.

        Very many others are not gone through so. What is added up meanwhile counts as theirs.
        """
        values = {"periods": _encode(periods).decode(), "names": _encode([[name] for name in names]).decode()}
        rows = await self._db.fetch_all(_customers(self._db.dialect), values)
        named = [(row[0], row[1], row[2], _used(row, 3)) for row in map(_plain, rows)]
        theirs: dict[tuple[int, str], list[Used]] = {}
        for begins, _, currency, used in named:
            theirs.setdefault((begins, currency), []).append(used)
        whole = await self.report(periods, "event", None, ())
        others = [
            (begins, OTHERS, currency, without(used, theirs.get((begins, currency), ())))
            for begins, _, currency, used in whole
        ]
        return sorted([*named, *(one for one in others if one[3] != Used())], key=lambda one: one[:3])

    def _parts(
        self,
        periods: Sequence[tuple[int, int]],
        grouping: Grouping,
        customer_id: str | None,
        names: Sequence[str] | None,
    ) -> tuple[str, dict[str, str]]:
        """A query of what periods are made of, with its values: `begins`, `name`, `currency` and the sums."""
        of_wallets = customer_id is not None or grouping in ("member", "customer")
        query = _parts_of(
            self._db.dialect,
            _COLUMNS[grouping],
            of_wallets=of_wallets,
            one=customer_id is not None,
            some=names is not None,
        )
        values = {"periods": _encode(periods).decode()} if of_wallets else _whole_days(periods)
        if customer_id is not None:
            values["customer_id"] = customer_id
        if names is not None:
            values["names"] = _encode(names).decode()
        return query, values

    async def by_day_and_model(self, since: int, until: int) -> list[tuple[int, str, str, str, Used]]:
        """Sums for each day, event and model between two days.

        Returns:
            Days since 1970, the event, the model ('' for none), the currency as of `report`, and the sums.

        Raises:
            InvalidRequest: they are more than are read (field `days`).

        """
        rows = await self._db.fetch_all(
            f"SELECT day / {DAY_MS}, event, model, currency, {', '.join(_SUMS)} FROM usage_days"
            " WHERE day >= :since AND day < :until AND event <> '' LIMIT :most",
            {"since": since, "until": until, "most": self._limits.usage_days_max + 1},
        )
        if len(rows) > self._limits.usage_days_max:
            raise InvalidRequest(
                f"days: these are more than {self._limits.usage_days_max:,} days of events and models: take fewer.",
                field="days",
            )
        return [(row[0], row[1], row[2], row[3], Used(*row[4:])) for row in map(_plain, rows)]

    async def flows_by(self, periods: Sequence[tuple[int, int]]) -> dict[int, dict[str, Flow]]:
        """How credits moved in each period, by when it begins and the kind of their entries."""
        sums = ", ".join(_in_parts(f"f.{name}") for name in Flow.__struct_fields__)
        starts, ends = _BOUNDS
        rows = await self._db.fetch_all(
            f"SELECT {starts}, f.kind, {sums} FROM {self._db.dialect.json_values(':periods')} AS period"
            f" JOIN credit_flows AS f ON f.hour >= {starts} AND f.hour < {ends} GROUP BY 1, 2",
            {"periods": _encode(periods).decode()},
        )
        flows: dict[int, dict[str, Flow]] = {}
        for row in rows:
            flows.setdefault(row[0], {})[row[1]] = Flow(*(_whole(row, 2 + 2 * at) for at in range(3)))
        return flows

    async def money_by(self, periods: Sequence[tuple[int, int]]) -> dict[int, dict[str, tuple[int, int]]]:
        """What was paid and what of it went back or is disputed, by currency, of purchases begun in each period."""
        starts, ends = _BOUNDS
        rows = await self._db.fetch_all(
            f"SELECT {starts}, c.currency, CAST(sum(c.amount_paid) AS bigint),"
            " CAST(sum(c.amount_refunded + c.amount_disputed) AS bigint)"
            f" FROM {self._db.dialect.json_values(':periods')} AS period"
            f" JOIN checkouts AS c ON c.created_at >= {starts} AND c.created_at < {ends}"
            " WHERE c.amount_paid IS NOT NULL GROUP BY 1, 2",
            {"periods": _encode(periods).decode()},
        )
        money: dict[int, dict[str, tuple[int, int]]] = {}
        for row in rows:
            money.setdefault(row[0], {})[row[1]] = row[2], row[3]
        return money


def _write(
    dialect: Dialect, taken: Sequence[str], sums: Mapping[Key, Used], flows: Mapping[tuple[int, str], Flow]
) -> Script[None]:
    ids = (_encode(taken).decode(),)
    # What another process holds is its to add up: to wait for it would keep metering of this one waiting too.
    free = yield f"SELECT id FROM usage_pending WHERE id IN {dialect.listed('?')}{dialect.for_update_of_free()}", ids
    if len(free) < len(taken):
        raise _TakenBefore
    yield f"DELETE FROM usage_pending WHERE id IN {dialect.listed('?')}", ids
    of_wallets = {astuple(key): used for key, used in sums.items()}
    hours = _merged(((key.hour, key.event, key.model, key.currency), used) for key, used in sums.items())
    days = _merged(((hour - hour % DAY_MS, *rest), used) for (hour, *rest), used in hours.items())
    for table, rows in (("usage_hours", hours), ("usage_days", days), ("usage_of_wallets", of_wallets)):
        # In the order of their keys: two processes that write the same rows wait for each other in turn.
        by_key = sorted(rows.items(), key=itemgetter(0))
        yield from _upsert(dialect, table).statements([(*key, *_bounded(used)) for key, used in by_key])
    months: dict[tuple[int, str], int] = {}
    for key, used in sums.items():
        of = window_start("month", key.hour), key.customer_id
        months[of] = months.get(of, 0) + used.credits
    charged = sorted((*of, max(-_SUM_MAX, min(credits, _SUM_MAX))) for of, credits in months.items())
    yield from _upsert_months(dialect).statements(charged)
    moved = sorted((hour, kind, *_bounded(flow)) for (hour, kind), flow in flows.items())
    yield from _upsert_flows(dialect).statements(moved)


def _merged(sums: Iterable[tuple[tuple[Any, ...], Used]]) -> dict[tuple[Any, ...], Used]:
    """Sums by a key that several of them have."""
    merged: dict[tuple[Any, ...], Used] = {}
    for key, used in sums:
        if key not in merged:
            merged[key] = Used()
        add(merged[key], used)
    return merged


def _more(table: str, column: str) -> str:
    """A sum with more added to it, which stays within its column."""
    there, new = f"{table}.{column}", f"excluded.{column}"
    return (
        f"CASE WHEN {new} > 0 AND {there} > {_SUM_MAX} - {new} THEN {_SUM_MAX}"
        f" WHEN {new} < 0 AND {there} < -{_SUM_MAX} - {new} THEN -{_SUM_MAX} ELSE {there} + {new} END"
    )


def _added_up(prefix: str) -> str:
    """The sums of `Used`, in its order; `_used` reads them."""
    return ", ".join(
        f"CAST({_LEAST_AND_MOST[name]}({prefix}{name}) AS bigint)"
        if name in _LEAST_AND_MOST
        else _in_parts(f"{prefix}{name}")
        for name in _SUMS
    )


def _in_parts(column: str) -> str:
    """A sum as two columns, for neither engine adds up beyond 64 bits: billions, and the rest."""
    rest = f"{column} - {column} / {_PART} * {_PART}"
    return f"CAST(sum({column} / {_PART}) AS bigint), CAST(sum({rest}) AS bigint)"


def _plain(row: Any) -> tuple[Any, ...]:
    """A row as a tuple: of thousands, each look into one of the driver's own would count."""
    return tuple(row.values())


def _whole(row: Sequence[Any], at: int) -> int:
    return int(row[at]) * _PART + int(row[at + 1])


def _used(row: Sequence[Any], at: int) -> Used:
    sums: dict[str, Any] = {}
    for name in _SUMS:
        if name in _LEAST_AND_MOST:
            sums[name] = row[at]
            at += 1
        else:
            sums[name] = _whole(row, at)
            at += 2
    return Used(**sums)


def _bounded(used: Used | Flow) -> tuple[int | None, ...]:
    """A row of sums that its columns can hold."""
    return tuple(None if one is None else max(-_SUM_MAX, min(one, _SUM_MAX)) for one in astuple(used))


@cache
def _upsert(dialect: Dialect, name: str) -> Insert:
    table, key = schema.metadata.tables[name], _KEYS[name]
    sets = [f"{column} = {_more(name, column)}" for column in schema.USAGE_SUMS]
    for column, better in (("cost_low", "<"), ("cost_high", ">")):
        there, new = f"{name}.{column}", f"excluded.{column}"
        sets.append(f"{column} = CASE WHEN {there} IS NULL OR {new} {better} {there} THEN {new} ELSE {there} END")
    conflict = f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(sets)}"
    return Insert(dialect, table, (*key, *_SUMS), conflict)


@cache
def _upsert_months(dialect: Dialect) -> Insert:
    conflict = f" ON CONFLICT (month, customer_id) DO UPDATE SET credits = {_more('usage_of_customers', 'credits')}"
    return Insert(dialect, schema.usage_of_customers, ("month", "customer_id", "credits"), conflict)


@cache
def _upsert_flows(dialect: Dialect) -> Insert:
    sums = Flow.__struct_fields__
    sets = ", ".join(f"{column} = {_more('credit_flows', column)}" for column in sums)
    conflict = f" ON CONFLICT (hour, kind) DO UPDATE SET {sets}"
    return Insert(dialect, schema.credit_flows, ("hour", "kind", *sums), conflict)


@cache
def _entries_of(dialect: Dialect) -> str:
    detail = dialect.document("e.detail")
    quiet = ", ".join(f"'{kind}'" for kind in QUIET_KINDS)
    original = f"(SELECT o.cost_nanos FROM entries AS o WHERE o.id = {detail} ->> 'event_id')"
    known = f"CASE WHEN e.kind = 'reversal' AND {original} IS NOT NULL THEN 1 ELSE 0 END"
    columns = {name: f"e.{name}" for name in UsedEntry.__struct_fields__[:9]} | {
        "draws": dialect.document("e.draws"),
        "checkout_id": f"{detail} ->> 'checkout_id'",
        "unpaid": f"CAST({detail} ->> 'unpaid' AS bigint)",
        "event_at": f"CAST({detail} ->> 'event_at' AS bigint)",
        "event_has_cost": dialect.boolean(f"({known})"),
    }
    source = (
        f"{dialect.json_values(':spans')} AS span JOIN entries AS e ON e.customer_id = span.value ->> 0"
        " AND e.version BETWEEN CAST(span.value ->> 1 AS bigint) AND CAST(span.value ->> 2 AS bigint)"
        f" WHERE e.kind NOT IN ({quiet})"
    )
    return f"SELECT {dialect.json_rows(dialect.json_array([*columns.values()]), source)}"


@cache
def _worths(dialect: Dialect) -> str:
    return (
        "SELECT customer_id, id, worth_nanos, worth_currency FROM grants"
        f" WHERE (customer_id, id) IN {dialect.listed_pairs(':grants')} AND worth_nanos IS NOT NULL"
    )


def _whole_days(periods: Iterable[tuple[int, int]]) -> dict[str, str]:
    """Periods by their whole days, and by the hours before and after these; each part with when its period begins."""
    days: list[tuple[int, int, int]] = []
    hours: list[tuple[int, int, int]] = []
    for since, until in periods:
        first, last = -(-since // DAY_MS) * DAY_MS, until // DAY_MS * DAY_MS
        if first < last:
            days.append((since, first, last))
            hours += [(since, *part) for part in ((since, first), (last, until)) if part[0] < part[1]]
        else:
            hours.append((since, since, until))
    return {"days": _encode(days).decode(), "hours": _encode(hours).decode()}


def _whole_months(since: int, until: int) -> dict[str, Any]:
    """A span by its whole months, from `first` until `last`, and by the hours before and after these."""
    first, last = window_start("month", since), window_start("month", until)
    if first < since:
        first = window_end("month", since)
    if first >= last:
        return {"first": 0, "last": 0, "periods": _encode([(since, until)]).decode()}
    hours = [part for part in ((since, first), (last, until)) if part[0] < part[1]]
    return {"first": first, "last": last, "periods": _encode(hours).decode()}


def _of_all(dialect: Dialect, columns: str) -> str:
    """A query of what `_whole_days` names: `begins`, when a period begins, and columns."""
    begins, since, until = (f"CAST(part.value ->> {place} AS bigint)" for place in range(3))
    return " UNION ALL ".join(
        f"SELECT {begins} AS begins, {columns} FROM {dialect.json_values(f':{table}')} AS part"
        f" JOIN usage_{table} AS u ON u.{time} >= {since} AND u.{time} < {until}"
        for table, time in (("days", "day"), ("hours", "hour"))
    )


@cache
def _customers_charged(dialect: Dialect) -> str:
    """What each customer was charged in what `_whole_months` names: very many have very many hours."""
    starts, ends = _BOUNDS
    return (
        "SELECT customer_id AS name, credits FROM usage_of_customers WHERE month >= :first AND month < :last"
        f" UNION ALL SELECT u.customer_id, u.credits FROM {dialect.json_values(':periods')} AS period"
        f" JOIN usage_of_wallets AS u ON u.hour >= {starts} AND u.hour < {ends}"
    )


@cache
def _customers(dialect: Dialect) -> str:
    """Each named customer's rows by its own key, however many others there are."""
    starts, ends = _BOUNDS
    return (
        f"SELECT {starts}, u.customer_id, u.currency, {_added_up('u.')}"
        f" FROM {dialect.json_values(':periods')} AS period CROSS JOIN {dialect.json_values(':names')} AS named"
        f" JOIN usage_of_wallets AS u ON u.customer_id = named.value ->> 0 AND u.hour >= {starts} AND u.hour < {ends}"
        " GROUP BY 1, 2, 3"
    )


@cache
def _parts_of(dialect: Dialect, column: str, *, of_wallets: bool, one: bool, some: bool) -> str:
    name = f"u.{column}"
    if some:
        name = f"CASE WHEN {name} IN {dialect.listed(':names')} THEN {name} ELSE '{OTHERS}' END"
    columns = f"{name} AS name, u.currency, {', '.join(f'u.{sums}' for sums in _SUMS)}"
    if not of_wallets:
        return _of_all(dialect, columns)
    starts, ends = _BOUNDS
    mine = " AND u.customer_id = :customer_id" if one else ""
    return (
        f"SELECT {starts} AS begins, {columns} FROM {dialect.json_values(':periods')} AS period"
        f" JOIN usage_of_wallets AS u ON u.hour >= {starts} AND u.hour < {ends}{mine}"
    )
