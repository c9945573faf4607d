"""The sandbox in the demo's server: how a checkout can be paid, and what its dashboard does to a wallet."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from serving import ServerProcess, balance, error_of, next_wallet

from app.demo.stripe_cards import AUTHENTICATED_CARD, GOOD_CARD

SECONDS_MAX = 10
Buy = Callable[..., str]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A demo whose agents rest, and whose checkouts take promotion codes and have tax."""
    folder = tmp_path_factory.mktemp("sandbox")
    running = ServerProcess(folder, "demo", CHARGLY_PROMOTION_CODES="true", CHARGLY_AUTOMATIC_TAX="true").start()
    with running.client() as api:
        api.put("/demo/autoplay", json={"running": False, "speed": "normal"})
        pack = {"name": "Monthly", "credits": 2000, "amount": 3000, "stripe_price": "price_monthly"}
        api.put("/v1/packs/monthly", json=pack).raise_for_status()
    yield running
    running.stop()


@pytest.fixture
def api(demo: ServerProcess) -> Iterator[httpx.Client]:
    with demo.client() as client:
        yield client


@pytest.fixture
def wallet(api: httpx.Client, request: pytest.FixtureRequest) -> str:
    """An empty wallet."""
    made = f"user_{time.time_ns()}"
    api.post("/v1/wallets", json={"customer_id": made}).raise_for_status()
    return made


@pytest.fixture
def buy(api: httpx.Client, wallet: str) -> Buy:
    """Opens a checkout of 500 credits for $10 and $1 tax, and pays it as it is said."""

    def bought(*, save_card: bool = False, **how: Any) -> str:
        asked = {"customer_id": wallet, "pack": "chargly_500", "save_card": save_card}
        session = api.post("/v1/checkouts", json=asked).raise_for_status().json()["url"].rsplit("/", 1)[-1]
        if how:
            api.post(f"/sandbox/sessions/{session}/pay", json=how).raise_for_status()
        return session

    return bought


def payment(api: httpx.Client, wallet: str) -> dict[str, Any]:
    """The newest payment of a wallet."""
    shown = api.get("/sandbox/payments").raise_for_status().json()["payments"]
    return next(one for one in shown if one["customer_id"] == wallet)


def act(api: httpx.Client, wallet: str, action: str) -> dict[str, Any]:
    path = f"/sandbox/payments/{payment(api, wallet)['id']}"
    return api.post(path, json={"action": action}).raise_for_status().json()


def becomes(api: httpx.Client, wallet: str, credits: int) -> None:
    """Waits until the webhooks have made a balance."""
    deadline = time.monotonic() + SECONDS_MAX
    while balance(api, wallet) != credits:
        assert time.monotonic() < deadline, balance(api, wallet)
        time.sleep(0.05)


def test_the_page_is_told_what_is_due(api: httpx.Client, buy: Buy) -> None:
    shown = api.get(f"/sandbox/sessions/{buy(save_card=True)}").json()
    assert (shown["subtotal"], shown["tax"], shown["amount"]) == (1000, 100, 1100)
    assert (shown["promotion_codes"], shown["keeps_card"]) == (True, True)


def test_tax_is_paid_and_buys_nothing(api: httpx.Client, buy: Buy, wallet: str) -> None:
    session = buy(card=GOOD_CARD)
    becomes(api, wallet, 500)
    assert payment(api, wallet)["amount"] == 1100
    assert api.get(f"/sandbox/sessions/{session}").json()["amount"] == 1100


def test_a_promotion_of_all_lands_without_a_payment(api: httpx.Client, buy: Buy, wallet: str) -> None:
    buy(promotion=True)
    becomes(api, wallet, 500)


