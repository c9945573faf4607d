"""A stand-in for Stripe, and a server that buys there."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from payments.stripe_stand_in import Buy, StripeStandIn
from serving import ServerProcess


@pytest.fixture(scope="session")
def shared_stripe() -> Iterator[StripeStandIn]:
    """One stand-in for all tests."""
    with StripeStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def stripe(shared_stripe: StripeStandIn) -> Iterator[StripeStandIn]:
    """The stand-in, which behaves again after each test."""
    shared_stripe.behave()
    yield shared_stripe
    shared_stripe.behave()


@pytest.fixture
def own_stripe() -> Iterator[StripeStandIn]:
    """A stand-in of one test alone, whose account nobody else has used."""
    with StripeStandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def server(
    new_database: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, shared_stripe: StripeStandIn
) -> Iterator[ServerProcess]:
    """The shared server of these tests, with keys for the stand-in."""
    folder = tmp_path_factory.mktemp("server")
    running = ServerProcess(folder, DATABASE_URL=new_database(folder), **shared_stripe.env).start()
    yield running
    running.stop()


@pytest.fixture
def bought(api: httpx.Client, customer: str, stripe: StripeStandIn) -> dict[str, Any]:
    """An open checkout of 500 credits for a customer with 100."""
    answer = api.post("/v1/checkouts", json={"customer_id": customer, "pack": "chargly_500"})
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
def buy(api: httpx.Client, customer: str, stripe: StripeStandIn) -> Buy:
    """Asks for a checkout of 500 credits, with further fields."""

    def ask(**fields: Any) -> httpx.Response:
        return api.post("/v1/checkouts", json={"customer_id": customer, "pack": "chargly_500"} | fields)

    return ask
