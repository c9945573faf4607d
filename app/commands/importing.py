"""Opening balances brought into the ledger, a chunk of lines to a commit."""

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import typer
from msgspec.structs import replace

from app.api.spreadsheet import cell, csv_rows
from app.commands.opening import BalancesFile, Line, OpeningBalance, operations_of
from app.config import Config
from app.errors import ChargeError, IdempotencyConflict, InvalidRequest, StartRefused, Unavailable
from app.rules.operations import Operation
from app.store.catalogue import CatalogueStore
from app.store.db import Database
from app.store.rehearsal import Rehearsal
from app.store.writer import Result, Writer

Submit: TypeAlias = Callable[[Sequence[Operation]], Awaitable[Sequence[Result]]]
"""What takes operations, as `Writer.submit_all` does."""
Between: TypeAlias = Callable[[float], Awaitable[None]]
"""What is done after a chunk: takes the seconds that it took."""

_REFUSED_COLUMNS: Final = ("line", "field", "reason", "text")

_CONFLICT: Final = "customer_id: this wallet's opening balance is there already, from a line that says otherwise."


class Report(msgspec.Struct):
    """What became of a file's lines, and the credits of those that were imported."""

    imported: int = 0
    already_imported: int = 0
    refused: int = 0
    credits: int = 0


class Refusals:
    """Lines that were refused: the first ones kept to be shown, all of them written where there is a place for it."""

    def __init__(self, shown_max: int, write: Callable[[bytes], object] | None) -> None:
        self.first: list[str] = []
        self._shown_max = shown_max
        self._write = write
        if write is not None:
            write(csv_rows([_REFUSED_COLUMNS]))

    def add(self, line: Line, refusal: ChargeError) -> None:
        """Keeps one."""
        if len(self.first) < self._shown_max:
            self.first.append(f"line {line.number}: {refusal.message}")
        if self._write is not None:
            field = refusal.facts.get("field") or "line"
            self._write(csv_rows([[line.number, cell(field), cell(refusal.message), cell(line.text)]]))


class Import:
    """One run over a file's lines; `report` says how far it has come.

    Args:
        submit: takes the operations.
        refusals: is told of lines that are refused.
        config: its limits say how many lines go together, and how often they are tried.
        between: is awaited after each chunk.

    """

    def __init__(self, submit: Submit, refusals: Refusals, config: Config, between: Between) -> None:
        self._submit = submit
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
                self._count(line, line.said, *own[-1])

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

    def _count(self, line: Line, balance: OpeningBalance, grant: Operation, result: Result) -> None:
        if isinstance(result, IdempotencyConflict):
            self._refuse(line, InvalidRequest(_CONFLICT, field="customer_id"))
        elif isinstance(result, ChargeError):
            self._refuse(line, result)
        # What a first try of ours has written, a second one finds under its own id.
        elif result.replayed and (result.entry is None or result.entry.id != grant.id):
            self.report.already_imported += 1
        else:
            self.report.imported += 1
            self.report.credits += balance.credits

    def _refuse(self, line: Line, refusal: ChargeError) -> None:
        self.report.refused += 1
        self._refusals.add(line, refusal)


async def import_balances(
    db: Database, config: Config, file: Path, *, dry_run: bool, refused: Path | None
) -> tuple[Report, Sequence[str]]:
    """Imports a file, and tells what became of it, with the first of the lines that were refused.

    Customers who come from elsewhere are not new, so a wallet that is made here gets no welcome credits.

    Args:
        db: where to.
        config: the settings.
        file: CSV with a header.
        dry_run: whether to write nothing, and say what would be.
        refused: where to write all refused lines to, a file that is not there yet.

    Raises:
        StartRefused: the header is wrong, or a file cannot be opened.
        Unavailable: the database failed; what was imported stays.

    """
    submitting = _rehearsal(db) if dry_run else _writing(db, replace(config, welcome_credits=0))
    limits = config.limits
    with file.open("rb") as source:
        balances = BalancesFile(source, limits.import_line_bytes_max)
        with _refused_lines(refused) as write, _progress(file, balances) as progress:
            refusals = Refusals(limits.import_refused_shown_max, write)
            async with submitting as submit:
                run = Import(submit, refusals, config, _nothing if dry_run else _between(db, config))
                await run.run(balances, progress)
    return run.report, refusals.first


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
def _refused_lines(path: Path | None) -> Iterator[Callable[[bytes], object] | None]:
    if path is None:
        yield None
        return
    try:
        file = path.open("xb")
    except OSError as error:
        raise StartRefused(f"{path} cannot be made: {error.strerror}.") from error
    with file:
        yield file.write


@contextlib.contextmanager
def _progress(file: Path, balances: BalancesFile) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, by the bytes that have been read."""
    size = file.stat().st_size
    with typer.progressbar(length=size, label="Importing", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield lambda: bar.update(balances.bytes_read - bar.pos)
