"""A bare Starlette app: an event is read and answered in the contract's shape, and nothing is kept."""

import time

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api.events import EventAnswer, EventRequest
from app.rules.times import rfc3339

PRICE_CREDITS = 8
_decode = msgspec.json.Decoder(EventRequest).decode
_encode = msgspec.json.Encoder().encode


def event_response(asked: EventRequest, event_id: str, balance: int, version: int) -> Response:
    """The answer to an event that cost `PRICE_CREDITS`; `balance` is the wallet's in credits after it."""
    answer = EventAnswer(
        id=event_id,
        customer_id=asked.customer_id,
        event=asked.event,
        label="Chat reply",
        model=None,
        member=None,
        quantity=asked.quantity,
        unit_credits=PRICE_CREDITS,
        credits=PRICE_CREDITS,
        price_version=1,
        balance=balance,
        held=0,
        available=balance,
        version=version,
        created_at=rfc3339(time.time_ns() // 1_000_000),
        metadata=asked.metadata,
    )
    return Response(_encode(answer), 201, media_type="application/json")


async def event_request(request: Request) -> EventRequest:
    """The event that a request asks to deduct."""
    return _decode(await request.body())


async def _create_event(request: Request) -> Response:
    return event_response(await event_request(request), "evt_06h0pf4wk7dr5phjcrx1rp5tzz", 1_000_000, 2)


async def ready(_request: Request) -> Response:
    """The app answers."""
    return Response()


app = Starlette(routes=[Route("/v1/events", _create_event, methods=["POST"]), Route("/", ready)])
