"""The packs on sale, and which of them a price of Stripe's grants."""

from collections.abc import Collection
from typing import Any, Final

import msgspec
from msgspec.structs import astuple
from sqlalchemy import select

from app.config import Limits
from app.errors import InvalidRequest, NotFound
from app.rules.packs import Pack
from app.store import schema
from app.store.catalogue import BUMP, PACK_COLUMNS, CatalogueStore, column_of
from app.store.db import Database, Script, Statement
from app.store.ids import now_ms


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

    async def put(self, pack: Pack) -> None:
        """Sets a pack; checkouts made before keep what they were made with.

        Raises:
            InvalidRequest: there are as many packs as there may be, or another one has its `stripe_price`.

        """
        now = now_ms()

        def script() -> Script[None]:
            yield BUMP, ()
            [[count]] = yield "SELECT count(*) FROM packs WHERE archived = 0 AND code <> ?", (pack.code,)
            if count >= self._limits.packs_max:
                raise InvalidRequest(f"There may be {self._limits.packs_max} packs at most.", field="code")
            if pack.stripe_price is not None:
                mapped = yield _MAPPED, (pack.stripe_price, pack.code)
                if mapped:
                    raise InvalidRequest(f"stripe_price: the pack {mapped[0][0]!r} has it.", field="stripe_price")
            yield pack_kept(pack, now)

        await self._db.transact(script)
        await self._catalogue.refresh()

    async def archive(self, code: str) -> None:
        """Takes a pack off sale.

        Raises:
            NotFound: no pack on sale has that code.

        """

        def script() -> Script[None]:
            yield BUMP, ()
            archived = yield _ARCHIVE, (now_ms(), code)
            if not archived:
                raise NotFound(f"There is no pack {code!r}.", pack=code)

        await self._db.transact(script)
        await self._catalogue.refresh()


_ARCHIVE: Final = "UPDATE packs SET archived = 1, updated_at = ? WHERE code = ? AND archived = 0 RETURNING code"
_PUT: Final = (
    f"INSERT INTO packs ({', '.join(PACK_COLUMNS)}, updated_at, archived)"
    f" VALUES ({', '.join('?' * len(PACK_COLUMNS))}, ?, 0) ON CONFLICT (code) DO UPDATE SET archived = 0,"
    f" {', '.join(f'{name} = excluded.{name}' for name in (*PACK_COLUMNS[1:], 'updated_at'))}"
)
_MAPPED: Final = "SELECT code FROM packs WHERE archived = 0 AND stripe_price = ? AND code <> ?"


def pack_kept(pack: Pack, now: int) -> Statement:
    """The statement that puts a pack on sale as it is from now on."""
    return _PUT, [*map(column_of, astuple(pack)), now]


def _pack(row: Any) -> Pack:
    columns = {name: getattr(row, name) for name in PACK_COLUMNS}
    columns["currencies"] = msgspec.json.decode(columns["currencies"], type=dict[str, int])
    return Pack(**columns | {"expires_with_period": bool(columns["expires_with_period"])})
