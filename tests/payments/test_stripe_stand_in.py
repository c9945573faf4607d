"""The stand-in, as the real `stripe` package meets it: names it does not know, and connections that end."""

import pytest
import stripe
from payments.stripe_params import unknown_to_stripe
from payments.stripe_stand_in import DropOne, Faults, StripeStandIn

from app.demo.stripe_parameters import Form

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""The package hands httpx its body in an older way."""

CUSTOMER = {"email": "ada@example.com"}


@pytest.fixture
def client(own_stripe: StripeStandIn) -> stripe.StripeClient:
    return stripe.StripeClient(
        "sk_test_1",
        base_addresses={"api": own_stripe.address},
        http_client=stripe.HTTPXClient(timeout=5, allow_sync_methods=True),
        max_network_retries=1,
    )


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_call_that_is_not_answered_is_made_again_and_done_once(
    client: stripe.StripeClient, own_stripe: StripeStandIn, *, carried_out: bool
) -> None:
    killed = []
    own_stripe.faults = DropOne(1, carried_out=carried_out, path="/v1/customers", then=lambda: killed.append(1))
    client.v1.customers.create(CUSTOMER)
    client.v1.customers.create(CUSTOMER)
    assert (own_stripe.faults.dropped.is_set(), killed) == (True, [1])
    assert (len(own_stripe.calls), len(own_stripe.account.all("customer"))) == (3, 2)


def test_a_fault_may_answer_instead(client: stripe.StripeClient, own_stripe: StripeStandIn) -> None:
    class Busy(Faults):
        def before(self, _call: object) -> tuple[int, bytes]:
            return 503, b"{}"

    own_stripe.faults = Busy()
    with pytest.raises(stripe.APIError):
        client.v1.customers.create(CUSTOMER)
    assert own_stripe.account.all("customer") == []


def test_pages_are_turned_and_errors_are_those_of_the_package(
    client: stripe.StripeClient, own_stripe: StripeStandIn
) -> None:
    for _ in range(7):
        own_stripe.account.saved_card()
    made = client.v1.events.list({"types": ["customer.created"], "limit": 3})
    assert len(list(made.auto_paging_iter())) == len(own_stripe.account.events("customer.created")) == 7
    with pytest.raises(stripe.InvalidRequestError, match="No such refund"):
        client.v1.refunds.retrieve("re_none")
    declined = own_stripe.account.saved_card(card="4000000000000002")
    with pytest.raises(stripe.CardError) as refusal:
        client.v1.payment_intents.create(
            {
                "amount": 1000,
                "currency": "usd",
                "customer": declined["customer"],
                "payment_method": declined["id"],
                "confirm": True,
                "off_session": True,
            }
        )
    assert refusal.value.error is not None
    assert refusal.value.error.payment_intent is not None
    assert refusal.value.error.payment_intent.status == "requires_payment_method"


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ({"colour": "blue"}, "colour"),
        ({"line_items": {"0": {"price_data": {"colour": "blue"}}}}, "line_items[0][price_data][colour]"),
        ({"payment_intent_data": {"customer": "cus_1"}}, "payment_intent_data[customer]"),
        ({"line_items": {"first": {}}}, "line_items"),
        ({"mode": {"a": "b"}}, "mode"),
        ({"metadata": {"a": {"b": "c"}}}, "metadata"),
        ({"metadata": {"a": "b"}, "customer_update": {"address": "auto"}, "expand": {"0": "customer"}}, None),
        ({"metadata": "", "line_items": {"0": {"quantity": "1"}}}, "metadata"),
    ],
)
def test_a_parameter_is_known_by_the_packages_types_at_every_depth(form: Form, name: str | None) -> None:
    assert unknown_to_stripe("POST", "checkout/sessions", form) == name


def test_a_parameter_may_have_more_than_one_shape() -> None:
    assert unknown_to_stripe("GET", "events", {"created": "1"}) is None
    assert unknown_to_stripe("GET", "events", {"created": {"gte": "1"}}) is None
    assert unknown_to_stripe("GET", "events", {"created": {"since": "1"}}) == "created[since]"
    assert unknown_to_stripe("POST", "customers/*", {"metadata": ""}) is None
