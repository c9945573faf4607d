"""What an event costs its operator, where it does not say so by itself; in versions that never change."""

from typing import Annotated

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Name, Strict
from app.api.http import Answer, Call, Route
from app.config import Limits
from app.errors import InvalidRequest, NotFound, VersionConflict
from app.rules.times import rfc3339
from app.store.costs import CostDraft, CostVersion


class CostRequest(Strict, frozen=True, kw_only=True):
    """A new version of a cost: dollars for one unit as text, and for one unit by a model's name."""

    cost_usd: str | None = None
    per_model: dict[Name, str] = {}
    expected_version: Annotated[int, msgspec.Meta(ge=0)] | None = None


class CostAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a cost. One that is `archived` ends it."""

    event: str
    version: int
    cost_usd: str | None
    per_model: dict[str, str]
    archived: bool
    created_at: str


class CostsAnswer(msgspec.Struct, frozen=True):
    """The costs in force."""

    costs: list[CostAnswer]


class CostVersionsAnswer(msgspec.Struct, frozen=True):
    """Every version of a cost, newest first."""

    versions: list[CostAnswer]


def cost_answer(cost: CostVersion) -> CostAnswer:
    """A cost as the contract shows it."""
    return CostAnswer(
        event=cost.event,
        version=cost.version,
        cost_usd=fields.usd(cost.nanos),
        per_model={model: fields.dollars(nanos) for model, nanos in cost.per_model.items()},
        archived=cost.archived,
        created_at=rfc3339(cost.created_at),
    )


async def list_costs(call: Call) -> Answer:
    """The costs in force."""
    return Answer(CostsAnswer([cost_answer(cost) for cost in await call.services.costs.costs()]))


async def read_cost(call: Call) -> Answer:
    """An event's cost in force."""
    return Answer(cost_answer(await call.services.costs.cost(_event(call))))


async def list_versions(call: Call) -> Answer:
    """Every version that an event's cost has had."""
    versions = await call.services.costs.versions(_event(call))
    if not versions:
        raise NotFound("Nothing was ever known of what this event costs.")
    return Answer(CostVersionsAnswer([cost_answer(version) for version in versions]))


async def put_cost(call: Call) -> Answer:
    """Makes a new version of a cost, for the events from now on."""
    body: CostRequest = call.body
    draft = draft_of(_event(call), body, call.services.config.limits)
    expected = {} if body.expected_version is None else {draft.event: body.expected_version}
    [made] = await call.services.costs.put_costs([draft], expected=expected, actor=call.actor)
    return Answer(cost_answer(made), 201 if made.version == 1 else 200)


def draft_of(event: str, cost: CostRequest, limits: Limits) -> CostDraft:
    """The cost that somebody sets, checked.

    Raises:
        InvalidRequest: names the field.

    """
    if len(cost.per_model) > limits.models_per_price_max:
        raise InvalidRequest(f"per_model: {limits.models_per_price_max} models at most.", field="per_model")
    if cost.cost_usd is None and not cost.per_model:
        raise InvalidRequest("cost_usd: the cost of a unit, or per_model the cost by model.", field="cost_usd")
    per_model = {}
    for model, text in cost.per_model.items():
        fields.printable(model, "per_model")
        per_model[model] = fields.nanos_of(text, f"per_model.{model}")
    return CostDraft(event=event, nanos=fields.usd_nanos(cost.cost_usd), per_model=per_model)


async def archive_cost(call: Call) -> Answer:
    """Ends an event's cost; events before keep theirs."""
    await call.services.costs.archive_cost(_event(call), actor=call.actor)
    return Answer(b"", 204)


def _event(call: Call) -> str:
    return fields.event_name(call.params["event"], flat_rate=True)


_ACCESS = Access("prices")

ROUTES = (
    Route(
        method="GET",
        path="/v1/costs",
        access=_ACCESS,
        handler=list_costs,
        summary="List costs",
        answers={200: CostsAnswer},
    ),
    Route(
        method="GET",
        path="/v1/costs/{event}",
        access=_ACCESS,
        handler=read_cost,
        summary="Read a cost",
        answers={200: CostAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="PUT",
        path="/v1/costs/{event}",
        access=_ACCESS,
        handler=put_cost,
        summary="Make a new version of a cost",
        request=CostRequest,
        answers={200: CostAnswer, 201: CostAnswer},
        errors=(VersionConflict,),
    ),
    Route(
        method="DELETE",
        path="/v1/costs/{event}",
        access=_ACCESS,
        handler=archive_cost,
        summary="Archive a cost",
        answers={204: None},
        errors=(NotFound,),
    ),
    Route(
        method="GET",
        path="/v1/costs/{event}/versions",
        access=_ACCESS,
        handler=list_versions,
        summary="List a cost's versions",
        answers={200: CostVersionsAnswer},
        errors=(NotFound,),
    ),
)
