"""Opening balances brought into the ledger, a chunk of lines to a commit."""

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
import typer
from msgspec.structs import replace

from app.api.spreadsheet import cell, csv_rows
from app.commands.new_file import new_file
from app.commands.opening import KEY, REFUSED_COLUMNS, BalancesFile, Line, OpeningBalance, operations_of
from app.config import Config
from app.errors import ChargeError, IdempotencyConflict, InvalidRequest, Unavailable
from app.rules.operations import Operation
from app.rules.wallet import Entry
from app.store import reads
from app.store.catalogue import CatalogueStore
from app.store.db import Database
from app.store.rehearsal import Rehearsal
from app.store.writer import Result, Writer

Submit: TypeAlias = Callable[[Sequence[Operation]], Awaitable[Sequence[Result]]]
"""What takes operations, as `Writer.submit_all` does."""
Recorded: TypeAlias = Callable[[str], Awaitable[Entry | None]]
"""What finds the entry of a customer's opening balance."""
Between: TypeAlias = Callable[[float], Awaitable[None]]
"""What is done after a chunk: takes the seconds that it took."""


class Report(msgspec.Struct):
    """What became of a file's lines, and the credits of those that were imported."""

    imported: int = 0
    already_imported: int = 0
    refused: int = 0
    credits: int = 0


class Refusals:
    """Lines that were refused: the first ones kept to be shown, all of them written where there is a place for it.

    Args:
        columns: the file's own, which a written line begins with, so that it may be mended and imported.
        shown_max: how many are kept.
        write: takes the lines of CSV, the header first; None where there is no place.

    """

    def __init__(self, columns: Sequence[str], shown_max: int, write: Callable[[bytes], object] | None) -> None:
        self.first: list[str] = []
        self._columns = columns
        self._shown_max = shown_max
        self._write = write
        self._has_header = False

    def add(self, line: Line, refusal: ChargeError) -> None:
        """Keeps one."""
        if len(self.first) < self._shown_max:
            self.first.append(f"line {line.number}: {refusal.message}")
        if self._write is None:
            return
        header = () if self._has_header else ([*self._columns, *REFUSED_COLUMNS],)
        self._has_header = True
        self._write(csv_rows([*header, self._row(line, refusal)]))

    def _row(self, line: Line, refusal: ChargeError) -> list[str | int]:
        """Its cells as they stand in the file: what is changed for a spreadsheet would be imported so."""
        why = [line.number, cell(refusal.facts.get("field") or "line"), cell(refusal.message)]
        if line.cells is None:
            return [*("" for _ in self._columns), *why, cell(line.text)]
        cells = [one.encode(errors="surrogateescape").decode(errors="replace") for one in line.cells]
        return [*cells, *why, ""]


class Import:
    """One run over a file's lines; `report` says how far it has come.

    Args:
        submit: takes the operations.
        recorded: finds the entry that a customer's opening balance led to.
        refusals: is told of lines that are refused.
        config: its limits say how many lines go together, and how often they are tried.
        between: is awaited after each chunk.

    """

    def __init__(
        self, submit: Submit, recorded: Recorded, refusals: Refusals, config: Config, between: Between
    ) -> None:
        self._submit = submit
        self._recorded = recorded
        self._refusals = refusals
        self._limits = config.limits
        self._between = between
        self.report = Report()

    async def run(self, lines: Iterable[Line], progress: Callable[[], None]) -> None:
        """Imports lines in their order.

        Raises:
            Unavailable: the database does not take them; those before are imported.

        """
        lines = iter(lines)
        while chunk := list(itertools.islice(lines, self._limits.import_lines_at_once)):
            began = time.monotonic()
            await self._chunk(chunk)
            progress()
            await self._between(time.monotonic() - began)

    async def _chunk(self, lines: Sequence[Line]) -> None:
        asked = [operations_of(line.said) if isinstance(line.said, OpeningBalance) else [] for line in lines]
        results = iter(await self._taken([operation for operations in asked for operation in operations], lines))
        for line, operations in zip(lines, asked, strict=True):
            own = [(operation, next(results)) for operation in operations]
            if isinstance(line.said, InvalidRequest):
                self._refuse(line, line.said)
            else:
                await self._count(line, line.said, *own[-1])

    async def _taken(self, operations: Sequence[Operation], lines: Sequence[Line]) -> Sequence[Result]:
        """What became of operations, which are tried again where the database was away: the keys make that safe."""
        failed: Unavailable | None = None
        for _ in range(self._limits.import_tries_max):
            results = await self._submit(operations) if operations else ()
            failed = next((result for result in results if isinstance(result, Unavailable)), None)
            if failed is None:
                return results
            await asyncio.sleep(self._limits.import_retry_seconds)
        raise Unavailable(
            f"The database did not take lines {lines[0].number} to {lines[-1].number}. "
            f"{self.report.imported} are imported and stay so; run it again to go on."
        ) from failed

    async def _count(self, line: Line, balance: OpeningBalance, keyed: Operation, result: Result) -> None:
        if isinstance(result, IdempotencyConflict):
            self._refuse(line, _conflict(await self._recorded(balance.customer_id)))
        elif isinstance(result, ChargeError):
            self._refuse(line, result)
        # What a first try of ours has written, a second one finds under its own id.
        elif result.entry is None or (result.replayed and result.entry.id != keyed.id):
            self.report.already_imported += 1
        else:
            self.report.imported += 1
            self.report.credits += balance.credits

    def _refuse(self, line: Line, refusal: ChargeError) -> None:
        self.report.refused += 1
        self._refusals.add(line, refusal)


