"""The packs on sale, what each was before, and which of them a price of Stripe's grants."""

from collections.abc import Collection
from typing import Any, Final

import msgspec
from msgspec.structs import astuple
from sqlalchemy import select

from app.config import Limits
from app.errors import InvalidRequest, NotFound
from app.rules.packs import Pack
from app.store import schema
from app.store.catalogue import BUMP, PACK_COLUMNS, CatalogueStore, check_version, column_of
from app.store.db import Database, Script
from app.store.ids import now_ms


class PackVersion(msgspec.Struct, frozen=True):
    """What a pack was from a time on, in milliseconds since 1970; `archived` is off sale."""

    pack: Pack
    version: int
    archived: bool
    created_at: int


class PackStore:
    """Keeps packs.

    Args:
        db: where.
        catalogue: which has those on sale at hand, and learns of a change.
        limits: how many there may be.

    """

    def __init__(self, db: Database, catalogue: CatalogueStore, limits: Limits) -> None:
        self._db = db
        self._catalogue = catalogue
        self._limits = limits

    async def of_prices(self, prices: Collection[str]) -> dict[str, Pack]:
        """The packs that prices of Stripe's are mapped to, by price; one that is off sale grants to who subscribes."""
        table = schema.packs
        columns = [table.c[name] for name in PACK_COLUMNS]
        query = select(*columns).where(table.c.stripe_price.in_(prices)).order_by(table.c.archived.desc())
        packs = [_pack(row) for row in await self._db.fetch_all(query)] if prices else []
        return {pack.stripe_price: pack for pack in packs if pack.stripe_price is not None}

    async def put(self, pack: Pack, *, expected_version: int | None = None, actor: str | None = None) -> int:
        """Sets a pack, as its next version; checkouts made before keep what they were made with.

        Args:
            pack: what it is from now on.
            expected_version: the version that the writer has seen, 0 for none; None writes in any case.
            actor: the name of the key that changes it.

        Returns:
            The version.

        Raises:
            InvalidRequest: there are as many packs as there may be, or another one has its `stripe_price`.
            VersionConflict: the latest version is another than the one expected.

        """
        now = now_ms()

        def script() -> Script[int]:
            yield BUMP, ()
            [[latest]] = yield _LATEST, (pack.code,)
            check_version(pack.code, expected_version, latest)
            [[count]] = yield "SELECT count(*) FROM packs WHERE archived = 0 AND code <> ?", (pack.code,)
            if count >= self._limits.packs_max:
                raise InvalidRequest(f"There may be {self._limits.packs_max} packs at most.", field="code")
            if pack.stripe_price is not None:
                mapped = yield _MAPPED, (pack.stripe_price, pack.code)
                if mapped:
                    raise InvalidRequest(f"stripe_price: the pack {mapped[0][0]!r} has it.", field="stripe_price")
            yield from pack_kept(pack, now, actor)
            return int(latest) + 1

        version = await self._db.transact(script)
        await self._catalogue.refresh()
        return version

    async def archive(self, code: str, *, actor: str | None = None) -> None:
        """Takes a pack off sale, which is a version too.

        Raises:
            NotFound: no pack on sale has that code.

        """

        def script() -> Script[None]:
            yield BUMP, ()
            archived = yield _ARCHIVE, (now_ms(), code)
            if not archived:
                raise NotFound(f"There is no pack {code!r}.", pack=code)
            yield _NOTE, (actor, code)

        await self._db.transact(script)
        await self._catalogue.refresh()

    async def versions(self, code: str) -> list[PackVersion]:
        """What a pack was, newest first, as many as are ever listed; none of one that never was."""
        table = schema.pack_versions
        columns = [table.c[name] for name in (*PACK_COLUMNS, "version", "archived", "created_at")]
        query = select(*columns).where(table.c.code == code).order_by(table.c.version.desc())
        rows = await self._db.fetch_all(query.limit(self._limits.price_versions_listed_max))
        return [PackVersion(_pack(row), row.version, bool(row.archived), row.created_at) for row in rows]

    async def latest_versions(self) -> dict[str, int]:
        """The latest version of each pack, by its code."""
        rows = await self._db.fetch_all("SELECT code, max(version) FROM pack_versions GROUP BY code")
        return {row[0]: row[1] for row in rows}


_ARCHIVE: Final = "UPDATE packs SET archived = 1, updated_at = ? WHERE code = ? AND archived = 0 RETURNING code"
_PUT: Final = (
    f"INSERT INTO packs ({', '.join(PACK_COLUMNS)}, updated_at, archived)"
    f" VALUES ({', '.join('?' * len(PACK_COLUMNS))}, ?, 0) ON CONFLICT (code) DO UPDATE SET archived = 0,"
    f" {', '.join(f'{name} = excluded.{name}' for name in (*PACK_COLUMNS[1:], 'updated_at'))}"
)
_LATEST: Final = "SELECT coalesce(max(version), 0) FROM pack_versions WHERE code = ?"
_NOTE: Final = (
    f"INSERT INTO pack_versions ({', '.join(PACK_COLUMNS)}, archived, version, created_at, actor)"
    f" SELECT {', '.join(f'p.{name}' for name in PACK_COLUMNS)}, p.archived,"
    " (SELECT coalesce(max(v.version), 0) + 1 FROM pack_versions AS v WHERE v.code = p.code), p.updated_at, ?"
    " FROM packs AS p WHERE p.code = ?"
)
"""Keeps what a pack is now as its next version."""
_MAPPED: Final = "SELECT code FROM packs WHERE archived = 0 AND stripe_price = ? AND code <> ?"


def pack_kept(pack: Pack, now: int, actor: str | None) -> Script[None]:
    """Puts a pack on sale as it is from now on, and notes it as its next version."""
    yield _PUT, [*map(column_of, astuple(pack)), now]
    yield _NOTE, (actor, pack.code)


def _pack(row: Any) -> Pack:
    columns = {name: getattr(row, name) for name in PACK_COLUMNS}
    columns["currencies"] = msgspec.json.decode(columns["currencies"], type=dict[str, int])
    return Pack(**columns | {"expires_with_period": bool(columns["expires_with_period"])})
