"""Money that goes back, whoever sends it: refunds of ours and of Stripe's dashboard, disputes, and what undoes them."""

import asyncio
import contextlib
import json
import signal
import sqlite3
from typing import Any

import asyncpg
import httpx
import pytest
from payments.stripe_stand_in import DROP, Call, DropOne, Fault, Faults, Reply, StripeStandIn, deliver, deliver_all
from serving import ServerProcess, StartServer, balance, charge, error_of, whole_ledger

CALLS_MAX = 20
"""More calls than a refund makes."""


@pytest.fixture
def paid(server: ServerProcess, bought: dict[str, Any], stripe: StripeStandIn) -> dict[str, Any]:
    """A checkout of 500 credits for 10 dollars that has landed, in a wallet with 100 promotional ones."""
    stripe.account.pay(stripe.session_of(bought["id"])["id"])
    deliver_all(server, stripe.told)
    stripe.told.clear()
    return bought


def session_id(stripe: StripeStandIn, checkout: dict[str, Any]) -> str:
    return stripe.session_of(checkout["id"])["id"]


def status(api: httpx.Client, checkout: dict[str, Any]) -> tuple[str, int, int]:
    found = api.get(f"/v1/checkouts/{checkout['id']}").json()
    return found["status"], found["amount_refunded"], found["amount_disputed"]


def moves(api: httpx.Client, customer: str) -> list[tuple[str, int]]:
    """What moved credits since the purchase, oldest first."""
    return [(one["kind"], one["credits"]) for one in reversed(whole_ledger(api, customer))][2:]


def test_partial_refunds_of_the_dashboard_take_their_part_once_each(
    server: ServerProcess, api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn
) -> None:
    stripe.account.refund(session_id(stripe, paid), 400)
    deliver_all(server, stripe.told * 2)
    assert (moves(api, customer), status(api, paid)) == ([("refund", -200)], ("partially_refunded", 400, 0))
    stripe.account.refund(session_id(stripe, paid))
    deliver_all(server, reversed(stripe.told))
    assert (moves(api, customer)[1:], status(api, paid)) == ([("refund", -300)], ("refunded", 1000, 0))
    assert balance(api, customer) == 100


def test_a_refund_that_fails_gives_its_credits_back(
    server: ServerProcess, api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn
) -> None:
    refund = stripe.account.refund(session_id(stripe, paid), pending=True)
    deliver_all(server, stripe.told)
    assert balance(api, customer) == 100
    stripe.account.fail_refund(refund["id"])
    deliver_all(server, stripe.told)
    assert (balance(api, customer), status(api, paid)) == (600, ("paid", 0, 0))


@pytest.mark.parametrize("won", [True, False])
def test_a_dispute_takes_and_only_one_that_is_won_gives_back(
    server: ServerProcess, api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn, won: bool
) -> None:
    dispute = stripe.account.open_dispute(session_id(stripe, paid))
    deliver_all(server, stripe.told)
    assert (balance(api, customer), status(api, paid)) == (100, ("disputed", 0, 1000))
    (stripe.account.win if won else stripe.account.lose)(dispute["id"])
    deliver_all(server, stripe.told)
    after = (600, ("paid", 0, 0)) if won else (100, ("disputed", 0, 1000))
    assert (balance(api, customer), status(api, paid)) == after


def test_an_inquiry_takes_nothing_until_it_is_a_dispute(
    server: ServerProcess, api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn
) -> None:
    inquiry = stripe.account.open_dispute(session_id(stripe, paid), inquiry=True)
    deliver_all(server, stripe.told)
    assert (balance(api, customer), status(api, paid)[0]) == (600, "paid")
    stripe.account.escalate(inquiry["id"])
    deliver_all(server, stripe.told)
    assert (balance(api, customer), status(api, paid)[0]) == (100, "disputed")


