"""Days, weeks and months in UTC."""

import pytest
from rules.ledgers import DAY, at

from app.rules.periods import Per, occurrence, window_end, window_start


@pytest.mark.parametrize(
    ("per", "moment", "start", "end"),
    [
        ("day", "2026-01-31T23:59", "2026-01-31", "2026-02-01"),
        ("day", "2026-02-01", "2026-02-01", "2026-02-02"),
        ("week", "2026-01-04T23:59", "2025-12-29", "2026-01-05"),
        ("week", "2026-01-05", "2026-01-05", "2026-01-12"),
        ("week", "2026-01-07T12:00", "2026-01-05", "2026-01-12"),
        ("month", "2025-12-31T23:59", "2025-12-01", "2026-01-01"),
        ("month", "2026-01-01", "2026-01-01", "2026-02-01"),
        ("month", "2028-02-29T12:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_a_day_begins_at_midnight_a_week_on_monday_and_a_month_on_the_first(
    per: Per, moment: str, start: str, end: str
) -> None:
    assert window_start(per, at(moment)) == at(start)
    assert window_end(per, at(moment)) == at(end)


def test_the_last_millisecond_of_a_window_still_lies_in_it() -> None:
    monday = at("2026-01-05")
    assert window_start("week", monday - 1) == monday - 7 * DAY
    assert window_end("week", monday - 1) == monday == window_start("week", monday)


def test_what_began_on_the_31st_comes_on_the_last_day_of_a_shorter_month_and_on_the_31st_again_after_it() -> None:
    anchor = at("2026-01-31T10:30")
    assert [occurrence(anchor, "month", count) for count in range(5)] == [
        at("2026-01-31T10:30"),
        at("2026-02-28T10:30"),
        at("2026-03-31T10:30"),
        at("2026-04-30T10:30"),
        at("2026-05-31T10:30"),
    ]


def test_in_a_leap_year_february_has_its_29th() -> None:
    assert occurrence(at("2028-01-31"), "month", 1) == at("2028-02-29")
    assert occurrence(at("2028-02-29"), "month", 12) == at("2029-02-28")
    assert occurrence(at("2028-02-29"), "month", 48) == at("2032-02-29")


def test_months_pass_the_end_of_a_year_and_keep_the_time_of_day_to_the_millisecond() -> None:
    assert occurrence(at("2025-11-30T23:59") + 59_999, "month", 3) == at("2026-02-28T23:59") + 59_999


def test_a_day_is_24_hours_and_a_week_seven_days() -> None:
    assert occurrence(at("2026-02-27T08:00"), "day", 3) == at("2026-03-02T08:00")
    assert occurrence(at("2026-02-27T08:00"), "week", 2) == at("2026-03-13T08:00")
