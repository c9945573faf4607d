"""Times as the contract writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules.times import parse_rfc3339, rfc3339

_YEAR_9999_MS = 253_402_300_799_999


@given(st.integers(0, _YEAR_9999_MS))
def test_a_time_is_read_as_it_was_written(ms: int) -> None:
    assert parse_rfc3339(rfc3339(ms)) == ms


def test_a_time_is_utc_with_milliseconds() -> None:
    assert rfc3339(1_769_860_800_007) == "2026-01-31T12:00:00.007Z"


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "2026-01-31T14:00:00+02:00", "2026-01-31t12:00:00.000z"])
def test_offsets_and_small_letters_are_read(text: str) -> None:
    assert parse_rfc3339(text) == 1_769_860_800_000


@pytest.mark.parametrize("text", ["", "now", "2026-01-31", "2026-01-31T12:00:00", "2026-13-01T00:00:00Z", "1769860800"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_rfc3339(text)
