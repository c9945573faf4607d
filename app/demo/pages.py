"""The demo's page and what it calls: a token for its wallet, its actions, its autoplay, and how it fills itself."""

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute

from app import __version__
from app.api.auth import TOKEN_SCOPES, Access
from app.api.events import EventAnswer, event_answer
from app.api.fields import Strict
from app.api.http import Answer, Call, Route
from app.api.pages import Page
from app.api.routes import endpoints
from app.api.services import Services
from app.api.wallets import TokenAnswer
from app.demo.auto_top_up import AUTO_TOP_UP_ROUTES
from app.demo.autoplay import Autoplay, Speed
from app.demo.seed import CUSTOMER, NAME, action
from app.errors import InsufficientCredits, NotFound
from app.rules.times import rfc3339

_BLURBS: Final = {
    "chat.reply": "A short answer from the assistant",
    "doc.summarize": "Ten pages down to one",
    "agent.run": "Plan, search, write, check",
    "image.generate": "One picture, 1024 × 1024",
}


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """One of the demo's buttons."""

    event: str
    label: str
    credits: int
    blurb: str


class AutoplayState(msgspec.Struct, frozen=True):
    """Whether agents run, and how fast."""

    running: bool
    speed: Speed


class DemoState(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo's page begins with."""

    customer_id: str
    name: str
    stripe: str
    server: str
    actions: list[Action]
    autoplay: AutoplayState
    version: str


class ActionRequest(Strict, frozen=True, kw_only=True):
    """An action to run."""

    event: str


class AutoplayRequest(Strict, frozen=True, kw_only=True):
    """How agents should run."""

    running: bool
    speed: Speed = "normal"


def demo_routes(services: Services, autoplay: Autoplay, *, sandboxed: bool) -> Sequence[BaseRoute]:
    """The routes under `/demo`. They take no credential: whoever reaches the demo may use it."""

    async def state(call: Call) -> Answer:
        catalogue = await call.services.catalogue.fresh()
        prices = [catalogue.prices[event] for event in _BLURBS if event in catalogue.prices]
        actions = [
            Action(event=price.event, label=price.label, credits=price.credits, blurb=_BLURBS[price.event])
            for price in prices
        ]
        return Answer(
            DemoState(
                customer_id=CUSTOMER,
                name=NAME,
                stripe="sandbox" if sandboxed else "stripe",
                server=call.services.config.public_url or call.origin,
                actions=actions,
                autoplay=AutoplayState(autoplay.on, autoplay.speed),
                version=__version__,
            )
        )

    async def token(call: Call) -> Answer:
        seconds = call.services.config.limits.token_seconds_default
        minted, expires_at = call.services.auth.mint(CUSTOMER, TOKEN_SCOPES, seconds)
        no_store = ((b"cache-control", b"no-store"),)
        return Answer(TokenAnswer(minted, rfc3339(expires_at * 1000)), headers=no_store)

    async def run_action(call: Call) -> Answer:
        body: ActionRequest = call.body
        if body.event not in _BLURBS:
            raise NotFound("The demo has no such action.", event=body.event)
        outcome = await call.services.writer.submit(action(body.event))
        assert outcome.entry is not None
        return Answer(event_answer(outcome.entry), 201)

    async def set_autoplay(call: Call) -> Answer:
        body: AutoplayRequest = call.body
        autoplay.set(on=body.running, speed=body.speed)
        return Answer(AutoplayState(autoplay.on, autoplay.speed))

    table = (
        Route(method="GET", path="/demo/state", access=Access(), handler=state, summary="The demo's state"),
        Route(method="GET", path="/demo/token", access=Access(), handler=token, summary="A token for its wallet"),
        Route(
            method="POST",
            path="/demo/actions",
            access=Access(),
            handler=run_action,
            summary="Run an action",
            request=ActionRequest,
            answers={201: EventAnswer},
            errors=(InsufficientCredits,),
        ),
        Route(
            method="PUT",
            path="/demo/autoplay",
            access=Access(),
            handler=set_autoplay,
            summary="Start and stop agents",
            request=AutoplayRequest,
            answers={200: AutoplayState},
        ),
        *AUTO_TOP_UP_ROUTES,
    )
    pages = (StarletteRoute("/", RedirectResponse("/demo")), StarletteRoute("/demo", Page("demo.html")))
    return [*pages, *endpoints(table, services)]
