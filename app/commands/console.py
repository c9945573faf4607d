"""What commands share: the database they work on, and what they print."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from app.config import load
from app.store.db import Database
from app.store.migrate import migrate

T = TypeVar("T")

AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def with_database(act: Callable[[Database], Awaitable[T]]) -> T:
    """Runs one act on the database, brought to this version's schema, beside a running server or not."""
    config = load()
    migrate(config)

    async def run() -> T:
        db = Database(config)
        await db.open()
        try:
            return await act(db)
        finally:
            await db.close()

    return asyncio.run(run())


def show(data: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Prints a result: as JSON for a program, or as text for a person."""
    say(json.dumps(data, ensure_ascii=False) if as_json else text)


def say(text: str) -> None:
    """Prints a text at once."""
    typer.echo(text)
    sys.stdout.flush()