def test_credits_that_were_spent_are_owed_and_the_next_purchase_pays(
    server: ServerProcess, api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn
) -> None:
    assert charge(api, customer, credits=550).status_code == 201
    stripe.account.refund(session_id(stripe, paid))
    deliver_all(server, stripe.told)
    assert balance(api, customer) == -450
    error_of(charge(api, customer, credits=1), 402, "insufficient_credits")
    again = api.post("/v1/checkouts", json={"customer_id": customer, "pack": "chargly_500"}).json()
    stripe.account.pay(session_id(stripe, again))
    deliver_all(server, stripe.told)
    assert balance(api, customer) == 50


def test_a_refund_that_is_told_before_its_payment_leaves_nothing(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    stripe.account.pay(session_id(stripe, bought))
    stripe.account.refund(session_id(stripe, bought))
    deliver_all(server, reversed(stripe.told))
    assert (balance(api, customer), status(api, bought)) == (100, ("refunded", 1000, 0))
    assert moves(api, customer) == [("refund", -500)]


def test_a_refund_of_ours_is_made_at_stripe_and_takes_at_once(
    api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn
) -> None:
    answer = api.post(f"/v1/checkouts/{paid['id']}/refund", json={"amount": 250, "reason": "half broken"})
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["status"], shown["amount_paid"], shown["amount_refunded"]) == ("partially_refunded", 1000, 250)
    [refund] = stripe.account.all("refund", payment_intent=stripe.session_of(paid["id"])["payment_intent"])
    assert (refund["amount"], refund["metadata"]["chargly_checkout"]) == (250, paid["id"])
    assert balance(api, customer) == 475
    asked = [one for one in whole_ledger(api, customer, kind="settings") if "refund" in one["description"].lower()]
    assert [(one["description"], one["reason"]) for one in asked] == [("Refund asked for: Starter", "half broken")]
    whole = api.post(f"/v1/checkouts/{paid['id']}/refund")
    assert (whole.json()["status"], balance(api, customer)) == ("refunded", 100)


def test_a_refund_of_ours_with_a_key_is_made_once(
    api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn
) -> None:
    path = f"/v1/checkouts/{paid['id']}/refund"
    answers = [api.post(path, json={"amount": 100, "idempotency_key": "r"}) for _ in range(3)]
    assert [one.status_code for one in answers] == [200] * 3
    assert [one.headers.get("idempotent-replayed") for one in answers] == [None, "true", "true"]
    assert balance(api, customer) == 550
    error_of(api.post(path, json={"amount": 101, "idempotency_key": "r"}), 409, "idempotency_conflict")
    error_of(charge(api, customer, credits=1, idempotency_key="r"), 409, "idempotency_conflict")


@pytest.mark.parametrize("amount", [1001, 10**9])
def test_no_more_is_refunded_than_was_paid(api: httpx.Client, paid: dict[str, Any], amount: int) -> None:
    refused = api.post(f"/v1/checkouts/{paid['id']}/refund", json={"amount": amount})
    assert error_of(refused, 400, "invalid_request")["field"] == "amount"


def test_what_is_not_paid_is_not_refunded(api: httpx.Client, server: ServerProcess, bought: dict[str, Any]) -> None:
    path = f"/v1/checkouts/{bought['id']}/refund"
    assert error_of(api.post(path), 409, "checkout_not_paid")["status"] == "open"
    error_of(api.post("/v1/checkouts/co_none/refund"), 404, "not_found")
    with server.client(server.token(bought["customer_id"])) as browser:
        error_of(browser.post(path), 403, "forbidden_scope")


def test_a_refund_that_stripe_refuses_is_refused_again_when_it_is_sent_again(
    api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn
) -> None:
    stripe.faults = RefundsRefused()
    for _ in range(2):
        answer = api.post(f"/v1/checkouts/{paid['id']}/refund", json={"amount": 100, "idempotency_key": "no"})
        assert error_of(answer, 400, "invalid_request")["stripe_code"] == "charge_disputed"
    assert balance(api, customer) == 600


