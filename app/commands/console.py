"""What commands share: the database they work on, and what they print."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from app.config import Config, load
from app.store.db import Database
from app.store.migrate import migrate

T = TypeVar("T")

AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def with_database(act: Callable[[Database], Awaitable[T]], *, only_existing: bool = True) -> T:
    """Runs one act on the ledger, brought to this version's schema, beside a running server or not.

    Args:
        act: is given the open database.
        only_existing: whether a ledger that is not there is refused, or made.

    Raises:
        NoLedger: there is none, and none may be made.
        StartRefused: a setting is wrong, or the database cannot be used.
        Unavailable: the database failed.

    """
    config = load()
    migrate(config, only_existing=only_existing)
    return with_open(config, act)


def with_open(config: Config, act: Callable[[Database], Awaitable[T]]) -> T:
    """Runs one act on a database that has this version's schema.

    Raises:
        Unavailable: the database failed.

    """

    async def run() -> T:
        db = Database(config)
        await db.open()
        try:
            return await act(db)
        finally:
            await db.close()

    return asyncio.run(run())


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number and what it counts, such as `1 wallet` and `1,200 wallets`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def show(data: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Prints a result: as JSON for a program, or as text for a person."""
    say(json.dumps(data, ensure_ascii=False) if as_json else text)


def say(text: str) -> None:
    """Prints a text at once."""
    typer.echo(text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Tells a person what belongs to no result: on standard error, so that standard output is the result alone."""
    typer.echo(text, err=True)
