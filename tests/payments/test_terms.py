"""What is bought for what: bonuses, currencies, amounts of the buyer's choice, promotions, taxes; and who buys."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from payments.stripe_stand_in import Buy, StripeStandIn, deliver_all
from serving import ServerProcess, StartServer, balance, charge, error_of, whole_ledger

PACK = {"name": "Mega", "credits": 5000, "amount": 7000, "currency": "usd"}


@pytest.fixture
def pack(api: httpx.Client, customer_id: str) -> Iterator[str]:
    """A code that nobody else uses."""
    code = f"pack_{customer_id}"
    yield code
    api.delete(f"/v1/packs/{code}")


def put(api: httpx.Client, code: str, **fields: Any) -> httpx.Response:
    return api.put(f"/v1/packs/{code}", json=PACK | fields)


def ask(api: httpx.Client, customer: str, **fields: Any) -> httpx.Response:
    return api.post("/v1/checkouts", json={"customer_id": customer, "pack": "chargly_500"} | fields)


def land(server: ServerProcess, stripe: StripeStandIn, checkout: dict[str, Any], **pay: Any) -> dict[str, Any]:
    session = stripe.account.pay(stripe.session_of(checkout["id"])["id"], **pay)
    deliver_all(server, stripe.told)
    return session


def test_bonus_credits_come_beside_and_end_in_their_own_time(
    server: ServerProcess, api: httpx.Client, customer_id: str, pack: str, stripe: StripeStandIn
) -> None:
    assert put(api, pack, bonus_credits=500, bonus_days=30).status_code == 200
    checkout = checkout_of(api, customer_id, pack=pack)
    assert (checkout["credits"], checkout["bonus_credits"], checkout["amount"]) == (5000, 500, 7000)
    land(server, stripe, checkout)
    grants = api.get(f"/v1/wallets/{customer_id}").json()["grants"]
    assert [(one["category"], one["credits"], one["expires_at"] is None) for one in grants] == [
        ("promotional", 500, False),
        ("paid", 5000, True),
    ]
    assert [one["description"] for one in whole_ledger(api, customer_id)] == ["Bonus: Mega", "Top-up: Mega"]
    stripe.account.refund(stripe.session_of(checkout["id"])["id"], 3500)
    deliver_all(server, stripe.told)
    assert balance(api, customer_id) == 2750


def test_a_pack_is_sold_in_its_currencies_and_in_no_other(
    server: ServerProcess, api: httpx.Client, customer_id: str, pack: str, stripe: StripeStandIn
) -> None:
    assert put(api, pack, currencies={"eur": 6500, "jpy": 9000}).json()["currencies"] == {"eur": 6500, "jpy": 9000}
    checkout = checkout_of(api, customer_id, pack=pack, currency="jpy")
    assert (checkout["amount"], checkout["currency"]) == (9000, "jpy")
    _, form = stripe.requests[-1]
    price = form["line_items"]["0"]["price_data"]
    assert (price["unit_amount"], price["currency"]) == ("9000", "jpy")
    land(server, stripe, checkout)
    assert balance(api, customer_id) == 5000
    assert error_of(ask(api, customer_id, pack=pack, currency="gbp"), 400, "invalid_request")["field"] == "currency"


def test_an_amount_of_the_buyers_choice_buys_at_the_rate(
    server: ServerProcess, api: httpx.Client, customer_id: str, pack: str, stripe: StripeStandIn
) -> None:
    assert put(api, pack, credits=50, amount=100, custom_amount={"min": 500, "max": 100_000}).status_code == 200
    checkout = checkout_of(api, customer_id, pack=pack, amount=2_599)
    assert (checkout["credits"], checkout["amount"]) == (1_299, 2_599)
    land(server, stripe, checkout)
    assert balance(api, customer_id) == 1_299
    for amount in (499, 100_001):
        assert error_of(ask(api, customer_id, pack=pack, amount=amount), 400, "invalid_request")["field"] == "amount"
    assert error_of(ask(api, customer_id, amount=999), 400, "invalid_request")["field"] == "amount"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"bonus_days": 3}, "bonus_days"),
        ({"bonus_credits": -1}, "bonus_credits"),
        ({"currencies": {"EUR": 1}}, "currencies"),
        ({"currencies": {"kwd": 1005}}, "currencies.kwd"),
        ({"currency": "isk", "amount": 150}, "amount"),
        ({"custom_amount": {"min": 5, "max": 4}}, "custom_amount.min"),
        ({"custom_amount": {"min": 5}}, "custom_amount.max"),
        ({"stripe_price": "not an id"}, "stripe_price"),
    ],
)
def test_a_bad_pack_is_refused_by_its_field(api: httpx.Client, pack: str, fields: dict[str, Any], field: str) -> None:
    assert error_of(put(api, pack, **fields), 400, "invalid_request")["field"] == field


def test_two_packs_do_not_share_a_price_of_stripes(api: httpx.Client, pack: str) -> None:
    assert put(api, pack, stripe_price=f"price_{pack}").status_code == 200
    refused = put(api, f"{pack}_2", stripe_price=f"price_{pack}")
    assert error_of(refused, 400, "invalid_request")["field"] == "stripe_price"


def test_a_browser_sees_no_id_of_stripes(server: ServerProcess, api: httpx.Client, pack: str, customer_id: str) -> None:
    put(api, pack, stripe_price=f"price_{pack}")
    with server.client(server.token(customer_id)) as browser:
        shown = next(one for one in browser.get("/v1/packs").json()["packs"] if one["code"] == pack)
    assert "stripe_price" not in shown


def test_as_many_credits_as_one_operation_moves_land(
    server: ServerProcess, api: httpx.Client, customer_id: str, pack: str, stripe: StripeStandIn
) -> None:
    put(api, pack, credits=10**12, amount=99_999_999)
    land(server, stripe, checkout_of(api, customer_id, pack=pack))
    assert balance(api, customer_id) == 10**12


def test_a_pack_that_is_archived_while_it_is_paid_still_lands(
    server: ServerProcess, api: httpx.Client, customer_id: str, pack: str, stripe: StripeStandIn
) -> None:
    put(api, pack)
    checkout = checkout_of(api, customer_id, pack=pack)
    assert api.delete(f"/v1/packs/{pack}").status_code == 204
    land(server, stripe, checkout)
    assert balance(api, customer_id) == 5000
    error_of(ask(api, customer_id, pack=pack), 404, "not_found")


@pytest.fixture
def taxed(new_server: StartServer, own_stripe: StripeStandIn) -> ServerProcess:
    """A server that sells with promotion codes and taxes."""
    return new_server(**own_stripe.env, CHARGLY_PROMOTION_CODES="true", CHARGLY_AUTOMATIC_TAX="true")


def checkout_of(api: httpx.Client, customer: str = "u", **fields: Any) -> dict[str, Any]:
    answer = ask(api, customer, **fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_promotions_and_taxes_move_the_money_and_not_the_credits(
    taxed: ServerProcess, own_stripe: StripeStandIn
) -> None:
    with taxed.client() as api:
        checkout = checkout_of(api)
        _, form = own_stripe.requests[-1]
        assert (form["allow_promotion_codes"], form["automatic_tax"]) == ("true", {"enabled": "true"})
        land(taxed, own_stripe, checkout, discount=200, tax=152)
        shown = api.get(f"/v1/checkouts/{checkout['id']}").json()
        assert (shown["amount"], shown["amount_paid"], balance(api, "u")) == (1000, 952, 500)
        own_stripe.account.refund(own_stripe.session_of(checkout["id"])["id"], 476)
        deliver_all(taxed, own_stripe.told)
        assert balance(api, "u") == 250


def test_what_a_promotion_makes_free_lands_without_a_payment(taxed: ServerProcess, own_stripe: StripeStandIn) -> None:
    with taxed.client() as api:
        checkout = checkout_of(api)
        session = own_stripe.account.pay_nothing(own_stripe.session_of(checkout["id"])["id"])
        assert (session["payment_intent"], session["amount_total"]) == (None, 0)
        deliver_all(taxed, own_stripe.told)
        shown = api.get(f"/v1/checkouts/{checkout['id']}").json()
        assert (shown["status"], shown["amount_paid"], balance(api, "u")) == ("paid", 0, 500)
        error_of(api.post(f"/v1/checkouts/{checkout['id']}/refund"), 409, "checkout_not_paid")


def test_a_buyer_becomes_one_customer_at_stripe(taxed: ServerProcess, own_stripe: StripeStandIn) -> None:
    with taxed.client() as api:
        first = checkout_of(api, customer_email="ada@example.com")
        _, form = own_stripe.requests[-1]
        assert (form["customer_email"], form["customer_creation"]) == ("ada@example.com", "always")
        buyer = land(taxed, own_stripe, first)["customer"]
        checkout_of(api, customer_email="ada@example.com")
        _, form = own_stripe.requests[-1]
        assert (form["customer"], "customer_email" in form) == (buyer, False)
        assert form["customer_update"] == {"address": "auto"}


def test_a_customer_who_was_deleted_at_stripe_buys_as_a_new_one(
    taxed: ServerProcess, own_stripe: StripeStandIn
) -> None:
    with taxed.client() as api:
        gone = land(taxed, own_stripe, checkout_of(api))["customer"]
        own_stripe.account.delete_customer(gone)
        again = land(taxed, own_stripe, checkout_of(api))["customer"]
        assert again != gone
        assert balance(api, "u") == 1000


@pytest.mark.parametrize("email", ["", "nobody", "a b@example.com", "x" * 300 + "@example.com"])
def test_a_bad_email_is_refused(buy: Buy, email: str) -> None:
    assert error_of(buy(customer_email=email), 400, "invalid_request")["field"] == "customer_email"


def test_only_a_checkout_that_asks_for_it_saves_a_card(
    server: ServerProcess, api: httpx.Client, customer_id: str, stripe: StripeStandIn
) -> None:
    settings = {"auto_top_up": {"threshold": 10, "pack": "chargly_500", "monthly_limit": 5000}}
    land(server, stripe, checkout_of(api, customer_id))
    refused = api.patch(f"/v1/wallets/{customer_id}", json=settings)
    assert error_of(refused, 400, "invalid_request")["field"] == "auto_top_up.payment_method"
    checkout = checkout_of(api, customer_id, save_card=True)
    _, form = stripe.requests[-1]
    assert form["payment_intent_data"]["setup_future_usage"] == "off_session"
    land(server, stripe, checkout)
    assert api.patch(f"/v1/wallets/{customer_id}", json=settings).status_code == 200


def test_purchases_are_listed_newest_first(api: httpx.Client, server: ServerProcess, buy: Buy, customer: str) -> None:
    made = [buy().json()["id"] for _ in range(3)]
    page = api.get("/v1/checkouts", params={"customer_id": customer, "limit": 2}).json()
    rest = api.get("/v1/checkouts", params={"customer_id": customer, "limit": 2, "cursor": page["next_cursor"]}).json()
    assert [one["id"] for one in page["checkouts"] + rest["checkouts"]] == made[::-1]
    assert rest["next_cursor"] is None
    paid = api.get("/v1/checkouts", params={"customer_id": customer, "status": "paid"}).json()
    assert paid == {"checkouts": [], "next_cursor": None}
    error_of(api.get("/v1/checkouts", params={"status": "gone"}), 400, "invalid_request")
    with server.client(server.token(customer)) as browser:
        error_of(browser.get("/v1/checkouts"), 403, "forbidden_scope")


def test_what_was_paid_is_what_usage_earns_in_its_currency_or_at_the_rate_of_the_settings(
    new_server: StartServer, own_stripe: StripeStandIn
) -> None:
    server = new_server(**own_stripe.env, CHARGLY_USD_RATES="eur=1.25")
    with server.client() as api:
        sold = {"name": "P", "credits": 100, "amount": 1_000, "currencies": {"eur": 800, "jpy": 900}}
        api.put("/v1/packs/p", json=sold)
        for customer, currency in (("ann", "usd"), ("ben", "eur"), ("cleo", "jpy")):
            land(server, own_stripe, checkout_of(api, customer, pack="p", currency=currency))
            assert charge(api, customer, credits=10).status_code == 201
        rows = api.get("/v1/usage", params={"group_by": "customer"}).json()["rows"]
        earned = {row["customer"]: (row["revenue_usd"], row["revenue_in"]) for row in rows}
        # A tenth of 10 dollars, of 8 euros at 1.25, and of 900 yen.
        assert earned == {"ann": ("1", {}), "ben": ("1", {}), "cleo": ("0", {"jpy": "90"})}
        assert api.get("/v1/overview").json()["top_up_revenue"] == {"usd": 1_000, "eur": 800, "jpy": 900}
        assert api.get("/v1/flows").json()["rows"][-1]["top_up_revenue"] == {"usd": 1_000, "eur": 800, "jpy": 900}


def test_a_refund_of_spent_credits_takes_back_what_they_earned(
    new_server: StartServer, own_stripe: StripeStandIn
) -> None:
    server = new_server(**own_stripe.env)
    with server.client() as api:
        checkout = checkout_of(api, "ann", pack="chargly_500")
        land(server, own_stripe, checkout)
        charge(api, "ann", credits=400)
        own_stripe.account.refund(own_stripe.session_of(checkout["id"])["id"], 1_000)
        deliver_all(server, own_stripe.told)
        overview = api.get("/v1/overview").json()
        assert (overview["revenue_usd"], overview["top_up_revenue"]) == ("0", {"usd": 0})
        assert api.get("/v1/flows").json()["rows"][-1]["top_up_revenue"] == {"usd": 0}
        assert (overview["credits_out"], overview["credits_taken_back"]) == (400, 500)
