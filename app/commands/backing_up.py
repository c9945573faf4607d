"""`chargly backup`: a whole copy of the ledger, checked before it has its name."""

import sqlite3
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace

from app.commands.console import AsJSON, counted, show, with_open
from app.commands.new_file import new_file
from app.config import Config, load
from app.errors import StartRefused
from app.rules.audit import Mismatch
from app.store.backup import NotWhole, check_file, copy_ledger
from app.store.db import Database
from app.store.dialect import dialect_of
from app.store.migrate import ledger_name, migrate
from app.store.verify import Audit, Progress


def backup_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.", dir_okay=False)],
    *,
    as_json: AsJSON = False,
) -> None:
    """Copy a SQLite ledger as of one moment, beside a running server, and check every promise of the copy.

    Exits with 1 where the copy cannot be made, or where it shows that the ledger breaks a promise: it is kept then.
    """
    config = load()
    ledger = ledger_name(config)
    if not dialect_of(config.database_url).is_sqlite:
        raise StartRefused(f"{ledger} is backed up by PostgreSQL's own means, such as pg_dump.")
    migrate(config, only_existing=True)
    try:
        with new_file(file, keep_empty=True) as made:
            part = Path(made.name)
            copy_ledger(config, part)
            check_file(part)
            progress, broken = _audited(config, part)
    except (sqlite3.Error, NotWhole, OSError) as error:
        raise StartRefused(f"{ledger} could not be copied to {file}: {error}.") from error
    size = file.stat().st_size
    told = {"file": str(file), "bytes": size, "wallets": progress.wallets, "entries": progress.entries}
    wallets = counted(progress.wallets, "wallet")
    text = f"Copied {wallets} and {counted(progress.entries, 'entry', 'entries')} of {ledger} to {file}, {size:,} bytes"
    verdict = "every promise holds" if broken is None else f"the ledger breaks a promise: {broken.sentence}"
    show(told | {"mismatch": None if broken is None else broken.sentence}, f"{text}: {verdict}.", as_json=as_json)
    if broken is not None:
        raise typer.Exit(1)


def _audited(config: Config, copy: Path) -> tuple[Progress, Mismatch | None]:
    """What the copy holds, and the first promise that it breaks."""

    async def audit(db: Database) -> tuple[Progress, Mismatch | None]:
        audit = Audit(db)
        found = [mismatch async for mismatch in audit.mismatches()]
        return audit.progress, found[0] if found else None

    return with_open(replace(config, database_url=f"sqlite:///{copy.absolute()}"), audit)
