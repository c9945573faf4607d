"""What an action costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import CREDITS_MAX
from app.errors import InvalidRequest, UnknownEvent
from app.rules.pricing import FLAT_RATE, Catalogue, Price, Rate, Tier, check_tiers, is_event_name


def catalogue(*prices: Price) -> Catalogue:
    return Catalogue(1, {price.event: price for price in prices})


CHAT = Price("chat.reply", 3, 8, "Chat reply", {"gpt-5": 20})
FLAT = Price(FLAT_RATE, 1, 2, "AI call", {"gpt-5": 5})


def test_an_event_costs_its_price_times_the_quantity() -> None:
    quote = catalogue(CHAT).quote("chat.reply", quantity=4)
    assert (quote.credits, quote.unit_credits, quote.price_version, quote.label) == (32, 8, 3, "Chat reply")


def test_a_model_with_its_own_price_pays_that_and_any_other_the_events() -> None:
    prices = catalogue(CHAT)
    assert prices.quote("chat.reply", "gpt-5", 2).credits == 40
    assert prices.quote("chat.reply", "never-heard-of").credits == 8


def test_the_flat_rate_covers_names_without_a_price_and_calls_them_by_name() -> None:
    quote = catalogue(CHAT, FLAT).quote("agent.anything", "gpt-5")
    assert (quote.credits, quote.label) == (5, "agent.anything")
    assert catalogue(CHAT, FLAT).quote("chat.reply").credits == 8


def test_an_unknown_event_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownEvent) as refused:
        catalogue(CHAT).quote("chat.replly")
    assert refused.value.facts == {"event": "chat.replly", "did_you_mean": "chat.reply"}


def test_nothing_is_suggested_where_no_name_is_near_nor_ever_the_flat_rate() -> None:
    with pytest.raises(UnknownEvent) as refused:
        catalogue(CHAT).quote("video.render")
    assert refused.value.facts == {"event": "video.render"}


def test_a_free_price_is_free_at_any_quantity() -> None:
    assert catalogue(Price("ping", 1, 0, "Ping", {})).quote("ping", quantity=10**9).credits == 0


@given(st.integers(0, CREDITS_MAX), st.integers(1, 10**9))
def test_a_product_never_passes_the_limit_of_one_operation(unit: int, quantity: int) -> None:
    prices = catalogue(Price("x", 1, unit, "X", {}))
    if unit * quantity > CREDITS_MAX:
        with pytest.raises(InvalidRequest) as refused:
            prices.quote("x", quantity=quantity)
        assert refused.value.facts["field"] == "quantity"
    else:
        assert prices.quote("x", quantity=quantity).credits == unit * quantity


@pytest.mark.parametrize("name", ["chat.reply", "a", "a_1.b2.c", "x" * 100])
def test_event_names(name: str) -> None:
    assert is_event_name(name)


@pytest.mark.parametrize("name", ["", "Chat", "a..b", ".a", "a.", "a b", "a-b", "é", "a\n", "x" * 101, FLAT_RATE])
def test_names_that_no_event_has(name: str) -> None:
    assert not is_event_name(name)


# Tiers and minimums


PAGES = (Tier(10, 5), Tier(100, 2), Tier(None, 1))


@pytest.mark.parametrize(("quantity", "credits"), [(1, 5), (10, 50), (11, 52), (100, 230), (101, 231), (1_000, 1_130)])
def test_each_unit_costs_what_the_tier_says_that_it_lies_in(quantity: int, credits: int) -> None:
    assert Rate(5, PAGES).total(quantity) == credits


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), max_size=4),
    st.integers(0, 20),
    st.integers(1, 300),
)
def test_tiers_cost_what_their_units_cost_one_by_one(steps: list[tuple[int, int]], rest: int, quantity: int) -> None:
    tiers, upper = [], 0
    for width, credits in steps:
        upper += width
        tiers.append(Tier(upper, credits))
    rate = Rate((tiers or [Tier(None, rest)])[0].credits, (*tiers, Tier(None, rest)))

    def unit(number: int) -> int:
        return next(tier.credits for tier in rate.tiers if tier.up_to is None or number <= tier.up_to)

    check_tiers(rate.unit, rate.tiers)
    assert rate.total(quantity) == sum(unit(number) for number in range(1, quantity + 1))


def test_an_action_costs_the_minimum_at_least() -> None:
    price = Price("doc.scan", 1, 2, "Scan", {"best": 9}, minimum=10)
    prices = catalogue(price)
    assert [prices.quote("doc.scan", quantity=quantity).credits for quantity in (1, 5, 6)] == [10, 10, 12]
    assert prices.quote("doc.scan", "best").credits == 10
    assert prices.quote("doc.scan", "best", 2).credits == 18


def test_a_model_with_its_own_price_has_no_tiers() -> None:
    prices = catalogue(Price("doc.scan", 1, 5, "Scan", {"best": 9}, PAGES))
    assert prices.quote("doc.scan", "best", 11).credits == 99
    assert prices.quote("doc.scan", "other", 11).credits == 52


def test_a_quote_names_the_price_of_a_unit_where_all_cost_the_same() -> None:
    tiered, least = (Price("x", 3, 5, "X", {}, PAGES), Price("y", 3, 2, "Y", {}, minimum=10))
    prices = catalogue(tiered, least)
    assert [prices.quote("x", quantity=quantity).unit_credits for quantity in (1, 10, 11)] == [5, 5, None]
    assert [prices.quote("y", quantity=quantity).unit_credits for quantity in (1, 5)] == [None, 2]
    assert prices.quote("x", quantity=11).price_version == 3


def test_tiers_never_pass_the_limit_of_one_operation() -> None:
    rate = Rate(1, (Tier(1, 1), Tier(None, CREDITS_MAX)))
    assert rate.total(1) == 1
    with pytest.raises(InvalidRequest) as refused:
        rate.total(2)
    assert refused.value.facts == {"field": "quantity"}


@pytest.mark.parametrize(
    ("tiers", "field"),
    [
        ((Tier(10, 5),), "tiers[0].up_to"),
        ((Tier(None, 5), Tier(None, 2)), "tiers[0].up_to"),
        ((Tier(10, 5), Tier(10, 2), Tier(None, 1)), "tiers[1].up_to"),
        ((Tier(10, 5), Tier(9, 2), Tier(None, 1)), "tiers[1].up_to"),
        ((Tier(10, 4), Tier(None, 1)), "credits"),
    ],
)
def test_tiers_that_leave_a_quantity_without_a_price_or_with_two(tiers: tuple[Tier, ...], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_tiers(5, tiers)
    assert refused.value.facts == {"field": field}


def test_no_tiers_are_tiers_too() -> None:
    check_tiers(5, ())


# Prices to come


def test_a_price_is_in_force_from_its_time_on() -> None:
    dearer = Price("chat.reply", 4, 9, "Chat reply", {}, effective_at=100)
    dearest = Price("chat.reply", 5, 10, "Chat reply", {}, effective_at=200)
    new = Price("video", 1, 99, "Video", {}, effective_at=200)
    prices = Catalogue(1, {"chat.reply": CHAT}, upcoming=(dearer, dearest, new))
    assert [prices.at(now).quote("chat.reply").credits for now in (99, 100, 199, 200)] == [8, 9, 9, 10]
    assert prices.at(199).find("video") is None
    assert prices.at(200).find("video") is new
    assert prices.at(100).at(200) == prices.at(200)
    assert prices.at(99) is prices
    assert prices.at(200).upcoming == ()


def test_a_price_that_ends_later_ends_then() -> None:
    ended = Price("chat.reply", 4, 8, "Chat reply", {}, effective_at=100, archived=True)
    prices = Catalogue(1, {"chat.reply": CHAT}, upcoming=(ended,))
    assert prices.at(99).find("chat.reply") is CHAT
    assert prices.at(100).find("chat.reply") is None
