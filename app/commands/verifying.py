"""The ledger's promises, checked on a live database."""

import asyncio
import sys
import time
from typing import Annotated, Any, Final

import msgspec
import typer

from app.commands.console import AsJSON, counted, note, say, with_database
from app.config import load
from app.errors import NotFound
from app.rules.audit import Mismatch
from app.store import reads
from app.store.db import Database
from app.store.migrate import ledger_name
from app.store.verify import Audit

SECONDS_BETWEEN_LINES: Final = 2.0
"""Of progress, where somebody watches."""

Wallet = Annotated[str | None, typer.Option("--wallet", metavar="CUSTOMER", help="Only this customer's wallet.")]


def verify_command(wallet: Wallet = None, *, as_json: AsJSON = False) -> None:
    """Check every promise of the ledger. Exit code 1 and the first mismatch of each wallet where one is broken."""
    ledger = ledger_name(load())
    clean = with_database(lambda db: _verify(db, wallet, ledger, as_json=as_json))
    if not clean:
        raise typer.Exit(1)


async def _verify(db: Database, customer_id: str | None, ledger: str, *, as_json: bool) -> bool:
    if customer_id is not None and await reads.wallet(db, customer_id) is None:
        raise NotFound(f"There is no wallet for {customer_id!r}.", customer_id=customer_id)
    audit = Audit(db, customer_id)
    watcher = asyncio.create_task(_watch(audit)) if sys.stderr.isatty() else None
    broken = 0
    began = time.monotonic()
    try:
        async for mismatch in audit.mismatches():
            broken += 1
            say(_line(mismatch) if as_json else f"{mismatch.sentence}.")
    finally:
        if watcher is not None:
            watcher.cancel()
    _conclude(audit, broken, ledger, time.monotonic() - began, as_json=as_json)
    return not broken


def _line(mismatch: Mismatch) -> str:
    fields: dict[str, Any] = msgspec.structs.asdict(mismatch)
    readable = {name: fields[name] if fields[name] is None else str(fields[name]) for name in ("expected", "found")}
    return msgspec.json.encode({"mismatch": fields | readable}).decode()


def _conclude(audit: Audit, broken: int, ledger: str, seconds: float, *, as_json: bool) -> None:
    progress = audit.progress
    if as_json:
        totals = {"wallets": progress.wallets, "entries": progress.entries, "mismatches": broken, "ledger": ledger}
        say(msgspec.json.encode(totals).decode())
        return
    verdict = f"broken promises in {counted(broken, 'wallet')}" if broken else "every promise holds"
    say(f"{_audited(audit)} in {ledger}, read in {seconds:.1f} s: {verdict}.")


def _audited(audit: Audit) -> str:
    wallets, entries = audit.progress.wallets, audit.progress.entries
    return f"{counted(wallets, 'wallet')} and {counted(entries, 'entry', 'entries')}"


async def _watch(audit: Audit) -> None:
    while True:
        await asyncio.sleep(SECONDS_BETWEEN_LINES)
        note(f"{_audited(audit)} …")
