"""Times as the ledger keeps them (milliseconds since 1970, UTC) and as the contract shows them (RFC 3339)."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS_MIN: Final = -62_135_596_800_000
_MS_MAX: Final = 253_402_300_799_999
"""The years 1 to 9999 in UTC: what can be shown again."""
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")


def rfc3339(ms: int) -> str:
    """Milliseconds as `2026-01-31T12:00:00.000Z`."""
    seconds, rest = divmod(ms, 1000)
    return f"{_to_the_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=1024)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_rfc3339(text: str) -> int:
    """An RFC 3339 time, with its offset, as milliseconds.

    Raises:
        ValueError: it is none, or its offset carries it out of the years 1 to 9999.

    """
    if not _RFC3339.match(text):
        raise ValueError(f"{text[:40]!r} is not a time such as 2026-01-31T12:00:00Z")
    ms = (datetime.fromisoformat(text.upper()) - _EPOCH) // timedelta(milliseconds=1)
    if not _MS_MIN <= ms <= _MS_MAX:
        raise ValueError(f"{text[:40]!r} lies outside of the years 1 to 9999 in UTC")
    return ms
