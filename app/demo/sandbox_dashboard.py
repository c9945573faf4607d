"""The sandbox's own dashboard: its payments, and what a seller, a buyer and their banks may do with them."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute

from app.api import fields
from app.api.auth import Access
from app.api.fields import Strict
from app.api.http import Answer, Call, Route
from app.api.pages import Page
from app.api.routes import endpoints
from app.api.services import Services
from app.demo.sandbox import PATH
from app.demo.stripe_account import StripeAccount
from app.demo.stripe_objects import StripeObject
from app.demo.stripe_refusal import StripeRefusal
from app.errors import InvalidRequest, NotFound
from app.payments.signals import HANDLED
from app.rules.times import rfc3339
from app.store import stripe_customers

_SHOWN_MAX: Final = 50
_REFUNDABLE: Final = ("paid", "partly_refunded", "inquiry", "dispute_won", "inquiry_closed")
_OF_DISPUTES: Final = {
    "needs_response": "disputed",
    "warning_needs_response": "inquiry",
    "warning_closed": "inquiry_closed",
    "won": "dispute_won",
    "lost": "dispute_lost",
}
_OF_INTENTS: Final = {
    "processing": "processing",
    "requires_payment_method": "declined",
    "canceled": "canceled",
}

Action = Literal[
    "money_arrives",
    "money_fails",
    "refund_half",
    "refund_rest",
    "fail_refund",
    "dispute",
    "inquiry",
    "escalate",
    "win",
    "lose",
]


class PaymentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as the dashboard shows it. Amounts are in minor units of `currency`."""

    id: str
    description: str
    customer_id: str | None
    method: str | None
    amount: int
    refunded: int
    currency: str
    state: str
    failure: str | None
    actions: list[Action]
    created_at: str


class MappedPack(msgspec.Struct, frozen=True, kw_only=True):
    """A pack that a subscription's price grants."""

    code: str
    name: str
    credits: int
    amount: int
    currency: str


class Dashboard(msgspec.Struct, frozen=True):
    """What the page shows."""

    payments: list[PaymentRow]
    packs: list[MappedPack]


class Done(msgspec.Struct, frozen=True):
    """What an action did: the payment as it is now, and the events that the server is told of."""

    payment: PaymentRow
    events: list[str]


class ActionRequest(Strict, frozen=True, kw_only=True):
    """What becomes of a payment."""

    action: Action


class InvoiceRequest(Strict, frozen=True, kw_only=True):
    """A subscription's invoice to be paid: for a wallet, over a pack's price."""

    customer_id: str
    pack: str


def dashboard_routes(services: Services, account: StripeAccount) -> Sequence[BaseRoute]:
    """The routes of the dashboard. They take no credential: whoever reaches the demo may use it."""

    async def show(call: Call) -> Answer:
        packs = [
            MappedPack(
                code=pack.code,
                name=pack.name,
                credits=pack.credits,
                amount=pack.amount,
                currency=pack.currency,
            )
            for pack in await call.services.catalogue.packs()
            if pack.stripe_price is not None
        ]
        payments = [row(account, intent) for intent in account.all("payment_intent")[:_SHOWN_MAX]]
        return Answer(Dashboard(payments, packs))

    async def act(call: Call) -> Answer:
        body: ActionRequest = call.body
        intent = account.one(call.params["payment_id"])
        if intent is None or intent["object"] != "payment_intent":
            raise NotFound(
                "The sandbox has no such payment; when it restarts it knows those alone that are in the ledger."
            )
        before = account.last_event
        try:
            perform(account, intent, body.action)
        except StripeRefusal as refusal:
            raise InvalidRequest(str(refusal), field="action") from refusal
        return Answer(done(account, intent["id"], before))

    async def pay_invoice(call: Call) -> Answer:
        body: InvoiceRequest = call.body
        fields.customer(body.customer_id)
        packs = {pack.code: pack for pack in await call.services.catalogue.packs()}
        pack = packs.get(body.pack)
        if pack is None or pack.stripe_price is None:
            raise InvalidRequest("No price of a subscription is mapped to this pack.", field="pack")
        known = await stripe_customers.find(call.services.db, body.customer_id)
        buyer = buyer_of(account, body.customer_id, known.stripe_customer if known else None)
        before = account.last_event
        invoice = account.pay_invoice(
            buyer,
            pack.stripe_price,
            pack.amount,
            currency=pack.currency,
            metadata={"chargly_customer": body.customer_id},
        )
        return Answer(done(account, account.charge_of(invoice["id"])["payment_intent"], before), 201)

    table = (
        Route(
            method="GET",
            path=f"{PATH}/payments",
            access=Access(),
            handler=show,
            summary="The sandbox's payments",
            answers={200: Dashboard},
        ),
        Route(
            method="POST",
            path=f"{PATH}/payments/{{payment_id}}",
            access=Access(),
            handler=act,
            summary="Do something with a payment",
            request=ActionRequest,
            answers={200: Done},
            errors=(NotFound,),
        ),
        Route(
            method="POST",
            path=f"{PATH}/invoices",
            access=Access(),
            handler=pay_invoice,
            summary="Pay a subscription's invoice",
            request=InvoiceRequest,
            answers={201: Done},
        ),
    )
    return [StarletteRoute(PATH, Page("sandbox-dashboard.html")), *endpoints(table, services)]


