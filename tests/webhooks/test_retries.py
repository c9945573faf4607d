"""When a delivery is tried again, and when it is given up."""

from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from webhooks.test_sending import due

from app.config import LIMITS
from app.store.deliveries import Delivery
from app.webhooks.frames import Answer
from app.webhooks.retries import result_of

NOW = 1_800_000_000_000
HOUR = 3_600_000
DAY = 24 * HOUR
REFUSED = Answer(status=500, error="no")


def delivery(*, attempts: int = 0, age: int = 0) -> Delivery:
    return replace(due("http://h/").delivery, attempts=attempts, created_at=NOW - age)


def tries_of(answer: Answer) -> list[int]:
    """When each attempt of a delivery is made that never arrives, in milliseconds from the first."""
    made, at = delivery(), NOW
    times = []
    while made.status == "pending":
        times.append(at - NOW)
        result = result_of(made, answer, at, LIMITS)
        made = replace(made, attempts=result.attempts, status=result.status)
        at = result.next_at
    assert made.status == "failed"
    return times


def test_it_is_tried_soon_and_then_ever_more_seldom_for_a_day() -> None:
    for _ in range(50):
        times = tries_of(REFUSED)
        assert 0 < times[1] < 10_000
        assert times[-1] == DAY
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert max(pauses) <= LIMITS.delivery_retry_seconds_max * 1_200
        assert 15 <= len(times) <= 25


def test_not_all_come_back_at_once() -> None:
    assert len({result_of(delivery(), REFUSED, NOW, LIMITS).next_at for _ in range(50)}) > 10


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_is_2xx(status: int) -> None:
    result = result_of(delivery(attempts=3), Answer(status=status), NOW, LIMITS)
    assert (result.status, result.attempts, result.error) == ("delivered", 4, None)


@pytest.mark.parametrize("status", [101, 300, 301, 307, 308, 400, 401, 404, 409, 429, 500, 503, None])
def test_anything_else_is_tried_again(status: int | None) -> None:
    result = result_of(delivery(), Answer(status=status, error="no"), NOW, LIMITS)
    assert (result.status, result.error, result.gone) == ("pending", "no", False)
    assert result.next_at > NOW


def test_gone_is_given_up() -> None:
    result = result_of(delivery(), Answer(status=410), NOW, LIMITS)
    assert (result.status, result.gone) == ("failed", True)


def test_what_waited_for_a_day_is_tried_a_few_times_all_the_same() -> None:
    """A server that was off for days has not tried at all."""
    for attempts in range(LIMITS.delivery_tries_min - 1):
        assert result_of(delivery(attempts=attempts, age=3 * DAY), REFUSED, NOW, LIMITS).status == "pending"
    assert result_of(delivery(attempts=4, age=3 * DAY), REFUSED, NOW, LIMITS).status == "failed"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 1800 ", 1_800),
        ("3600", 3_600),
        ("86400", 3_600),
        ("9" * 400, 3_600),
        (format_datetime(datetime.fromtimestamp(NOW / 1000 + 600, UTC), usegmt=True), 600),
        (format_datetime(datetime.fromtimestamp(NOW / 1000 + 7 * 86_400, UTC), usegmt=True), 3_600),
    ],
)
def test_an_endpoint_may_say_when_up_to_an_hour(status: int, header: str, seconds: int) -> None:
    result = result_of(delivery(), Answer(status=status, retry_after=header), NOW, LIMITS)
    assert result.next_at == NOW + seconds * 1000


def test_other_statuses_say_nothing_of_when() -> None:
    assert result_of(delivery(), Answer(status=500, retry_after="3600"), NOW, LIMITS).next_at < NOW + 10_000


@given(header=st.text(max_size=60), attempts=st.integers(0, 10**6), age=st.integers(-DAY, 3 * DAY))
def test_no_header_breaks_it(header: str, attempts: int, age: int) -> None:
    answer = Answer(status=503, retry_after=header)
    result = result_of(delivery(attempts=attempts, age=age), answer, NOW, LIMITS)
    assert NOW <= result.next_at <= NOW + 10 * HOUR
