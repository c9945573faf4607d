"""Many events in one call: each stands alone, and the call may be sent again where every event has its key."""

from typing import Annotated, Any, Final

import msgspec

from app.api.auth import Access
from app.api.bodies import decode_json
from app.api.events import EventAnswer, EventRequest, event_answer, event_operation, with_top_up_url
from app.api.fields import Strict
from app.api.http import Answer, Call, Route, check_key, request_hash
from app.config import BATCH_EVENTS_MAX
from app.errors import ChargeError, InsufficientCredits, InvalidJSON, InvalidRequest
from app.rules.operations import Event
from app.store.writer import Result

_SINGLE: Final = ("POST", "/v1/events")
"""An event is the same request alone and in a batch, so its key finds it either way."""
_decoder: Final = msgspec.json.Decoder(EventRequest)


class BatchRequest(Strict, frozen=True):
    """Events in the order in which they happened; each is read by itself."""

    events: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=BATCH_EVENTS_MAX)]


class ItemAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event: 201 with the event, or a refusal's status with its error."""

    status: int
    event: EventAnswer | msgspec.UnsetType = msgspec.UNSET
    error: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    replayed: bool | msgspec.UnsetType = msgspec.UNSET


class BatchAnswer(msgspec.Struct, frozen=True):
    """A result for each event, in order."""

    results: list[ItemAnswer]
    accepted: int
    rejected: int


async def create_events(call: Call) -> Answer:
    """Deducts up to a thousand events, in one commit where the database takes it."""
    if b"idempotency-key" in call.headers:
        raise InvalidRequest(
            "A batch takes no Idempotency-Key header: give each event its own idempotency_key.",
            field="idempotency_key",
        )
    body: BatchRequest = call.body
    read = [_read(call, raw, f"events[{number}]") for number, raw in enumerate(body.events)]
    operations = [one for one in read if isinstance(one, Event)]
    results = iter(await call.services.writer.submit_all(operations) if operations else ())
    items = [_item(call, next(results) if isinstance(one, Event) else one) for one in read]
    accepted = sum(item.status == 201 for item in items)
    return Answer(BatchAnswer(items, accepted, len(items) - accepted))


def _read(call: Call, raw: msgspec.Raw, where: str) -> Event | ChargeError:
    """What one event asks of the ledger, or why it is none; a refusal's field is told from the call's body."""
    try:
        body = decode_json(_decoder, bytes(raw))
        key = body.idempotency_key
        if key is not None:
            check_key(key)
        return event_operation(call, body, key, None if key is None else request_hash(*_SINGLE, body))
    except InvalidRequest as error:
        field = error.facts["field"]
        error.facts["field"] = where if field == "body" else f"{where}.{field}"
        return error
    except InvalidJSON as error:
        return error


def _item(call: Call, result: Result) -> ItemAnswer:
    if isinstance(result, ChargeError):
        if isinstance(result, InsufficientCredits):
            with_top_up_url(result, call)
        return ItemAnswer(status=result.status, error=result.body()["error"])
    assert result.entry is not None
    return ItemAnswer(status=201, event=event_answer(result.entry), replayed=True if result.replayed else msgspec.UNSET)


ROUTES = (
    Route(
        method="POST",
        path="/v1/events/batch",
        access=Access("meter"),
        handler=create_events,
        summary="Deduct many events",
        request=BatchRequest,
        answers={200: BatchAnswer},
        body_limit="batch_body_bytes_max",
    ),
)
