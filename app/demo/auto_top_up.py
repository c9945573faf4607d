"""The demo's wallet that fills itself: a switch, and the card that it needs."""

from typing import Final

import msgspec

from app.api.auth import Access
from app.api.auto_top_ups import AutoTopUpAnswer, AutoTopUpRequest, auto_top_up_answer, checked_settings, for_browsers
from app.api.fields import Strict
from app.api.http import Answer, Call, Route
from app.demo.seed import CUSTOMER
from app.errors import InvalidRequest, NotFound, StripeUnavailable
from app.rules.operations import ChangeSettings
from app.rules.wallet import AutoTopUp
from app.store import reads, stripe_customers
from app.store.ids import new_id
from app.store.reads import EntryFilter
from app.store.settled import existing_wallet

_WANTED: Final = AutoTopUpRequest(threshold=100, pack="chargly_500", monthly_limit=10_000)
_ENTRIES_READ: Final = 20


class AutoTopUpState(msgspec.Struct, frozen=True, kw_only=True):
    """How the wallet fills itself: `auto_top_up` is None where it does not.

    It would buy so many `credits`, None where their pack is not on sale. `pay_url` is where the payment that failed
    last can be made instead.
    """

    threshold: int
    credits: int | None
    currency: str | None
    card_saved: bool
    auto_top_up: AutoTopUpAnswer | None
    pay_url: str | None


class AutoTopUpSwitch(Strict, frozen=True, kw_only=True):
    """Whether the wallet should fill itself."""

    on: bool


class CardRequest(Strict, frozen=True):
    """A card to save. It has no field: JSON is what a form of another site cannot send."""


class CardAnswer(msgspec.Struct, frozen=True):
    """Where a purchase that leaves its card is paid."""

    url: str


async def _read(call: Call) -> Answer:
    services = call.services
    wallet = await existing_wallet(services.db, services.writer, CUSTOMER)
    pack = await services.catalogue.pack(_WANTED.pack)
    buyer = await stripe_customers.find(services.db, CUSTOMER)
    shown = auto_top_up_answer(wallet.auto_top_up)
    owed = shown is not None and shown.failures > 0 and shown.status in ("waiting", "stopped")
    state = AutoTopUpState(
        threshold=shown.threshold if shown else _WANTED.threshold,
        credits=pack.credits if pack else None,
        currency=pack.currency if pack else None,
        card_saved=buyer is not None and buyer.payment_method is not None,
        auto_top_up=for_browsers(shown) if shown else None,
        pay_url=await _pay_url(call) if owed else None,
    )
    return Answer(state, headers=((b"cache-control", b"no-store"),))


async def _pay_url(call: Call) -> str | None:
    """Where the last payment that failed can be made instead: what a backend is told in `top_up.failed`."""
    settings = EntryFilter(kind="settings")
    found, _ = await reads.entries(call.services.db, CUSTOMER, settings, limit=_ENTRIES_READ, before=None)
    urls = (entry.detail.get("pay_url") for entry in found if entry.detail)
    return next((str(url) for url in urls if url), None)


async def _switch(call: Call) -> Answer:
    body: AutoTopUpSwitch = call.body
    wanted: AutoTopUp | None = await checked_settings(call, CUSTOMER, _WANTED) if body.on else None
    await call.services.writer.submit(
        ChangeSettings(customer_id=CUSTOMER, id=new_id("set", CUSTOMER), actor="demo", changes={"auto_top_up": wanted})
    )
    return await _read(call)


async def _save_card(call: Call) -> Answer:
    back = f"{call.services.config.public_url or call.origin}/demo#itself"
    checkout, _ = await call.services.checkouts.create(CUSTOMER, _WANTED.pack, back, back, save_card=True)
    if checkout.url is None:
        raise StripeUnavailable
    return Answer(CardAnswer(checkout.url), 201)


AUTO_TOP_UP_ROUTES: Final = (
    Route(
        method="GET",
        path="/demo/auto-top-up",
        access=Access(),
        handler=_read,
        summary="How the wallet fills itself",
        answers={200: AutoTopUpState},
    ),
    Route(
        method="PUT",
        path="/demo/auto-top-up",
        access=Access(),
        handler=_switch,
        summary="Let the wallet fill itself, or not",
        request=AutoTopUpSwitch,
        answers={200: AutoTopUpState},
        errors=(InvalidRequest, NotFound),
    ),
    Route(
        method="POST",
        path="/demo/card",
        access=Access(),
        handler=_save_card,
        summary="Buy a pack and save the card",
        request=CardRequest,
        answers={201: CardAnswer},
        errors=(NotFound, StripeUnavailable),
    ),
)
