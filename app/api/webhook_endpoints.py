"""Where your backend is told of what happens: its webhook endpoints, and what was delivered to them."""

import difflib
from typing import Annotated, Any, Final, get_args
from urllib.parse import urlsplit

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Strict
from app.api.http import Answer, Call, Route
from app.config import LIMITS
from app.errors import InvalidRequest, NotFound
from app.rules.notices import NOTICE_TYPES
from app.rules.times import rfc3339
from app.store import deliveries, webhooks
from app.store.deliveries import Delivery, DeliveryStatus
from app.store.webhooks import Endpoint, EndpointChange
from app.webhooks.addresses import is_public
from app.webhooks.signing import new_secret

_URL_CHARACTERS_MAX: Final = 2_000
_ALL: Final = "*"
_BY_HAND: Final = "It was disabled by hand."
_STATUSES: Final[tuple[str, ...]] = get_args(DeliveryStatus)

Description = Annotated[str, msgspec.Meta(max_length=500)]
OverlapSeconds = Annotated[int, msgspec.Meta(ge=0, le=LIMITS.webhook_secret_overlap_seconds_max)]


class EndpointRequest(Strict, frozen=True, kw_only=True):
    """Where messages of some types go: `events` are types, or `*` alone for all."""

    url: str
    events: list[str]
    description: Description | None = None


class EndpointPatch(Strict, frozen=True, kw_only=True):
    """What is changed; what is left out stays."""

    url: str | msgspec.UnsetType = msgspec.UNSET
    events: list[str] | msgspec.UnsetType = msgspec.UNSET
    description: Description | None | msgspec.UnsetType = msgspec.UNSET
    enabled: bool | msgspec.UnsetType = msgspec.UNSET


class RotateRequest(Strict, frozen=True, kw_only=True):
    """How long the secret before signs beside the new one."""

    overlap_seconds: OverlapSeconds = LIMITS.webhook_secret_overlap_seconds_default


class EndpointAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint. Where it is not enabled, `disabled_reason` says why; `failing_since` is null once one arrives."""

    id: str
    url: str
    events: tuple[str, ...]
    description: str | None
    enabled: bool
    disabled_reason: str | None
    failing_since: str | None
    former_secret_until: str | None
    created_at: str
    updated_at: str


class NewEndpointAnswer(EndpointAnswer, frozen=True, kw_only=True):
    """An endpoint with its `secret`, which is shown this once."""

    secret: str


class EndpointsAnswer(msgspec.Struct, frozen=True):
    """Every endpoint, oldest first."""

    webhook_endpoints: list[EndpointAnswer]


class DeliveryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one endpoint: `webhook_id` is the message's, `payload` the body as it is sent."""

    id: str
    endpoint_id: str
    webhook_id: str
    type: str
    customer_id: str | None
    status: DeliveryStatus
    attempts: int
    next_attempt_at: str | None
    answer_status: int | None
    error: str | None
    payload: msgspec.Raw
    created_at: str
    ended_at: str | None


class DeliveriesAnswer(msgspec.Struct, frozen=True):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryAnswer]
    next_cursor: str | None


def endpoint_answer(endpoint: Endpoint) -> EndpointAnswer:
    """An endpoint as the contract shows it."""
    return EndpointAnswer(**_shown(endpoint))


def _shown(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": endpoint.events,
        "description": endpoint.description,
        "enabled": endpoint.disabled is None,
        "disabled_reason": endpoint.disabled,
        "failing_since": _time(endpoint.failing_since),
        "former_secret_until": _time(endpoint.former_until),
        "created_at": rfc3339(endpoint.created_at),
        "updated_at": rfc3339(endpoint.updated_at),
    }


def delivery_answer(delivery: Delivery) -> DeliveryAnswer:
    """A delivery as the contract shows it."""
    return DeliveryAnswer(
        id=delivery.id,
        endpoint_id=delivery.endpoint_id,
        webhook_id=delivery.message_id,
        type=delivery.type,
        customer_id=delivery.customer_id or None,
        status=delivery.status,
        attempts=delivery.attempts,
        next_attempt_at=rfc3339(delivery.next_at) if delivery.status == "pending" else None,
        answer_status=delivery.answer_status,
        error=delivery.error,
        payload=msgspec.Raw(delivery.payload.encode()),
        created_at=rfc3339(delivery.created_at),
        ended_at=_time(delivery.ended_at),
    )


