"""Days, weeks and months in UTC: the windows of spend limits, and when what recurs comes again."""

from calendar import monthrange
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

from app.errors import InvalidRequest

Per = Literal["day", "week", "month"]
"""A calendar day, a week from Monday, or a calendar month, in UTC."""

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
RECURS_BEFORE: Final = 253_370_764_800_000
"""The year 9999: what would come again after it has no date."""
_MONDAY_OF_DAY_ZERO: Final = -3
"""1970-01-01 was a Thursday."""


def window_start(per: Per, at: int) -> int:
    """When the window that a time lies in began; both in milliseconds since 1970."""
    day = at // DAY_MS
    if per == "week":
        day -= (day - _MONDAY_OF_DAY_ZERO) % 7
    elif per == "month":
        day = _first_of_month(day)
    return day * DAY_MS


def window_end(per: Per, at: int) -> int:
    """When the window that a time lies in ends and the next one begins."""
    return occurrence(window_start(per, at), per, 1)


def whole_hours(since: int, until: int) -> tuple[int, int]:
    """The whole hours that a span of time lies in: when the first begins and the last ends, in milliseconds."""
    return since // HOUR_MS * HOUR_MS, -(-until // HOUR_MS) * HOUR_MS


def periods_between(per: Literal["hour"] | Per, since: int, until: int, most: int) -> list[tuple[int, int]]:
    """The hours, days, weeks or months that a span of time lies in: when each begins and ends, in milliseconds.

    The first begins and the last ends with the whole hours of the span.

    Raises:
        InvalidRequest: they are more than `most` (field `interval`).

    """
    since, until = whole_hours(since, until)
    found: list[tuple[int, int]] = []
    while since < until:
        if len(found) == most:
            raise InvalidRequest(f"interval: these are more than {most:,} {per}s: take a longer one.", field="interval")
        end = min(until, since + HOUR_MS if per == "hour" else window_end(per, since))
        found.append((since, end))
        since = end
    return found


def occurrence(anchor: int, every: Per, count: int) -> int:
    """The time that lies `count` periods after an anchor, both in milliseconds.

    Months are counted from the anchor, never from the occurrence before: what began on the 31st comes on the last day
    of a shorter month, and on the 31st again after it.
    """
    if every != "month":
        return anchor + count * (DAY_MS if every == "day" else 7 * DAY_MS)
    day, of_day = divmod(anchor, DAY_MS)
    date = datetime.fromtimestamp(day * 86_400, UTC)
    months = date.year * 12 + date.month - 1 + count
    year, month = months // 12, months % 12 + 1
    moved = date.replace(year=year, month=month, day=min(date.day, monthrange(year, month)[1]))
    return int(moved.timestamp()) * 1000 + of_day


@lru_cache(maxsize=1024)
def _first_of_month(day: int) -> int:
    return day - datetime.fromtimestamp(day * 86_400, UTC).day + 1
