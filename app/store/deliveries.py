"""What is sent to webhook endpoints: which deliveries are due, what became of them, and how long they are kept."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal

import msgspec

from app.errors import InvalidRequest, NotFound
from app.rules.times import rfc3339
from app.store import schema
from app.store.db import Database, Script
from app.store.dialect import Dialect
from app.store.ids import new_id, now_ms
from app.store.webhooks import Endpoint, Message, deliveries_of, delivery_to, fail_pending, find_endpoint

DeliveryStatus = Literal["pending", "delivered", "failed"]


class Delivery(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One message on its way to one endpoint. Times are in milliseconds since 1970.

    Args:
        id: `del_…`.
        endpoint_id: where to.
        message_id: sent as `webhook-id`.
        customer_id: whose wallet said it; '' for what is of no wallet.
        position: where it stands among what that wallet says.
        type: the message's.
        payload: the body that is sent.
        status: pending until it was answered with success, or is given up.
        attempts: how often it was sent.
        next_at: when it is sent next, where it is pending.
        created_at: when it was written.
        ended_at: when it ceased to be pending.
        answer_status: the HTTP status of the last answer, None where there was none.
        error: why the last attempt failed.

    """

    id: str
    endpoint_id: str
    message_id: str
    customer_id: str
    position: int
    type: str
    payload: str
    status: DeliveryStatus
    attempts: int
    next_at: int
    created_at: int
    ended_at: int | None
    answer_status: int | None
    error: str | None


