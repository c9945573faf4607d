"""A file of opening balances: one wallet to a line of CSV, read with little memory, each line standing alone."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final

import msgspec
from msgspec.structs import replace

from app.api import fields
from app.api.bodies import convert
from app.api.fields import Name, Priority, Reason, Strict, UnitCredits
from app.api.http import request_hash
from app.commands.console import counted
from app.config import CREDITS_MAX
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

_WHOLE: Final = re.compile(r"(-?)0*(\d+)\Z", re.ASCII)
_DIGITS_MAX: Final = 30
_SHOWN_MAX: Final = 40
_SEPARATORS: Final = {";": "';'", "\t": "a tab", "|": "'|'"}
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class OpeningBalance(Strict, frozen=True, kw_only=True):
    """What a line says: credits that a customer brings along, or none. The fields are its columns."""

    customer_id: str
    credits: UnitCredits
    category: Category = "paid"
    name: Name | None = None
    priority: Priority = PRIORITY_DEFAULT
    expires_at: str | None = None
    reason: Reason | None = None


COLUMNS: Final = OpeningBalance.__struct_fields__
REFUSED_COLUMNS: Final = ("refused_line", "refused_field", "refused_reason", "refused_text")
"""What a file of refused lines has behind its own columns; once it is mended it is read without them."""


class Line(msgspec.Struct, frozen=True):
    """A line with its number, from 1, and its text; `said` is its opening balance, or why it is none.

    `cells` stand under the file's own columns; None where they do not fit them.
    """

    number: int
    text: str
    cells: Sequence[str] | None
    said: OpeningBalance | InvalidRequest


def operations_of(balance: OpeningBalance) -> list[Operation]:
    """What an opening balance asks of the ledger; the last operation has its key.

    A name is given to a wallet that is made here; one that is there keeps its own. No credits make the wallet alone.
    """
    customer_id = balance.customer_id
    hashed = request_hash(KEY, customer_id, balance)
    opening = OpenWallet(customer_id=customer_id, id=new_id("set", customer_id), actor=ACTOR, name=balance.name)
    if not balance.credits:
        return [replace(opening, key=KEY, request_hash=hashed)]
    grant = AddGrant(
        customer_id=customer_id,
        id=new_id("grant", customer_id),
        actor=ACTOR,
        key=KEY,
        request_hash=hashed,
        credits=balance.credits,
        category=balance.category,
        priority=balance.priority,
        reason=balance.reason,
        expires_at=fields.time_of(balance.expires_at, "expires_at"),
    )
    return [grant] if balance.name is None else [opening, grant]


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
        self._header = self._read_header()
        self._own = [place for place, name in enumerate(self._header) if name not in REFUSED_COLUMNS]
        self.columns = self._of_own(self._header)
        """Its own columns, in their order."""

    @property
    def bytes_read(self) -> int:
        """How far it has been read."""
        return self._source.bytes_read

    def __iter__(self) -> Iterator[Line]:
        while (line := self._next()) is not None:
            number, text, row = line
            if row:
                yield Line(number, text, self._cells(row), self._said(row))

    def _cells(self, row: list[str] | InvalidRequest) -> list[str] | None:
        if isinstance(row, InvalidRequest) or len(row) != len(self._header):
            return None
        return self._of_own(row)

    def _of_own(self, cells: Sequence[str]) -> list[str]:
        return [cells[place] for place in self._own]

    def _read_header(self) -> Sequence[str]:
        first = self._next()
        if first is None:
            raise StartRefused(f"The file is empty; its first line names its columns: {', '.join(COLUMNS)}.")
        _, text, row = first
        _check_first_line(text)
        if isinstance(row, InvalidRequest):
            raise StartRefused(f"The first line names the columns, and it cannot be read ({row.message})")
        names = [name.strip() for name in row]
        _check_columns(names)
        return names

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
            if len(row) != len(self._header):
                raise _misfit(len(row), len(self._header))
            return _balance(self.columns, self._of_own(row))
        except InvalidRequest as refusal:
            return refusal


def _check_first_line(text: str) -> None:
    """Refuses files that are not of commas or not of text, as some programs write them."""
    if "\0" in text or "\N{REPLACEMENT CHARACTER}" in text:
        raise StartRefused("The file is not UTF-8: save it as CSV in UTF-8.")
    for separator, name in _SEPARATORS.items():
        names = {cell.strip(' "') for cell in text.split(separator)}
        if len(names) > 1 and not names.isdisjoint(COLUMNS):
            raise StartRefused(f"The first line separates the columns by {name}; separate the columns by commas.")


def _check_columns(names: Sequence[str]) -> None:
    if set(names).isdisjoint(COLUMNS):
        shown = ",".join(names)[:60]
        raise StartRefused(f"The first line must name the columns, such as customer_id,credits; it is {shown!r}.")
    for place, name in enumerate(names):
        if name not in COLUMNS and name not in REFUSED_COLUMNS:
            raise StartRefused(f"The column {name[:60]!r} is unknown: there are {', '.join(COLUMNS)}.")
        if name in names[:place]:
            raise StartRefused(f"The column {name!r} is there twice.")
    for name in REQUIRED:
        if name not in names:
            raise StartRefused(f"The column {name!r} is missing: a line says at least whose, and how many credits.")


def _misfit(cells: int, columns: int) -> InvalidRequest:
    quoted = "; one that has a comma in it stands in double quotes" if cells > columns else ""
    return _refused("line", f"it has {counted(cells, 'field')}, and the header names {columns}{quoted}")


def _balance(columns: Sequence[str], row: Sequence[str]) -> OpeningBalance:
    stripped = zip(columns, (cell.strip() for cell in row), strict=True)
    cells = {name: cell for name, cell in stripped if cell}
    for name, cell in cells.items():
        if not cell.isascii() and not _is_text(cell):
            raise _refused(name, "it is not UTF-8")
    balance = convert(_typed(cells), OpeningBalance)
    fields.customer(balance.customer_id)
    fields.printable(balance.name, "name")
    fields.printable(balance.reason, "reason")
    return balance if balance.expires_at is None else replace(balance, expires_at=_moment(balance.expires_at))


def _typed(cells: Mapping[str, str]) -> dict[str, Any]:
    """Cells as JSON would have them."""
    if "customer_id" not in cells:
        raise _refused("customer_id", "it is empty, and a line says whose its credits are")
    typed: dict[str, Any] = {**cells, "credits": _credits(cells.get("credits", ""))}
    if "priority" in cells:
        typed["priority"] = _whole(cells["priority"], "priority", "a whole number from 0 to 255")
    return typed


def _credits(cell: str) -> int:
    credits = _whole(cell, "credits", "a whole number such as 1160")
    if abs(credits) > CREDITS_MAX:
        raise _refused("credits", f"{CREDITS_MAX:,} at most, and it is {cell[:_SHOWN_MAX]!r}")
    if credits < 0:
        raise _refused(
            "credits",
            f"{credits} is a debt, and an opening balance is none: say 0, which makes the wallet, "
            f"then give it an overdraft_limit of {-credits} and an adjustment of {credits}",
        )
    return credits


def _whole(cell: str, field: str, wanted: str) -> int:
    whole = _WHOLE.match(cell)
    if whole is None:
        raise _refused(field, f"{wanted}, and it is {cell[:_SHOWN_MAX]!r}" if cell else f"{wanted}, and it is empty")
    return int(whole[1] + whole[2][:_DIGITS_MAX])  # of more digits it is out of every range, and so are its first ones


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
