"""`chargly export` and `chargly import`: the ledger out, opening balances in."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from app.commands.console import AsJSON, show, with_database
from app.config import load
from app.errors import StartRefused

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
        raise StartRefused(f"The ledger could not be written out: {reason}.") from error


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
    from app.commands.importing import import_balances

    config = load()
    try:
        report, first = with_database(
            lambda db: import_balances(db, config, file, dry_run=dry_run, refused=refused), only_existing=False
        )
    except OSError as error:
        raise StartRefused(f"The import stopped: {error.strerror or error}. What was imported stays.") from error
    for line in first:
        typer.echo(line, err=True)
    if report.refused > len(first):
        typer.echo(f"… and {report.refused - len(first)} more; --refused FILE writes all of them.", err=True)
    show({**msgspec.structs.asdict(report), "dry_run": dry_run}, _sentence(report, dry_run=dry_run), as_json=as_json)
    raise typer.Exit(1 if report.refused else 0)


def _sentence(report: "Report", *, dry_run: bool) -> str:
    imported = "Would import" if dry_run else "Imported"
    return (
        f"{imported} {report.imported} opening balances, {report.credits} credits. "
        f"Already there: {report.already_imported}. Refused: {report.refused}."
    )
