"""Prices: versions that never change, and a generation that rises with every change.

Costs and packs are read with them, and written by `costs` and `packs`.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import astuple, replace
from sqlalchemy import select

from app.config import Limits
from app.errors import InvalidRequest, NotFound, Unavailable, VersionConflict
from app.rules.costs import Cost
from app.rules.packs import Pack
from app.rules.pricing import Catalogue, Price, Tier
from app.rules.times import rfc3339
from app.store import schema
from app.store.db import Database, Script, Statement
from app.store.dialect import Dialect
from app.store.ids import new_id, now_ms
from app.store.webhooks import Message, deliveries_of

log = logging.getLogger("chargly.store")

BUMP: Final = "UPDATE instance SET generation = generation + 1"
"""First in a transaction: its lock on the row lets one process at a time change the catalogue."""
COSTS_IN_FORCE: Final = (
    "costs AS c WHERE archived = 0 AND version = (SELECT max(version) FROM costs AS d WHERE d.event = c.event)"
)
"""For FROM."""


PriceStatus = Literal["scheduled", "in_force", "superseded", "withdrawn"]


class PriceVersion(Price, frozen=True, kw_only=True):
    """One version of a price as it is kept; one that is `withdrawn` never came into force."""

    created_at: int
    withdrawn: bool = False


class PriceDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A price to be made; fields as of `Price`, but for `effective_at`: None is at once."""

    event: str
    credits: int
    label: str
    per_model: Mapping[str, int] = {}
    tiers: tuple[Tier, ...] = ()
    minimum: int = 0
    effective_at: int | None = None


_VERSION_COLUMNS: Final = PriceVersion.__struct_fields__
_DOCUMENTS: Final = ("per_model", "tiers")
_BOOLEANS: Final = ("archived", "withdrawn")
PACK_COLUMNS: Final = Pack.__struct_fields__


class _Decoded(msgspec.Struct):
    generation: int
    prices: list[Price]
    upcoming: list[Price]
    packs: list[Pack]
    costs: list[Cost]


def check_version(what: str, seen: int | None, latest: int) -> None:
    """Refuses a writer who has not seen the latest version.

    Args:
        what: has versions.
        seen: the version that the writer has seen, 0 for none; None writes in any case.
        latest: its number.

    Raises:
        VersionConflict: they differ.

    """
    if seen not in (None, latest):
        raise VersionConflict(
            f"The latest version of {what!r} is {latest}, not {seen}.", expected_version=seen, version=latest
        )


def _in_force(dialect: Dialect) -> str:
    """The versions in force, for FROM, but for those that end a price."""
    return f"{_newest(dialect)} AND p.archived = 0"


def _newest(dialect: Dialect) -> str:
    """For each event, of the versions whose time has come the one whose time came last, for FROM."""
    newer = (
        f"SELECT 1 FROM prices AS q WHERE q.event = p.event AND q.withdrawn = 0 AND q.effective_at <= {dialect.now()}"
        " AND (q.effective_at, q.version) > (p.effective_at, p.version)"
    )
    return f"prices AS p WHERE p.withdrawn = 0 AND p.effective_at <= {dialect.now()} AND NOT EXISTS ({newer})"


def _upcoming(dialect: Dialect) -> str:
    return f"prices WHERE withdrawn = 0 AND effective_at > {dialect.now()}"


@cache
def catalogue_sql(dialect: Dialect) -> str:
    """The statement that reads the prices in force and the packs on sale: one row, of one column of JSON."""
    price = dialect.json_object(
        {name: name for name in Price.__struct_fields__}
        | {name: dialect.document(name) for name in _DOCUMENTS}
        | {"archived": dialect.boolean("archived")}
    )
    pack = dialect.json_object(
        {name: name for name in PACK_COLUMNS}
        | {
            "currencies": dialect.document("currencies"),
            "expires_with_period": dialect.boolean("expires_with_period"),
        }
    )
    cost = dialect.json_object(
        {name: name for name in Cost.__struct_fields__} | {"per_model": dialect.document("per_model")}
    )
    whole = {
        "generation": "(SELECT generation FROM instance)",
        "prices": dialect.json_rows(price, _in_force(dialect)),
        "upcoming": dialect.json_rows(price, _upcoming(dialect)),
        "packs": dialect.json_rows(pack, "packs WHERE archived = 0"),
        "costs": dialect.json_rows(cost, COSTS_IN_FORCE),
    }
    return f"SELECT {dialect.json_object(whole)}"


