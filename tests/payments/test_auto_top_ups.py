"""Automatic top-ups through a real server: the saved card is charged once for each attempt, whatever fails."""

import concurrent.futures
import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from payments.hurried import served
from payments.stripe_stand_in import Call, DropOne, Fault, Faults, StripeStandIn, deliver_all
from payments.waiting import SECONDS_MAX, eventually
from serving import ServerProcess, StartServer, balance, charge, error_of, grant, whole_ledger, with_limits

from app.demo.stripe_cards import AUTHENTICATED_CARD, DECLINED_LATER_CARD

SETTINGS = {"threshold": 100, "pack": "chargly_500", "monthly_limit": 2_000}
CALLS_MAX = 20
LEAST_CALLS = 1
"""By which an attempt goes on when the server is back: it looks for its payment, unless Stripe's list told of it."""
HURRY = {"stripe_ask_seconds_first": 0, "auto_top_up_seconds_between": 0.05}


@pytest.fixture(scope="session")
def server(
    new_database: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, shared_stripe: StripeStandIn
) -> Iterator[ServerProcess]:
    """A server that does not wait long before it asks Stripe again."""
    yield from served(new_database, tmp_path_factory, shared_stripe, HURRY)


def wallet(api: httpx.Client, customer: str) -> dict[str, Any]:
    return api.get(f"/v1/wallets/{customer}").json()


def intents_of(stripe: StripeStandIn, customer: str) -> list[dict[str, Any]]:
    """The payments that were made by themselves for a customer."""
    return [one for one in stripe.account.all("payment_intent") if one["metadata"].get("chargly_customer") == customer]


def was_tried(stripe: StripeStandIn, card: str) -> bool:
    """Whether a card was charged in vain: the next try asks what the last one left behind."""
    saved = stripe.account.one(card)
    assert saved is not None
    asked = (one.form for one in stripe.calls if (one.method, one.path) == ("GET", "/v1/payment_intents"))
    return any(form["customer"] == saved["customer"] for form in asked)


def fills_itself(
    api: httpx.Client, stripe: StripeStandIn, customer: str, *, card: str | None = None, **settings: Any
) -> str:
    """A wallet with 150 credits that fills itself from a saved card; gives the card's id."""
    grant(api, customer, 150)
    method = stripe.account.saved_card(**({} if card is None else {"card": card}))
    settings = SETTINGS | {"stripe_customer": method["customer"], "payment_method": method["id"]} | settings
    answer = api.patch(f"/v1/wallets/{customer}", json={"auto_top_up": settings})
    assert answer.status_code == 200, answer.text
    assert answer.json()["auto_top_up"]["status"] == "active"
    return method["id"]


def test_a_debit_below_the_threshold_charges_the_card_once_and_the_credits_land(
    api: httpx.Client, customer_id: str, stripe: StripeStandIn
) -> None:
    card = fills_itself(api, stripe, customer_id)
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        assert all(pool.map(lambda _: charge(api, customer_id, credits=10).status_code == 201, range(10)))
    eventually(lambda: balance(api, customer_id) == 550)
    [intent] = intents_of(stripe, customer_id)
    assert (intent["amount"], intent["currency"], intent["payment_method"]) == (1000, "usd", card)
    asked = next(
        one
        for one in stripe.calls
        if one.path == "/v1/payment_intents"
        and one.method == "POST"
        and one.form["metadata"]["chargly_customer"] == customer_id
    )
    assert (asked.form["off_session"], asked.form["confirm"]) == ("true", "true")
    assert asked.headers["idempotency-key"] == intent["metadata"]["chargly_checkout"]
    shown = wallet(api, customer_id)["auto_top_up"]
    assert (shown["status"], shown["charged_this_month"]) == ("active", 1000)
    [checkout] = api.get("/v1/checkouts", params={"customer_id": customer_id}).json()["checkouts"]
    assert (checkout["kind"], checkout["status"], checkout["amount_paid"]) == ("auto_top_up", "paid", 1000)


def test_it_is_told_by_stripe_as_well_and_lands_once(
    server: ServerProcess, api: httpx.Client, customer_id: str, stripe: StripeStandIn
) -> None:
    fills_itself(api, stripe, customer_id)
    charge(api, customer_id, credits=60)
    eventually(lambda: balance(api, customer_id) == 590)
    deliver_all(server, stripe.told * 2)
    assert balance(api, customer_id) == 590


def test_the_month_is_bounded(api: httpx.Client, customer_id: str, stripe: StripeStandIn) -> None:
    fills_itself(api, stripe, customer_id, monthly_limit=1_999)
    charge(api, customer_id, credits=60)
    eventually(lambda: balance(api, customer_id) == 590)
    charge(api, customer_id, credits=500)
    shown = wallet(api, customer_id)["auto_top_up"]
    assert (shown["status"], shown["reason"]) == ("waiting", "monthly_limit")
    assert shown["retry_at"].endswith("-01T00:00:00.000Z")
    assert len(intents_of(stripe, customer_id)) == 1


