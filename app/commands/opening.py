"""A file of opening balances: one wallet to a line of CSV, read with little memory, each line standing alone."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final

import msgspec
from msgspec.structs import replace

from app.api import fields
from app.api.bodies import convert
from app.api.fields import Credits, Name, Priority, Reason, Strict
from app.api.http import request_hash
from app.errors import InvalidRequest, StartRefused
from app.rules.operations import AddGrant, OpenWallet, Operation
from app.rules.times import rfc3339
from app.rules.wallet import PRIORITY_DEFAULT, Category
from app.store.ids import new_id

KEY: Final = "opening-balance"
"""The idempotency key of a wallet's opening balance: there is one."""
ACTOR: Final = "chargly import"
"""Who the ledger says gave it."""
REQUIRED: Final = ("customer_id", "credits")

_WHOLE: Final = re.compile(r"-?\d{1,30}\Z", re.ASCII)
_WHOLE_COLUMNS: Final = ("credits", "priority")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class OpeningBalance(Strict, frozen=True, kw_only=True):
    """What a line says: credits that a customer brings along. The fields are its columns."""

    customer_id: str
    credits: Credits
    category: Category = "paid"
    name: Name | None = None
    priority: Priority = PRIORITY_DEFAULT
    expires_at: str | None = None
    reason: Reason | None = None


COLUMNS: Final = OpeningBalance.__struct_fields__


class Line(msgspec.Struct, frozen=True):
    """A line with its number, from 1, and its text; `said` is its opening balance, or why it is none."""

    number: int
    text: str
    said: OpeningBalance | InvalidRequest


def operations_of(balance: OpeningBalance) -> list[Operation]:
    """What an opening balance asks of the ledger; the last operation is the grant.

    A name is given to a wallet that is made here; one that is there keeps its own.
    """
    customer_id = balance.customer_id
    named: list[Operation] = []
    if balance.name is not None:
        named.append(OpenWallet(customer_id=customer_id, id=new_id("set", customer_id), actor=ACTOR, name=balance.name))
    grant = AddGrant(
        customer_id=customer_id,
        id=new_id("grant", customer_id),
        actor=ACTOR,
        key=KEY,
        request_hash=request_hash(KEY, customer_id, balance),
        credits=balance.credits,
        category=balance.category,
        priority=balance.priority,
        reason=balance.reason,
        expires_at=fields.time_of(balance.expires_at, "expires_at"),
    )
    return [*named, grant]


class BalancesFile:
    """A file of opening balances, read once, from its start.

    Args:
        file: its bytes.
        line_bytes_max: a longer line is refused.

    Raises:
        StartRefused: its header has an unknown, doubled or missing column, or is none.

    """

    def __init__(self, file: BinaryIO, line_bytes_max: int) -> None:
        self._source = _Source(file, line_bytes_max)
        self._rows = csv.reader(self._source, strict=True)
        self._columns = self._header()

    @property
    def bytes_read(self) -> int:
        """How far it has been read."""
        return self._source.bytes_read

    def __iter__(self) -> Iterator[Line]:
        while (line := self._next()) is not None:
            number, text, row = line
            if row:
                yield Line(number, text, self._said(row))

    def _header(self) -> Sequence[str]:
        first = self._next()
        if first is None:
            raise StartRefused(f"The file is empty; its first line names its columns: {', '.join(COLUMNS)}.")
        row = first[2]
        if isinstance(row, InvalidRequest):
            raise StartRefused(f"The first line names the columns, and it cannot be read ({row.message})")
        _check_columns(row)
        return row

    def _next(self) -> tuple[int, str, list[str] | InvalidRequest] | None:
        """The next line's number, text and cells; why it has none; None at the end."""
        source = self._source
        source.begin()
        row: list[str] | InvalidRequest
        try:
            row = next(self._rows)
        except StopIteration:
            return None
        except csv.Error as error:
            row = _refused("line", f"it is not CSV: {error}")
        except _TooLong:
            row = _refused("line", f"it is longer than {source.bytes_max} bytes")
        return source.first, source.text, row

    def _said(self, row: list[str] | InvalidRequest) -> OpeningBalance | InvalidRequest:
        if isinstance(row, InvalidRequest):
            return row
        try:
            return _balance(self._columns, row)
        except InvalidRequest as refusal:
            return refusal


