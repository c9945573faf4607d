"""A checkout: made at Stripe, paid there, and landed once, whoever reports it."""

import asyncio
import concurrent.futures
import contextlib
import signal
import sqlite3
from typing import Any

import httpx
import pytest
from payments.stripe_stand_in import Buy, StripeStandIn, deliver, event
from serving import ALLOWED_ORIGIN, ServerProcess, StartServer, balance, error_of, next_wallet, whole_ledger

COMPLETED = "checkout.session.completed"


def status(api: httpx.Client, checkout: dict[str, Any]) -> str:
    return api.get(f"/v1/checkouts/{checkout['id']}/status").json()["status"]


def test_a_checkout_is_made_at_stripe_with_our_ids_and_price(
    buy: Buy, server: ServerProcess, customer: str, stripe: StripeStandIn
) -> None:
    answer = buy()
    checkout = answer.json()
    assert (checkout["status"], checkout["credits"], checkout["amount"], checkout["currency"]) == (
        "open",
        500,
        1000,
        "usd",
    )
    assert checkout["url"] == f"{stripe.address}/pay"
    headers, form = stripe.requests[-1]
    assert headers["authorization"] == "Bearer sk_test_stand_in"
    assert headers["idempotency-key"].startswith(checkout["id"])
    ours = {"chargly_checkout": checkout["id"], "chargly_customer": customer}
    assert form["metadata"] == form["payment_intent_data"]["metadata"] == ours
    item = form["line_items"]["0"]
    assert (item["quantity"], item["price_data"]["unit_amount"], item["price_data"]["currency"]) == ("1", "1000", "usd")
    assert (form["mode"], form["client_reference_id"]) == ("payment", checkout["id"])
    assert form["success_url"] == f"{server.address}/top-up/return?checkout={checkout['id']}"


def test_a_buyer_returns_to_an_allowed_origin(buy: Buy, server: ServerProcess, stripe: StripeStandIn) -> None:
    assert buy(success_url=f"{ALLOWED_ORIGIN}/ok?a=1", cancel_url=f"{server.address}/no").status_code == 201
    _, form = stripe.requests[-1]
    assert (form["success_url"], form["cancel_url"]) == (f"{ALLOWED_ORIGIN}/ok?a=1", f"{server.address}/no")


@pytest.mark.parametrize("field", ["success_url", "cancel_url"])
@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/ok",
        "https://app.example.com.evil.com/ok",
        "https://app.example.com@evil.com/ok",
        "http://app.example.com/ok",
        "javascript:alert(1)",
        "//app.example.com/ok",
        "/ok",
        "",
        "http://[",
        f"{ALLOWED_ORIGIN}\\@evil.com",
        f"{ALLOWED_ORIGIN}/\n",
        f"{ALLOWED_ORIGIN}/" + "x" * 2000,
    ],
)
def test_a_buyer_is_never_sent_elsewhere(buy: Buy, field: str, url: str) -> None:
    assert error_of(buy(**{field: url}), 400, "invalid_request")["field"] == field


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"pack": ""}, "pack"),
        ({"customer_id": "a/b"}, "customer_id"),
        ({"amount": 1}, "amount"),
    ],
)
def test_a_bad_checkout_is_refused_by_its_field(buy: Buy, fields: dict[str, Any], field: str) -> None:
    assert error_of(buy(**fields), 400, "invalid_request")["field"] == field


def test_an_unknown_pack_is_not_found(buy: Buy) -> None:
    assert error_of(buy(pack="nothing"), 404, "not_found")["field"] == "pack"


def test_a_token_buys_for_its_own_wallet_alone(server: ServerProcess, customer: str, stripe: StripeStandIn) -> None:
    with server.client(server.token(customer)) as browser:
        checkout = browser.post("/v1/checkouts", json={"customer_id": customer, "pack": "chargly_500"}).json()
        assert browser.get(f"/v1/checkouts/{checkout['id']}").json()["id"] == checkout["id"]
        other = browser.post("/v1/checkouts", json={"customer_id": "somebody", "pack": "chargly_500"})
        error_of(other, 403, "forbidden_scope")
    with server.client(server.token("somebody")) as stranger:
        error_of(stranger.get(f"/v1/checkouts/{checkout['id']}"), 404, "not_found")


