"""What the sandbox knows of payments that were made before it started."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from serving import ServerProcess, balance, error_of, grant

from app.config import Config
from app.demo.stripe_account import StripeAccount
from app.demo.stripe_cards import GOOD_CARD
from app.rules.operations import AskRefund, OpenWallet
from app.store import checkouts
from app.store.catalogue import CatalogueStore
from app.store.checkouts import Bought, Checkout
from app.store.db import Database
from app.store.writer import Writer

SECONDS_MAX = 10
OVER = 1_700_000_000
"""When the purchases below were begun, in seconds since 1970."""


@pytest.fixture
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path_factory.mktemp("demo"), "demo").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def with_history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path_factory.mktemp("history"), "demo --history").start()
    yield running
    running.stop()


def again(demo: ServerProcess) -> None:
    demo.stop()
    demo.start()


def bought(api: httpx.Client, customer_id: str, **fields: Any) -> str:
    """A paid checkout of 500 credits for $10."""
    asked = {"customer_id": customer_id, "pack": "chargly_500", **fields}
    checkout = api.post("/v1/checkouts", json=asked).raise_for_status().json()
    session = checkout["url"].rsplit("/", 1)[-1]
    api.post(f"/sandbox/sessions/{session}/pay", json={"card": GOOD_CARD}).raise_for_status()
    becomes(api, customer_id, 500)
    return str(checkout["id"])


def becomes(api: httpx.Client, customer_id: str, credits: int) -> None:
    """Waits until the webhooks have made a balance."""
    deadline = time.monotonic() + SECONDS_MAX
    while balance(api, customer_id) != credits:
        assert time.monotonic() < deadline, balance(api, customer_id)
        time.sleep(0.05)


def refund(api: httpx.Client, checkout_id: str, **fields: Any) -> httpx.Response:
    return api.post(f"/v1/checkouts/{checkout_id}/refund", json=fields)


def payment_of(api: httpx.Client, customer_id: str) -> dict[str, Any]:
    shown = api.get("/sandbox/payments").raise_for_status().json()["payments"]
    [found] = [one for one in shown if one["customer_id"] == customer_id]
    return dict(found)


def test_a_purchase_is_refunded_after_a_restart_and_no_further_than_it_was_paid(demo: ServerProcess) -> None:
    with demo.client() as api:
        api.post("/v1/wallets", json={"customer_id": "ada"}).raise_for_status()
        checkout = bought(api, "ada")
        before = payment_of(api, "ada")
        again(demo)
        after = payment_of(api, "ada")
        assert after | {"created_at": before["created_at"]} == before
        half = refund(api, checkout, amount=500, idempotency_key="half").raise_for_status().json()
        assert (half["status"], half["amount_refunded"], balance(api, "ada")) == ("partially_refunded", 500, 250)
        again(demo)
        assert refund(api, checkout, amount=500, idempotency_key="half").json()["amount_refunded"] == 500
        assert error_of(refund(api, checkout, amount=501), 400, "invalid_request")["left"] == 500
        assert (payment_of(api, "ada")["state"], balance(api, "ada")) == ("partly_refunded", 250)
        assert refund(api, checkout).raise_for_status().json()["status"] == "refunded"
        again(demo)
        assert error_of(refund(api, checkout), 400, "invalid_request")["left"] == 0
        shown = payment_of(api, "ada")
        assert (shown["state"], shown["refunded"], balance(api, "ada")) == ("refunded", 1000, 0)


def test_a_dispute_outlives_a_restart_and_is_won_after_it(demo: ServerProcess) -> None:
    with demo.client() as api:
        api.post("/v1/wallets", json={"customer_id": "bob"}).raise_for_status()
        checkout = bought(api, "bob")
        path = f"/sandbox/payments/{payment_of(api, 'bob')['id']}"
        api.post(path, json={"action": "dispute"}).raise_for_status()
        becomes(api, "bob", 0)
        again(demo)
        assert payment_of(api, "bob")["state"] == "disputed"
        error_of(refund(api, checkout), 400, "invalid_request")
        api.post(path, json={"action": "win"}).raise_for_status()
        becomes(api, "bob", 500)
        assert refund(api, checkout, amount=100).raise_for_status().json()["amount_refunded"] == 100


def test_nothing_of_it_is_told_to_the_server_again(demo: ServerProcess) -> None:
    with demo.client() as api:
        api.post("/v1/wallets", json={"customer_id": "eve"}).raise_for_status()
        bought(api, "eve")
        again(demo)
        assert api.get("/sandbox/v1/events").json()["data"] == []
        grant(api, "eve", 1)
        assert len(api.get("/v1/wallets/eve/entries").json()["entries"]) == 2


def test_a_purchase_of_a_history_is_refunded(with_history: ServerProcess) -> None:
    with with_history.client() as api:
        paid = api.get("/v1/checkouts", params={"status": "paid", "limit": "100"}).raise_for_status().json()
        oldest = paid["checkouts"][-1]
        answer = refund(api, oldest["id"], amount=oldest["amount_paid"] // 2, reason="asked nicely")
        half = answer.raise_for_status().json()
        assert (half["status"], half["amount_refunded"]) == ("partially_refunded", oldest["amount_paid"] // 2)
        entries = api.get(f"/v1/wallets/{oldest['customer_id']}/entries", params={"kind": "refund"}).json()["entries"]
        assert entries[0]["credits"] < 0


def test_what_went_back_of_a_history_is_gone(with_history: ServerProcess) -> None:
    with with_history.client() as api:
        for status in ("refunded", "disputed"):
            found = api.get("/v1/checkouts", params={"status": status}).raise_for_status().json()["checkouts"]
            assert error_of(refund(api, found[0]["id"]), 400, "invalid_request")["left"] == 0
        [partly, *_] = api.get("/v1/checkouts", params={"status": "partially_refunded"}).json()["checkouts"][::-1]
        too_much = refund(api, partly["id"], amount=partly["amount_paid"])
        assert error_of(too_much, 400, "invalid_request")["left"] == partly["amount_paid"] - partly["amount_refunded"]


def test_a_payment_of_a_history_moves_by_webhook(with_history: ServerProcess) -> None:
    with with_history.client() as api:
        shown = api.get("/sandbox/payments").raise_for_status().json()["payments"]
        assert len(shown) == 50
        assert [one["created_at"] for one in shown] == sorted((one["created_at"] for one in shown), reverse=True)
        chosen = next(one for one in shown if one["state"] == "paid")
        done = api.post(f"/sandbox/payments/{chosen['id']}", json={"action": "refund_rest"}).raise_for_status().json()
        assert done["events"] == ["charge.refunded", "refund.created"]
        query = {"customer_id": chosen["customer_id"], "status": "refunded"}
        deadline = time.monotonic() + SECONDS_MAX
        while not (found := api.get("/v1/checkouts", params=query).json()["checkouts"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert found[0]["amount_refunded"] == chosen["amount"]


# The account


def purchase(**fields: Any) -> Checkout:
    return Checkout(
        **{
            "id": "co_1",
            "customer_id": "ada",
            "pack": "chargly_500",
            "description": "Starter: 500 credits",
            "credits": 500,
            "amount": 1000,
            "currency": "usd",
            "status": "paid",
            "created_at": OVER * 1000,
            "expires_at": (OVER + 1800) * 1000,
            "payment_intent": "pi_1",
            "amount_paid": 1000,
            **fields,
        }
    )


@pytest.fixture
def account() -> StripeAccount:
    return StripeAccount("https://pay.example/{}".format, clock=lambda: OVER + 1e6)


def test_a_checkout_has_all_that_one_has_that_was_paid_here(account: StripeAccount) -> None:
    account.learn([Bought(purchase(session_id="cs_1"), ())])
    [session], [intent], [charge] = map(account.all, ("checkout.session", "payment_intent", "charge"))
    assert (session["id"], session["payment_intent"], session["payment_status"]) == ("cs_1", "pi_1", "paid")
    assert (intent["id"], intent["status"], intent["created"], intent["amount_received"]) == (
        *("pi_1", "succeeded", OVER, 1000),
    )
    assert intent["metadata"] == {"chargly_checkout": "co_1", "chargly_customer": "ada"}
    assert (charge["payment_intent"], charge["amount_captured"], charge["paid"]) == ("pi_1", 1000, True)
    assert account.description("cs_1") == "Starter: 500 credits"
    assert account.events() == []
    account.learn([Bought(purchase(session_id="cs_1"), ())])
    assert len(account.all("charge")) == 1


@pytest.mark.parametrize(("paid", "tax", "discount"), [(1100, 100, 0), (900, 0, 100)])
def test_what_was_paid_beyond_the_price_was_tax_and_what_was_not_a_promotions(
    account: StripeAccount, paid: int, tax: int, discount: int
) -> None:
    account.learn([Bought(purchase(amount_paid=paid, stripe_customer="cus_1"), ())])
    [session] = account.all("checkout.session")
    assert (session["amount_subtotal"], session["amount_total"], session["customer"]) == (1000, paid, "cus_1")
    assert session["total_details"] == {"amount_discount": discount, "amount_shipping": 0, "amount_tax": tax}


def test_an_automatic_top_up_has_no_session(account: StripeAccount) -> None:
    account.learn([Bought(purchase(kind="auto_top_up", stripe_customer="cus_1", payment_method="pm_1"), ())])
    [intent] = account.all("payment_intent", customer="cus_1")
    assert intent["description"] == "Starter: 500 credits"
    assert account.all("checkout.session") == []
    status, error = account.call(
        "POST",
        "/v1/payment_intents",
        {"amount": "1", "currency": "usd", "customer": "cus_1", "payment_method": "pm_1", "confirm": "true"},
    )
    assert (status, error["error"]["code"]) == (400, "resource_missing"), "its card is forgotten"


def test_an_invoice_names_its_payment(account: StripeAccount) -> None:
    account.learn([Bought(purchase(id="co_in_1", kind="subscription"), ())])
    invoice = account.one("in_1")
    assert invoice is not None
    assert (invoice["status"], invoice["amount_paid"]) == ("paid", 1000)
    [payment] = account.all("invoice_payment", invoice="in_1")
    assert payment["payment"]["payment_intent"] == "pi_1"
    assert account.refund("in_1")["amount"] == 1000


def test_a_refund_is_known_by_the_request_that_asked_for_it(account: StripeAccount) -> None:
    asked = (("rfd_1", 300), ("rfd_refused", 5000), ("rfd_2", 200))
    account.learn([Bought(purchase(amount_refunded=600, amount_disputed=400), asked)])
    refunds = account.all("refund", payment_intent="pi_1")[::-1]
    assert [(one["amount"], one["metadata"].get("chargly_refund")) for one in refunds] == [
        (300, "rfd_1"),
        (200, "rfd_2"),
        (100, None),
    ]
    [dispute] = account.all("dispute", payment_intent="pi_1")
    assert (dispute["amount"], dispute["status"], dispute["created"]) == (400, "needs_response", OVER + 1_000_000)
    [charge] = account.all("charge")
    assert (charge["amount_refunded"], charge["disputed"]) == (600, True)


# What the ledger knows


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    opened = Database(Config(database_url=database_url))
    await opened.open()
    yield opened
    await opened.close()


async def test_the_newest_that_took_money_are_known_with_their_refunds(db: Database) -> None:
    for number, fields in enumerate(
        [
            {},
            {"status": "open", "payment_intent": None, "amount_paid": None},
            {"payment_intent": None, "amount_paid": 0},
            {"status": "partially_refunded", "amount_refunded": 300},
            {},
        ]
    ):
        made = {"id": f"co_{number}", "payment_intent": f"pi_{number}", "created_at": OVER + number, **fields}
        await checkouts.create(db, purchase(**made))
    config = Config()
    writer = Writer(db, CatalogueStore(db, config.limits), config, lambda _changes, _generation: None)
    await writer.submit(OpenWallet(customer_id="ada", id="set_1"))
    for id in ("rfd_1", "rfd_2"):
        await writer.submit(AskRefund(customer_id="ada", id=id, checkout_id="co_3", description="Starter", amount=150))
    await writer.close()
    found = await checkouts.bought(db, limit=2)
    assert [(one.checkout.id, one.refunds) for one in found] == [
        ("co_3", [("rfd_1", 150), ("rfd_2", 150)]),
        ("co_4", []),
    ]
    assert [one.checkout.id for one in await checkouts.bought(db, limit=10)] == ["co_0", "co_3", "co_4"]