def _time(at: int | None) -> str | None:
    return None if at is None else rfc3339(at)


async def create_endpoint(call: Call) -> Answer:
    """Makes an endpoint. Its secret is shown this once."""
    body: EndpointRequest = call.body
    secret = new_secret()
    made = await webhooks.create_endpoint(
        call.services.db,
        url=_url(call, body.url),
        events=_events(body.events),
        description=fields.printable(body.description, "description"),
        secret=secret,
        most=call.services.config.limits.webhook_endpoints_max,
    )
    return Answer(_with_secret(made), 201)


async def list_endpoints(call: Call) -> Answer:
    """Every endpoint."""
    found = await webhooks.list_endpoints(call.services.db)
    return Answer(EndpointsAnswer([endpoint_answer(endpoint) for endpoint in found]))


async def read_endpoint(call: Call) -> Answer:
    """An endpoint, without its secret."""
    return Answer(endpoint_answer(await webhooks.find_endpoint(call.services.db, _id(call))))


async def change_endpoint(call: Call) -> Answer:
    """Changes an endpoint. One that is disabled is sent nothing, and what waited for it has failed."""
    body: EndpointPatch = call.body
    unset = msgspec.UNSET
    change = EndpointChange(
        url=unset if body.url is unset else _url(call, body.url),
        events=unset if body.events is unset else _events(body.events),
        description=unset if body.description is unset else fields.printable(body.description, "description"),
        disabled=unset if body.enabled is unset else None if body.enabled else _BY_HAND,
    )
    swept = call.services.config.limits.deliveries_swept_at_once
    return Answer(
        endpoint_answer(await webhooks.change_endpoint(call.services.db, _id(call), change, swept_at_once=swept))
    )


async def delete_endpoint(call: Call) -> Answer:
    """Ends an endpoint and takes its deliveries away."""
    await webhooks.delete_endpoint(call.services.db, _id(call))
    return Answer(b"", 204)


async def rotate_secret(call: Call) -> Answer:
    """Gives an endpoint another secret, shown this once. For a while both sign."""
    body: RotateRequest = call.body
    made = await webhooks.rotate_secret(call.services.db, _id(call), new_secret(), body.overlap_seconds)
    return Answer(_with_secret(made))


async def list_deliveries(call: Call) -> Answer:
    """What was sent to an endpoint, and what waits, newest first."""
    status = call.query.get("status")
    if status is not None and status not in _STATUSES:
        raise InvalidRequest(f"status: one of {', '.join(_STATUSES)}.", field="status")
    endpoint = await webhooks.find_endpoint(call.services.db, _id(call))
    found, following = await deliveries.list_deliveries(
        call.services.db,
        endpoint.id,
        status=status,  # type: ignore[arg-type] # it was just checked
        limit=fields.limit(call),
        before=_position(fields.cursor(call)),
    )
    cursor = fields.make_cursor(None if following is None else f"{following[0]} {following[1]}")
    return Answer(DeliveriesAnswer([delivery_answer(one) for one in found], cursor))


async def retry_delivery(call: Call) -> Answer:
    """Sends a delivery again now, under the same `webhook-id`."""
    sent = await deliveries.retry(call.services.db, _id(call), call.params["delivery_id"])
    return Answer(delivery_answer(sent), 202)


async def send_test(call: Call) -> Answer:
    """Sends a message of the type `webhook.test` to this endpoint alone, in the way that all go."""
    return Answer(delivery_answer(await deliveries.write_test(call.services.db, _id(call))), 202)


def _with_secret(endpoint: Endpoint) -> NewEndpointAnswer:
    return NewEndpointAnswer(**_shown(endpoint), secret=endpoint.secret)


def _id(call: Call) -> str:
    return call.params["endpoint_id"]