def decode_catalogue(text: str) -> Catalogue:
    """The catalogue from the one row of `catalogue_sql`."""
    decoded = msgspec.json.decode(text, type=_Decoded)
    return Catalogue(
        decoded.generation,
        {price.event: price for price in decoded.prices},
        {pack.code: pack for pack in decoded.packs},
        tuple(sorted(decoded.upcoming, key=lambda price: (price.effective_at, price.version))),
        {cost.event: cost for cost in decoded.costs},
    )


class CatalogueStore:
    """Reads and changes the catalogue. `current` is as fresh as its last read here or by the writer."""

    def __init__(self, db: Database, limits: Limits) -> None:
        self._db = db
        self._limits = limits
        self.current = Catalogue(0, {})

    async def fresh(self) -> Catalogue:
        """The catalogue as committed now; read whole only where its generation has moved."""
        row = await self._db.fetch_one(select(schema.instance.c.generation))
        if row is None or row.generation != self.current.generation:
            loaded = await self._db.fetch_one(catalogue_sql(self._db.dialect))
            read = decode_catalogue(loaded[0]) if loaded else self.current
            if read.generation > self.current.generation:  # the writer may have read a newer one meanwhile
                self.current = read
        return self.current

    async def refresh(self) -> None:
        """Reads the catalogue again after a change; what is not read now is found by its generation."""
        try:
            await self.fresh()
        except Unavailable:  # the change is written; the writer finds it by its generation
            log.warning("the catalogue could not be read again after a change")

    async def announce_due(self) -> bool:
        """Raises the generation where a price has come into force since the catalogue was read; whether it did.

        Raises:
            ChargeError: the database cannot be asked.

        """
        upcoming = (await self.fresh()).upcoming
        if not upcoming or upcoming[0].effective_at > now_ms():
            return False
        # By the database's clock: where this process's is ahead, nothing is in force yet.
        row = await self._db.fetch_one(f"SELECT {self._db.dialect.now()}")
        if row is None or upcoming[0].effective_at > row[0]:
            return False
        await self._db.transact(_bump)
        await self.fresh()
        return True

    async def prices(self) -> tuple[list[PriceVersion], list[PriceVersion]]:
        """The prices in force, by event, and those that come into force later, by that time."""
        columns = ", ".join(_VERSION_COLUMNS)
        in_force = f"SELECT {columns} FROM {_in_force(self._db.dialect)} ORDER BY event"
        upcoming = f"SELECT {columns} FROM {_upcoming(self._db.dialect)}"
        to_come = [_price_version(row) for row in await self._db.fetch_all(upcoming)]
        return (
            [_price_version(row) for row in await self._db.fetch_all(in_force)],
            sorted(to_come, key=lambda price: (price.effective_at, price.event, price.version)),
        )

    async def price(self, event: str) -> PriceVersion:
        """The event's price in force.

        Raises:
            NotFound: it has none.

        """
        query = f"SELECT {', '.join(_VERSION_COLUMNS)} FROM {_in_force(self._db.dialect)} AND event = :event"
        row = await self._db.fetch_one(query, {"event": event})
        if row is None:
            raise NotFound(f"The event {event!r} has no price of its own.", event=event)
        return _price_version(row)

    async def versions(self, event: str) -> list[tuple[PriceVersion, PriceStatus]]:
        """The versions of an event's price, newest first, as many as are ever listed; and what became of each."""
        dialect = self._db.dialect
        in_force = f"(SELECT version FROM {_newest(dialect)} AND event = :event)"
        status = (
            f"CASE WHEN withdrawn = 1 THEN 'withdrawn' WHEN effective_at > {dialect.now()} THEN 'scheduled'"
            f" WHEN version = {in_force} THEN 'in_force' ELSE 'superseded' END"
        )
        rows = await self._db.fetch_all(
            f"SELECT {', '.join(_VERSION_COLUMNS)}, {status} AS status FROM prices WHERE event = :event"
            " ORDER BY version DESC LIMIT :most",
            {"event": event, "most": self._limits.price_versions_listed_max},
        )
        return [(_price_version(row), row[len(_VERSION_COLUMNS)]) for row in rows]

    async def put_price(
        self, draft: PriceDraft, *, expected_version: int | None = None, actor: str | None = None
    ) -> PriceVersion:
        """Makes a new version of a price.

        Args:
            draft: what it says.
            expected_version: the version that the writer has seen, 0 for none; None writes in any case.
            actor: the name of the key that changes it.

        Raises:
            As `put_prices`.

        """
        expected = {} if expected_version is None else {draft.event: expected_version}
        [made] = await self.put_prices([draft], expected=expected, actor=actor)
        return made

    async def put_prices(
        self, drafts: Sequence[PriceDraft], *, expected: Mapping[str, int] | None = None, actor: str | None = None
    ) -> list[PriceVersion]:
        """Makes new versions of prices, all or none.

        Args:
            drafts: what they say; one for an event.
            expected: by event, the version that the writer has seen, 0 for none.
            actor: the name of the key that changes them.

        Raises:
            VersionConflict: another version is the latest.
            InvalidRequest: there are as many prices as there may be, or a time lies in the past.

        """

        def script() -> Script[list[PriceVersion]]:
            yield BUMP, ()
            return (yield from self.making(drafts, expected or {}, actor))

        made = await self._db.transact(script)
        await self.refresh()
        return made

    def making(
        self, drafts: Sequence[PriceDraft], expected: Mapping[str, int], actor: str | None
    ) -> Script[list[PriceVersion]]:
        """The part of a transaction that makes new versions, once it has raised the generation; as `put_prices`."""
        [[now]] = yield f"SELECT {self._db.dialect.now()}", ()
        made = []
        for draft in drafts:
            latest = yield from self._latest(draft.event, expected.get(draft.event))
            # A clock that went back would put the new version behind the one before.
            at = max(now, latest.created_at) if latest else now
            made.append(_version_of(draft, latest.version + 1 if latest else 1, at))
            yield price_kept(made[-1], actor)
        yield from self._check_counts([draft.event for draft in drafts])
        yield _expire(self._db.dialect, [draft.event for draft in drafts], "Its price was changed.", now)
        if made:
            yield deliveries_of(self._db.dialect, [_told_of(version) for version in made])
        return made

    def in_force(self, events: Sequence[str]) -> Script[dict[str, PriceVersion]]:
        """The part of a transaction that reads the prices in force of some events."""
        listed = f"SELECT {', '.join(_VERSION_COLUMNS)} FROM {_in_force(self._db.dialect)}"
        mine = f"{listed} AND p.event IN {self._db.dialect.listed('?')}"
        rows = yield mine, (msgspec.json.encode(events).decode(),)
        return {price.event: price for price in map(_price_version, rows)}

    def _check_counts(self, changed: Sequence[str]) -> Script[None]:
        dialect, limits = self._db.dialect, self._limits
        [[in_force]] = yield f"SELECT count(*) FROM {_in_force(dialect)}", ()
        [[to_come]] = yield f"SELECT count(*) FROM {_upcoming(dialect)}", ()
        if in_force + to_come > limits.prices_max:
            raise InvalidRequest(f"There may be {limits.prices_max} prices at most, and to come.", field="event")
        theirs = f"SELECT event FROM {_upcoming(dialect)} AND event IN {dialect.listed('?')}"
        parameters = (msgspec.json.encode(changed).decode(), limits.prices_upcoming_max)
        crowded = yield f"{theirs} GROUP BY event HAVING count(*) > ? ORDER BY event", parameters
        if crowded:
            raise InvalidRequest(
                f"effective_at: {crowded[0][0]!r} has {limits.prices_upcoming_max} prices to come, which is the most.",
                field="effective_at",
            )

    async def withdraw_price(self, event: str, version: int) -> None:
        """Takes back a version that has not come into force.

        Raises:
            NotFound: there is none of that number.
            InvalidRequest: its time has come, or it was withdrawn.

        """

        def script() -> Script[None]:
            yield BUMP, ()
            withdrawn = yield f"{_WITHDRAW} AND version = ? AND effective_at > {now}{_RETURNING}", (event, version)
            if withdrawn:
                yield deliveries_of(self._db.dialect, [_told_of(_price_version(withdrawn[0]))])
                return
            there = yield "SELECT withdrawn FROM prices WHERE event = ? AND version = ?", (event, version)
            if not there:
                raise NotFound(f"The price of {event!r} has no version {version}.", event=event)
            why = "is withdrawn already" if there[0][0] else "has come into force: make a new one instead"
            raise InvalidRequest(f"version: this one {why}.", field="version")

        now = self._db.dialect.now()
        await self._db.transact(script)
        await self.refresh()

    async def archive_price(self, event: str, *, actor: str | None = None) -> None:
        """Ends an event's price by a version that says so, and withdraws those to come; what it priced keeps it.

        Raises:
            NotFound: it has no price in force, and none to come.

        """

        def script() -> Script[None]:
            yield BUMP, ()
            [[at]] = yield f"SELECT {now}", ()
            in_force = yield f"SELECT {columns} FROM {_in_force(self._db.dialect)} AND event = ?", (event,)
            withdrawn = yield f"{_WITHDRAW} AND effective_at > {now}{_RETURNING}", (event,)
            if not in_force and not withdrawn:
                raise NotFound(f"The event {event!r} has no price of its own.", event=event)
            told = [_price_version(row) for row in withdrawn]
            if in_force:
                latest = yield from self._latest(event, None)
                assert latest is not None
                ended_at = max(at, latest.created_at)
                ended = replace(
                    _price_version(in_force[0]),
                    version=latest.version + 1,
                    archived=True,
                    created_at=ended_at,
                    effective_at=ended_at,
                )
                yield price_kept(ended, actor)
                told.append(ended)
            yield _expire(self._db.dialect, [event], "Its price was ended.", at)
            yield deliveries_of(self._db.dialect, [_told_of(version) for version in told])

        columns, now = ", ".join(_VERSION_COLUMNS), self._db.dialect.now()
        await self._db.transact(script)
        await self.refresh()

    def _latest(self, event: str, expected_version: int | None) -> Script[PriceVersion | None]:
        rows = yield (
            f"SELECT {', '.join(_VERSION_COLUMNS)} FROM prices WHERE event = ? ORDER BY version DESC LIMIT 1",
            (event,),
        )
        latest = _price_version(rows[0]) if rows else None
        check_version(event, expected_version, latest.version if latest else 0)
        return latest

    async def packs(self) -> list[Pack]:
        """The packs on sale, cheapest first."""
        packs = (await self.fresh()).packs.values()
        return sorted(packs, key=lambda pack: (pack.amount, pack.code))

    async def pack(self, code: str) -> Pack | None:
        """A pack on sale, by its code."""
        return (await self.fresh()).packs.get(code)


