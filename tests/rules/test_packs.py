"""What a pack sells for what."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRequest
from app.rules.packs import Line, Pack, Terms, check_amount, credits_of_invoice, terms_of


def pack(**fields: Any) -> Pack:
    return Pack(**{"code": "p", "name": "P", "credits": 500, "amount": 1000, "currency": "usd"} | fields)


def refused(field: str, sold: Pack, **asked: Any) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        terms_of(sold, **asked)
    assert refusal.value.facts["field"] == field


def test_a_pack_is_sold_at_its_price_in_each_of_its_currencies() -> None:
    sold = pack(currencies={"eur": 950, "jpy": 1500}, bonus_credits=25)
    assert terms_of(sold) == Terms(500, 25, 1000, "usd")
    assert terms_of(sold, currency="jpy", amount=1500) == Terms(500, 25, 1500, "jpy")
    refused("currency", sold, currency="gbp")
    refused("amount", sold, amount=999)


def test_an_amount_of_the_buyers_choice_buys_at_the_packs_rate() -> None:
    sold = pack(amount_min=500, amount_max=20_000, currencies={"jpy": 1500}, bonus_credits=50)
    assert terms_of(sold, amount=2_501) == Terms(1_250, 125, 2_501, "usd")
    assert terms_of(sold, currency="jpy", amount=750) == Terms(250, 25, 750, "jpy")
    assert terms_of(sold) == Terms(500, 50, 1000, "usd")
    for amount in (499, 20_001):
        refused("amount", sold, amount=amount)
    refused("amount", sold, currency="jpy", amount=749)


def test_an_amount_that_buys_no_credit_is_refused() -> None:
    refused("amount", pack(credits=1, amount=1000, amount_min=1, amount_max=5_000), amount=999)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
def test_nobody_gets_more_than_the_rate(credits: int, price: int, amount: int) -> None:
    sold = pack(credits=credits, amount=price, amount_min=1, amount_max=10**6)
    try:
        terms = terms_of(sold, amount=amount)
    except InvalidRequest:
        assert credits * amount < price
    else:
        assert terms.credits * price <= credits * amount < (terms.credits + 1) * price


@pytest.mark.parametrize(
    ("amount", "currency", "good"),
    [
        (1, "usd", True),
        (99_999_999, "jpy", True),
        (100_000_000, "usd", False),
        (0, "usd", False),
        (1005, "kwd", False),
        (1010, "kwd", True),
        (150, "isk", False),
        (200, "ugx", True),
    ],
)
def test_an_amount_is_one_that_stripe_can_charge(amount: int, currency: str, good: bool) -> None:
    if good:
        assert check_amount(amount, currency, "amount") == amount
    else:
        with pytest.raises(InvalidRequest):
            check_amount(amount, currency, "amount")


def test_a_chosen_amount_is_one_that_stripe_can_charge() -> None:
    sold = pack(currency="kwd", amount=1000, amount_min=500, amount_max=9000)
    refused("amount", sold, amount=1005)
    assert terms_of(sold, amount=1010).credits == 505


def line(amount: int, quantity: int = 1, *, of: int | None = None, prorated: bool = False) -> Line:
    return Line(pack=pack(), amount=amount, quantity=quantity, is_prorated=prorated or of is not None, unit_amount=of)


@pytest.mark.parametrize(
    ("lines", "paid", "total", "credits"),
    [
        ([line(2000)], 2000, 2000, 500),
        ([line(6000, 3)], 6000, 6000, 1500),
        ([line(2000), line(2000)], 4380, 4380, 1000),
        ([line(2000)], 0, 0, 500),  # a promotion of 100 %
        ([line(0)], 0, 0, 0),  # a trial
        ([line(2000, 0)], 2000, 2000, 0),
        ([line(1000, of=2000)], 1000, 1000, 250),
        ([line(-500, of=2000), line(1000, of=2000)], 500, 500, 125),
        ([line(-1000, of=2000), line(2000, 2, of=2000)], 1000, 1000, 250),
        ([line(-2000, 2, of=2000), line(1000, of=2000)], 0, -1000, 0),
        ([line(1000, of=2000)], 0, 1000, 0),  # paid by what was given back before
        ([line(2000)], 500, 2000, 125),
        ([line(9000, of=2000)], 9000, 9000, 500),
        ([line(1000, prorated=True)], 1000, 1000, 0),  # nobody knows of how much
    ],
)
def test_a_paid_invoice_grants_as_large_a_part_as_was_paid_of_it(
    lines: list[Line], paid: int, total: int, credits: int
) -> None:
    assert credits_of_invoice(lines, paid=paid, total=total) == credits