@pytest.mark.parametrize("asked_before", [False, True])
def test_a_refund_of_a_payment_that_stripe_does_not_know_is_refused_as_such(
    api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn, asked_before: bool
) -> None:
    path, body = f"/v1/checkouts/{paid['id']}/refund", {"amount": 100, "idempotency_key": "gone"}
    if asked_before:
        stripe.faults = RefundsFail()
        error_of(api.post(path, json=body), 502, "stripe_unavailable")
    stripe.faults = PaymentsUnknown()
    refused = error_of(api.post(path, json=body), 400, "invalid_request")
    assert refused["stripe_code"] == "resource_missing"
    assert refused["message"] == "Stripe refused this refund (resource_missing)."
    assert balance(api, customer) == 600


def test_a_refund_is_made_once_though_stripe_has_forgotten_its_key(
    api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn
) -> None:
    path, body = f"/v1/checkouts/{paid['id']}/refund", {"amount": 100, "idempotency_key": "old"}
    assert api.post(path, json=body).status_code == 200
    stripe.faults = ForgottenKeys()
    assert api.post(path, json=body).status_code == 200
    assert balance(api, customer) == 550


def test_a_purchase_of_a_release_that_kept_no_payment_can_be_refunded(
    new_server: StartServer, own_stripe: StripeStandIn, database_url: str, engine: str
) -> None:
    server = new_server(**own_stripe.env)
    with server.client() as api:
        checkout = api.post("/v1/checkouts", json={"customer_id": "u", "pack": "chargly_500"}).json()
        own_stripe.account.pay(session_id(own_stripe, checkout))
        assert api.get(f"/v1/checkouts/{checkout['id']}").json()["status"] == "paid"
        forget = "UPDATE checkouts SET payment_intent = NULL, amount_paid = NULL"
        if engine == "sqlite":
            with sqlite3.connect(database_url.removeprefix("sqlite:///")) as db:
                db.execute(forget)
        else:
            asyncio.run(executed(database_url, forget))
        own_stripe.account.refund(session_id(own_stripe, checkout), 400)
        deliver_all(server, own_stripe.told)
        assert balance(api, "u") == 300
        assert api.post(f"/v1/checkouts/{checkout['id']}/refund").json()["status"] == "refunded"


