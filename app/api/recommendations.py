"""Advice on prices: it explains itself, and changes nothing until somebody applies it."""

from collections.abc import Mapping
from typing import Annotated, Any, get_args

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Reason, Strict
from app.api.http import Answer, Call, Route
from app.errors import InvalidRequest, NotFound, RecommendationNotOpen
from app.rules.advisor import TARGET_MARGIN_PERCENT_MAX
from app.rules.times import rfc3339
from app.store.recommendations import Advice, Status


class AdviceRequest(Strict, frozen=True, kw_only=True):
    """What advice is to aim at, by the usage of the last days."""

    target_margin_percent: Annotated[int, msgspec.Meta(ge=0, le=TARGET_MARGIN_PERCENT_MAX)] = 50
    days: Annotated[int, msgspec.Meta(ge=1, le=366)] = 30


class RejectRequest(Strict, frozen=True, kw_only=True):
    """Why a recommendation is not followed."""

    reason: Reason | None = None


class ApplyRequest(Strict, frozen=True, kw_only=True):
    """Nothing has to be said."""


class RecommendationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the price of one event should be, and why. Every number of the `reason` is in the `facts`."""

    id: str
    event: str
    kind: str
    current_credits: int
    recommended_credits: int
    per_model: Mapping[str, int]
    reason: str
    confidence: str
    estimated_lift_usd: str
    version_from: int
    version_to: int | None
    status: str
    facts: Mapping[str, Any]
    created_at: str
    decided_at: str | None
    decided_by: str | None
    decided_because: str | None


class AppliedAnswer(RecommendationAnswer, frozen=True, kw_only=True):
    """A recommendation that is applied, and the version of the price that it made."""

    new_version: int


class WithheldAnswer(msgspec.Struct, frozen=True):
    """An event that there is no advice on, and why."""

    event: str
    reason: str


class MadeAnswer(msgspec.Struct, frozen=True):
    """The recommendations that are open, and the events that there is none on."""

    recommendations: list[RecommendationAnswer]
    withheld: list[WithheldAnswer]


class RecommendationsAnswer(msgspec.Struct, frozen=True):
    """A page of recommendations, newest first."""

    recommendations: list[RecommendationAnswer]
    next_cursor: str | None


def _fields(advice: Advice) -> dict[str, Any]:
    same = {name: getattr(advice, name) for name in Advice.__struct_fields__ if name != "estimated_lift_nanos"}
    return same | {
        "estimated_lift_usd": fields.dollars(advice.estimated_lift_nanos),
        "created_at": rfc3339(advice.created_at),
        "decided_at": None if advice.decided_at is None else rfc3339(advice.decided_at),
    }


async def make_recommendations(call: Call) -> Answer:
    """Advises on the prices in force; what is open and the same is not made twice."""
    body: AdviceRequest = call.body
    made, withheld = await call.services.recommendations.make(
        target_margin_percent=body.target_margin_percent, days=body.days
    )
    return Answer(
        MadeAnswer(
            [RecommendationAnswer(**_fields(one)) for one in made],
            [WithheldAnswer(one.event, one.reason) for one in withheld],
        )
    )


async def list_recommendations(call: Call) -> Answer:
    """A page of recommendations."""
    status = call.query.get("status")
    known: tuple[Status, ...] = get_args(Status)
    if status is not None and status not in known:
        raise InvalidRequest(f"status: one of {', '.join(known)}.", field="status")
    event = call.query.get("event")
    found, following = await call.services.recommendations.page(
        event=None if event is None else fields.event_name(event),
        status=next((one for one in known if one == status), None),
        limit=fields.limit(call),
        before=fields.cursor(call),
    )
    return Answer(
        RecommendationsAnswer([RecommendationAnswer(**_fields(one)) for one in found], fields.make_cursor(following))
    )


async def read_recommendation(call: Call) -> Answer:
    """One recommendation."""
    return Answer(RecommendationAnswer(**_fields(await call.services.recommendations.find(_id(call)))))


async def apply_recommendation(call: Call) -> Answer:
    """Makes it the price in force, as a new version."""
    applied = await call.services.recommendations.apply(_id(call), actor=call.actor)
    assert applied.version_to is not None
    call.services.relay.publish([], call.services.catalogue.current.generation)
    return Answer(AppliedAnswer(**_fields(applied), new_version=applied.version_to))


async def reject_recommendation(call: Call) -> Answer:
    """Closes it; the price stays."""
    body: RejectRequest = call.body
    reason = fields.printable(body.reason, "reason")
    rejected = await call.services.recommendations.reject(_id(call), reason=reason, actor=call.actor)
    return Answer(RecommendationAnswer(**_fields(rejected)))


def _id(call: Call) -> str:
    id = call.params["recommendation_id"]
    if not id.startswith("rec_") or not id.isprintable():
        raise NotFound("There is no such recommendation.")
    return id


_ACCESS = Access("prices")

ROUTES = (
    Route(
        method="POST",
        path="/v1/pricing/recommendations",
        access=_ACCESS,
        handler=make_recommendations,
        summary="Advise on prices",
        request=AdviceRequest,
        optional_body=True,
        answers={200: MadeAnswer},
    ),
    Route(
        method="GET",
        path="/v1/pricing/recommendations",
        access=_ACCESS,
        handler=list_recommendations,
        summary="List recommendations",
        query=("event", "status", "limit", "cursor"),
        answers={200: RecommendationsAnswer},
    ),
    Route(
        method="GET",
        path="/v1/pricing/recommendations/{recommendation_id}",
        access=_ACCESS,
        handler=read_recommendation,
        summary="Read a recommendation",
        answers={200: RecommendationAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="POST",
        path="/v1/pricing/recommendations/{recommendation_id}/apply",
        access=_ACCESS,
        handler=apply_recommendation,
        summary="Apply a recommendation",
        request=ApplyRequest,
        optional_body=True,
        answers={200: AppliedAnswer},
        errors=(NotFound, RecommendationNotOpen),
    ),
    Route(
        method="POST",
        path="/v1/pricing/recommendations/{recommendation_id}/reject",
        access=_ACCESS,
        handler=reject_recommendation,
        summary="Reject a recommendation",
        request=RejectRequest,
        optional_body=True,
        answers={200: RecommendationAnswer},
        errors=(NotFound, RecommendationNotOpen),
    ),
)
