"""What no event told is found: checkouts that we hold open, and events that never arrived."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from payments.hurried import served
from payments.stripe_stand_in import Call, Fault, Faults, StripeStandIn
from payments.waiting import eventually
from serving import ServerProcess, StartServer, balance, with_limits

HURRY = {
    "stripe_ask_seconds_first": 1,
    "stripe_asks_seconds_between": 0.05,
    "stripe_sweep_overlap_seconds": 0,  # others have bought at the same stand-in
    "stripe_sweep_seconds_between": 0.1,
}


@pytest.fixture(scope="session")
def server(
    new_database: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, shared_stripe: StripeStandIn
) -> Iterator[ServerProcess]:
    """A server that asks Stripe soon, and again soon."""
    yield from served(new_database, tmp_path_factory, shared_stripe, HURRY)


def checkout_of(api: httpx.Client, customer: str) -> dict[str, Any]:
    return api.post("/v1/checkouts", json={"customer_id": customer, "pack": "chargly_500"}).json()


class NoEvents(Faults):
    """Stripe's list of events is away."""

    def before(self, call: Call) -> Fault:
        return (500, b'{"error": {"type": "api_error"}}') if call.path == "/v1/events" else None


def test_a_payment_that_nobody_told_of_is_found_by_asking_about_its_checkout(
    api: httpx.Client, customer: str, stripe: StripeStandIn
) -> None:
    stripe.faults = NoEvents()
    checkout = checkout_of(api, customer)
    stripe.account.pay(stripe.session_of(checkout["id"])["id"])
    eventually(lambda: balance(api, customer) == 600)


def test_refunds_and_disputes_that_nobody_told_of_are_found_in_stripes_list(
    api: httpx.Client, customer: str, stripe: StripeStandIn
) -> None:
    checkout = checkout_of(api, customer)
    session = stripe.account.pay(stripe.session_of(checkout["id"])["id"])["id"]
    eventually(lambda: balance(api, customer) == 600)
    stripe.account.refund(session, 200)
    eventually(lambda: balance(api, customer) == 500)
    dispute = stripe.account.open_dispute(session)
    eventually(lambda: balance(api, customer) == 100)
    stripe.account.win(dispute["id"])
    eventually(lambda: balance(api, customer) == 500)


def test_money_that_comes_days_later_is_waited_for(api: httpx.Client, customer: str, stripe: StripeStandIn) -> None:
    checkout = checkout_of(api, customer)
    session = stripe.session_of(checkout["id"])["id"]
    stripe.account.pay_later(session)
    eventually(lambda: api.get(f"/v1/checkouts/{checkout['id']}").json()["status"] == "processing")
    assert balance(api, customer) == 100
    stripe.account.money_arrives(session)
    eventually(lambda: balance(api, customer) == 600)


def test_money_that_does_not_come_fails_the_checkout(api: httpx.Client, customer: str, stripe: StripeStandIn) -> None:
    checkout = checkout_of(api, customer)
    session = stripe.session_of(checkout["id"])["id"]
    stripe.account.pay_later(session)
    stripe.account.money_fails(session)
    eventually(lambda: api.get(f"/v1/checkouts/{checkout['id']}").json()["status"] == "failed")
    assert balance(api, customer) == 100


def test_a_session_that_expired_unseen_expires_its_checkout(
    api: httpx.Client, customer: str, stripe: StripeStandIn
) -> None:
    stripe.faults = NoEvents()
    checkout = checkout_of(api, customer)
    stripe.account.expire(stripe.session_of(checkout["id"])["id"])
    eventually(
        lambda: api.get("/v1/checkouts", params={"customer_id": customer}).json()["checkouts"][0]["status"] == "expired"
    )


def test_what_happened_while_the_server_was_away_is_made_up_for(
    new_server: StartServer, own_stripe: StripeStandIn, tmp_path: Path
) -> None:
    server = new_server(**own_stripe.env, **with_limits(tmp_path, **HURRY))
    with server.client() as api:
        checkout = checkout_of(api, "u")
        session = own_stripe.account.pay(own_stripe.session_of(checkout["id"])["id"])["id"]
        eventually(lambda: api.get("/v1/wallets/u").status_code == 200)
    server.stop()
    own_stripe.account.refund(session)
    server.start()
    with server.client() as api:
        eventually(lambda: balance(api, "u") == 0)


def test_stripe_is_asked_about_a_checkout_no_more_after_a_month(
    new_server: StartServer, own_stripe: StripeStandIn, tmp_path: Path
) -> None:
    server = new_server(**own_stripe.env, **with_limits(tmp_path, **HURRY | {"stripe_ask_seconds_max": 0}))
    with server.client() as api:
        checkout = checkout_of(api, "u")
        path = f"/v1/checkout/sessions/{own_stripe.session_of(checkout['id'])['id']}"

        def asked() -> int:
            return sum(call.path == path for call in own_stripe.calls)

        eventually(lambda: asked() == 1)
        begun = time.monotonic()
        events = sum(call.path == "/v1/events" for call in own_stripe.calls)
        eventually(lambda: sum(call.path == "/v1/events" for call in own_stripe.calls) > events + 20)
        assert time.monotonic() - begun > 1  # it had the time to ask again
        assert asked() == 1
