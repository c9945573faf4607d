"""What an action costs its operator, where the event does not say it."""

from rules.ledgers import CATALOGUE, after, capture, done, event, grant, hold

from app.config import COST_NANOS_MAX
from app.rules.costs import Cost
from app.rules.pricing import FLAT_RATE, Catalogue

FUNDED = after(grant(1_000))
KNOWN = Catalogue(
    1,
    CATALOGUE.prices,
    costs={"chat.reply": Cost("chat.reply", 2, 400, {"large": 9_000}), "ping": Cost("ping", 1, None, {"large": 7})},
)


def cost_of(catalogue: Catalogue = KNOWN, **fields: object) -> int | None:
    [entry] = done(FUNDED, event(**fields), catalogue=catalogue).entries
    return entry.cost_nanos


def test_an_event_that_does_not_say_its_cost_has_that_of_its_units() -> None:
    assert cost_of(quantity=3) == 1_200
    assert cost_of(quantity=3, model="large") == 27_000
    assert cost_of(quantity=3, model="other") == 1_200


def test_an_event_that_says_its_cost_has_that() -> None:
    assert cost_of(cost_nanos=5, quantity=3) == 5
    assert cost_of(cost_nanos=0) == 0


def test_a_cost_may_be_known_of_some_models_alone() -> None:
    assert cost_of(event="ping", model="large") == 7
    assert cost_of(event="ping", model="other") is None
    assert cost_of(event="ping") is None


def test_the_cost_of_any_name_is_that_of_names_without_their_own() -> None:
    anything = Catalogue(1, CATALOGUE.prices, costs={FLAT_RATE: Cost(FLAT_RATE, 1, 6, {}), **KNOWN.costs})
    assert cost_of(anything, event="ping") is None
    assert anything.cost("agent.run", None, 2) == 12
    assert KNOWN.cost("agent.run", None, 2) is None


def test_credits_that_are_said_leave_the_cost() -> None:
    assert cost_of(credits=1, quantity=2) == 800


def test_no_action_is_refused_for_its_cost() -> None:
    dear = Catalogue(1, CATALOGUE.prices, costs={"ping": Cost("ping", 1, COST_NANOS_MAX, {})})
    assert cost_of(dear, event="ping", quantity=10**9) == COST_NANOS_MAX


def test_a_capture_costs_what_it_was_in_the_end() -> None:
    held = done(FUNDED, hold(event="chat.reply", model="large", quantity=3), catalogue=KNOWN).state
    [entry] = done(held, capture(quantity=2), catalogue=KNOWN).entries
    assert entry.cost_nanos == 18_000
    [entry] = done(held, capture(quantity=2, cost_nanos=1), catalogue=KNOWN).entries
    assert entry.cost_nanos == 1
