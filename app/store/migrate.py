"""Brings a database to this version's schema, and refuses one that is not ours."""

import asyncio
import contextlib
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa

from app.config import Config
from app.errors import StartRefused
from app.store.dialect import dialect_of, place
from app.store.schema import APPLICATION_ID, REVISION
from app.store.sqlite import sqlite_path, sqlite_pragmas


class NoLedger(StartRefused):
    """There is no ledger where one was to be read; nothing was made there."""


def migrate(config: Config, *, only_existing: bool = False) -> str:
    """Runs the missing migrations, in one transaction, and returns the revision that the database is at now.

    Called before an event loop runs. Several processes may call it at once: one migrates, the others wait for it.

    Args:
        config: names the database.
        only_existing: refuses to make a ledger where there is none.

    Raises:
        NoLedger: there is none, and none may be made.
        StartRefused: the database cannot be reached, read or written, is none, or belongs to another program.

    """
    if dialect_of(config.database_url).is_sqlite:
        return _migrate_sqlite(config, sqlite_path(config.database_url), only_existing=only_existing)
    from app.store.postgres_start import prepare  # noqa: PLC0415 - asyncpg is there only with its extra

    upgraded = partial(_upgraded, place(config.database_url))
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(prepare(config, upgraded, _refuse_to_make if only_existing else None))


def ledger_name(config: Config) -> str:
    """Where the ledger is, as someone in another folder would name it, and without a password."""
    if dialect_of(config.database_url).is_sqlite:
        return str(sqlite_path(config.database_url).absolute())
    return place(config.database_url)


def is_ledger_of_others(config: Config, customer_id: str) -> bool:
    """Whether the database has wallets, and this customer's is none of them. Reads only, whatever schema it has.

    Called before an event loop runs.
    """
    if dialect_of(config.database_url).is_sqlite:
        return _is_file_of_others(sqlite_path(config.database_url), customer_id)
    from app.store.postgres_start import is_of_others  # noqa: PLC0415 - asyncpg is there only with its extra

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(is_of_others(config, customer_id))


def _upgraded(name: str, connection: sa.Connection) -> str:
    if _revision(connection) != REVISION:
        from app.store.upgrade import upgrade  # noqa: PLC0415 - Alembic is a fifth of a start, and rarely needed

        upgrade(connection, name)
    return _revision(connection)


def _revision(connection: sa.Connection) -> str:
    """The revision that a database is at; empty where it is at none."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all()
    return str(found[0]) if len(found) == 1 else ""


def _migrate_sqlite(config: Config, path: Path, *, only_existing: bool) -> str:
    check_folder(path)
    if only_existing and _is_empty(path):
        _refuse_to_make(config)
    with contextlib.suppress(OSError):  # what hinders it, SQLite says better
        path.touch(0o600)  # it holds the secret that signs tokens; its log beside it gets the same mode
    engine = _sqlite_engine(config, path)
    try:
        with engine.begin() as connection:
            _check_ours(connection, path)
            revision = _upgraded(place(config.database_url), connection)
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
            return revision
    except sa.exc.DatabaseError as error:
        raise StartRefused(_sentence(path, error)) from error
    finally:
        engine.dispose()


def _refuse_to_make(config: Config) -> NoReturn:
    where = ledger_name(config)
    if dialect_of(config.database_url).is_sqlite:
        raise NoLedger(f"There is no ledger at {where}; set DATABASE_URL (a demo's is sqlite:///chargly-demo.db).")
    raise NoLedger(f"There is no ledger in {where}: let DATABASE_URL name one, or make it with `chargly migrate`.")


def _is_empty(path: Path) -> bool:
    """Whether there is no file, or one without a table. Makes none and writes to none."""
    if not path.is_file():
        return True
    try:
        with contextlib.closing(_read_only(path)) as connection:
            return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.Error:  # it is not empty; the migration says what it is
        return False


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _is_file_of_others(path: Path, customer_id: str) -> bool:
    if not path.is_file():
        return False
    try:
        with contextlib.closing(_read_only(path)) as connection:
            query = "SELECT EXISTS (SELECT 1 FROM wallets) AND NOT EXISTS (SELECT 1 FROM wallets WHERE customer_id = ?)"
            return bool(connection.execute(query, (customer_id,)).fetchone()[0])
    except sqlite3.Error:  # no ledger of ours; `migrate` says what it is
        return False


def _sqlite_engine(config: Config, path: Path) -> sa.Engine:
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)

    @sa.event.listens_for(engine, "connect")
    def set_pragmas(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours to send, or DDL would be outside of the transaction
        for pragma in sqlite_pragmas(config.limits):
            connection.execute(pragma)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def check_folder(path: Path) -> None:
    """Refuses a path that no file can have.

    Raises:
        StartRefused: its folder does not exist, or it is a folder itself.

    """
    if not path.absolute().parent.is_dir():
        raise StartRefused(f"DATABASE_URL names {path}, and its folder does not exist.")
    if path.is_dir():
        raise StartRefused(f"DATABASE_URL names {path}, which is a folder.")


def _check_ours(connection: sa.Connection, path: Path) -> None:
    tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
    owner = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    if tables and owner != APPLICATION_ID:
        raise StartRefused(f"{path} is a database of another program; set DATABASE_URL to a file of Chargly's own.")


def _sentence(path: Path, error: sa.exc.DatabaseError) -> str:
    reason = str(error.orig)
    if "not a database" in reason or "malformed" in reason:
        return f"{path} is not a SQLite database; set DATABASE_URL to a file of Chargly's own."
    if "readonly" in reason or "unable to open" in reason:
        return f"{path} cannot be written ({reason}); the server needs to write the file and its folder."
    return f"{path} could not be opened: {reason}."