def _position(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    at, _, delivery_id = cursor.partition(" ")
    if not (at.isascii() and at.isdigit() and len(at) <= 16):
        raise InvalidRequest("cursor: take it from next_cursor as it is.", field="cursor")
    return int(at), delivery_id


def _events(events: list[str]) -> tuple[str, ...]:
    """Types to listen to, checked."""
    if not events:
        raise InvalidRequest(f"events: at least one type, or {_ALL!r} alone for all.", field="events")
    for place, event in enumerate(events):
        if event != _ALL and event not in NOTICE_TYPES:
            raise _unknown(event, f"events[{place}]")
    if _ALL in events and len(events) > 1:
        raise InvalidRequest(f"events: {_ALL!r} is every type, and stands alone.", field="events")
    return tuple(dict.fromkeys(events))


def _unknown(event: str, field: str) -> InvalidRequest:
    near = difflib.get_close_matches(event, NOTICE_TYPES, n=1)
    if near:
        return InvalidRequest(
            f"{field}: there is no type {event[:100]!r}; did you mean {near[0]!r}?", field=field, did_you_mean=near[0]
        )
    return InvalidRequest(f"{field}: one of {', '.join(NOTICE_TYPES)}, or '*' alone.", field=field)


def _url(call: Call, url: str) -> str:
    """An address to post to, checked as far as it can be before its name is resolved."""
    private = call.services.config.webhook_private_targets
    if len(url) > _URL_CHARACTERS_MAX:
        raise InvalidRequest(f"url: {_URL_CHARACTERS_MAX} characters at most.", field="url")
    try:
        split = urlsplit(url)
        host, _ = split.hostname, split.port
    except ValueError:
        host = None
    is_web = bool(host) and split.scheme in ("http", "https")
    if not is_web or not host or not url.isascii() or not url.isprintable() or set(url) & set(" \\"):
        raise InvalidRequest("url: an address such as https://example.com/webhooks, in ASCII.", field="url")
    if "@" in split.netloc:
        raise InvalidRequest("url: without a user or password; messages are signed instead.", field="url")
    if "#" in url:
        raise InvalidRequest("url: without a fragment, which is never sent.", field="url")
    if not private:
        _check_public(split.scheme, host)
    return url


def _check_public(scheme: str, host: str) -> None:
    if scheme != "https":
        raise InvalidRequest(
            "url: https:// only; CHARGLY_WEBHOOK_PRIVATE_TARGETS=true lets http:// pass too.", field="url"
        )
    name = host.rstrip(".")
    is_address = ":" in host or all(part.isdigit() or part.startswith("0x") for part in name.split("."))
    if name == "localhost" or name.endswith(".localhost") or (is_address and not is_public(host)):
        raise InvalidRequest(
            "url: it must lie on the internet; CHARGLY_WEBHOOK_PRIVATE_TARGETS=true lets it be elsewhere.", field="url"
        )


_ADMIN: Final = Access("admin")
_PATH: Final = "/v1/webhook-endpoints"
_ONE: Final = f"{_PATH}/{{endpoint_id}}"

ROUTES = (
    Route(
        method="POST",
        path=_PATH,
        access=_ADMIN,
        handler=create_endpoint,
        summary="Make a webhook endpoint",
        request=EndpointRequest,
        answers={201: NewEndpointAnswer},
    ),
    Route(
        method="GET",
        path=_PATH,
        access=_ADMIN,
        handler=list_endpoints,
        summary="List webhook endpoints",
        answers={200: EndpointsAnswer},
    ),
    Route(
        method="GET",
        path=_ONE,
        access=_ADMIN,
        handler=read_endpoint,
        summary="Read a webhook endpoint",
        answers={200: EndpointAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="PATCH",
        path=_ONE,
        access=_ADMIN,
        handler=change_endpoint,
        summary="Change, disable or enable a webhook endpoint",
        request=EndpointPatch,
        answers={200: EndpointAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="DELETE",
        path=_ONE,
        access=_ADMIN,
        handler=delete_endpoint,
        summary="Delete a webhook endpoint",
        answers={204: None},
        errors=(NotFound,),
    ),
    Route(
        method="POST",
        path=f"{_ONE}/rotate",
        access=_ADMIN,
        handler=rotate_secret,
        summary="Rotate a webhook endpoint's secret",
        request=RotateRequest,
        optional_body=True,
        answers={200: NewEndpointAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="POST",
        path=f"{_ONE}/test",
        access=_ADMIN,
        handler=send_test,
        summary="Send a test message to a webhook endpoint",
        answers={202: DeliveryAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="GET",
        path=f"{_ONE}/deliveries",
        access=_ADMIN,
        handler=list_deliveries,
        summary="List a webhook endpoint's deliveries",
        query=("status", "limit", "cursor"),
        answers={200: DeliveriesAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="POST",
        path=f"{_ONE}/deliveries/{{delivery_id}}/retry",
        access=_ADMIN,
        handler=retry_delivery,
        summary="Send a delivery again",
        answers={202: DeliveryAnswer},
        errors=(NotFound,),
    ),
)
