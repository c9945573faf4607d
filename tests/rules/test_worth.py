"""What a credit is worth: what was paid for it, or what the packs ask for one."""

import pytest
from rules.ledgers import CATALOGUE, NEW, done, grant

from app.rules.operations import TopUp
from app.rules.packs import Pack
from app.rules.pricing import Catalogue
from app.rules.worth import Worth, of_money, of_packs

STARTER = Pack(code="starter", name="Starter", credits=500, amount=1_000, currency="usd", bonus_credits=100)
PLUS = Pack(code="plus", name="Plus", credits=1_200, amount=2_000, currency="usd", currencies={"eur": 1_900})


@pytest.mark.parametrize(
    ("amount", "currency", "credits", "rate", "worth"),
    [
        (1_000, "usd", 500, None, Worth(20_000_000, "usd")),  # 10 dollars for 500: 2 cents
        (1_000, "usd", 3, None, Worth(3_333_333_333, "usd")),
        (1_000, "jpy", 500, None, Worth(2_000_000_000, "jpy")),  # 1,000 yen for 500: 2 yen
        (1_000, "kwd", 500, None, Worth(2_000_000, "kwd")),  # 1 dinar for 500
        (1_000, "eur", 500, 1_080_000_000, Worth(21_600_000, "usd")),  # 10 euros are 10.80 dollars
        (1_000, "jpy", 500, 6_700_000, Worth(13_400_000, "usd")),  # 1,000 yen are 6.70 dollars
        (1_000, "usd", 500, 5, Worth(20_000_000, "usd")),
        (0, "usd", 500, None, Worth(0, "usd")),
    ],
)
def test_money_over_credits(amount: int, currency: str, credits: int, rate: int | None, worth: Worth) -> None:
    assert of_money(amount, currency, credits, rate) == worth


def test_the_packs_on_sale_ask_for_a_credit_what_all_of_them_do() -> None:
    assert of_packs([STARTER, PLUS]) == Worth(17_647_059, "usd")  # 30 dollars for 1,700 credits
    assert of_packs([]) is None


def test_packs_without_a_price_in_dollars_ask_in_the_currency_of_most() -> None:
    euros = Pack(code="e", name="E", credits=100, amount=200, currency="eur")
    pounds = Pack(code="p", name="P", credits=100, amount=300, currency="gbp", currencies={"eur": 400})
    assert of_packs([euros, pounds]) == Worth(30_000_000, "eur")


def worth_of(operation: object, catalogue: Catalogue = CATALOGUE) -> tuple[int | None, str | None]:
    [made] = done(NEW, operation, catalogue=catalogue).grants  # type: ignore[arg-type]
    return made.worth_nanos, made.worth_currency


def test_paid_credits_given_by_hand_are_worth_what_is_said_or_what_packs_ask() -> None:
    selling = Catalogue(1, {}, {pack.code: pack for pack in (STARTER, PLUS)})
    assert worth_of(grant(100, category="paid", usd_nanos=5_000), selling) == (50, "usd")
    assert worth_of(grant(100, category="paid"), selling) == (17_647_059, "usd")
    assert worth_of(grant(100, category="paid"), Catalogue(1, {})) == (None, None)
    assert worth_of(grant(100, category="promotional"), selling) == (None, None)


@pytest.mark.parametrize(
    ("paid", "worth"),
    [(1_000, 20_000_000), (1_200, 20_000_000), (500, 10_000_000), (0, 0)],
    ids=["as it costs", "with tax on top", "half off", "for nothing"],
)
def test_bought_credits_are_worth_what_was_paid_for_them(paid: int, worth: int) -> None:
    operation = TopUp(
        customer_id="u",
        id="top_1",
        credits=500,
        checkout_id="co_1",
        description="Starter",
        amount=1_000,
        currency="usd",
        paid=paid,
    )
    assert worth_of(operation) == (worth, "usd")
