"""The objects of the sandbox have the fields that Stripe's have, at every depth."""

import json
import typing
from pathlib import Path
from typing import Any

import pytest
import stripe
import stripe.checkout

from app.demo import stripe_objects as objects
from app.demo.stripe_prices import price

FIXTURES = Path(__file__).parents[3] / "shared/stripe/fixtures3.json"
"""Stripe's published examples, where a copy of them lies beside the project."""
ONLY_EXPANDED = {"charge": {"refunds"}}
"""What the examples show, and an answer has only where it is asked for."""
GONE = {"invoice": {"subscription"}, "payment_intent": {"source"}, "charge": {"source"}}
"""What the examples still show, and the installed package need not know."""

CARD = objects.card_details("4242")
BANK = objects.bank_details()
BUILT: dict[str, tuple[type, dict[str, Any]]] = {
    "checkout.session": (
        stripe.checkout.Session,
        objects.checkout_session(
            id="cs_1", created=1, expires_at=2, customer_details=objects.customer_details("a@example.com")
        ),
    ),
    "customer": (stripe.Customer, objects.customer(id="cus_1", created=1)),
    "payment_method": (stripe.PaymentMethod, objects.payment_method(id="pm_1", created=1, card=CARD)),
    "payment_intent": (stripe.PaymentIntent, objects.payment_intent(id="pi_1", amount=1, currency="usd", created=1)),
    "charge": (
        stripe.Charge,
        objects.charge(
            id="ch_1",
            amount=1,
            currency="usd",
            created=1,
            payment_method_details=objects.charged_card(CARD, 1) | objects.charged_bank(BANK),
        ),
    ),
    "refund": (stripe.Refund, objects.refund(id="re_1", amount=1, charge="ch_1", currency="usd", created=1)),
    "dispute": (
        stripe.Dispute,
        objects.dispute(inquiry=True, id="dp_1", amount=1, charge="ch_1", currency="usd", created=1)
        | {"balance_transactions": [objects.disputed_funds("ch_1", -1, "usd", 1)]},
    ),
    "invoice": (
        stripe.Invoice,
        objects.invoice(
            id="in_1",
            amount_due=1,
            created=1,
            currency="usd",
            customer="cus_1",
            period_start=1,
            period_end=2,
            lines=objects.list_of([], "/v1/invoices/in_1/lines"),
            parent={
                "quote_details": None,
                "subscription_details": {"metadata": {}, "subscription": "sub_1"},
                "type": "subscription_details",
            },
        ),
    ),
    "line_item": (
        stripe.InvoiceLineItem,
        objects.invoice_line(
            id="il_1",
            price="price_1",
            subscription="sub_1",
            amount=1,
            quantity=1,
            currency="usd",
            invoice="in_1",
            period={"start": 1, "end": 2},
        ),
    ),
    "invoice_payment": (
        stripe.InvoicePayment,
        objects.invoice_payment(
            id="inpay_1",
            amount_paid=1,
            amount_requested=1,
            created=1,
            currency="usd",
            invoice="in_1",
            payment={"payment_intent": "pi_1", "type": "payment_intent"},
            status_transitions={"canceled_at": None, "paid_at": 1},
        ),
    ),
    "price": (stripe.Price, price(id="price_1", unit_amount=1, currency="usd", created=1)),
    "event": (stripe.Event, objects.event(id="evt_1", created=1, type="charge.succeeded", data={"object": {}})),
}


@pytest.mark.parametrize("kind", BUILT)
def test_an_object_has_the_fields_of_stripes_example(kind: str) -> None:
    if not FIXTURES.is_file():
        pytest.skip(f"Stripe's examples are not at {FIXTURES}")
    example = json.loads(FIXTURES.read_text())["resources"][kind]
    left_out = ONLY_EXPANDED.get(kind, set()) | GONE.get(kind, set())
    assert set(BUILT[kind][1]) | left_out == set(example) | left_out


@pytest.mark.parametrize("kind", BUILT)
def test_an_object_has_the_fields_that_the_package_types(kind: str) -> None:
    typed, built = BUILT[kind]
    needed = {name for name, hint in hints(typed).items() if not is_optional(hint)}
    assert needed <= set(built)
    assert list(unknown_fields(typed, built, GONE.get(kind, set()))) == []


def unknown_fields(typed: Any, built: dict[str, Any], gone: set[str], at: str = "") -> typing.Iterator[str]:
    known = hints(typed)
    for name, value in built.items():
        if name not in known:
            if name not in gone:
                yield f"{at}{name}"
            continue
        for inner in of_stripe(known[name]):
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict):
                    yield from unknown_fields(inner, one, gone, f"{at}{name}.")


def hints(typed: Any) -> dict[str, Any]:
    return {name: hint for name, hint in typed.__annotations__.items() if name != "OBJECT_NAME"}


def is_optional(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def of_stripe(hint: Any) -> typing.Iterator[Any]:
    """The classes with fields of their own that a hint names, through unions and lists."""
    if isinstance(hint, type) and issubclass(hint, stripe.StripeObject):
        if "__annotations__" in vars(hint):
            yield hint
        return
    for inner in typing.get_args(hint):
        if "ListObject" not in str(hint):
            yield from of_stripe(inner)