@pytest.mark.parametrize(("action", "credits"), [("money_arrives", 500), ("money_fails", 0)])
def test_a_bank_debit_lands_when_its_money_arrives(
    api: httpx.Client, buy: Buy, wallet: str, action: str, credits: int
) -> None:
    buy(bank_debit=True)
    assert payment(api, wallet)["state"] == "processing"
    assert balance(api, wallet) == 0
    done = act(api, wallet, action)
    assert done["events"][-1].startswith("checkout.session.async_payment_")
    becomes(api, wallet, credits)
    assert payment(api, wallet)["state"] == ("paid" if credits else "declined")


def test_a_refund_takes_credits_and_one_that_fails_gives_them_back(api: httpx.Client, buy: Buy, wallet: str) -> None:
    buy(card=GOOD_CARD)
    becomes(api, wallet, 500)
    done = act(api, wallet, "refund_half")
    assert (done["payment"]["state"], done["payment"]["refunded"]) == ("partly_refunded", 550)
    assert done["events"] == ["charge.refunded", "refund.created"]
    becomes(api, wallet, 250)
    assert act(api, wallet, "refund_rest")["payment"]["state"] == "refunded"
    becomes(api, wallet, 0)
    act(api, wallet, "fail_refund")
    becomes(api, wallet, 250)
    assert act(api, wallet, "refund_rest")["payment"]["actions"] == ["fail_refund", "dispute", "inquiry"]


def test_a_dispute_takes_credits_until_it_is_won(api: httpx.Client, buy: Buy, wallet: str) -> None:
    buy(card=AUTHENTICATED_CARD)
    becomes(api, wallet, 500)
    assert act(api, wallet, "inquiry")["payment"]["actions"] == ["refund_half", "refund_rest", "escalate", "win"]
    assert act(api, wallet, "escalate")["payment"]["state"] == "disputed"
    becomes(api, wallet, 0)
    assert act(api, wallet, "win")["payment"]["state"] == "dispute_won"
    becomes(api, wallet, 500)


def test_an_action_that_stripe_would_not_take_is_refused(api: httpx.Client, buy: Buy, wallet: str) -> None:
    buy(card=GOOD_CARD)
    path = f"/sandbox/payments/{payment(api, wallet)['id']}"
    for action in ("win", "fail_refund", "money_arrives"):
        assert error_of(api.post(path, json={"action": action}), 400, "invalid_request")["field"] == "action"
    error_of(api.post(path, json={"action": "burn"}), 400, "invalid_request")
    error_of(api.post("/sandbox/payments/pi_none", json={"action": "win"}), 404, "not_found")


def test_a_form_of_another_site_does_nothing(api: httpx.Client, buy: Buy, wallet: str) -> None:
    buy(card=GOOD_CARD)
    path = f"/sandbox/payments/{payment(api, wallet)['id']}"
    answer = api.post(path, content=b'{"action": "dispute"}', headers={"Content-Type": "text/plain"})
    error_of(answer, 415, "unsupported_media_type")
    assert payment(api, wallet)["state"] == "paid"


async def test_an_invoice_of_a_subscription_grants_its_pack(
    demo: ServerProcess, api: httpx.Client, wallet: str
) -> None:
    assert [one["code"] for one in api.get("/sandbox/payments").json()["packs"]] == ["monthly"]
    async with demo.live(demo.token(wallet)) as ws:
        await next_wallet(ws)
        answer = api.post("/sandbox/invoices", json={"customer_id": wallet, "pack": "monthly"})
        assert answer.status_code == 201, answer.text
        assert (await next_wallet(ws))["balance"] == 2000
    assert answer.json()["payment"]["customer_id"] == wallet
    assert "invoice.paid" in answer.json()["events"]
    unmapped = api.post("/sandbox/invoices", json={"customer_id": wallet, "pack": "chargly_500"})
    assert error_of(unmapped, 400, "invalid_request")["field"] == "pack"


def test_a_body_that_is_no_form_is_stripes_own_error(api: httpx.Client) -> None:
    answer = api.post("/sandbox/v1/customers", content=b"a=1&a[b]=2")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
