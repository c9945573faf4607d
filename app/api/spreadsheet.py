"""CSV that a spreadsheet shows as it is, and does not run."""

import csv
import io
from collections.abc import Iterable
from typing import Any, Final

import msgspec

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


def csv_rows(rows: Iterable[Iterable[str | int]]) -> bytes:
    """Rows of cells as lines of CSV in UTF-8."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def cell(value: Any) -> str | int:
    """A value for a spreadsheet: a text that it would run as a formula is quoted so that it shows as it is."""
    if value is None:
        return ""
    if isinstance(value, int):
        return value
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return "'" + text if text.startswith(_FORMULA_STARTS) else text
