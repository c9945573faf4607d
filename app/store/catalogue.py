"""Prices and packs: versions that never change, and a generation that rises with every change."""

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import select

from app.config import Limits
from app.errors import InvalidRequest, NotFound, Unavailable, VersionConflict
from app.rules.pricing import Catalogue, Price
from app.store import schema
from app.store.db import Database, Script
from app.store.dialect import Dialect
from app.store.ids import now_ms

log = logging.getLogger("chargly.store")

_IN_FORCE: Final = (
    "prices AS p WHERE archived = 0 AND version = (SELECT max(version) FROM prices AS q WHERE q.event = p.event)"
)
_BUMP: Final = "UPDATE instance SET generation = generation + 1"
"""First in a transaction: its lock on the row lets one process at a time change the catalogue."""
_LOCK: Final = "UPDATE instance SET generation = generation"


class PriceVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a price as it is kept; `archived` ends the event's price from then on."""

    event: str
    version: int
    credits: int
    label: str
    per_model: dict[str, int]
    archived: bool
    created_at: int


_VERSION_COLUMNS: Final = PriceVersion.__struct_fields__


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """Credits on sale: `amount` in minor units of `currency`."""

    code: str
    name: str
    credits: int
    amount: int
    currency: str


class _Decoded(msgspec.Struct):
    generation: int
    prices: list[Price]


@cache
def catalogue_sql(dialect: Dialect) -> str:
    """The statement that reads the prices in force and their generation: one row, of one column of JSON."""
    fields = {name: name for name in ("event", "version", "credits", "label")}
    price = dialect.json_object(fields | {"per_model": dialect.document("per_model")})
    whole = {"generation": "(SELECT generation FROM instance)", "prices": dialect.json_rows(price, _IN_FORCE)}
    return f"SELECT {dialect.json_object(whole)}"


