"""Prices and packs: versions that never change, and a generation that rises with every change."""

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import select

from app.config import Limits
from app.errors import InvalidRequest, NotFound, Unavailable, VersionConflict
from app.rules.packs import Pack
from app.rules.pricing import Catalogue, Price
from app.store import schema
from app.store.db import Database, Script
from app.store.dialect import Dialect
from app.store.ids import new_id, now_ms
from app.store.webhooks import Message, deliveries_of

log = logging.getLogger("chargly.store")

_IN_FORCE: Final = (
    "prices AS p WHERE archived = 0 AND version = (SELECT max(version) FROM prices AS q WHERE q.event = p.event)"
)
_BUMP: Final = "UPDATE instance SET generation = generation + 1"
"""First in a transaction: its lock on the row lets one process at a time change the catalogue."""


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


_PACK_COLUMNS: Final = Pack.__struct_fields__


class _Decoded(msgspec.Struct):
    generation: int
    prices: list[Price]
    packs: list[Pack]


@cache
def catalogue_sql(dialect: Dialect) -> str:
    """The statement that reads the prices in force and the packs on sale: one row, of one column of JSON."""
    fields = {name: name for name in ("event", "version", "credits", "label")}
    price = dialect.json_object(fields | {"per_model": dialect.document("per_model")})
    pack = dialect.json_object(
        {name: name for name in _PACK_COLUMNS}
        | {
            "currencies": dialect.document("currencies"),
            "expires_with_period": dialect.boolean("expires_with_period"),
        }
    )
    whole = {
        "generation": "(SELECT generation FROM instance)",
        "prices": dialect.json_rows(price, _IN_FORCE),
        "packs": dialect.json_rows(pack, "packs WHERE archived = 0"),
    }
    return f"SELECT {dialect.json_object(whole)}"


def decode_catalogue(text: str) -> Catalogue:
    """The catalogue from the one row of `catalogue_sql`."""
    decoded = msgspec.json.decode(text, type=_Decoded)
    return Catalogue(
        decoded.generation,
        {price.event: price for price in decoded.prices},
        {pack.code: pack for pack in decoded.packs},
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
            made = PriceVersion(
                event=event,
                version=version,
                credits=credits,
                label=label,
                per_model=dict(per_model),
                archived=False,
                created_at=now,
            )
            yield deliveries_of(self._db.dialect, [_told_of(made)])
            return made

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
            now = now_ms()
            yield _ARCHIVE_PRICE, (now, actor, event, latest.version)
            ended = replace(latest, version=latest.version + 1, archived=True, created_at=now)
            yield deliveries_of(self._db.dialect, [_told_of(ended)])

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
        packs = (await self.fresh()).packs.values()
        return sorted(packs, key=lambda pack: (pack.amount, pack.code))

    async def pack(self, code: str) -> Pack | None:
        """A pack on sale, by its code."""
        return (await self.fresh()).packs.get(code)

    async def packs_of_prices(self, prices: Collection[str]) -> dict[str, Pack]:
        """The packs that prices of Stripe's are mapped to, by price; one that is off sale grants to who subscribes."""
        table = schema.packs
        columns = [table.c[name] for name in _PACK_COLUMNS]
        query = select(*columns).where(table.c.stripe_price.in_(prices)).order_by(table.c.archived.desc())
        packs = [_pack(row) for row in await self._db.fetch_all(query)] if prices else []
        return {pack.stripe_price: pack for pack in packs if pack.stripe_price is not None}

    async def put_pack(self, pack: Pack) -> None:
        """Sets a pack; checkouts made before keep what they were made with.

        Raises:
            InvalidRequest: there are as many packs as there may be, or another one has its `stripe_price`.

        """
        row = [*map(_column, msgspec.structs.astuple(pack)), now_ms()]

        def script() -> Script[None]:
            yield _BUMP, ()
            [[count]] = yield "SELECT count(*) FROM packs WHERE archived = 0 AND code <> ?", (pack.code,)
            if count >= self._limits.packs_max:
                raise InvalidRequest(f"There may be {self._limits.packs_max} packs at most.", field="code")
            if pack.stripe_price is not None:
                mapped = yield _MAPPED, (pack.stripe_price, pack.code)
                if mapped:
                    raise InvalidRequest(f"stripe_price: the pack {mapped[0][0]!r} has it.", field="stripe_price")
            yield _PUT_PACK, row

        await self._db.transact(script)
        await self._refresh()

    async def archive_pack(self, code: str) -> None:
        """Takes a pack off sale.

        Raises:
            NotFound: no pack on sale has that code.

        """

        def script() -> Script[None]:
            yield _BUMP, ()
            archived = yield _ARCHIVE_PACK, (now_ms(), code)
            if not archived:
                raise NotFound(f"There is no pack {code!r}.", pack=code)

        await self._db.transact(script)
        await self._refresh()


_ARCHIVE_PRICE: Final = (
    "INSERT INTO prices SELECT event, version + 1, credits, label, per_model, 1, ?, ? FROM prices"
    " WHERE event = ? AND version = ?"
)
_ARCHIVE_PACK: Final = "UPDATE packs SET archived = 1, updated_at = ? WHERE code = ? AND archived = 0 RETURNING code"
_PUT_PACK: Final = (
    f"INSERT INTO packs ({', '.join(_PACK_COLUMNS)}, updated_at, archived)"
    f" VALUES ({', '.join('?' * len(_PACK_COLUMNS))}, ?, 0) ON CONFLICT (code) DO UPDATE SET archived = 0,"
    f" {', '.join(f'{name} = excluded.{name}' for name in (*_PACK_COLUMNS[1:], 'updated_at'))}"
)
_MAPPED: Final = "SELECT code FROM packs WHERE archived = 0 AND stripe_price = ? AND code <> ?"
_INSERT_PRICE: Final = (
    "INSERT INTO prices (event, version, credits, label, per_model, archived, created_at, actor)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


def _told_of(price: PriceVersion) -> Message:
    names = ("event", "version", "credits", "label", "per_model", "archived")
    return Message(
        id=new_id("msg", ""),
        type="price.changed",
        customer_id="",
        position=price.version,
        data={name: getattr(price, name) for name in names},
        at=price.created_at,
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
    columns = {name: getattr(row, name) for name in _PACK_COLUMNS}
    columns["currencies"] = msgspec.json.decode(columns["currencies"], type=dict[str, int])
    return Pack(**columns | {"expires_with_period": bool(columns["expires_with_period"])})


def _column(value: Any) -> Any:
    """A field of a pack as its table has it."""
    if isinstance(value, Mapping):
        return msgspec.json.encode(value, order="deterministic").decode()
    return int(value) if isinstance(value, bool) else value