def _check_columns(row: Sequence[str]) -> None:
    for place, name in enumerate(row):
        if name not in COLUMNS:
            raise StartRefused(f"The column {name[:60]!r} is unknown: there are {', '.join(COLUMNS)}.")
        if name in row[:place]:
            raise StartRefused(f"The column {name!r} is there twice.")
    for name in REQUIRED:
        if name not in row:
            raise StartRefused(f"The column {name!r} is missing: a line says at least whose, and how many credits.")


def _balance(columns: Sequence[str], row: Sequence[str]) -> OpeningBalance:
    if len(row) != len(columns):
        raise _refused("line", f"it has {len(row)} fields, and the header names {len(columns)}")
    cells = {name: cell for name, cell in zip(columns, row, strict=True) if cell}
    for name, cell in cells.items():
        if not cell.isascii() and not _is_text(cell):
            raise _refused(name, "it is not UTF-8")
    balance = convert(_typed(cells), OpeningBalance)
    fields.customer(balance.customer_id)
    fields.printable(balance.name, "name")
    fields.printable(balance.reason, "reason")
    return balance if balance.expires_at is None else replace(balance, expires_at=_moment(balance.expires_at))


def _typed(cells: Mapping[str, str]) -> dict[str, Any]:
    """Cells as JSON would have them: what is no whole number stays text, and is refused where a number is asked."""
    whole = {name: int(cells[name]) for name in _WHOLE_COLUMNS if name in cells and _WHOLE.match(cells[name])}
    return {**cells, **whole}


def _moment(text: str) -> str:
    """A time in the one spelling that we have for it: one moment is the same request in each of its own."""
    ms = fields.time_of(text, "expires_at")
    assert ms is not None
    try:
        return rfc3339(ms)
    except (ValueError, OverflowError) as error:  # its offset leads out of the calendar
        raise _refused("expires_at", "it lies beyond the year 9999") from error


def _is_text(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:  # `_Source` has kept bytes that are no UTF-8 as lone surrogates
        return False
    return True


def _refused(field: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {why}.", field=field)


class _TooLong(Exception):
    """A line is longer than it may be; it has been passed over."""


class _Source:
    """A file's physical lines, as `csv.reader` asks for them: one for each row, and more inside of a quoted field.

    Args:
        file: its bytes.
        bytes_max: in all the physical lines of one row.

    """

    def __init__(self, file: BinaryIO, bytes_max: int) -> None:
        self._file = file
        self._row = b""
        self._ends = 0
        self.bytes_max = bytes_max
        self.bytes_read = 0
        self.first = 1
        """The number of the physical line that the row begins on."""

    def begin(self) -> None:
        """What is asked for next begins a row."""
        self._row = b""
        self.first = self._ends + 1

    @property
    def text(self) -> str:
        """The row as it stands in the file, as far as it was kept."""
        return self._row.decode(errors="replace").rstrip("\r\n")

    def __iter__(self) -> "_Source":
        return self

    def __next__(self) -> str:
        line = self._read(self.bytes_max - len(self._row) + 1)
        if not line:
            raise StopIteration
        self._row += line
        if len(self._row) > self.bytes_max:
            self._pass_over(line)
            raise _TooLong
        return line.decode(errors="surrogateescape")

    def _read(self, most: int) -> bytes:
        at_start = self.bytes_read == 0
        line = self._file.readline(most)
        self.bytes_read += len(line)
        self._ends += line.endswith(b"\n")
        return line.removeprefix(_BYTE_ORDER_MARK) if at_start else line

    def _pass_over(self, piece: bytes) -> None:
        """Reads on to where the row ends: at the end of a line, and outside of quotes, or its rest would be a row."""
        quotes = self._row.count(b'"')
        while piece and (quotes % 2 or not piece.endswith(b"\n")):
            piece = self._read(self.bytes_max)
            quotes += piece.count(b'"')
