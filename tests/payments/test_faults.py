"""Stripe's events and answers as they should not be: each is survived, and nothing is lost, doubled or invented."""

import concurrent.futures
import json
import secrets
from typing import Any

import httpx
import pytest
from payments.stripe_stand_in import (
    WEBHOOK_SECRET,
    Call,
    Fault,
    Faults,
    StripeStandIn,
    deliver,
    deliver_all,
    event,
)
from payments.waiting import eventually
from serving import ServerProcess, StartServer, balance, charge, error_of, whole_ledger

from app.demo.sandbox import signature

COMPLETED = "checkout.session.completed"


def session_id(stripe: StripeStandIn, checkout: dict[str, Any]) -> str:
    return stripe.session_of(checkout["id"])["id"]


# The same event again at once, concurrently, a day later


def test_the_same_events_at_once_and_a_day_later_count_once(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    stripe.account.pay(session_id(stripe, bought))
    stripe.account.refund(session_id(stripe, bought), 200)
    told = [one for one in stripe.told if one["type"] in (COMPLETED, "charge.refunded", "refund.created")]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda one: deliver(server, one).status_code, told * 6))
    assert set(answers) == {200}
    a_day_later = [one | {"created": one["created"] - 86_400} for one in told]  # signed anew, as Stripe does
    deliver_all(server, a_day_later)
    assert balance(api, customer) == 500
    moved = [(one["kind"], one["credits"]) for one in whole_ledger(api, customer)]
    assert moved == [("refund", -100), ("top_up", 500), ("grant", 100)]


# A refund before its payment, of spent credits, a dispute won back: test_money_back. Signatures: test_webhooks.


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "customer.tax_id.created"},
        {"type": "checkout.session.completed.v2"},
        {"account": "acct_1Other"},
        {"livemode": True},
    ],
    ids=["an unknown type", "a type to come", "another account", "live in test mode"],
)
def test_an_event_that_is_not_ours_is_taken_and_changes_nothing(
    server: ServerProcess,
    api: httpx.Client,
    customer: str,
    bought: dict[str, Any],
    stripe: StripeStandIn,
    changes: dict[str, Any],
) -> None:
    stripe.account.pay(session_id(stripe, bought))
    [told] = [one for one in stripe.told if one["type"] == COMPLETED]
    assert deliver(server, told | changes).json() == {"received": "ignored"}
    assert balance(api, customer) == 100


@pytest.mark.parametrize("version", ["2019-05-16", "2024-06-20", "2030-01-01.zebra", None])
def test_an_event_of_another_api_version_lands(
    server: ServerProcess,
    api: httpx.Client,
    customer: str,
    bought: dict[str, Any],
    stripe: StripeStandIn,
    version: str | None,
) -> None:
    stripe.account.pay(session_id(stripe, bought))
    [told] = [one for one in stripe.told if one["type"] == COMPLETED]
    more = told["data"]["object"] | {"of_a_later_version": {"deeply": [1, None]}}
    deliver_all(server, [told | {"api_version": version, "data": {"object": more}}])
    assert balance(api, customer) == 600


