"""Outgoing webhooks as they are kept: the endpoints, and the outbox into which a change writes what it has to say."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec

from app.errors import InvalidRequest, NotFound
from app.rules.times import rfc3339
from app.store import schema
from app.store.db import Database, Script
from app.store.dialect import Dialect, Statement
from app.store.ids import new_id, now_ms

POSITIONS_OF_A_VERSION: Final = 1_000
"""Positions for each version of a wallet: more than one change of it has to say."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Something that endpoints are told.

    Args:
        id: the `webhook-id` of all its deliveries.
        type: one of `NOTICE_TYPES`, or `webhook.test`.
        customer_id: whose wallet says it; '' for what is of no wallet.
        position: orders what one wallet says, as `position_of` makes it.
        data: the facts, as the contract shows them.
        at: when it happened, in milliseconds since 1970.

    """

    id: str
    type: str
    customer_id: str
    position: int
    data: dict[str, Any]
    at: int


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where messages go. Times are in milliseconds since 1970.

    Args:
        id: `whe_…`.
        url: what they are posted to.
        events: the types that it listens to; `("*",)` for all.
        description: its operator's note.
        secret: signs what is sent.
        former_secret: signs beside it until `former_until`.
        former_until: when a rotation ends.
        disabled: why nothing is sent to it, None where it is.
        failing_since: when it first failed after its last success, None where it did not.
        created_at: when it was made.
        updated_at: when it was last changed by hand.

    """

    id: str
    url: str
    events: tuple[str, ...]
    description: str | None = None
    secret: str
    former_secret: str | None = None
    former_until: int | None = None
    disabled: str | None = None
    failing_since: int | None = None
    created_at: int
    updated_at: int


class EndpointChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is changed of an endpoint; what is UNSET stays."""

    url: str | msgspec.UnsetType = msgspec.UNSET
    events: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    description: str | None | msgspec.UnsetType = msgspec.UNSET
    disabled: str | None | msgspec.UnsetType = msgspec.UNSET


class _Body(msgspec.Struct, frozen=True):
    """What is sent."""

    type: str
    timestamp: str
    data: dict[str, Any]


class _Row(msgspec.Struct, frozen=True):
    """A message on its way into the database."""

    id: str
    tail: str
    type: str
    wanted: str
    customer_id: str
    position: int
    payload: str
    at: int


_encode: Final = msgspec.json.Encoder().encode


def position_of(version: int, number: int) -> int:
    """Where a message stands among what its wallet says.

    Args:
        version: the wallet's, as of what happened.
        number: which of that version's messages, from 0, below `POSITIONS_OF_A_VERSION`.

    """
    return version * POSITIONS_OF_A_VERSION + number


def deliveries_of(dialect: Dialect, messages: Sequence[Message]) -> Statement:
    """The statement that writes messages into the outbox: a delivery for each endpoint that listens, none for none.

    A message that is there already is left as it is.
    """
    return _write_deliveries(dialect), (_encode([_row(message) for message in messages]).decode(),)


def delivery_to(dialect: Dialect, message: Message, endpoint_id: str) -> Statement:
    """The statement that writes a message for one endpoint alone, whatever that listens to; it answers with its id."""
    return _write_to_one(dialect), (_encode([_row(message)]).decode(), endpoint_id)


def _row(message: Message) -> _Row:
    return _Row(
        id=message.id,
        tail=message.id.partition("_")[2] or message.id,
        type=message.type,
        wanted=f"% {message.type} %",
        customer_id=message.customer_id,
        position=message.position,
        payload=_encode(_Body(message.type, rfc3339(message.at), message.data)).decode(),
        at=message.at,
    )


def _write(dialect: Dialect, which: str) -> str:
    columns = "id, endpoint_id, message_id, customer_id, position, type, payload, status, attempts, next_at, created_at"
    at = "CAST(message.value ->> 'at' AS bigint)"
    return (
        f"INSERT INTO webhook_deliveries ({columns})"
        " SELECT 'del_' || (message.value ->> 'tail') || '_' || substr(endpoint.id, 5), endpoint.id,"
        " message.value ->> 'id', message.value ->> 'customer_id', CAST(message.value ->> 'position' AS bigint),"
        f" message.value ->> 'type', message.value ->> 'payload', 'pending', 0, {at}, {at}"
        f" FROM {dialect.json_values('?')} AS message JOIN webhook_endpoints AS endpoint ON {which}"
        " WHERE endpoint.disabled IS NULL ON CONFLICT (id) DO NOTHING"
    )


@cache
def _write_deliveries(dialect: Dialect) -> str:
    return _write(dialect, "endpoint.events = ' * ' OR endpoint.events LIKE (message.value ->> 'wanted')")


@cache
def _write_to_one(dialect: Dialect) -> str:
    return f"{_write(dialect, 'endpoint.id = ?')} RETURNING id"


_FAIL_PENDING: Final = (
    "UPDATE webhook_deliveries SET status = 'failed', ended_at = ?, error = ? WHERE id IN"
    " (SELECT id FROM webhook_deliveries WHERE endpoint_id = ? AND status = 'pending' LIMIT ?) RETURNING id"
)
_NO_ENDPOINT: Final = "There is no webhook endpoint of this id."
_COLUMNS: Final = Endpoint.__struct_fields__
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM webhook_endpoints"
_INSERT: Final = f"INSERT INTO webhook_endpoints ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


async def create_endpoint(
    db: Database, *, url: str, events: Sequence[str], description: str | None, secret: str, most: int
) -> Endpoint:
    """Makes an endpoint.

    Args:
        db: where to.
        url: what is posted to.
        events: types, or `*` alone.
        description: its operator's note.
        secret: signs what is sent.
        most: how many there may be.

    Raises:
        InvalidRequest: there are as many.

    """
    now = now_ms()
    made = Endpoint(
        id=new_id("whe", ""),
        url=url,
        events=tuple(events),
        description=description,
        secret=secret,
        created_at=now,
        updated_at=now,
    )

    def script() -> Script[None]:
        # The lock lets one process at a time count them.
        yield f"SELECT 1 FROM instance WHERE id = 1{db.dialect.for_update()}", ()
        [[count]] = yield "SELECT count(*) FROM webhook_endpoints", ()
        if count >= most:
            raise InvalidRequest(f"There may be {most} webhook endpoints at most.", field="url")
        yield _INSERT, _endpoint_row(made)

    await db.transact(script)
    return made


async def list_endpoints(db: Database) -> list[Endpoint]:
    """Every endpoint, oldest first."""
    # As text: the deliverer asks often, and a query that is built is compiled each time.
    rows = await db.fetch_all(f"{_SELECT} ORDER BY id")
    return [_endpoint(row) for row in rows]


async def find_endpoint(db: Database, endpoint_id: str) -> Endpoint:
    """An endpoint by its id.

    Raises:
        NotFound: there is none.

    """
    table = schema.webhook_endpoints
    row = await db.fetch_one(table.select().where(table.c.id == endpoint_id))
    if row is None:
        raise NotFound(_NO_ENDPOINT)
    return _endpoint(row)


async def change_endpoint(db: Database, endpoint_id: str, change: EndpointChange, *, swept_at_once: int) -> Endpoint:
    """Changes an endpoint. One that is disabled or enabled begins anew: what it had failed for is forgotten.

    Args:
        db: where it is.
        endpoint_id: which.
        change: what.
        swept_at_once: how many of its pending deliveries fail at once where it is disabled; upkeep does the rest.

    Raises:
        NotFound: there is none.

    """
    changed = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not msgspec.UNSET}

    def script() -> Script[Endpoint]:
        former = yield from _locked(db.dialect, endpoint_id)
        # Whoever enables what is enabled says nothing new of its failures.
        if "disabled" in changed and (former.disabled is None) != (changed["disabled"] is None):
            changed["failing_since"] = None
        else:
            changed.pop("disabled", None)
        now = now_ms()
        made = msgspec.structs.replace(former, **changed, updated_at=now)
        yield from _put(made)
        if made.disabled is not None and former.disabled is None:
            yield fail_pending(endpoint_id, made.disabled, now, swept_at_once)
        return made

    return await db.transact(script)


async def rotate_secret(db: Database, endpoint_id: str, secret: str, overlap_seconds: int) -> Endpoint:
    """Gives an endpoint another secret; the one before signs beside it for a while.

    Args:
        db: where it is.
        endpoint_id: which.
        secret: the new one.
        overlap_seconds: how long both sign; with 0 the one before ends now.

    Raises:
        NotFound: there is none.

    """

    def script() -> Script[Endpoint]:
        former = yield from _locked(db.dialect, endpoint_id)
        now = now_ms()
        made = msgspec.structs.replace(
            former,
            secret=secret,
            former_secret=former.secret if overlap_seconds else None,
            former_until=now + overlap_seconds * 1000 if overlap_seconds else None,
            updated_at=now,
        )
        yield from _put(made)
        return made

    return await db.transact(script)


async def delete_endpoint(db: Database, endpoint_id: str) -> None:
    """Ends an endpoint. Nothing is sent to it any more, and upkeep takes its deliveries away.

    Raises:
        NotFound: there is none.

    """

    def script() -> Script[None]:
        gone = yield "DELETE FROM webhook_endpoints WHERE id = ? RETURNING id", (endpoint_id,)
        if not gone:
            raise NotFound(_NO_ENDPOINT)

    await db.transact(script)


def fail_pending(endpoint_id: str, reason: str, now: int, most: int) -> Statement:
    """The statement that gives up what an endpoint has not been sent yet; it answers with their ids.

    Args:
        endpoint_id: whose.
        reason: kept as each one's error.
        now: milliseconds since 1970.
        most: how many.

    """
    return _FAIL_PENDING, (now, f"The endpoint is disabled. {reason}", endpoint_id, most)


def _locked(dialect: Dialect, endpoint_id: str) -> Script[Endpoint]:
    rows = yield f"{_SELECT} WHERE id = ?{dialect.for_update()}", (endpoint_id,)
    if not rows:
        raise NotFound(_NO_ENDPOINT)
    return _endpoint(rows[0])


def _put(endpoint: Endpoint) -> Script[None]:
    sets = ", ".join(f"{name} = ?" for name in _COLUMNS[1:])
    yield f"UPDATE webhook_endpoints SET {sets} WHERE id = ?", (*_endpoint_row(endpoint)[1:], endpoint.id)


def _endpoint_row(endpoint: Endpoint) -> list[Any]:
    row = msgspec.structs.asdict(endpoint) | {"events": f" {' '.join(endpoint.events)} "}
    return list(row.values())


def _endpoint(row: Sequence[Any]) -> Endpoint:
    columns = dict(zip(_COLUMNS, (row[at] for at in range(len(_COLUMNS))), strict=True))
    return Endpoint(**columns | {"events": tuple(columns["events"].split())})