def decode_catalogue(text: str) -> Catalogue:
    """The catalogue from the one row of `catalogue_sql`."""
    decoded = msgspec.json.decode(text, type=_Decoded)
    return Catalogue(decoded.generation, {price.event: price for price in decoded.prices})


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

    async def _refresh(self) -> None:
        try:
            await self.fresh()
        except Unavailable:  # the change is written; the writer finds it by its generation
            log.warning("the catalogue could not be read again after a change")

    async def prices(self) -> list[PriceVersion]:
        """The prices in force, by event."""
        query = f"SELECT {', '.join(_VERSION_COLUMNS)} FROM {_IN_FORCE} ORDER BY event"
        return [_price_version(row) for row in await self._db.fetch_all(query)]

    async def price(self, event: str) -> PriceVersion:
        """The event's price in force.

        Raises:
            NotFound: it has none.

        """
        versions = await self.versions(event, limit=1)
        if not versions or versions[0].archived:
            raise NotFound(f"The event {event!r} has no price of its own.", event=event)
        return versions[0]

    async def versions(self, event: str, *, limit: int | None = None) -> list[PriceVersion]:
        """The versions of an event's price, newest first: `limit`, or as many as are ever listed."""
        table = schema.prices
        columns = [table.c[name] for name in _VERSION_COLUMNS]
        query = select(*columns).where(table.c.event == event).order_by(table.c.version.desc())
        query = query.limit(limit or self._limits.price_versions_listed_max)
        return [_price_version(row) for row in await self._db.fetch_all(query)]

    async def put_price(
        self,
        event: str,
        credits: int,
        label: str,
        per_model: Mapping[str, int],
        *,
        expected_version: int | None = None,
        actor: str | None = None,
    ) -> tuple[PriceVersion, bool]:
        """Makes a new version of a price; returns it, and whether it is the event's first.

        Args:
            event: the event's name, or `*` for the flat rate.
            credits: for one unit; 0 is free.
            label: what customers read.
            per_model: credits for one unit by a model's name.
            expected_version: the version that the writer has seen, 0 for none; None writes in any case.
            actor: the name of the key that changes it.

        Raises:
            VersionConflict: another version is the latest.
            InvalidRequest: there are as many prices as there may be.

        """
        text = msgspec.json.encode(per_model, order="deterministic").decode()

        def script() -> Script[PriceVersion]:
            yield _BUMP, ()
            latest = yield from self._latest(event, expected_version)
            if latest is None or latest.archived:
                [[count]] = yield f"SELECT count(*) FROM {_IN_FORCE}", ()
                if count >= self._limits.prices_max:
                    raise InvalidRequest(f"There may be {self._limits.prices_max} prices at most.", field="event")
            version = (latest.version if latest else 0) + 1
            now = now_ms()
            row = (event, version, credits, label, text, 0, now, actor)
            yield _INSERT_PRICE, row
            return PriceVersion(
                event=event,
                version=version,
                credits=credits,
                label=label,
                per_model=dict(per_model),
                archived=False,
                created_at=now,
            )

        made = await self._db.transact(script)
        await self._refresh()
        return made, made.version == 1

    async def archive_price(self, event: str, *, actor: str | None = None) -> None:
        """Ends an event's price by a version that says so; the events it priced keep theirs.

        Raises:
            NotFound: it has no price in force.

        """

        def script() -> Script[None]:
            yield _BUMP, ()
            latest = yield from self._latest(event, None)
            if latest is None or latest.archived:
                raise NotFound(f"The event {event!r} has no price of its own.", event=event)
            yield _ARCHIVE_PRICE, (now_ms(), actor, event, latest.version)

        await self._db.transact(script)
        await self._refresh()

    def _latest(self, event: str, expected_version: int | None) -> Script[PriceVersion | None]:
        rows = yield (
            f"SELECT {', '.join(_VERSION_COLUMNS)} FROM prices WHERE event = ? ORDER BY version DESC LIMIT 1",
            (event,),
        )
        latest = _price_version(rows[0]) if rows else None
        version = latest.version if latest else 0
        if expected_version is not None and expected_version != version:
            raise VersionConflict(
                f"The latest version of {event!r} is {version}, not {expected_version}.",
                expected_version=expected_version,
                version=version,
            )
        return latest

    async def packs(self) -> list[Pack]:
        """The packs on sale, cheapest first."""
        table = schema.packs
        columns = [table.c[name] for name in Pack.__struct_fields__]
        query = select(*columns).where(table.c.archived == 0).order_by(table.c.amount, table.c.code)
        return [_pack(row) for row in await self._db.fetch_all(query)]

    async def pack(self, code: str) -> Pack | None:
        """A pack on sale, by its code."""
        return next((pack for pack in await self.packs() if pack.code == code), None)

    async def put_pack(self, pack: Pack) -> None:
        """Sets a pack; checkouts made before keep what they were made with.

        Raises:
            InvalidRequest: there are as many packs as there may be.

        """

        def script() -> Script[None]:
            yield _LOCK, ()
            [[count]] = yield "SELECT count(*) FROM packs WHERE archived = 0 AND code <> ?", (pack.code,)
            if count >= self._limits.packs_max:
                raise InvalidRequest(f"There may be {self._limits.packs_max} packs at most.", field="code")
            yield _PUT_PACK, (pack.code, pack.name, pack.credits, pack.amount, pack.currency, now_ms())

        await self._db.transact(script)

    async def archive_pack(self, code: str) -> None:
        """Takes a pack off sale.

        Raises:
            NotFound: no pack on sale has that code.

        """

        def script() -> Script[list[Any]]:
            return (
                yield (
                    "UPDATE packs SET archived = 1, updated_at = ? WHERE code = ? AND archived = 0 RETURNING code",
                    (now_ms(), code),
                )
            )

        if not await self._db.transact(script):
            raise NotFound(f"There is no pack {code!r}.", pack=code)


_ARCHIVE_PRICE: Final = (
    "INSERT INTO prices SELECT event, version + 1, credits, label, per_model, 1, ?, ? FROM prices"
    " WHERE event = ? AND version = ?"
)
_PUT_PACK: Final = (
    "INSERT INTO packs (code, name, credits, amount, currency, archived, updated_at) VALUES (?, ?, ?, ?, ?, 0, ?)"
    " ON CONFLICT (code) DO UPDATE SET name = excluded.name, credits = excluded.credits, amount = excluded.amount,"
    " currency = excluded.currency, archived = 0, updated_at = excluded.updated_at"
)
_INSERT_PRICE: Final = (
    "INSERT INTO prices (event, version, credits, label, per_model, archived, created_at, actor)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


def _price_version(row: Sequence[Any]) -> PriceVersion:
    event, version, credits, label, per_model, archived, created_at = (row[i] for i in range(len(_VERSION_COLUMNS)))
    return PriceVersion(
        event=event,
        version=version,
        credits=credits,
        label=label,
        per_model=msgspec.json.decode(per_model, type=dict[str, int]),
        archived=bool(archived),
        created_at=created_at,
    )


def _pack(row: Any) -> Pack:
    return Pack(code=row.code, name=row.name, credits=row.credits, amount=row.amount, currency=row.currency)