def test_objects_that_are_given_whole_are_read_by_their_ids(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    session = stripe.account.pay(session_id(stripe, bought))
    whole = session | {"payment_intent": {"id": session["payment_intent"], "object": "payment_intent"}}
    deliver_all(server, [event(COMPLETED, whole)])
    stripe.account.refund(session["id"])
    deliver_all(server, stripe.told)
    assert balance(api, customer) == 100


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        (COMPLETED, {"id": "cs_1", "amount_total": 2**63}),
        (COMPLETED, {"id": "cs_1", "metadata": {"chargly_checkout": 7}}),
        ("charge.refunded", {"id": 7}),
        ("charge.refunded", {}),
        ("refund.created", {"id": "re_1", "amount": "all"}),
        ("charge.dispute.created", {"id": None}),
        ("payment_intent.succeeded", {"id": "pi_1"}),
        ("payment_intent.succeeded", {"id": "pi_1", "status": "succeeded", "amount": 1.5, "currency": "usd"}),
        ("invoice.paid", {"id": "in_1", "currency": None}),
        ("invoice.paid", []),
    ],
)
def test_a_signed_event_whose_object_is_not_what_it_says_is_a_400(server: ServerProcess, kind: str, about: Any) -> None:
    error_of(deliver(server, event(kind, about)), 400, "invalid_request")


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        (COMPLETED, {"id": "cs_1", "metadata": None, "status": "complete", "payment_status": "paid"}),
        ("charge.refunded", {"id": "ch_unknown", "payment_intent": "pi_unknown"}),
        ("refund.updated", {"id": "re_1", "payment_intent": None, "charge": None}),
        ("charge.dispute.closed", {"id": "dp_1", "status": "won"}),
        ("payment_intent.succeeded", {"id": "pi_1", "status": "succeeded", "amount": 1, "currency": "usd"}),
        ("invoice.paid", {"id": "in_unknown", "currency": "usd"}),
    ],
)
def test_a_signed_event_about_nothing_we_know_is_ignored_or_asked_for_again(
    server: ServerProcess, stripe: StripeStandIn, kind: str, about: dict[str, Any]
) -> None:
    answer = deliver(server, event(kind, about))
    if answer.status_code == 200:
        assert answer.json() == {"received": "ignored"}
    else:  # Stripe itself does not know it, which may change
        error_of(answer, 502, "stripe_unavailable")


def test_a_body_of_a_mebibyte_is_taken_and_a_larger_one_is_not(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    stripe.account.pay(session_id(stripe, bought))
    [told] = [one for one in stripe.told if one["type"] == COMPLETED]
    room = (1 << 20) - len(json.dumps(told | {"padding": ""}).encode())
    assert deliver(server, told | {"padding": "x" * room}).json() == {"received": "handled"}
    error_of(deliver(server, told | {"padding": "x" * (room + 1)}), 413, "body_too_large")
    assert balance(api, customer) == 600


# Never a 2xx before the credit is on disk; Stripe slow, down, rate-limiting


class Answers(Faults):
    """Stripe says one thing to all that asks about money."""

    def __init__(self, status: int, body: bytes) -> None:
        self.reply = status, body

    def before(self, call: Call) -> Fault:
        return None if call.path == "/v1/events" else self.reply


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, b'{"error": {"type": "invalid_request_error", "code": "rate_limit"}}'),
        (500, b'{"error": {"type": "api_error"}}'),
        (200, b""),
        (200, b'{"id": "pi_1", "status": "succ'),
        (200, b'{"id": "pi_1"}'),
        (401, b'{"error": {"type": "invalid_request_error", "message": "Invalid API Key"}}'),
        (403, b'{"error": {"type": "invalid_request_error", "message": "not permitted"}}'),
    ],
    ids=["429", "500", "nothing", "half a body", "half an object", "401", "403"],
)
def test_what_stripe_cannot_say_is_to_be_told_again_and_then_counts(
    server: ServerProcess,
    api: httpx.Client,
    customer: str,
    bought: dict[str, Any],
    stripe: StripeStandIn,
    status: int,
    body: bytes,
) -> None:
    session = stripe.account.pay(session_id(stripe, bought))
    deliver_all(server, [event(COMPLETED, session)])
    stripe.told.clear()
    stripe.account.refund(session["id"])
    [told] = [one for one in stripe.told if one["type"] == "charge.refunded"]
    stripe.faults = Answers(status, body)
    error_of(deliver(server, told), 502, "stripe_unavailable")
    error_of(api.post(f"/v1/checkouts/{bought['id']}/refund"), 502, "stripe_unavailable")
    assert charge(api, customer, credits=1).status_code == 201
    stripe.faults = Faults()
    deliver_all(server, [told])
    assert balance(api, customer) == 99