_INSERT_PRICE: Final = (
    f"INSERT INTO prices ({', '.join(_VERSION_COLUMNS)}, actor) VALUES ({', '.join('?' * (len(_VERSION_COLUMNS) + 1))})"
)
_WITHDRAW: Final = "UPDATE prices SET withdrawn = 1 WHERE event = ? AND withdrawn = 0"
_RETURNING: Final = f" RETURNING {', '.join(_VERSION_COLUMNS)}"


def price_kept(version: PriceVersion, actor: str | None) -> Statement:
    """The statement that keeps a new version of a price."""
    return _INSERT_PRICE, [*map(column_of, astuple(version)), actor]


def _expire(dialect: Dialect, events: Sequence[str], why: str, now: int) -> Statement:
    """What was advised on a price is of no use once it has changed."""
    theirs = f"status = 'pending' AND event IN {dialect.listed('?')}"
    sql = f"UPDATE recommendations SET status = 'expired', decided_at = ?, decided_because = ? WHERE {theirs}"
    return sql, (now, why, msgspec.json.encode(events).decode())


def _bump() -> Script[None]:
    yield BUMP, ()


def _version_of(draft: PriceDraft, version: int, now: int) -> PriceVersion:
    """The version that a draft becomes.

    Raises:
        InvalidRequest: its time lies in the past.

    """
    if draft.effective_at is not None and draft.effective_at <= now:
        raise InvalidRequest(
            "effective_at: it lies in the past; without it a price is in force at once.", field="effective_at"
        )
    return PriceVersion(
        event=draft.event,
        version=version,
        credits=draft.credits,
        label=draft.label,
        per_model=dict(draft.per_model),
        tiers=draft.tiers,
        minimum=draft.minimum,
        effective_at=now if draft.effective_at is None else draft.effective_at,
        created_at=now,
    )


def _told_of(price: PriceVersion) -> Message:
    names = ("event", "version", "credits", "label", "per_model", "tiers", "minimum", "archived", "withdrawn")
    data = {name: msgspec.to_builtins(getattr(price, name)) for name in names}
    return Message(
        id=new_id("msg", ""),
        type="price.changed",
        customer_id="",
        position=price.version,
        data=data | {"tiers": data["tiers"] or None, "effective_at": rfc3339(price.effective_at)},
        at=price.created_at,
    )


def _price_version(row: Sequence[Any]) -> PriceVersion:
    columns = dict(zip(_VERSION_COLUMNS, (row[at] for at in range(len(_VERSION_COLUMNS))), strict=True))
    columns["per_model"] = msgspec.json.decode(columns["per_model"], type=dict[str, int])
    columns["tiers"] = msgspec.json.decode(columns["tiers"], type=tuple[Tier, ...])
    return PriceVersion(**columns | {name: bool(columns[name]) for name in _BOOLEANS})


def column_of(value: Any) -> Any:
    """A field of a pack or a price as its table has it."""
    if isinstance(value, (Mapping, tuple)):
        return msgspec.json.encode(value, order="deterministic").decode()
    return int(value) if isinstance(value, bool) else value
