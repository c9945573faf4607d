"""What events cost their operator: versions that never change, the latest of which is in force."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from app.config import Limits
from app.errors import InvalidRequest, NotFound, VersionConflict
from app.rules.costs import Cost
from app.store.catalogue import BUMP, COSTS_IN_FORCE, CatalogueStore, PriceDraft, check_version
from app.store.db import Database, Script, Statement
from app.store.ids import now_ms


class CostVersion(Cost, frozen=True, kw_only=True):
    """One version of a cost as it is kept; `archived` ends what is known from then on."""

    archived: bool
    created_at: int


class CostDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A cost to be set; fields as of `Cost`."""

    event: str
    nanos: int | None
    per_model: Mapping[str, int] = {}


_COLUMNS: Final = CostVersion.__struct_fields__
_LISTED: Final = ", ".join(_COLUMNS)
_INSERT: Final = f"INSERT INTO costs ({_LISTED}, actor) VALUES ({', '.join('?' * (len(_COLUMNS) + 1))})"


class CostStore:
    """Reads and changes costs. They are read with the catalogue, whose generation rises with each change.

    Args:
        db: where they are.
        catalogue: is read again after a change.
        limits: how many there may be.

    """

    def __init__(self, db: Database, catalogue: CatalogueStore, limits: Limits) -> None:
        self._db = db
        self._catalogue = catalogue
        self._limits = limits

    async def costs(self) -> list[CostVersion]:
        """The costs in force, by event."""
        return [
            _version(row) for row in await self._db.fetch_all(f"SELECT {_LISTED} FROM {COSTS_IN_FORCE} ORDER BY event")
        ]

    async def cost(self, event: str) -> CostVersion:
        """The event's cost in force.

        Raises:
            NotFound: it has none.

        """
        row = await self._db.fetch_one(f"SELECT {_LISTED} FROM {COSTS_IN_FORCE} AND event = :event", {"event": event})
        if row is None:
            raise _unknown(event)
        return _version(row)

    async def versions(self, event: str) -> list[CostVersion]:
        """The versions of an event's cost, newest first, as many as are ever listed."""
        query = f"SELECT {_LISTED} FROM costs WHERE event = :event ORDER BY version DESC LIMIT :most"
        values = {"event": event, "most": self._limits.price_versions_listed_max}
        return [_version(row) for row in await self._db.fetch_all(query, values)]

    async def put_costs(
        self, drafts: Sequence[CostDraft], *, expected: Mapping[str, int] | None = None, actor: str | None = None
    ) -> list[CostVersion]:
        """Makes new versions of costs, all or none: events from now on cost so much where they do not say it.

        Args:
            drafts: what they say; one for an event.
            expected: by event, the version that the writer has seen, 0 for none.
            actor: the name of the key that changes them.

        Raises:
            VersionConflict: another version is the latest.
            InvalidRequest: there are as many costs as there may be.

        """

        def script() -> Script[list[CostVersion]]:
            yield BUMP, ()
            return (yield from self._making(drafts, expected or {}, actor))

        made = await self._db.transact(script)
        await self._catalogue.refresh()
        return made

    async def put_all(
        self,
        prices: Sequence[PriceDraft],
        costs: Sequence[CostDraft],
        *,
        seen_generation: int,
        actor: str | None,
    ) -> None:
        """Makes new versions of prices and costs, all or none.

        Args:
            prices: one for an event.
            costs: one for an event.
            seen_generation: the catalogue's, as the writer has seen it.
            actor: the name of what changes them.

        Raises:
            VersionConflict: somebody has changed the catalogue since.
            InvalidRequest: as of `put_prices` and `put_costs`.

        """

        def script() -> Script[None]:
            [[generation]] = yield f"{BUMP} RETURNING generation", ()
            if generation != seen_generation + 1:
                raise VersionConflict(
                    "Prices or costs were changed meanwhile: look again.",
                    expected_version=seen_generation,
                    version=generation - 1,
                )
            yield from self._catalogue.making(prices, {}, actor)
            yield from self._making(costs, {}, actor)

        await self._db.transact(script)
        await self._catalogue.refresh()

    def _making(
        self, drafts: Sequence[CostDraft], expected: Mapping[str, int], actor: str | None
    ) -> Script[list[CostVersion]]:
        made = []
        for draft in drafts:
            latest = yield from _latest(draft.event)
            version = latest.version if latest else 0
            check_version(draft.event, expected.get(draft.event), version)
            made.append(
                CostVersion(
                    event=draft.event,
                    version=version + 1,
                    nanos=draft.nanos,
                    per_model=dict(draft.per_model),
                    archived=False,
                    created_at=now_ms(),
                )
            )
            yield cost_kept(made[-1], actor)
        [[count]] = yield f"SELECT count(*) FROM {COSTS_IN_FORCE}", ()
        if count > self._limits.prices_max:
            raise InvalidRequest(f"There may be {self._limits.prices_max} costs at most.", field="event")
        return made

    async def archive_cost(self, event: str, *, actor: str | None = None) -> None:
        """Ends what is known of an event's cost; events before keep theirs.

        Raises:
            NotFound: it has none in force.

        """

        def script() -> Script[None]:
            yield BUMP, ()
            latest = yield from _latest(event)
            if latest is None or latest.archived:
                raise _unknown(event)
            ended = replace(latest, version=latest.version + 1, archived=True, created_at=now_ms())
            yield cost_kept(ended, actor)

        await self._db.transact(script)
        await self._catalogue.refresh()


def _latest(event: str) -> Script[CostVersion | None]:
    rows = yield f"SELECT {_LISTED} FROM costs WHERE event = ? ORDER BY version DESC LIMIT 1", (event,)
    return _version(rows[0]) if rows else None


def _unknown(event: str) -> NotFound:
    return NotFound(f"Nothing is known of what {event!r} costs by itself.", event=event)


def cost_kept(version: CostVersion, actor: str | None) -> Statement:
    """The statement that keeps a new version of a cost."""
    return _INSERT, _row(version, actor)


def _row(version: CostVersion, actor: str | None) -> list[Any]:
    per_model = msgspec.json.encode(version.per_model, order="deterministic").decode()
    return [version.event, version.version, version.nanos, per_model, int(version.archived), version.created_at, actor]


def _version(row: Sequence[Any]) -> CostVersion:
    columns = dict(zip(_COLUMNS, (row[at] for at in range(len(_COLUMNS))), strict=True))
    columns["per_model"] = msgspec.json.decode(columns["per_model"], type=dict[str, int])
    return CostVersion(**columns | {"archived": bool(columns["archived"])})
