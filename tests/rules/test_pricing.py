"""What an action costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import CREDITS_MAX
from app.errors import InvalidRequest, UnknownEvent
from app.rules.pricing import FLAT_RATE, Catalogue, Price, is_event_name


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
