"""What happens to a PostgreSQL database before a server or a command uses it: checked, and brought up to date."""

from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from app.config import Config
from app.errors import StartRefused
from app.store.dialect import place
from app.store.postgres import FAILURES, connect_arguments

T = TypeVar("T")

_VERSION_MIN: Final = 14
_MIGRATING: Final = 0x43484752
"""The advisory lock of whoever migrates: `CHGR`."""
_OWN_TABLES: Final = frozenset(("alembic_version", "instance", "wallets"))
_TABLES: Final = (
    "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p')"
    " AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')"  # an extension's own
)
_OF_OTHERS: Final = (
    "SELECT EXISTS (SELECT 1 FROM wallets) AND NOT EXISTS (SELECT 1 FROM wallets WHERE customer_id = $1)"
)


async def prepare(
    config: Config, upgrade: Callable[[sa.Connection], T], refuse_empty: Callable[[Config], NoReturn] | None = None
) -> T:
    """Runs the migrations in one transaction, under a lock that ends with it.

    Args:
        config: names the database.
        upgrade: runs them on a connection; what it returns is returned.
        refuse_empty: raises instead, where there is no table yet.

    Raises:
        StartRefused: the database cannot be reached or used, or belongs to another program.
        What `refuse_empty` raises: there is no table yet.

    """
    name = place(config.database_url)
    raw = await _connected(config, name)

    async def connected() -> Any:
        return raw

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connected, poolclass=sa.NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(_upgraded, config, upgrade, refuse_empty)
    except (sa.exc.DBAPIError, *FAILURES) as error:
        raise StartRefused(_sentence(name, error)) from error
    finally:
        await engine.dispose()
        raw.terminate()


async def is_of_others(config: Config, customer_id: str) -> bool:
    """Whether there are wallets, and this customer's is none of them; False where the database cannot be asked."""
    try:
        connection = await asyncpg.connect(**connect_arguments(config))
    except FAILURES:  # `prepare` says what is wrong with it
        return False
    try:
        return bool(await connection.fetchval(_OF_OTHERS, customer_id))
    except FAILURES:
        return False
    finally:
        connection.terminate()


async def _connected(config: Config, name: str) -> Any:
    try:
        raw = await asyncpg.connect(**connect_arguments(config))
        version, encoding = raw.get_server_version().major, raw.get_settings().server_encoding
        is_durable = await raw.fetchval("SHOW synchronous_commit") != "off"
    except FAILURES as error:
        raise StartRefused(_sentence(name, error)) from error
    except ValueError as error:  # what asyncpg says of an address may quote its password
        raise StartRefused("DATABASE_URL is not an address that PostgreSQL's clients understand.") from error
    if version < _VERSION_MIN or encoding != "UTF8":
        raw.terminate()
        raise StartRefused(
            f"DATABASE_URL names {name}, which is PostgreSQL {version} with the encoding {encoding}: "
            f"Chargly needs {_VERSION_MIN} or newer, with UTF8."
        )
    if not is_durable:
        raw.terminate()
        raise StartRefused(
            f"synchronous_commit is off for {name}, so what was answered would not be on disk: "
            "set it to on for the role and the database."
        )
    return raw


def _upgraded(
    connection: sa.Connection,
    config: Config,
    upgrade: Callable[[sa.Connection], T],
    refuse_empty: Callable[[Config], NoReturn] | None,
) -> T:
    wait_ms = round(config.limits.migration_wait_seconds_max * 1000)
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {wait_ms}")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
    tables = set(connection.exec_driver_sql(_TABLES).scalars())
    if tables and not tables >= _OWN_TABLES:
        raise StartRefused(
            f"{place(config.database_url)} has tables of another program; "
            "let DATABASE_URL name a database of Chargly's own."
        )
    if not tables and refuse_empty is not None:
        refuse_empty(config)
    return upgrade(connection)


def _sentence(name: str, error: BaseException) -> str:
    """What to change, without the password and the driver's words around it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, FAILURES):
        cause = cause.__cause__ or getattr(cause, "orig", None)
    if isinstance(cause, OSError):
        reason = cause.strerror or str(cause) or "it did not answer in time"
        return f"DATABASE_URL names {name}, which cannot be reached ({reason.rstrip('.')})."
    said = str(cause or error).strip().splitlines()[0].rstrip(".")
    if getattr(cause, "sqlstate", "") == "55P03":
        return f"Another process has been migrating {name} for too long ({said}); wait until it has ended."
    return f"DATABASE_URL names {name}, and PostgreSQL refused: {said}."
