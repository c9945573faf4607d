"""Paid invoices of subscriptions grant, once each; what was bought before stays."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from payments.stripe_stand_in import StripeStandIn, deliver, deliver_all
from serving import ServerProcess, balance

from app.demo.stripe_invoices import InvoiceLine

DAY = 86_400


@pytest.fixture
def price(api: httpx.Client) -> Iterator[str]:
    """A price at Stripe that a pack of 1,000 credits is mapped to."""
    code = secrets.token_hex(6)
    fields = {"name": "Pro", "credits": 1000, "amount": 2000, "stripe_price": f"price_{code}"}
    assert api.put(f"/v1/packs/{code}", json=fields).status_code == 200
    yield f"price_{code}"
    api.delete(f"/v1/packs/{code}")


@pytest.fixture
def buyer(stripe: StripeStandIn) -> str:
    """A customer at Stripe with a card."""
    return stripe.account.saved_card()["customer"]


def pay(stripe: StripeStandIn, buyer: str, price: str, customer: str | None, **fields: Any) -> dict[str, Any]:
    metadata = {} if customer is None else {"chargly_customer": customer}
    return stripe.account.pay_invoice(buyer, price, metadata=metadata, **fields)


def grants(api: httpx.Client, customer: str) -> list[dict[str, Any]]:
    return api.get(f"/v1/wallets/{customer}").json()["grants"]


def test_a_paid_invoice_grants_once_until_its_period_ends(
    server: ServerProcess, api: httpx.Client, customer_id: str, price: str, buyer: str, stripe: StripeStandIn
) -> None:
    end = int(time.time()) + 30 * DAY
    invoice = pay(stripe, buyer, price, customer_id, period=(end - 30 * DAY, end))
    deliver_all(server, stripe.told * 2)
    [given] = grants(api, customer_id)
    assert (given["category"], given["credits"], given["source"]) == ("paid", 1000, f"co_{invoice['id']}")
    assert given["expires_at"] == time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(end))
    shown = api.get(f"/v1/checkouts/co_{invoice['id']}").json()
    assert (shown["kind"], shown["status"], shown["amount"]) == ("subscription", "paid", 2000)


def test_each_period_grants_anew_and_bought_credits_stay(
    server: ServerProcess, api: httpx.Client, customer_id: str, price: str, buyer: str, stripe: StripeStandIn
) -> None:
    api.post(f"/v1/wallets/{customer_id}/grants", json={"credits": 77, "category": "paid"})
    for _ in range(2):
        pay(stripe, buyer, price, customer_id)
    deliver_all(server, stripe.told)
    assert balance(api, customer_id) == 2077


def test_credits_last_where_the_pack_says_so(
    server: ServerProcess, api: httpx.Client, customer_id: str, buyer: str, stripe: StripeStandIn, price: str
) -> None:
    code = price.removeprefix("price_")
    fields = {"name": "Pro", "credits": 1000, "amount": 2000, "stripe_price": price, "expires_with_period": False}
    api.put(f"/v1/packs/{code}", json=fields)
    pay(stripe, buyer, price, customer_id, quantity=3)
    deliver_all(server, stripe.told)
    [given] = grants(api, customer_id)
    assert (given["credits"], given["expires_at"]) == (3000, None)


def test_an_upgrade_grants_the_part_that_was_paid_and_takes_nothing(
    server: ServerProcess, api: httpx.Client, customer_id: str, price: str, buyer: str, stripe: StripeStandIn
) -> None:
    pay(stripe, buyer, price, customer_id)
    unused = InvoiceLine(price=price, amount=-500, proration=True)
    rest = InvoiceLine(price=price, amount=1000, proration=True, unit_amount=2000)
    pay(
        stripe,
        buyer,
        "price_unknown",
        customer_id,
        amount=100,
        more=(unused, rest),
        billing_reason="subscription_update",
    )
    deliver_all(server, stripe.told)
    assert balance(api, customer_id) == 1250  # a half of a pack, less a quarter for the time that was given back


def test_changes_to_and_fro_make_no_credits(
    server: ServerProcess, api: httpx.Client, customer_id: str, price: str, buyer: str, stripe: StripeStandIn
) -> None:
    pay(stripe, buyer, price, customer_id)
    one, two = (InvoiceLine(price=price, amount=1000 * n, quantity=n, proration=True, unit_amount=2000) for n in (1, 2))
    more = (InvoiceLine(price=price, amount=-1000, proration=True, unit_amount=2000),)
    fewer = (InvoiceLine(price=price, amount=-2000, quantity=2, proration=True, unit_amount=2000),)
    for line, given_back in ((two, more), (one, fewer)) * 3:
        fields = {"amount": 0, "more": (line, *given_back), "billing_reason": "subscription_update"}
        pay(stripe, buyer, "price_unknown", customer_id, **fields)
    deliver_all(server, stripe.told)
    # The stand-in charges each step up; Stripe itself pays the later ones from what the steps down gave back.
    assert balance(api, customer_id) == 1000 + 3 * 500


def test_a_pack_off_sale_grants_to_who_subscribes(
    server: ServerProcess, api: httpx.Client, customer_id: str, price: str, buyer: str, stripe: StripeStandIn
) -> None:
    api.delete(f"/v1/packs/{price.removeprefix('price_')}")
    pay(stripe, buyer, price, customer_id)
    deliver_all(server, stripe.told)
    assert balance(api, customer_id) == 1000


def test_the_wallet_of_a_known_buyer_is_found_without_metadata(
    server: ServerProcess, api: httpx.Client, customer_id: str, price: str, stripe: StripeStandIn
) -> None:
    checkout = api.post("/v1/checkouts", json={"customer_id": customer_id, "pack": "chargly_500"}).json()
    buyer = stripe.account.pay(stripe.session_of(checkout["id"])["id"])["customer"]
    pay(stripe, buyer, price, None)
    deliver_all(server, stripe.told)
    assert balance(api, customer_id) == 1500


def test_an_invoice_of_nobody_or_over_other_prices_grants_nothing(
    server: ServerProcess, api: httpx.Client, customer_id: str, price: str, buyer: str, stripe: StripeStandIn
) -> None:
    pay(stripe, buyer, price, None)
    pay(stripe, buyer, "price_of_something_else", customer_id)
    answers = [deliver(server, one).json() for one in stripe.told if one["type"] == "invoice.paid"]
    assert answers == [{"received": "ignored"}] * 2
    assert api.get(f"/v1/wallets/{customer_id}").status_code == 404


def test_an_invoice_that_is_refunded_takes_its_credits(
    server: ServerProcess, api: httpx.Client, customer_id: str, price: str, buyer: str, stripe: StripeStandIn
) -> None:
    invoice = pay(stripe, buyer, price, customer_id)
    stripe.account.refund(invoice["id"], 500)
    deliver_all(server, reversed(stripe.told))  # the refund before the invoice
    assert balance(api, customer_id) == 750
    assert api.get(f"/v1/checkouts/co_{invoice['id']}").json()["status"] == "partially_refunded"


def test_a_price_mapped_later_grants_from_then_on(
    server: ServerProcess, api: httpx.Client, customer_id: str, price: str, buyer: str, stripe: StripeStandIn
) -> None:
    code = price.removeprefix("price_")
    api.put(f"/v1/packs/{code}", json={"name": "Pro", "credits": 1000, "amount": 2000})
    pay(stripe, buyer, price, customer_id)
    deliver_all(server, stripe.told)
    assert api.get(f"/v1/wallets/{customer_id}").status_code == 404
    api.put(f"/v1/packs/{code}", json={"name": "Pro", "credits": 1000, "amount": 2000, "stripe_price": price})
    pay(stripe, buyer, price, customer_id)
    deliver_all(server, stripe.told[-20:])
    assert balance(api, customer_id) in (1000, 2000)
    deliver_all(server, stripe.told)  # the first one's event once more: it is paid, and mapped now
    assert balance(api, customer_id) == 2000


def test_a_trial_grants_nothing(
    server: ServerProcess, api: httpx.Client, customer_id: str, price: str, buyer: str, stripe: StripeStandIn
) -> None:
    pay(stripe, buyer, price, customer_id, amount=0)
    deliver_all(server, stripe.told)
    assert api.get(f"/v1/wallets/{customer_id}").status_code == 404


def test_a_dispute_of_an_invoices_payment_takes_its_credits(
    server: ServerProcess, api: httpx.Client, customer_id: str, price: str, buyer: str, stripe: StripeStandIn
) -> None:
    invoice = pay(stripe, buyer, price, customer_id)
    stripe.account.open_dispute(invoice["id"])
    deliver_all(server, stripe.told)
    assert balance(api, customer_id) == 0


@pytest.mark.parametrize("named", ["a/b", "..", "x" * 256, "a\nb"])
def test_a_name_that_no_wallet_can_have_is_nobody(
    server: ServerProcess, price: str, buyer: str, stripe: StripeStandIn, named: str
) -> None:
    pay(stripe, buyer, price, named)
    answers = [deliver(server, one).json() for one in stripe.told if one["type"] == "invoice.paid"]
    assert answers == [{"received": "ignored"}]
