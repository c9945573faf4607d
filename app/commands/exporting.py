"""The ledger written out as CSV or as JSON, a line to an entry."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import typer

from app.api.fields import customer, usd
from app.api.spreadsheet import cell, csv_rows
from app.commands.new_file import new_file
from app.errors import NotFound
from app.rules.times import rfc3339
from app.store.db import Database, Snapshot
from app.store.export import EXPORTED, count_entries, ledger_rows

COLUMNS: Final = tuple("cost_usd" if name == "cost_nanos" else name for name in EXPORTED)

_COST: Final = EXPORTED.index("cost_nanos")
_CREATED: Final = EXPORTED.index("created_at")
_DOCUMENTS: Final = tuple(EXPORTED.index(name) for name in ("draws", "metadata", "detail"))
_encode_lines: Final = msgspec.json.Encoder().encode_lines


class Unwritten(Exception):
    """The output could not be written; its cause says why."""


async def export(db: Database, customer_id: str | None, out: Path | None, *, as_csv: bool) -> None:
    """Writes a ledger as of one moment: wallets by customer id, each oldest first.

    Args:
        db: where it is.
        customer_id: whose; None for everyone's.
        out: a file that is not there yet; None for standard output.
        as_csv: whether as CSV, or as JSON with a line to an entry.

    Raises:
        InvalidRequest, NotFound: there is no such wallet.
        StartRefused: `out` is there already, or cannot be made.
        Unwritten: the output cannot be written, or nobody reads it any more.
        Unavailable: the database failed.

    """
    if customer_id is not None:
        customer(customer_id, "--wallet")
    shows_progress = sys.stderr.isatty() and (out is not None or not sys.stdout.isatty())
    async with db.snapshot() as snapshot:
        entries = await _entries(snapshot, customer_id) if customer_id is not None or shows_progress else 0
        bar = typer.progressbar(length=entries, label="Exporting", file=sys.stderr, hidden=not shows_progress)
        with _destination(out) as write, bar:
            write(csv_rows([COLUMNS]) if as_csv else b"")
            async for rows in ledger_rows(snapshot, customer_id):
                write(_lines(rows, as_csv=as_csv))
                bar.update(len(rows))


async def _entries(snapshot: Snapshot, customer_id: str | None) -> int:
    entries = await count_entries(snapshot, customer_id)
    if entries is None and customer_id is not None:
        raise NotFound(f"There is no wallet for {customer_id!r}.", customer_id=customer_id)
    return entries or 0


def _lines(rows: Sequence[tuple[Any, ...]], *, as_csv: bool) -> bytes:
    if as_csv:
        return csv_rows([cell(value) if isinstance(value, str) else value for value in _shown(row)] for row in rows)
    return _encode_lines([_document(row) for row in rows])


def _shown(row: tuple[Any, ...]) -> list[Any]:
    """A row's values with its time and cost as the API shows them."""
    values = list(row)
    values[_CREATED] = rfc3339(values[_CREATED])
    values[_COST] = usd(values[_COST])
    return values


def _document(row: tuple[Any, ...]) -> dict[str, Any]:
    values = _shown(row)
    for place in _DOCUMENTS:
        if values[place] is not None:
            values[place] = msgspec.Raw(values[place])  # it is JSON already
    return dict(zip(COLUMNS, values, strict=True))


@contextlib.contextmanager
def _destination(out: Path | None) -> Iterator[Callable[[bytes], object]]:
    """What writes to standard output or to a file, which has its name only once it is whole."""
    try:
        if out is None:
            yield sys.stdout.buffer.write
            sys.stdout.buffer.flush()
            return
        with new_file(out, keep_empty=True) as file:
            yield file.write
    except OSError as error:
        raise Unwritten from error