async def test_a_payment_reported_twenty_times_at_once_lands_once_and_is_pushed(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    paid = event(COMPLETED, stripe.pay(bought["id"]))
    async with server.live(server.token(customer)) as ws:
        assert (await next_wallet(ws))["balance"] == 100
        answers = await asyncio.gather(*[asyncio.to_thread(deliver, server, paid) for _ in range(20)])
        assert {(one.status_code, one.json()["received"]) for one in answers} == {(200, "handled")}
        pushed = await next_wallet(ws)
    assert (pushed["balance"], pushed["version"]) == (600, 2)
    assert [(one["kind"], one["credits"]) for one in pushed["entries"]] == [("top_up", 500)]
    assert deliver(server, event(COMPLETED, stripe.session_of(bought["id"]))).status_code == 200
    wallet = api.get(f"/v1/wallets/{customer}").json()
    assert (wallet["balance"], [one["category"] for one in wallet["grants"]]) == (600, ["promotional", "paid"])
    assert wallet["grants"][1]["source"] == bought["id"]
    assert status(api, bought) == "paid"


def test_a_payment_lands_when_the_checkout_is_read_before_the_webhook(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    session = stripe.pay(bought["id"])
    assert status(api, bought) == "paid"
    assert balance(api, customer) == 600
    assert deliver(server, event(COMPLETED, session)).status_code == 200
    assert balance(api, customer) == 600


def test_a_payment_reported_and_read_at_once_lands_once(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    paid = event(COMPLETED, stripe.pay(bought["id"]))
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        told = [pool.submit(deliver, server, paid) for _ in range(5)]
        told += [pool.submit(httpx.get, f"{server.address}/v1/checkouts/{bought['id']}/status") for _ in range(5)]
        assert {one.result().status_code for one in told} == {200}
    assert [one["credits"] for one in whole_ledger(api, customer)] == [500, 100]


def test_an_open_checkout_is_asked_about_at_most_once_in_two_seconds(
    api: httpx.Client, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    path = f"/v1/checkout/sessions/{stripe.session_of(bought['id'])['id']}"
    assert {status(api, bought) for _ in range(5)} == {"open"}
    assert sum(call.path == path for call in stripe.calls) == 1


def test_a_payment_that_takes_days_is_processing_until_it_lands(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    session = stripe.pay(bought["id"], payment_status="unpaid")
    deliver(server, event(COMPLETED, session))
    assert (status(api, bought), balance(api, customer)) == ("processing", 100)
    stripe.pay(bought["id"])
    deliver(server, event("checkout.session.async_payment_succeeded", session))
    assert (status(api, bought), balance(api, customer)) == ("paid", 600)


def test_a_payment_that_fails_after_days_grants_nothing(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    session = stripe.pay(bought["id"], payment_status="unpaid")
    deliver(server, event(COMPLETED, session))
    deliver(server, event("checkout.session.async_payment_failed", session))
    deliver(server, event(COMPLETED, session))
    assert (status(api, bought), balance(api, customer)) == ("failed", 100)


def test_an_expired_checkout_grants_nothing_and_a_late_payment_still_lands(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    session = stripe.pay(bought["id"], status="expired", payment_status="unpaid")
    deliver(server, event("checkout.session.expired", session))
    assert (status(api, bought), balance(api, customer)) == ("expired", 100)
    deliver(server, event(COMPLETED, stripe.pay(bought["id"])))
    assert (status(api, bought), balance(api, customer)) == ("paid", 600)
    deliver(server, event("checkout.session.expired", session | {"status": "expired"}))
    assert status(api, bought) == "paid"


@pytest.mark.parametrize("changes", [{"amount_subtotal": 1}, {"currency": "jpy"}, {"amount_subtotal": None}])
def test_another_amount_or_currency_than_the_checkouts_grants_nothing(
    server: ServerProcess,
    api: httpx.Client,
    customer: str,
    bought: dict[str, Any],
    stripe: StripeStandIn,
    changes: dict[str, Any],
) -> None:
    deliver(server, event(COMPLETED, stripe.pay(bought["id"], **changes)))
    assert (status(api, bought), balance(api, customer)) == ("open", 100)


def test_tax_and_a_promotion_code_move_the_total_and_not_the_credits(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    deliver(server, event(COMPLETED, stripe.pay(bought["id"], amount_total=0, payment_status="no_payment_required")))
    assert balance(api, customer) == 600


@pytest.mark.parametrize(
    ("kind", "changes", "of_session"),
    [
        (COMPLETED, {"livemode": True}, {}),
        ("charge.succeeded", {}, {}),
        ("something.new", {}, {}),
        (COMPLETED, {}, {"id": "cs_test_another", "payment_status": "unpaid"}),
        (COMPLETED, {}, {"metadata": {}}),
        (COMPLETED, {}, {"metadata": None}),
        (COMPLETED, {}, {"metadata": {"chargly_checkout": "co_unknown"}}),
    ],
)
def test_what_is_not_ours_or_not_known_is_ignored(
    server: ServerProcess,
    api: httpx.Client,
    customer: str,
    bought: dict[str, Any],
    stripe: StripeStandIn,
    kind: str,
    changes: dict[str, Any],
    of_session: dict[str, Any],
) -> None:
    answer = deliver(server, event(kind, stripe.pay(bought["id"]) | of_session, **changes))
    assert (answer.status_code, answer.json()) == (200, {"received": "ignored"})
    assert balance(api, customer) == 100


def test_the_status_page_tells_no_more_than_a_buyer_may_know(server: ServerProcess, bought: dict[str, Any]) -> None:
    with server.client(None) as anybody:
        answer = anybody.get(f"/v1/checkouts/{bought['id']}/status")
        error_of(anybody.get("/v1/checkouts/co_unknown/status"), 404, "not_found")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {"id": bought["id"], "status": "open", "credits": 500, "amount": 1000, "currency": "usd"}


def test_a_keyed_checkout_is_made_once(buy: Buy, server: ServerProcess, stripe: StripeStandIn) -> None:
    first, again = buy(idempotency_key="k"), buy(idempotency_key="k")
    assert (again.status_code, again.json()) == (201, first.json())
    error_of(buy(idempotency_key="k", pack="chargly_1200"), 409, "idempotency_conflict")
    deliver(server, event(COMPLETED, stripe.pay(first.json()["id"])))
    paid = buy(idempotency_key="k")
    assert (paid.status_code, paid.json()["id"], paid.json()["url"]) == (201, first.json()["id"], first.json()["url"])


def test_a_replayed_checkout_says_so(buy: Buy) -> None:
    assert "idempotent-replayed" not in buy(idempotency_key="k").headers
    assert buy(idempotency_key="k").headers.get("idempotent-replayed") == "true"


def test_a_keyed_checkout_asked_for_ten_times_at_once_is_one(buy: Buy) -> None:
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: buy(idempotency_key="at once"), range(10)))
    assert {one.status_code for one in answers} == {201}
    assert len({one.json()["id"] for one in answers}) == 1


def test_a_pack_changed_after_the_checkout_lands_as_it_was_bought(
    new_server: StartServer, stripe: StripeStandIn
) -> None:
    server = new_server(**stripe.env)
    with server.client() as api:
        checkout = api.post("/v1/checkouts", json={"customer_id": "u", "pack": "chargly_500"}).json()
        api.put("/v1/packs/chargly_500", json={"name": "Less", "credits": 1, "amount": 5})
        api.delete("/v1/packs/chargly_500")
        deliver(server, event(COMPLETED, stripe.pay(checkout["id"])))
        assert balance(api, "u") == 500
        assert whole_ledger(api, "u")[0]["description"] == "Top-up: Starter"


def test_a_kill_between_stripes_answer_and_ours_is_put_right_by_the_webhook(
    new_server: StartServer, stripe: StripeStandIn
) -> None:
    server = new_server(**stripe.env)
    body = {"customer_id": "u", "pack": "chargly_500", "idempotency_key": "k"}
    known = set(stripe.sessions)
    stripe.answer, stripe.drip = (200, b" " * 10_000), True
    with server.client() as api, concurrent.futures.ThreadPoolExecutor(1) as pool:
        asking = pool.submit(api.post, "/v1/checkouts", json=body)
        assert stripe.asked.wait(5)
        server.stop(signal.SIGKILL)
        assert isinstance(asking.exception(), httpx.HTTPError)
    headers, form = stripe.requests[-1]
    stripe.answer, stripe.drip = None, False
    stripe.create(headers, form)
    [session_id] = set(stripe.sessions) - known
    checkout_id = stripe.sessions[session_id]["client_reference_id"]
    server.start()
    with server.client() as api:
        assert deliver(server, event(COMPLETED, stripe.pay(checkout_id))).json() == {"received": "handled"}
        assert (status(api, {"id": checkout_id}), balance(api, "u")) == ("paid", 500)
        deliver(server, event(COMPLETED, stripe.session_of(checkout_id)))
        assert balance(api, "u") == 500


def test_a_key_means_one_thing_in_a_wallet_whatever_it_was_sent_with(
    api: httpx.Client, buy: Buy, customer: str
) -> None:
    def meter(key: str) -> httpx.Response:
        return api.post("/v1/events", json={"customer_id": customer, "event": "chat.reply", "idempotency_key": key})

    assert buy(idempotency_key="bought").status_code == 201
    error_of(meter("bought"), 409, "idempotency_conflict")
    assert meter("metered").status_code == 201
    error_of(buy(idempotency_key="metered"), 409, "idempotency_conflict")
    assert balance(api, customer) == 92


def test_a_second_session_of_a_checkout_lands_once_if_it_was_paid_and_is_ignored_if_not(
    server: ServerProcess, api: httpx.Client, customer: str, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    expired = stripe.session_of(bought["id"]) | {"id": "cs_other", "status": "expired", "payment_status": "unpaid"}
    assert deliver(server, event("checkout.session.expired", expired)).json() == {"received": "ignored"}
    assert status(api, bought) == "open"
    paid = stripe.pay(bought["id"])
    for session in (paid | {"id": "cs_other"}, paid, paid | {"id": "cs_other"}):
        assert deliver(server, event(COMPLETED, session)).json() == {"received": "handled"}
    assert balance(api, customer) == 600


@pytest.mark.sqlite
def test_a_checkout_that_stripe_never_answered_is_told_as_expired_when_its_time_is_over(
    new_server: StartServer, stripe: StripeStandIn
) -> None:
    server = new_server(**stripe.env | {"STRIPE_API_BASE": "http://127.0.0.1:1"})
    with server.client() as api:
        assert api.post("/v1/checkouts", json={"customer_id": "u", "pack": "chargly_500"}).status_code == 502
        with contextlib.closing(sqlite3.connect(server.folder / "ledger.db")) as db, db:
            [(checkout_id,)] = db.execute("SELECT id FROM checkouts").fetchall()
            db.execute("UPDATE checkouts SET expires_at = 1")
        assert api.get(f"/v1/checkouts/{checkout_id}").json()["status"] == "expired"