class Due(msgspec.Struct, frozen=True):
    """A delivery whose time has come, and where it goes."""

    delivery: Delivery
    endpoint: Endpoint


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one attempt; the fields are those of a delivery. `gone` is an endpoint that wants no more."""

    id: str
    endpoint_id: str
    customer_id: str
    position: int
    status: DeliveryStatus
    attempts: int
    next_at: int
    at: int
    answer_status: int | None
    error: str | None
    gone: bool = False


class Disabled(msgspec.Struct, frozen=True):
    """An endpoint that was disabled because of its answers."""

    id: str
    url: str
    reason: str


_COLUMNS: Final = Delivery.__struct_fields__
_deliveries_in: Final = msgspec.json.Decoder(list[Delivery]).decode
_GONE: Final = "It answered 410 Gone."


async def due_deliveries(db: Database, endpoints: Mapping[Endpoint, int], now: int) -> list[list[Due]]:
    """Deliveries whose time has come, for each endpoint those that have waited longest.

    What one wallet says is told in order: of its deliveries to one endpoint that are pending, the first alone is due.

    Args:
        db: where they are.
        endpoints: where to, and how many at most for each.
        now: milliseconds since 1970.

    """
    if not endpoints:
        return []
    values: dict[str, Any] = {"now": now}
    for number, (endpoint, most) in enumerate(endpoints.items()):
        values |= {f"e{number}": endpoint.id, f"most{number}": most}
    row = await db.fetch_one(_due(db.dialect, len(endpoints)), values)
    found: dict[str, list[Due]] = {endpoint.id: [] for endpoint in endpoints}
    by_id = {endpoint.id: endpoint for endpoint in endpoints}
    for delivery in sorted(_deliveries_in(row[0]) if row else [], key=lambda one: one.next_at):
        found[delivery.endpoint_id].append(Due(delivery, by_id[delivery.endpoint_id]))
    return list(found.values())


@cache
def _due(dialect: Dialect, endpoints: int) -> str:
    # One document for all: row by row, they would hold up the event loop for much longer.
    parts = (
        f"SELECT * FROM (SELECT d.* FROM webhook_deliveries AS d WHERE d.endpoint_id = :e{number}"
        " AND d.status = 'pending' AND d.next_at <= :now AND (d.customer_id = '' OR NOT EXISTS"
        " (SELECT 1 FROM webhook_deliveries AS f WHERE f.endpoint_id = d.endpoint_id AND f.status = 'pending'"
        " AND f.customer_id = d.customer_id AND (f.position, f.id) < (d.position, d.id)))"
        f" ORDER BY d.next_at LIMIT :most{number}) AS e{number}"
        for number in range(endpoints)
    )
    source = f"({' UNION ALL '.join(parts)}) AS due"
    return f"SELECT {dialect.json_rows(dialect.json_array(_COLUMNS), source)}"


async def record(db: Database, results: Sequence[Result], *, failing_ms_max: int, swept_at_once: int) -> list[Disabled]:
    """Writes what became of attempts, in one transaction; written twice, it is the same.

    Endpoints that are gone, or have only failed for long, are disabled, and the others are told.

    Args:
        db: where to.
        results: of one attempt each.
        failing_ms_max: how long an endpoint may fail without a success.
        swept_at_once: how many pending deliveries of an endpoint that is disabled fail at once; upkeep does the rest.

    """
    rows = msgspec.json.encode(results).decode()
    postponed = msgspec.json.encode([result for result in results if _blocks(result)]).decode()
    now = max((result.at for result in results), default=0)
    succeeded = {result.endpoint_id for result in results if result.status == "delivered"}
    failed = {result.endpoint_id for result in results if result.status != "delivered"}
    gone = {result.endpoint_id for result in results if result.gone}

    def script() -> Script[list[Disabled]]:
        yield _write_results(db.dialect), (rows,)
        yield _postpone(db.dialect), (postponed,)
        if succeeded:
            yield _succeeded(db.dialect), (_json(succeeded),)
        if not failed:
            return []
        yield _failed(db.dialect), (now, _json(failed - succeeded))
        found = yield _hopeless(db.dialect), (now - failing_ms_max, _json(failed), _json(gone))
        disabled = [Disabled(id, url, _GONE if id in gone else _failing(since)) for id, url, since in found]
        for one in disabled:
            yield "UPDATE webhook_endpoints SET disabled = ? WHERE id = ?", (one.reason, one.id)
            yield fail_pending(one.id, one.reason, now, swept_at_once)
        if disabled:
            yield deliveries_of(db.dialect, [_told_of(one, now) for one in disabled])
        return disabled

    return await db.transact(script)


def _blocks(result: Result) -> bool:
    """Whether what the same wallet says next has to wait for its next attempt."""
    return result.status == "pending" and result.customer_id != ""


def _failing(since: int) -> str:
    return f"Nothing has arrived since {rfc3339(since)}."


def _told_of(disabled: Disabled, now: int) -> Message:
    return Message(
        id=new_id("msg", ""),
        type="endpoint.disabled",
        customer_id="",
        position=0,
        data={"endpoint_id": disabled.id, "url": disabled.url, "reason": disabled.reason},
        at=now,
    )


def _json(ids: set[str]) -> str:
    return msgspec.json.encode(sorted(ids)).decode()


@cache
def _write_results(dialect: Dialect) -> str:
    # What was given up meanwhile, because its endpoint was disabled, may still have arrived.
    return (
        "UPDATE webhook_deliveries SET status = result.value ->> 'status',"
        " attempts = CAST(result.value ->> 'attempts' AS bigint), next_at = CAST(result.value ->> 'next_at' AS bigint),"
        " ended_at = CASE WHEN result.value ->> 'status' = 'pending' THEN NULL"
        " ELSE CAST(result.value ->> 'at' AS bigint) END,"
        " answer_status = CAST(result.value ->> 'answer_status' AS bigint), error = result.value ->> 'error'"
        f" FROM {dialect.json_values('?')} AS result WHERE webhook_deliveries.id = result.value ->> 'id'"
        " AND (webhook_deliveries.status = 'pending' OR result.value ->> 'status' = 'delivered')"
    )


@cache
def _postpone(dialect: Dialect) -> str:
    # They could not be sent before, and would be looked at in vain each time.
    return (
        "UPDATE webhook_deliveries SET next_at = CAST(result.value ->> 'next_at' AS bigint)"
        f" FROM {dialect.json_values('?')} AS result WHERE webhook_deliveries.status = 'pending'"
        " AND webhook_deliveries.endpoint_id = result.value ->> 'endpoint_id'"
        " AND webhook_deliveries.customer_id = result.value ->> 'customer_id'"
        " AND webhook_deliveries.position > CAST(result.value ->> 'position' AS bigint)"
        # The sum keeps an engine from the index by `next_at`, which holds all that waits for an endpoint that is away.
        " AND webhook_deliveries.next_at + 0 < CAST(result.value ->> 'next_at' AS bigint)"
    )


@cache
def _succeeded(dialect: Dialect) -> str:
    return (
        "UPDATE webhook_endpoints SET failing_since = NULL WHERE failing_since IS NOT NULL"
        f" AND id IN {dialect.listed('?')}"
    )


@cache
def _failed(dialect: Dialect) -> str:
    return f"UPDATE webhook_endpoints SET failing_since = ? WHERE failing_since IS NULL AND id IN {dialect.listed('?')}"


@cache
def _hopeless(dialect: Dialect) -> str:
    return (
        "SELECT id, url, failing_since FROM webhook_endpoints WHERE disabled IS NULL AND"
        f" ((failing_since <= ? AND id IN {dialect.listed('?')}) OR id IN {dialect.listed('?')})"
    )


async def list_deliveries(
    db: Database, endpoint_id: str, *, status: DeliveryStatus | None, limit: int, before: tuple[int, str] | None
) -> tuple[list[Delivery], tuple[int, str] | None]:
    """A page of an endpoint's deliveries, newest first.

    Args:
        db: where they are.
        endpoint_id: whose.
        status: those alone.
        limit: how many.
        before: where to go on, as the page before said.

    Returns:
        The deliveries, and where the next page goes on, None on the last one.

    """
    where = ["endpoint_id = :endpoint_id"]
    values: dict[str, Any] = {"endpoint_id": endpoint_id, "most": limit + 1}
    if status is not None:
        # The few that are not delivered have an index of their own.
        where += ["status = :status", *(["status <> 'delivered'"] if status != "delivered" else [])]
        values["status"] = status
    if before is not None:
        where.append("(created_at, id) < (:at, :id)")
        values |= {"at": before[0], "id": before[1]}
    rows = await db.fetch_all(
        f"SELECT {', '.join(_COLUMNS)} FROM webhook_deliveries WHERE {' AND '.join(where)}"
        " ORDER BY created_at DESC, id DESC LIMIT :most",
        values,
    )
    found = [_delivery(row) for row in rows]
    last = found[limit - 1] if len(found) > limit else None
    return found[:limit], (last.created_at, last.id) if last else None


async def retry(db: Database, endpoint_id: str, delivery_id: str) -> Delivery:
    """Has a delivery sent now, whatever became of it before.

    Raises:
        NotFound: the endpoint has none of that id.
        InvalidRequest: the endpoint is disabled.

    """
    _check_enabled(await find_endpoint(db, endpoint_id))

    def script() -> Script[Delivery]:
        rows = yield _RETRY, (now_ms(), delivery_id, endpoint_id)
        if not rows:
            raise NotFound("This webhook endpoint has no delivery of that id.")
        return _delivery(rows[0])

    return await db.transact(script)


async def write_test(db: Database, endpoint_id: str) -> Delivery:
    """Writes a `webhook.test` message for one endpoint alone.

    Raises:
        NotFound: there is none of that id.
        InvalidRequest: it is disabled.

    """
    _check_enabled(await find_endpoint(db, endpoint_id))
    message = Message(
        id=new_id("msg", ""),
        type="webhook.test",
        customer_id="",
        position=0,
        data={"endpoint_id": endpoint_id},
        at=now_ms(),
    )

    def script() -> Script[Delivery]:
        written = yield delivery_to(db.dialect, message, endpoint_id)
        if not written:  # it was disabled or deleted just now
            raise NotFound("There is no webhook endpoint of this id that is enabled.")
        rows = yield f"SELECT {', '.join(_COLUMNS)} FROM webhook_deliveries WHERE id = ?", (written[0][0],)
        return _delivery(rows[0])

    return await db.transact(script)


def _check_enabled(endpoint: Endpoint) -> None:
    if endpoint.disabled is not None:
        raise InvalidRequest("This webhook endpoint is disabled: enable it first.", field="enabled")


async def sweep(db: Database, *, ended_before: int, most: int) -> int:
    """Takes away what ended long ago and what belongs to no endpoint, and gives up what waits for a disabled one.

    Args:
        db: where they are.
        ended_before: milliseconds since 1970.
        most: how many of each kind, in one transaction.

    Returns:
        How many there were of the kind that had most: with `most`, there are more.

    """
    orphans = [row[0] for row in await db.fetch_all(_ENDPOINTS_GONE)]
    table = schema.webhook_endpoints
    disabled = await db.fetch_all(table.select().where(table.c.disabled.is_not(None)))
    pending = {row[0] for row in await db.fetch_all(_PENDING_OF_DISABLED)} if disabled else set()

    def script() -> Script[int]:
        old = yield _DELETE_ENDED, (ended_before, most)
        counts = [len(old)]
        for endpoint_id in orphans:
            gone = yield _DELETE_OF_ENDPOINT, (endpoint_id, most)
            counts.append(len(gone))
        for row in disabled:
            if row.id in pending:
                failed = yield fail_pending(row.id, row.disabled, now_ms(), most)
                counts.append(len(failed))
        return max(counts)

    if not orphans and not pending and await db.fetch_one(_ANY_ENDED, {"before": ended_before}) is None:
        return 0
    return await db.transact(script)


async def count_pending(db: Database, most: int) -> int:
    """How many deliveries are pending, counted up to a limit."""
    row = await db.fetch_one(
        "SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries WHERE status = 'pending' LIMIT :most) AS counted",
        {"most": most},
    )
    return int(row[0]) if row else 0


_RETRY: Final = (
    "UPDATE webhook_deliveries SET status = 'pending', next_at = ?, ended_at = NULL"
    f" WHERE id = ? AND endpoint_id = ? RETURNING {', '.join(_COLUMNS)}"
)
_DELETE_ENDED: Final = (
    "DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_deliveries"
    " WHERE ended_at IS NOT NULL AND ended_at < ? ORDER BY ended_at LIMIT ?) RETURNING id"
)
_ANY_ENDED: Final = "SELECT 1 FROM webhook_deliveries WHERE ended_at IS NOT NULL AND ended_at < :before LIMIT 1"
_DELETE_OF_ENDPOINT: Final = (
    "DELETE FROM webhook_deliveries WHERE id IN"
    " (SELECT id FROM webhook_deliveries WHERE endpoint_id = ? LIMIT ?) RETURNING id"
)
_ENDPOINTS_GONE: Final = (
    # From one endpoint of the index to the next: their deliveries in between are not read.
    "WITH RECURSIVE seen(id) AS (SELECT min(endpoint_id) FROM webhook_deliveries UNION ALL"
    " SELECT (SELECT min(endpoint_id) FROM webhook_deliveries WHERE endpoint_id > seen.id) FROM seen"
    " WHERE seen.id IS NOT NULL)"
    " SELECT id FROM seen WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM webhook_endpoints)"
)
_PENDING_OF_DISABLED: Final = (
    "SELECT id FROM webhook_endpoints AS endpoint WHERE disabled IS NOT NULL AND EXISTS"
    " (SELECT 1 FROM webhook_deliveries WHERE endpoint_id = endpoint.id AND status = 'pending')"
)


def _delivery(row: Sequence[Any]) -> Delivery:
    return Delivery(**dict(zip(_COLUMNS, (row[at] for at in range(len(_COLUMNS))), strict=True)))