def _conflict(recorded: Entry | None) -> InvalidRequest:
    """What is said of a line whose wallet has another opening balance."""
    if recorded is None:  # nothing is written yet in a dry run
        why = "an earlier line of this file gives this wallet another opening balance; keep one of them"
    else:
        grant = (recorded.detail or {}).get("grant")
        what = f"{grant['credits']} {grant['category']}" if grant else f"{recorded.credits}, {recorded.description!r}"
        why = (
            f"this wallet's opening balance is recorded already ({what}), and this line says otherwise; "
            "correct what is recorded by an adjustment"
        )
    return InvalidRequest(f"customer_id: {why}.", field="customer_id")


@contextlib.contextmanager
def opened(file: Path, refused: Path | None, config: Config) -> Iterator[tuple[BalancesFile, Refusals]]:
    """A file of opening balances, and where its refused lines go.

    Args:
        file: CSV with a header.
        refused: a file that is not there yet, made where a line is refused; it has its name when all were read.
        config: its limits bound a line, and how many refused ones are kept to be shown.

    Raises:
        StartRefused: the header is wrong, or `refused` is there already or cannot be made.

    """
    limits = config.limits
    with contextlib.ExitStack() as stack:
        balances = BalancesFile(stack.enter_context(file.open("rb")), limits.import_line_bytes_max)
        write = None if refused is None else stack.enter_context(new_file(refused, keep_empty=False)).write
        yield balances, Refusals(balances.columns, limits.import_refused_shown_max, write)


async def import_balances(
    db: Database, config: Config, balances: BalancesFile, refusals: Refusals, *, size: int, dry_run: bool
) -> Report:
    """Imports a file, and tells what became of it.

    Customers who come from elsewhere are not new, so a wallet that is made here gets no welcome credits.

    Args:
        db: where to.
        config: the settings.
        balances: what to import.
        refusals: is told of lines that are refused.
        size: how many bytes there are to be read.
        dry_run: whether to write nothing, and say what would be.

    Raises:
        Unavailable: the database failed; what was imported stays.

    """
    submitting = _rehearsal(db) if dry_run else _writing(db, replace(config, welcome_credits=0))

    async def recorded(customer_id: str) -> Entry | None:
        return await reads.entry_with_key(db, customer_id, KEY)

    with _progress(balances, size) as progress:
        async with submitting as submit:
            run = Import(submit, recorded, refusals, config, _nothing if dry_run else _between(db, config))
            await run.run(balances, progress)
    return run.report


def _between(db: Database, config: Config) -> Between:
    async def rest(seconds: float) -> None:
        """One process writes at a time, and who waits for that looks only now and then whether it may."""
        await asyncio.sleep(seconds * config.limits.import_rest_share)

    return rest if db.dialect.is_sqlite else _nothing


async def _nothing(_seconds: float) -> None:
    pass


@contextlib.asynccontextmanager
async def _writing(db: Database, config: Config) -> AsyncIterator[Submit]:
    catalogue = CatalogueStore(db, config.limits)
    await catalogue.fresh()
    writer = Writer(db, catalogue, config, lambda _changes, _generation: None)  # a server sees them by their versions
    try:
        yield writer.submit_all
    finally:
        await writer.close()


@contextlib.asynccontextmanager
async def _rehearsal(db: Database) -> AsyncIterator[Submit]:
    async with db.snapshot() as snapshot:
        with contextlib.closing(Rehearsal(snapshot, db.dialect, welcome_credits=0)) as rehearsal:
            yield rehearsal.submit_all


@contextlib.contextmanager
def _progress(balances: BalancesFile, size: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, by the bytes that have been read."""
    with typer.progressbar(length=size, label="Importing", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield lambda: bar.update(balances.bytes_read - bar.pos)