@pytest.mark.parametrize(
    ("card", "reason"), [(DECLINED_LATER_CARD, "generic_decline"), (AUTHENTICATED_CARD, "authentication_required")]
)
def test_a_card_that_fails_pauses_and_a_page_to_pay_instead_is_given(
    api: httpx.Client, customer_id: str, stripe: StripeStandIn, card: str, reason: str
) -> None:
    fills_itself(api, stripe, customer_id, card=card)
    charge(api, customer_id, credits=60)
    eventually(lambda: wallet(api, customer_id)["auto_top_up"]["status"] == "waiting")
    shown = wallet(api, customer_id)["auto_top_up"]
    assert (shown["reason"], shown["failures"]) == (reason, 1)
    [intent] = intents_of(stripe, customer_id)
    assert intent["status"] == "canceled"
    page, attempt = api.get("/v1/checkouts", params={"customer_id": customer_id}).json()["checkouts"]
    if page["kind"] != "checkout":
        page, attempt = attempt, page
    assert (page["kind"], page["status"]) == ("checkout", "open")
    assert (attempt["status"], attempt["failure"]) == ("failed", reason)
    stripe.account.pay(stripe.session_of(page["id"])["id"])
    assert api.get(f"/v1/checkouts/{page['id']}").json()["status"] == "paid"
    assert wallet(api, customer_id)["auto_top_up"]["failures"] == 0  # a card that works begins anew


def test_a_card_that_is_gone_fails_as_one_that_declines(
    api: httpx.Client, customer_id: str, stripe: StripeStandIn
) -> None:
    stripe.account.detach(fills_itself(api, stripe, customer_id))
    charge(api, customer_id, credits=60)
    eventually(lambda: wallet(api, customer_id)["auto_top_up"]["status"] == "waiting")
    assert balance(api, customer_id) == 90


def test_a_browser_sees_how_it_goes_and_no_id_of_stripes(
    server: ServerProcess, api: httpx.Client, customer_id: str, stripe: StripeStandIn
) -> None:
    fills_itself(api, stripe, customer_id)
    with server.client(server.token(customer_id)) as browser:
        shown = wallet(browser, customer_id)["auto_top_up"]
    assert (shown["status"], shown["stripe_customer"], shown["payment_method"]) == ("active", None, None)


def test_settings_are_refused_by_their_field(api: httpx.Client, customer_id: str) -> None:
    grant(api, customer_id, 10)
    card = {"stripe_customer": "cus_1", "payment_method": "pm_1"}
    for settings, status, code, field in (
        (SETTINGS, 400, "invalid_request", "auto_top_up.payment_method"),
        (SETTINGS | {"stripe_customer": "cus_1"}, 400, "invalid_request", "auto_top_up.payment_method"),
        (SETTINGS | card | {"pack": "none"}, 404, "not_found", "auto_top_up.pack"),
        (SETTINGS | card | {"monthly_limit": 999}, 400, "invalid_request", "auto_top_up.monthly_limit"),
        (SETTINGS | card | {"threshold": 0}, 400, "invalid_request", "auto_top_up.threshold"),
    ):
        answer = api.patch(f"/v1/wallets/{customer_id}", json={"auto_top_up": settings})
        assert error_of(answer, status, code)["field"] == field
    assert wallet(api, customer_id)["auto_top_up"] is None
    api.patch(f"/v1/wallets/{customer_id}", json={"auto_top_up": SETTINGS | card})
    assert api.patch(f"/v1/wallets/{customer_id}", json={"auto_top_up": None}).json()["auto_top_up"] is None


def test_settings_of_nobody_are_not_found(api: httpx.Client) -> None:
    answer = api.patch("/v1/wallets/a_mistyped_name", json={"auto_top_up": SETTINGS})
    assert error_of(answer, 404, "not_found")["customer_id"] == "a_mistyped_name"


class SlowPayments(Faults):
    """Stripe answers 500 to payments until it is told to stop."""

    def before(self, call: Call) -> Fault:
        return (500, b'{"error": {"type": "api_error"}}') if call.path == "/v1/payment_intents" else None


def test_metering_goes_on_while_stripe_is_down_and_the_attempt_is_made_when_it_is_back(
    api: httpx.Client, customer_id: str, stripe: StripeStandIn
) -> None:
    card = fills_itself(api, stripe, customer_id)
    stripe.faults = SlowPayments()
    assert charge(api, customer_id, credits=60).status_code == 201
    eventually(lambda: was_tried(stripe, card))
    assert charge(api, customer_id, credits=10).status_code == 201
    assert wallet(api, customer_id)["auto_top_up"]["status"] == "charging"
    stripe.faults = Faults()
    eventually(lambda: balance(api, customer_id) == 580)
    assert len(intents_of(stripe, customer_id)) == 1


def test_a_frozen_wallet_is_not_charged(api: httpx.Client, customer_id: str, stripe: StripeStandIn) -> None:
    fills_itself(api, stripe, customer_id)
    api.patch(f"/v1/wallets/{customer_id}", json={"frozen": True})
    api.post(f"/v1/wallets/{customer_id}/adjustments", json={"credits": -100, "reason": "r"})
    assert wallet(api, customer_id)["auto_top_up"]["status"] == "active"
    assert intents_of(stripe, customer_id) == []
    api.patch(f"/v1/wallets/{customer_id}", json={"frozen": False})
    eventually(lambda: balance(api, customer_id) == 550)


