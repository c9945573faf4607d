"""Stripe slow, down, strange or not set: a named refusal in bounded time, and nothing is granted."""

import time
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from payments.stripe_stand_in import Buy, StripeStandIn, deliver, event
from serving import ServerProcess, StartServer, balance, error_of

from app.config import Config, Limits
from app.errors import StripeUnavailable
from app.payments.gateway import Gateway

SECONDS_MAX = 5


@pytest.fixture
def hurried(stripe: StripeStandIn) -> Config:
    """The configuration of a gateway that waits a fifth of a second, and tries twice."""
    return Config(
        stripe_secret_key="sk_test_stand_in",
        stripe_webhook_secrets=("whsec_x",),
        stripe_api_base=stripe.address,
        limits=Limits(stripe_timeout_seconds=0.2, stripe_retries_max=1),
    )


async def unavailable_within(config: Config, seconds_max: float) -> None:
    """Reads a session, which must be refused in time."""
    gateway = Gateway(config)
    begun = time.monotonic()
    try:
        with pytest.raises(StripeUnavailable):
            await gateway.api.read_session("cs_test_1")
    finally:
        await gateway.close()
    assert time.monotonic() - begun < seconds_max


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (500, b"{}"),
        (503, b"<html>down</html>"),
        (429, b'{"error": {"type": "rate_limit_error", "message": "slow down"}}'),
        (401, b'{"error": {"type": "invalid_request_error", "message": "Invalid API Key"}}'),
        (400, b'{"error": {"type": "invalid_request_error", "message": "no"}}'),
        (200, b"<html>a captive portal</html>"),
        (200, b"{}"),
        (200, b"[]"),
        (200, b'{"id": "cs_test_1", "object": "checkout.session", "url": null}'),
    ],
    ids=["500", "503", "429", "401", "400", "html", "empty", "list", "no url"],
)
def test_whatever_stripe_says_instead_of_a_session_is_one_refusal(
    buy: Buy, api: httpx.Client, customer: str, stripe: StripeStandIn, status: int, content: bytes
) -> None:
    stripe.answer = (status, content)
    error_of(buy(), 502, "stripe_unavailable")
    assert balance(api, customer) == 100


def test_a_checkout_refused_while_stripe_was_down_works_later_with_its_key(buy: Buy, stripe: StripeStandIn) -> None:
    stripe.answer = (500, b"{}")
    error_of(buy(idempotency_key="k"), 502, "stripe_unavailable")
    stripe.answer = None
    assert buy(idempotency_key="k").json()["url"] == f"{stripe.address}/pay"


def test_a_checkout_can_be_read_while_stripe_is_down(
    api: httpx.Client, bought: dict[str, Any], stripe: StripeStandIn
) -> None:
    stripe.answer = (500, b"{}")
    assert api.get(f"/v1/checkouts/{bought['id']}").json()["status"] == "open"


def test_nobody_at_stripes_address_is_the_same_refusal(new_server: StartServer, stripe: StripeStandIn) -> None:
    server = new_server(**stripe.env | {"STRIPE_API_BASE": "http://127.0.0.1:9"})
    with server.client() as api:
        begun = time.monotonic()
        error_of(api.post("/v1/checkouts", json={"customer_id": "u", "pack": "chargly_500"}), 502, "stripe_unavailable")
        assert time.monotonic() - begun < SECONDS_MAX
        error_of(api.get("/v1/wallets/u"), 404, "not_found")


async def test_a_stripe_that_hangs_holds_nobody_for_long(hurried: Config, stripe: StripeStandIn) -> None:
    stripe.answer, stripe.drip = (200, b""), True
    await unavailable_within(hurried, SECONDS_MAX)


async def test_a_stripe_that_drips_a_byte_now_and_then_holds_nobody_for_long(
    hurried: Config, stripe: StripeStandIn
) -> None:
    stripe.answer, stripe.drip = (200, b" " * 200), True
    await unavailable_within(hurried, SECONDS_MAX)


async def test_nobody_at_stripes_address_holds_nobody_for_long(hurried: Config, stripe: StripeStandIn) -> None:
    await unavailable_within(replace(hurried, stripe_api_base="http://127.0.0.1:9"), SECONDS_MAX)


def test_metering_goes_on_while_stripe_hangs(
    api: httpx.Client, server: ServerProcess, customer: str, stripe: StripeStandIn
) -> None:
    stripe.answer, stripe.drip = (200, b" " * 40), True
    with server.client() as other:
        other.timeout = httpx.Timeout(0.5)
        with pytest.raises(httpx.ReadTimeout):
            other.post("/v1/checkouts", json={"customer_id": customer, "pack": "chargly_500"})
        begun = time.monotonic()
        answer = api.post("/v1/events", json={"customer_id": customer, "event": "chat.reply"})
        assert answer.status_code == 201
        assert time.monotonic() - begun < 1


def test_without_keys_a_checkout_is_refused_and_so_is_a_webhook(new_server: StartServer) -> None:
    server = new_server()
    with server.client() as api:
        answer = api.post("/v1/checkouts", json={"customer_id": "u", "pack": "chargly_500"})
        error_of(answer, 503, "stripe_not_configured")
        assert api.get("/v1/packs").status_code == 200
    error_of(deliver(server, event("checkout.session.completed", {"id": "cs"})), 503, "stripe_not_configured")