async def executed(database_url: str, sql: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(sql)
    await connection.close()


class RefundsRefused(Faults):
    """Stripe refuses refunds."""

    def before(self, call: Call) -> Fault:
        refused = (
            b'{"error": {"type": "invalid_request_error", "code": "charge_disputed", "message": "It is disputed."}}'
        )
        return (400, refused) if (call.method, call.path) == ("POST", "/v1/refunds") else None


class PaymentsUnknown(Faults):
    """Stripe knows no payment, as where the sandbox was started again."""

    def before(self, call: Call) -> Fault:
        refused = (
            b'{"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "No such payment."}}'
        )
        return (404, refused) if call.path.startswith(("/v1/payment_intents/", "/v1/refunds")) else None


class ForgottenKeys(Faults):
    """Stripe takes each key for a new one."""

    def before(self, call: Call) -> Fault:
        call.headers.pop("idempotency-key", None)
        return None


class RefundsFail(Faults):
    """Stripe answers 500 to refunds."""

    def before(self, call: Call) -> Fault:
        return (500, b'{"error": {"type": "api_error"}}') if call.path == "/v1/refunds" else None


class Forgetful(Faults):
    """What Stripe does is done, and its answer to the making of a refund is lost, each time."""

    def after(self, call: Call, _reply: Reply) -> Fault:
        return DROP if (call.method, call.path) == ("POST", "/v1/refunds") else None


def test_a_refund_whose_answer_is_lost_is_made_once_when_it_is_sent_again(
    api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn
) -> None:
    body = {"amount": 100, "idempotency_key": "lost"}
    stripe.faults = Forgetful()
    error_of(api.post(f"/v1/checkouts/{paid['id']}/refund", json=body), 502, "stripe_unavailable")
    stripe.faults = Faults()
    assert api.post(f"/v1/checkouts/{paid['id']}/refund", json=body).status_code == 200
    made = stripe.account.all("refund", payment_intent=stripe.session_of(paid["id"])["payment_intent"])
    assert ([one["amount"] for one in made], balance(api, customer)) == ([100], 550)


def test_a_stripe_that_fails_refunds_nothing_and_takes_nothing(
    api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn
) -> None:
    stripe.faults = RefundsFail()
    error_of(api.post(f"/v1/checkouts/{paid['id']}/refund"), 502, "stripe_unavailable")
    assert balance(api, customer) == 600


def test_a_webhook_is_not_taken_while_stripe_cannot_be_asked_about_it(
    server: ServerProcess, api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn
) -> None:
    stripe.account.refund(session_id(stripe, paid))
    stripe.answer = (500, b'{"error": {"type": "api_error"}}')
    answers = {
        deliver(server, one).status_code for one in stripe.told if one["type"].startswith(("refund", "charge.ref"))
    }
    assert answers == {502}
    stripe.answer = None
    deliver_all(server, stripe.told)
    assert balance(api, customer) == 100


def test_a_refund_of_a_payment_that_is_none_of_ours_is_ignored(
    server: ServerProcess, api: httpx.Client, customer: str, paid: dict[str, Any], stripe: StripeStandIn
) -> None:
    buyer = stripe.account.saved_card()["customer"]
    invoice = stripe.account.pay_invoice(buyer, "price_of_something_else")
    stripe.account.refund(invoice["id"])
    told = [one for one in stripe.told if one["type"] in ("charge.refunded", "refund.created")]
    assert [deliver(server, one).json() for one in told] == [{"received": "ignored"}] * 2
    assert balance(api, customer) == 600


def test_a_connected_accounts_event_is_not_ours(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    stripe.account.pay(session_id(stripe, bought))
    for one in stripe.told:
        assert deliver(server, one | {"account": "acct_of_somebody"}).json() == {"received": "ignored"}
    assert balance(api, customer) == 100


class KillAt(DropOne):
    """The server dies at one of the calls about a payment; those that it makes about others do not count."""

    def __init__(self, payment: str, number: int, **how: Any) -> None:
        super().__init__(number, **how)
        self.payment = payment

    def before(self, call: Call) -> Fault:
        is_about_it = self.payment in call.path or self.payment in json.dumps(call.form)
        return super().before(call) if is_about_it else None


@pytest.mark.sqlite  # what Stripe is asked does not depend on the database
@pytest.mark.parametrize("carried_out", [False, True])
def test_a_kill_at_each_call_of_a_refund_refunds_once(
    new_server: StartServer, own_stripe: StripeStandIn, carried_out: bool
) -> None:
    """Before Stripe does what it is asked, or after; the caller asks again with the key."""
    server = new_server(**own_stripe.env)
    for number in range(CALLS_MAX):
        customer = f"u{number}"
        with server.client() as api:
            checkout = api.post("/v1/checkouts", json={"customer_id": customer, "pack": "chargly_500"}).json()
            own_stripe.account.pay(session_id(own_stripe, checkout))
            assert api.get(f"/v1/checkouts/{checkout['id']}").json()["status"] == "paid"
        intent = own_stripe.session_of(checkout["id"])["payment_intent"]
        own_stripe.faults = KillAt(intent, number, carried_out=carried_out, then=lambda: server.stop(signal.SIGKILL))
        path, body = f"/v1/checkouts/{checkout['id']}/refund", {"amount": 400, "idempotency_key": "k"}
        first = None
        with server.client() as api, contextlib.suppress(httpx.HTTPError):
            first = api.post(path, json=body)
        own_stripe.faults = Faults()
        if first is not None:
            assert first.status_code == 200
            assert number > 3
            return
        server.start()
        with server.client() as api:
            assert api.post(path, json=body).status_code == 200
            assert balance(api, customer) == 300
        assert [one["amount"] for one in own_stripe.account.all("refund", payment_intent=intent)] == [400]
    raise AssertionError("a refund makes more calls than were tried")