def test_what_was_charged_by_itself_can_be_refunded(api: httpx.Client, customer_id: str, stripe: StripeStandIn) -> None:
    fills_itself(api, stripe, customer_id, monthly_limit=9_000)
    charge(api, customer_id, credits=60)
    eventually(lambda: balance(api, customer_id) == 590)
    [checkout] = api.get("/v1/checkouts", params={"customer_id": customer_id}).json()["checkouts"]
    assert api.post(f"/v1/checkouts/{checkout['id']}/refund").json()["status"] == "refunded"
    shown = wallet(api, customer_id)
    assert (shown["balance"], shown["auto_top_up"]["status"]) == (90, "stopped")
    assert shown["auto_top_up"]["reason"] == "refunded"
    assert charge(api, customer_id, credits=1).status_code == 201
    assert len(intents_of(stripe, customer_id)) == 1


def test_the_card_that_the_last_checkout_saved_is_charged(
    api: httpx.Client, customer_id: str, stripe: StripeStandIn
) -> None:
    body = {"customer_id": customer_id, "pack": "chargly_500", "save_card": True}
    checkout = api.post("/v1/checkouts", json=body).json()
    session = stripe.account.pay(stripe.session_of(checkout["id"])["id"])
    assert api.get(f"/v1/checkouts/{checkout['id']}").json()["status"] == "paid"
    assert api.patch(f"/v1/wallets/{customer_id}", json={"auto_top_up": SETTINGS}).status_code == 200
    charge(api, customer_id, credits=450)
    eventually(lambda: balance(api, customer_id) == 550)
    by_itself = next(one for one in intents_of(stripe, customer_id) if one["id"] != session["payment_intent"])
    saved = stripe.account.one(session["payment_intent"])
    assert saved is not None
    assert (by_itself["customer"], by_itself["payment_method"]) == (session["customer"], saved["payment_method"])


@pytest.mark.parametrize("change", [{"frozen": True}, {"auto_top_up": None}])
def test_what_is_not_wanted_any_more_is_not_charged_though_it_was_tried(
    api: httpx.Client, customer_id: str, stripe: StripeStandIn, change: dict[str, Any]
) -> None:
    card = fills_itself(api, stripe, customer_id)
    stripe.faults = SlowPayments()
    charge(api, customer_id, credits=60)
    eventually(lambda: was_tried(stripe, card))
    assert api.patch(f"/v1/wallets/{customer_id}", json=change).status_code == 200
    stripe.faults = Faults()

    def attempt() -> dict[str, Any]:
        return api.get("/v1/checkouts", params={"customer_id": customer_id}).json()["checkouts"][0]

    eventually(lambda: attempt()["status"] == "failed")
    assert attempt()["failure"] == ("wallet_frozen" if "frozen" in change else "not_wanted")
    assert (intents_of(stripe, customer_id), balance(api, customer_id)) == ([], 90)


class KillAt(DropOne):
    """The server dies at one of the calls of an attempt; those about other things do not count."""

    def before(self, call: Call) -> Fault:
        return None if call.path == "/v1/events" else super().before(call)


@pytest.mark.sqlite  # what Stripe is asked does not depend on the database
@pytest.mark.parametrize("carried_out", [False, True])
def test_a_kill_at_each_call_of_an_attempt_charges_once(
    new_server: StartServer, own_stripe: StripeStandIn, tmp_path: Path, carried_out: bool
) -> None:
    """It dies at its first call, and when it is back, at each of those by which it goes on.

    Before Stripe does what it is asked, or after.
    """
    server = new_server(**own_stripe.env, **with_limits(tmp_path, **HURRY))
    for number in range(CALLS_MAX):
        customer = f"u{number}"
        with server.client() as api:
            fills_itself(api, own_stripe, customer)
            kill = KillAt(0, carried_out=carried_out, then=lambda: server.stop(signal.SIGKILL))
            own_stripe.faults = kill
            charge(api, customer, credits=60)
            assert kill.dropped.wait(SECONDS_MAX)
        again = KillAt(number, carried_out=carried_out, then=lambda: server.stop(signal.SIGKILL))
        own_stripe.faults = again
        with contextlib.suppress(RuntimeError):  # it may die before it is seen to be ready
            server.start()
        with server.client() as api, contextlib.suppress(httpx.HTTPError):
            eventually(lambda: again.dropped.is_set() or balance(api, customer) == 590)  # noqa: B023
        own_stripe.faults = Faults()
        if killed := again.seen > number:
            assert again.dropped.wait(SECONDS_MAX)
            server.start()
        with server.client() as api:
            eventually(lambda: balance(api, customer) == 590)  # noqa: B023
            assert [one["credits"] for one in whole_ledger(api, customer, kind="top_up")] == [500]
        assert [one["status"] for one in intents_of(own_stripe, customer)] == ["succeeded"]
        if not killed:
            assert number >= LEAST_CALLS
            return
    raise AssertionError("an attempt makes more calls than were tried")
