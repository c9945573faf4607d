"""The Stripe account of the sandbox and of the tests: money, events and answers behave as Stripe's do."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest

from app.demo.stripe_account import StripeAccount
from app.demo.stripe_cards import (
    AUTHENTICATED_CARD,
    AUTHENTICATED_ONCE_CARD,
    DECLINED_CARD,
    DECLINED_LATER_CARD,
    EXPIRED_CARD,
    GOOD_CARD,
    NO_FUNDS_CARD,
)
from app.demo.stripe_invoices import InvoiceLine
from app.demo.stripe_parameters import unflatten
from app.demo.stripe_refusal import StripeRefusal

NOW = 1_800_000_000
FORM = (
    "mode=payment&line_items[0][quantity]=1&line_items[0][price_data][currency]=usd"
    "&line_items[0][price_data][unit_amount]=1000&line_items[0][price_data][product_data][name]=500 credits"
    "&metadata[ours]=co_1&payment_intent_data[metadata][ours]=co_1&success_url=https://a.example/ok"
)
SAVING = f"{FORM}&payment_intent_data[setup_future_usage]=off_session"

Buy = Callable[..., dict[str, Any]]


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock) -> StripeAccount:
    return StripeAccount("https://pay.example/{}".format, clock=clock)


@pytest.fixture
def buy(account: StripeAccount) -> Buy:
    """Opens a session, and pays it with a card unless that is None."""

    def bought(form: str = FORM, card: str | None = GOOD_CARD, **fields: Any) -> dict[str, Any]:
        session = post(account, "checkout/sessions", form)
        return session if card is None else account.pay(session["id"], card, **fields)

    return bought


def post(account: StripeAccount, path: str, form: str = "", key: str | None = None) -> dict[str, Any]:
    status, body = account.call("POST", f"/v1/{path}", unflatten(parse_qsl(form, keep_blank_values=True)), key)
    assert status == 200, body
    return body


def get(account: StripeAccount, path: str, query: str = "") -> dict[str, Any]:
    status, body = account.call("GET", f"/v1/{path}", unflatten(parse_qsl(query)))
    assert status == 200, body
    return body


def refused(account: StripeAccount, method: str, path: str, form: str = "", key: str | None = None) -> dict[str, Any]:
    status, body = account.call(method, f"/v1/{path}", unflatten(parse_qsl(form, keep_blank_values=True)), key)
    assert status >= 400, body
    return {"status": status, "code": None, "param": None} | body["error"]


def told(account: StripeAccount) -> list[str]:
    return [event["type"] for event in account.events()]


# Sessions


def test_a_paid_session_has_a_payment_with_its_metadata_and_a_charge(account: StripeAccount, buy: Buy) -> None:
    session = buy()
    assert (session["status"], session["payment_status"], session["url"]) == ("complete", "paid", None)
    assert (session["amount_total"], session["customer"]) == (1000, None)
    intent = get(account, f"payment_intents/{session['payment_intent']}", "expand[]=latest_charge")
    assert (intent["status"], intent["amount_received"], intent["metadata"]) == ("succeeded", 1000, {"ours": "co_1"})
    charge = intent["latest_charge"]
    assert (charge["status"], charge["amount"], charge["metadata"]) == ("succeeded", 1000, {"ours": "co_1"})
    assert told(account) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]


def test_a_declined_card_leaves_the_session_open_and_its_payment_is_tried_again(
    account: StripeAccount, buy: Buy
) -> None:
    session = buy(card=None)
    for card, code, reason in (
        (DECLINED_CARD, "card_declined", "generic_decline"),
        (NO_FUNDS_CARD, "card_declined", "insufficient_funds"),
        (EXPIRED_CARD, "expired_card", "expired_card"),
    ):
        with pytest.raises(StripeRefusal) as refusal:
            account.pay(session["id"], card)
        assert (refusal.value.status, refusal.value.error["code"]) == (402, code)
        assert refusal.value.error["decline_code"] == reason
    assert get(account, f"checkout/sessions/{session['id']}")["status"] == "open"
    paid = account.pay(session["id"])
    assert len(account.all("payment_intent")) == 1
    assert len(account.all("charge")) == 4
    assert get(account, f"payment_intents/{paid['payment_intent']}")["last_payment_error"] is None
    assert told(account)[:3] == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]


def test_a_card_that_is_none_of_the_sandboxs_is_refused(account: StripeAccount, buy: Buy) -> None:
    session = buy(card=None)
    with pytest.raises(StripeRefusal, match="never a real one"):
        account.pay(session["id"], "5555555555554444")


def test_money_that_comes_later_is_processing_and_arrives(account: StripeAccount, buy: Buy) -> None:
    session = account.pay_later(buy(card=None)["id"])
    assert (session["status"], session["payment_status"]) == ("complete", "unpaid")
    assert get(account, f"payment_intents/{session['payment_intent']}")["status"] == "processing"
    assert account.charge_of(session["id"])["status"] == "pending"
    arrived = account.money_arrives(session["id"])
    assert arrived["payment_status"] == "paid"
    assert account.charge_of(session["id"])["paid"] is True
    assert told(account)[-7:] == [
        "payment_intent.created",
        "payment_intent.processing",
        "charge.pending",
        "checkout.session.completed",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.async_payment_succeeded",
    ]
    with pytest.raises(StripeRefusal):
        account.money_arrives(session["id"])


def test_money_that_comes_later_may_not_come(account: StripeAccount, buy: Buy) -> None:
    session = account.pay_later(buy(card=None)["id"])
    failed = account.money_fails(session["id"])
    assert (failed["status"], failed["payment_status"]) == ("complete", "unpaid")
    assert get(account, f"payment_intents/{session['payment_intent']}")["status"] == "requires_payment_method"
    assert told(account)[-3:] == [
        "charge.failed",
        "payment_intent.payment_failed",
        "checkout.session.async_payment_failed",
    ]
    with pytest.raises(StripeRefusal):
        account.refund(session["id"])


def test_a_promotion_of_all_leaves_no_payment(account: StripeAccount, buy: Buy) -> None:
    session = account.pay_nothing(buy(f"{FORM}&allow_promotion_codes=true", card=None)["id"])
    assert (session["amount_subtotal"], session["amount_total"]) == (1000, 0)
    assert (session["payment_status"], session["payment_intent"]) == ("no_payment_required", None)
    assert session["total_details"]["amount_discount"] == 1000
    assert told(account) == ["checkout.session.completed"]


def test_tax_and_a_promotion_move_the_total_and_not_the_subtotal(account: StripeAccount, buy: Buy) -> None:
    form = f"{FORM}&allow_promotion_codes=true&automatic_tax[enabled]=true"
    session = buy(form, discount=300, tax=133)
    assert (session["amount_subtotal"], session["amount_total"]) == (1000, 833)
    assert account.charge_of(session["id"])["amount"] == 833
    for fields in ({"discount": 1}, {"tax": 1}):
        with pytest.raises(StripeRefusal):
            buy(**fields)


def test_a_session_ends_at_its_time_and_then_takes_no_money(account: StripeAccount, buy: Buy, clock: Clock) -> None:
    session = buy(f"{FORM}&expires_at={NOW + 1800}", card=None)
    clock.now += 1800
    with pytest.raises(StripeRefusal, match="expired"):
        account.pay(session["id"])
    assert get(account, f"checkout/sessions/{session['id']}")["url"] is None
    assert told(account) == ["checkout.session.expired"]


def test_a_session_is_ended_by_a_call_while_it_is_open(account: StripeAccount, buy: Buy) -> None:
    session = buy(card=None)
    assert post(account, f"checkout/sessions/{session['id']}/expire")["status"] == "expired"
    assert refused(account, "POST", f"checkout/sessions/{session['id']}/expire")["status"] == 400
    assert refused(account, "POST", f"checkout/sessions/{buy()['id']}/expire")["status"] == 400


def test_a_customer_is_made_where_it_is_asked_for_or_the_card_is_kept(account: StripeAccount, buy: Buy) -> None:
    always = buy(f"{FORM}&customer_creation=always&customer_email=b@example.com")
    assert get(account, f"customers/{always['customer']}")["email"] == "b@example.com"
    assert account.all("payment_method", customer=always["customer"]) == []
    saved = buy(SAVING)
    [method] = get(account, "payment_methods", f"customer={saved['customer']}&type=card")["data"]
    assert method["card"]["last4"] == "4242"
    assert account.charge_of(saved["id"])["payment_method"] == method["id"]
    again = buy(f"{SAVING}&customer={saved['customer']}")
    assert again["customer"] == saved["customer"]
    assert "payment_method.attached" in told(account)


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        (f"{FORM}&colour=blue", "parameter_unknown", "colour"),
        (f"{FORM}&line_items[0][price_data][colour]=blue", "parameter_unknown", "line_items[0][price_data][colour]"),
        (f"{FORM}&metadata[a][b]=c", "parameter_unknown", "metadata[a][b]"),
        (FORM.replace("mode=payment&", ""), "parameter_missing", "mode"),
        ("mode=payment", "parameter_missing", "line_items[0][price_data][currency]"),
        (FORM.replace("=1000", "=ten"), "parameter_invalid_integer", "unit_amount"),
        (FORM.replace("[quantity]=1", "[quantity]=0"), "parameter_invalid_integer", "quantity"),
        (FORM.replace("=payment&", "=subscription&"), "parameter_invalid_value", "mode"),
        (f"{FORM}&expires_at={NOW + 60}", "parameter_invalid_integer", "expires_at"),
        (f"{FORM}&expires_at={NOW + 90_000}", "parameter_invalid_integer", "expires_at"),
        (f"{FORM}&customer=cus_none", "resource_missing", "customer"),
        (f"{FORM}&allow_promotion_codes=yes", "parameter_invalid_boolean", "allow_promotion_codes"),
        (f"{FORM}&metadata[{'n' * 41}]=v", "parameter_invalid_string", None),
        (f"{FORM}&metadata[n]={'v' * 501}", "parameter_invalid_string", None),
        (f"{FORM}&expand[]=colour", "parameter_invalid", "expand"),
    ],
)
def test_a_form_that_stripe_would_not_take_is_refused(
    account: StripeAccount, form: str, code: str, param: str | None
) -> None:
    error = refused(account, "POST", "checkout/sessions", form)
    assert (error["status"], error["code"]) == (400, code)
    if param is not None:
        assert error["param"] == param


def test_an_unknown_object_or_address_is_a_404(account: StripeAccount) -> None:
    for path in ("checkout/sessions/cs_1", "customers/cus_1", "refunds/re_1", "events/evt_1", "invoices/in_1"):
        error = refused(account, "GET", path)
        assert (error["status"], error["code"]) == (404, "resource_missing")
    for method, path in (("GET", "nothing"), ("POST", "charges"), ("DELETE", "customers/x"), ("GET", "refunds/x/y")):
        assert refused(account, method, path)["status"] == 404


# Idempotency


def test_the_same_key_answers_as_it_did_and_does_nothing_more(account: StripeAccount) -> None:
    first = post(account, "checkout/sessions", FORM, "k")
    account.pay(first["id"])
    assert post(account, "checkout/sessions", FORM, "k") == first
    assert len(account.all("checkout.session")) == 1


def test_the_same_key_with_another_request_is_an_error(account: StripeAccount) -> None:
    post(account, "checkout/sessions", FORM, "k")
    for path, form in (("checkout/sessions", f"{FORM}&locale=de"), ("customers", "")):
        error = refused(account, "POST", path, form, "k")
        assert (error["status"], error["type"]) == (400, "idempotency_error")


def test_a_decline_is_remembered_and_a_malformed_request_is_not(account: StripeAccount) -> None:
    refused(account, "POST", "checkout/sessions", f"{FORM}&colour=blue", "k")
    post(account, "checkout/sessions", FORM, "k")
    method = account.saved_card(card=DECLINED_CARD)
    first = refused(account, "POST", "payment_intents", off_session(method), "charge")
    account.card_becomes(method["id"], GOOD_CARD)
    assert refused(account, "POST", "payment_intents", off_session(method), "charge") == first
    assert len(account.all("charge")) == 1
    assert post(account, "payment_intents", off_session(method), "another")["status"] == "succeeded"


def test_the_events_of_a_call_name_its_key(account: StripeAccount) -> None:
    post(account, "customers", "", "k")
    [event] = account.events()
    assert event["request"]["idempotency_key"] == "k"
    account.saved_card()
    assert account.events()[-1]["request"] == {"id": None, "idempotency_key": None}


# Payments without their buyer


def off_session(method: dict[str, Any], amount: int = 1000) -> str:
    return (
        f"amount={amount}&currency=usd&customer={method['customer']}&payment_method={method['id']}"
        "&confirm=true&off_session=true&metadata[ours]=top_1"
    )


def test_a_saved_card_is_charged_without_its_buyer(account: StripeAccount) -> None:
    method = account.saved_card()
    intent = post(account, "payment_intents", off_session(method))
    assert (intent["status"], intent["metadata"], intent["customer"]) == (
        "succeeded",
        {"ours": "top_1"},
        method["customer"],
    )
    assert get(account, "payment_intents", f"customer={method['customer']}")["data"] == [intent]
    assert get(account, "payment_intents", "customer=cus_other")["data"] == []


@pytest.mark.parametrize(
    ("card", "code", "reason"),
    [
        (DECLINED_LATER_CARD, "card_declined", "generic_decline"),
        (NO_FUNDS_CARD, "card_declined", "insufficient_funds"),
        (AUTHENTICATED_CARD, "authentication_required", "authentication_required"),
        (AUTHENTICATED_ONCE_CARD, "authentication_required", "authentication_required"),
    ],
)
def test_a_saved_card_that_does_not_pay_names_its_payment(
    account: StripeAccount, card: str, code: str, reason: str
) -> None:
    method = account.saved_card(card=card)
    error = refused(account, "POST", "payment_intents", off_session(method))
    assert (error["status"], error["type"], error["code"]) == (402, "card_error", code)
    assert error["decline_code"] == reason
    intent = error["payment_intent"]
    assert (intent["status"], intent["last_payment_error"]["code"]) == ("requires_payment_method", code)
    assert get(account, f"payment_intents/{intent['id']}") == intent
    assert told(account)[-3:] == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]


def test_a_bank_account_pays_later_without_its_buyer(account: StripeAccount) -> None:
    method = account.saved_bank()
    intent = post(account, "payment_intents", off_session(method))
    assert intent["status"] == "processing"
    assert account.money_arrives(intent["id"])["status"] == "succeeded"
    other = post(account, "payment_intents", off_session(method))
    assert account.money_fails(other["id"])["status"] == "requires_payment_method"


def test_a_card_saved_in_a_checkout_may_fail_later(account: StripeAccount, buy: Buy) -> None:
    outcomes = {}
    for card in (GOOD_CARD, DECLINED_LATER_CARD, AUTHENTICATED_CARD, AUTHENTICATED_ONCE_CARD):
        [method] = account.all("payment_method", customer=buy(SAVING, card)["customer"])
        outcomes[card] = account.call("POST", "/v1/payment_intents", unflatten(parse_qsl(off_session(method))))[0]
    assert outcomes == {
        GOOD_CARD: 200,
        DECLINED_LATER_CARD: 402,
        AUTHENTICATED_CARD: 402,
        AUTHENTICATED_ONCE_CARD: 200,  # it was set up for later use
    }


def test_a_card_is_charged_for_its_own_customer_alone(account: StripeAccount) -> None:
    mine, other = account.saved_card(), account.saved_card()
    strange = off_session({"id": mine["id"], "customer": other["customer"]})
    assert refused(account, "POST", "payment_intents", strange)["param"] == "payment_method"
    account.detach(mine["id"])
    assert refused(account, "POST", "payment_intents", off_session(mine))["param"] == "payment_method"
    account.delete_customer(other["customer"])
    assert refused(account, "POST", "payment_intents", off_session(other))["param"] == "customer"
    assert get(account, f"customers/{other['customer']}")["deleted"] is True
    assert account.all("payment_intent") == []


def test_a_payment_that_is_not_over_can_be_given_up(account: StripeAccount) -> None:
    intent = post(account, "payment_intents", "amount=1000&currency=usd")
    assert intent["status"] == "requires_payment_method"
    canceled = post(account, f"payment_intents/{intent['id']}/cancel", "cancellation_reason=abandoned")
    assert (canceled["status"], canceled["cancellation_reason"]) == ("canceled", "abandoned")
    error = refused(account, "POST", f"payment_intents/{intent['id']}/cancel")
    assert (error["status"], error["code"]) == (400, "payment_intent_unexpected_state")


# Refunds


def test_refunds_add_up_to_the_charge_and_not_beyond(account: StripeAccount, buy: Buy) -> None:
    session = buy()
    intent = session["payment_intent"]
    first = post(account, "refunds", f"payment_intent={intent}&amount=400&reason=requested_by_customer")
    assert (first["status"], first["amount"], first["payment_intent"]) == ("succeeded", 400, intent)
    charge = account.charge_of(session["id"])
    assert (charge["amount_refunded"], charge["refunded"]) == (400, False)
    error = refused(account, "POST", "refunds", f"payment_intent={intent}&amount=601")
    assert (error["status"], error["param"]) == (400, "amount")
    assert "($6.01) is greater than unrefunded amount on charge ($6.00)" in error["message"]
    rest = post(account, "refunds", f"charge={charge['id']}")
    assert rest["amount"] == 600
    assert account.charge_of(session["id"])["refunded"] is True
    assert refused(account, "POST", "refunds", f"charge={charge['id']}")["code"] == "charge_already_refunded"
    for query in (f"payment_intent={intent}", f"charge={charge['id']}"):
        assert [one["id"] for one in get(account, "refunds", query)["data"]] == [rest["id"], first["id"]]
    assert told(account)[-4:] == ["charge.refunded", "refund.created"] * 2


def test_a_refund_that_fails_is_counted_no_more(account: StripeAccount, buy: Buy) -> None:
    session = buy()
    refund = account.refund(session["id"], 400)
    account.refund(session["id"])
    failed = account.fail_refund(refund["id"])
    assert (failed["status"], failed["failure_reason"]) == ("failed", "expired_or_canceled_card")
    charge = account.charge_of(session["id"])
    assert (charge["amount_refunded"], charge["refunded"]) == (600, False)
    assert told(account)[-4:] == ["refund.updated", "refund.failed", "charge.refund.updated", "charge.updated"]
    with pytest.raises(StripeRefusal):
        account.fail_refund(refund["id"])
    assert account.refund(session["id"])["amount"] == 400


def test_a_refund_may_take_its_time(account: StripeAccount, buy: Buy) -> None:
    refund = account.refund(buy()["id"], pending=True)
    assert refund["status"] == "pending"
    assert account.settle_refund(refund["id"])["status"] == "succeeded"
    assert told(account)[-2:] == ["refund.updated", "charge.refund.updated"]


def test_a_refund_names_one_payment_that_was_paid(account: StripeAccount) -> None:
    unpaid = post(account, "payment_intents", "amount=1000&currency=usd")["id"]
    both = refused(account, "POST", "refunds", f"payment_intent={unpaid}&charge=ch_1")
    assert (both["status"], refused(account, "POST", "refunds")["status"]) == (400, 400)
    assert refused(account, "POST", "refunds", "charge=ch_none")["param"] == "charge"
    assert "successful charge" in refused(account, "POST", "refunds", f"payment_intent={unpaid}")["message"]


# Disputes


def test_a_dispute_takes_the_money_and_gives_it_back_when_it_is_won(account: StripeAccount, buy: Buy) -> None:
    session = buy()
    dispute = account.open_dispute(session["id"])
    assert (dispute["status"], dispute["amount"], dispute["is_charge_refundable"]) == ("needs_response", 1000, False)
    assert account.charge_of(session["id"])["disputed"] is True
    assert refused(account, "POST", "refunds", f"charge={dispute['charge']}")["code"] == "charge_disputed"
    assert get(account, "disputes", f"payment_intent={session['payment_intent']}")["data"] == [dispute]
    won = account.win(dispute["id"])
    assert won["status"] == "won"
    assert [one["amount"] for one in won["balance_transactions"]] == [-1000, 1000]
    assert told(account)[-4:] == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.closed",
        "charge.dispute.funds_reinstated",
    ]
    with pytest.raises(StripeRefusal):
        account.lose(dispute["id"])


def test_a_dispute_may_be_of_a_part_and_lost(account: StripeAccount, buy: Buy) -> None:
    dispute = account.open_dispute(buy()["id"], 300)
    lost = account.lose(dispute["id"])
    assert (lost["status"], [one["amount"] for one in lost["balance_transactions"]]) == ("lost", [-300])
    assert told(account)[-1] == "charge.dispute.closed"


def test_an_inquiry_takes_nothing_until_it_is_escalated(account: StripeAccount, buy: Buy) -> None:
    asked = account.open_dispute(buy()["id"], inquiry=True)
    assert (asked["status"], asked["balance_transactions"]) == ("warning_needs_response", [])
    assert asked["is_charge_refundable"] is True
    assert account.win(asked["id"])["status"] == "warning_closed"
    assert told(account)[-2:] == ["charge.dispute.created", "charge.dispute.closed"]
    escalated = account.escalate(account.open_dispute(buy()["id"], inquiry=True)["id"])
    assert (escalated["status"], len(escalated["balance_transactions"])) == ("needs_response", 1)
    assert told(account)[-2:] == ["charge.dispute.updated", "charge.dispute.funds_withdrawn"]


# Invoices


def test_an_invoice_is_paid_for_a_subscription(account: StripeAccount) -> None:
    method = account.saved_card()
    line = InvoiceLine(price="price_old", amount=-500, proration=True)
    paid = account.pay_invoice(
        method["customer"], "price_1", 2000, period=(NOW, NOW + 86_400), metadata={"ours": "u"}, more=[line]
    )
    invoice = get(account, f"invoices/{paid['id']}", "expand[]=payments.data.payment.payment_intent")
    assert (invoice["status"], invoice["amount_paid"], invoice["total"]) == ("paid", 1500, 1500)
    assert invoice["parent"]["subscription_details"]["metadata"] == {"ours": "u"}
    first, credit = invoice["lines"]["data"]
    assert (first["pricing"]["price_details"]["price"], first["period"]) == (
        "price_1",
        {"start": NOW, "end": NOW + 86_400},
    )
    assert credit["parent"]["subscription_item_details"]["proration"] is True
    [payment] = invoice["payments"]["data"]
    intent = payment["payment"]["payment_intent"]
    assert (intent["amount"], intent["status"]) == (1500, "succeeded")
    query = f"payment[type]=payment_intent&payment[payment_intent]={intent['id']}"
    assert [one["invoice"] for one in get(account, "invoice_payments", query)["data"]] == [invoice["id"]]
    assert account.charge_of(invoice["id"])["amount"] == 1500
    assert told(account)[-8:] == [
        "invoice.created",
        "invoice.finalized",
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice_payment.paid",
    ]


# Lists, expansion and events


def test_events_are_listed_newest_first_page_by_page(account: StripeAccount, clock: Clock) -> None:
    for _ in range(25):
        account.saved_card()
        clock.now += 1
    found: list[dict[str, Any]] = []
    after = ""
    for _ in range(10):
        page = get(account, "events", f"type=customer.created&limit=10{after}")
        found += page["data"]
        after = f"&starting_after={page['data'][-1]['id']}"
        if not page["has_more"]:
            break
    assert len({one["id"] for one in found}) == len(found) == 25
    assert [one["created"] for one in found] == sorted((one["created"] for one in found), reverse=True)
    before = get(account, "events", f"type=customer.created&limit=3&ending_before={found[10]['id']}")
    assert [one["id"] for one in before["data"]] == [one["id"] for one in found[7:10]]


def test_events_are_chosen_by_type_and_time(account: StripeAccount, buy: Buy, clock: Clock) -> None:
    buy()
    clock.now += 100
    buy()
    two = "types[]=charge.succeeded&types[]=checkout.session.completed"
    assert len(get(account, "events", two)["data"]) == 4
    assert len(get(account, "events", f"{two}&created[gte]={NOW + 100}")["data"]) == 2
    assert len(get(account, "events", f"{two}&created[lt]={NOW + 100}")["data"]) == 2
    assert len(get(account, "events", "type=payment_intent.*")["data"]) == 4
    assert refused(account, "GET", "events", f"{two}&type=charge.succeeded")["status"] == 400
    assert refused(account, "GET", "events", "limit=101")["param"] == "limit"
    assert refused(account, "GET", "events", "starting_after=evt_none")["code"] == "resource_missing"
    assert refused(account, "GET", "events", "colour=blue")["code"] == "parameter_unknown"


def test_an_event_shows_its_object_as_it_was(account: StripeAccount, buy: Buy) -> None:
    session = buy()
    account.refund(session["id"])
    [succeeded], [refunded] = account.events("charge.succeeded"), account.events("charge.refunded")
    assert succeeded["data"]["object"]["amount_refunded"] == 0
    assert refunded["data"]["object"]["amount_refunded"] == 1000
    assert refunded["data"]["previous_attributes"] == {"amount_refunded": 0, "refunded": False}


def test_ids_are_expanded_at_any_depth(account: StripeAccount, buy: Buy) -> None:
    session = buy(SAVING)
    path = f"checkout/sessions/{session['id']}"
    deep = get(account, path, "expand[]=payment_intent.latest_charge&expand[]=customer&expand[]=line_items")
    assert deep["payment_intent"]["latest_charge"]["amount"] == 1000
    assert deep["customer"]["id"] == session["customer"]
    assert deep["line_items"]["data"][0]["description"] == "500 credits"
    assert "line_items" not in get(account, path)
    listed = get(account, "checkout/sessions", "expand[]=data.payment_intent")
    assert listed["data"][0]["payment_intent"]["id"] == session["payment_intent"]
    account.refund(session["id"], 100)
    charge = get(account, f"charges/{account.charge_of(session['id'])['id']}", "expand[]=refunds&expand[]=review")
    assert ([one["amount"] for one in charge["refunds"]["data"]], charge["review"]) == ([100], None)
    assert refused(account, "GET", path, "expand[]=a.b.c.d.e")["param"] == "expand"


def test_what_is_handed_out_is_a_copy(account: StripeAccount, buy: Buy) -> None:
    session = buy()
    session["metadata"]["ours"] = "changed"
    account.events()[0]["data"]["object"]["id"] = "changed"
    assert get(account, f"checkout/sessions/{session['id']}")["metadata"] == {"ours": "co_1"}
    assert re.match("pi_", account.events()[0]["data"]["object"]["id"])


def test_no_more_is_kept_than_was_said() -> None:
    account = StripeAccount(str, kept_max=3)
    for number in range(5):
        post(account, "customers", f"name=n{number}", f"k{number}")
    assert [one["name"] for one in account.all("customer")] == ["n4", "n3", "n2"]
    assert post(account, "customers", "name=n0", "k0")["name"] == "n0"  # its key is forgotten, too
    assert len(account.events()) == 3


@pytest.mark.parametrize("body", ["=1", "a=1&a[b]=2", "a[b]=2&a[b][c]=3"])
def test_a_body_that_is_no_form_is_refused(body: str) -> None:
    with pytest.raises(StripeRefusal):
        unflatten(parse_qsl(body))