def test_a_word_older_than_what_was_taken_is_looked_up_again(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    """Twenty signals at once of a refund that fails in between: each looks, and the last look counts."""
    session = stripe.account.pay(session_id(stripe, bought))
    deliver_all(server, [event(COMPLETED, session)])
    refund = stripe.account.refund(session["id"], pending=True)
    told = [one for one in stripe.told if one["type"] == "refund.created"] * 10
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        early = [pool.submit(deliver, server, one) for one in told]
        stripe.account.fail_refund(refund["id"])
        late = [pool.submit(deliver, server, one) for one in stripe.told[-2:] * 5]
        assert {one.result().status_code for one in early + late} <= {200, 503}
    deliver_all(server, stripe.told[-1:])
    assert balance(api, customer) == 600


# Secrets


def test_while_a_webhooks_secret_is_replaced_both_are_accepted(
    new_server: StartServer, own_stripe: StripeStandIn
) -> None:
    new = f"whsec_{secrets.token_hex(16)}"
    server = new_server(**own_stripe.env | {"STRIPE_WEBHOOK_SECRET": f"{new}, {WEBHOOK_SECRET}"})
    with server.client() as api:
        for number, secret in enumerate((new, WEBHOOK_SECRET), start=1):
            checkout = api.post("/v1/checkouts", json={"customer_id": "u", "pack": "chargly_500"}).json()
            session = own_stripe.account.pay(session_id(own_stripe, checkout))
            payload = json.dumps(event(COMPLETED, session)).encode()
            assert deliver(server, payload, signature=signature(payload, secret)).json() == {"received": "handled"}
            assert balance(api, "u") == 500 * number
        payload = json.dumps(event(COMPLETED, session)).encode()
        error_of(deliver(server, payload, signature=signature(payload, "whsec_gone")), 400, "invalid_request")


def test_an_event_of_the_other_mode_is_told_in_the_log_by_the_names_of_both_settings(
    new_server: StartServer, own_stripe: StripeStandIn
) -> None:
    server = new_server(**own_stripe.env)
    for _ in range(3):
        told = event(COMPLETED, {"id": "cs_live_1"}, livemode=True)
        assert deliver(server, told).json() == {"received": "ignored"}
    lines = [one for one in server.log.read_text().splitlines() if "ERROR" in one]
    assert len(lines) == 1
    assert "STRIPE_SECRET_KEY is a test key" in lines[0]
    assert "STRIPE_WEBHOOK_SECRET" in lines[0]


def test_a_delayed_payment_that_fails_is_told_to_the_backend(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    stripe.account.pay_later(session_id(stripe, bought))
    stripe.account.money_fails(session_id(stripe, bought))
    deliver_all(server, stripe.told)
    shown = api.get(f"/v1/checkouts/{bought['id']}").json()
    assert (shown["status"], shown["failure"]) == ("failed", "payment_failed")


def test_a_refund_of_a_payment_whose_session_we_never_heard_of_is_not_lost(
    new_server: StartServer, own_stripe: StripeStandIn
) -> None:
    """Stripe made the session and its answer was lost; it was paid and refunded, and the refund is told first."""
    server = new_server(**own_stripe.env)
    own_stripe.faults = NoSession()
    with server.client() as api:
        body = {"customer_id": "u", "pack": "chargly_500", "idempotency_key": "k"}
        error_of(api.post("/v1/checkouts", json=body), 502, "stripe_unavailable")
        own_stripe.faults = Faults()
        [session] = own_stripe.sessions.values()
        own_stripe.account.pay(session["id"])
        own_stripe.account.refund(session["id"], 400)
        deliver_all(server, reversed(own_stripe.told))
        eventually(lambda: balance(api, "u") == 300)


class NoSession(Faults):
    """Stripe makes a session, and nobody hears of it."""

    def after(self, call: Call, _reply: tuple[int, bytes]) -> Fault:
        made = call.method == "POST" and call.path == "/v1/checkout/sessions"
        return (500, b'{"error": {"type": "api_error"}}') if made else None