def done(account: StripeAccount, intent_id: str, before: str | None) -> Done:
    """A payment as it is now, and what was told since an event."""
    intent = account.one(intent_id)
    assert intent is not None
    told = [event["type"] for event in account.events_since(before)]
    return Done(row(account, intent), [kind for kind in told if kind in HANDLED])


def buyer_of(account: StripeAccount, customer_id: str, known: str | None) -> str:
    """Who a wallet's customer is at Stripe; a restart of the sandbox forgets them, and they are made anew."""
    found = account.one(known) if known else None
    if found is not None and not found.get("deleted"):
        return str(found["id"])
    made = account.all("customer", name=customer_id)
    if made:
        return str(made[0]["id"])
    _, buyer = account.call("POST", "/v1/customers", {"name": customer_id})
    return str(buyer["id"])


def perform(account: StripeAccount, intent: StripeObject, action: Action) -> None:
    """Does something with a payment.

    Raises:
        StripeRefusal: Stripe would not let it be done.

    """
    id = intent["id"]
    if action in ("money_arrives", "money_fails"):
        (account.money_arrives if action == "money_arrives" else account.money_fails)(id)
    elif action == "refund_half":
        charge = account.charge_of(id)
        account.refund(id, max(1, min(charge["amount"] // 2, charge["amount"] - charge["amount_refunded"])))
    elif action == "refund_rest":
        account.refund(id)
    elif action == "fail_refund":
        account.fail_refund(_newest(account, "refund", id, "succeeded"))
    elif action in ("dispute", "inquiry"):
        account.open_dispute(id, inquiry=action == "inquiry")
    else:
        decide = {"escalate": account.escalate, "win": account.win, "lose": account.lose}[action]
        decide(_newest(account, "dispute", id))


def _newest(account: StripeAccount, kind: str, intent_id: str, status: str | None = None) -> str:
    found = account.all(kind, payment_intent=intent_id, **({} if status is None else {"status": status}))
    if not found:
        raise StripeRefusal(400, None, f"This payment has no such {kind}.")
    return str(found[0]["id"])


def row(account: StripeAccount, intent: StripeObject) -> PaymentRow:
    """A payment, and what may be done with it."""
    charge = account.one(intent["latest_charge"]) if intent["latest_charge"] else None
    refunded = charge["amount_refunded"] if charge else 0
    disputes = account.all("dispute", payment_intent=intent["id"])
    state = _state(intent, refunded, disputes)
    error = intent["last_payment_error"] or {}
    return PaymentRow(
        id=intent["id"],
        description=_description(account, intent),
        customer_id=_wallet(account, intent),
        method=_method(charge),
        amount=intent["amount"],
        refunded=refunded,
        currency=intent["currency"],
        state=state,
        failure=error.get("message"),
        actions=_actions(account, intent, state, refunded, disputed=bool(disputes)),
        created_at=rfc3339(intent["created"] * 1000),
    )


def _state(intent: StripeObject, refunded: int, disputes: Sequence[StripeObject]) -> str:
    if intent["status"] != "succeeded":
        return _OF_INTENTS.get(intent["status"], "open")
    of_dispute = _OF_DISPUTES[disputes[0]["status"]] if disputes else None
    if of_dispute in ("disputed", "inquiry", "dispute_lost"):
        return of_dispute
    if refunded == intent["amount"]:
        return "refunded"
    return "partly_refunded" if refunded else of_dispute or "paid"


def _actions(
    account: StripeAccount, intent: StripeObject, state: str, refunded: int, *, disputed: bool
) -> list[Action]:
    if state == "processing":
        return ["money_arrives", "money_fails"]
    actions: list[Action] = []
    if state in _REFUNDABLE:
        actions += ["refund_rest"] if refunded else ["refund_half", "refund_rest"]
    if refunded and account.all("refund", payment_intent=intent["id"], status="succeeded"):
        actions.append("fail_refund")
    if state == "inquiry":
        actions += ["escalate", "win"]
    elif state == "disputed":
        actions += ["win", "lose"]
    elif intent["status"] == "succeeded" and not disputed:
        actions += ["dispute", "inquiry"]
    return actions


def _invoice(account: StripeAccount, intent_id: str) -> StripeObject | None:
    payment = {"payment_intent": intent_id, "type": "payment_intent"}
    paid = account.all("invoice_payment", payment=payment)
    return account.one(paid[0]["invoice"]) if paid else None


def _description(account: StripeAccount, intent: StripeObject) -> str:
    sessions = account.all("checkout.session", payment_intent=intent["id"])
    if sessions:
        return account.description(sessions[0]["id"])
    invoice = _invoice(account, intent["id"])
    return f"Invoice {invoice['number']}" if invoice else str(intent["description"] or "Payment")


def _wallet(account: StripeAccount, intent: StripeObject) -> str | None:
    invoice = _invoice(account, intent["id"])
    metadata = invoice["parent"]["subscription_details"]["metadata"] if invoice else intent["metadata"]
    wallet = metadata.get("chargly_customer")
    return str(wallet) if wallet else None


def _method(charge: StripeObject | None) -> str | None:
    if charge is None:
        return None
    details = charge["payment_method_details"]
    kind = "Card" if details["type"] == "card" else "Bank debit"
    return f"{kind} •••• {details[details['type']]['last4']}"
