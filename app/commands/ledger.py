"""`chargly export` and `chargly import`: the ledger out, opening balances in."""

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from msgspec.structs import replace

from app.commands.console import AsJSON, counted, note, show, with_database, with_open
from app.config import Config, load
from app.errors import StartRefused
from app.store.db import Database
from app.store.migrate import NoLedger, ledger_name, migrate

if TYPE_CHECKING:
    from app.commands.importing import Report


def export_command(
    wallet: Annotated[str | None, typer.Option(metavar="CUSTOMER", help="The ledger of one wallet.")] = None,
    *,
    everyone: Annotated[bool, typer.Option("--all", help="The ledger of every wallet.")] = False,
    format: Annotated[Literal["csv", "jsonl"], typer.Option(help="How entries are written.")] = "csv",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A new file, instead of standard output.")] = None,
) -> None:
    """Write out the ledger as of one moment: wallets by customer id, each oldest first."""
    from app.commands.exporting import Unwritten, export

    if everyone is (wallet is not None):
        raise typer.BadParameter("name one wallet with --wallet CUSTOMER, or all of them with --all.")
    try:
        with_database(lambda db: export(db, wallet, out, as_csv=format == "csv"))
    except Unwritten as error:
        cause = error.__cause__
        if isinstance(cause, BrokenPipeError):  # the reader has what it wanted, and typer ends quietly
            raise cause from None
        reason = cause.strerror if isinstance(cause, OSError) else cause
        to = "" if out is None else f" to {out}"
        raise StartRefused(f"The ledger could not be written out{to}: {reason}.") from error


def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", exists=True, dir_okay=False, readable=True)],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing, and say what would be.")] = False,
    refused: Annotated[Path | None, typer.Option(metavar="FILE", help="A new file, for all refused lines.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Import opening balances from a CSV with the columns customer_id and credits.

    More columns: category (paid unless said), name (of a wallet that is made), priority, expires_at, reason.

    A wallet has one opening balance, so the same file may be imported again. Exits with 1 where a line was refused.
    """
    from app.commands.importing import import_balances, opened

    config = load()
    try:
        with opened(file, refused, config) as (balances, refusals):
            size = file.stat().st_size
            report, into = _imported(
                config,
                lambda db: import_balances(db, config, balances, refusals, size=size, dry_run=dry_run),
                dry_run=dry_run,
            )
    except OSError as error:
        raise StartRefused(f"The import stopped: {error.strerror or error}. What was imported stays.") from error
    for line in refusals.first:
        note(line)
    if report.refused > len(refusals.first):
        note(f"… and {report.refused - len(refusals.first):,} more; --refused FILE writes all of them.")
    fields = {**msgspec.structs.asdict(report), "dry_run": dry_run, "ledger": ledger_name(config)}
    show(fields, _sentence(report, into, dry_run=dry_run), as_json=as_json)
    raise typer.Exit(1 if report.refused else 0)


def _imported(config: Config, act: Callable[[Database], Awaitable["Report"]], *, dry_run: bool) -> tuple["Report", str]:
    """Runs an import on the ledger, which is made where there is none; a dry run then takes an empty one elsewhere."""
    name = ledger_name(config)
    try:
        migrate(config, only_existing=True)
        return with_open(config, act), name
    except NoLedger:
        new = f"the new ledger {name}"
    if not dry_run:
        migrate(config)
        return with_open(config, act), new
    with tempfile.TemporaryDirectory() as folder:
        empty = replace(config, database_url=f"sqlite:///{folder}/empty.db")
        migrate(empty)
        return with_open(empty, act), new


def _sentence(report: "Report", into: str, *, dry_run: bool) -> str:
    imported = "Would import" if dry_run else "Imported"
    balances, credits = counted(report.imported, "opening balance"), counted(report.credits, "credit")
    return (
        f"{imported} {balances}, {credits}, into {into}. "
        f"Already there: {report.already_imported:,}. Refused: {report.refused:,}."
    )
