"""Brings a database to this version's schema, and refuses one that is not ours."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from app.config import Config
from app.errors import StartRefused
from app.store.db import sqlite_path, sqlite_pragmas
from app.store.schema import APPLICATION_ID


def migrate(config: Config) -> str:
    """Runs the missing migrations, in one transaction, and returns the revision that the database is at now.

    Raises:
        StartRefused: the file cannot be read or written, is no database, or belongs to another program.

    """
    path = sqlite_path(config.database_url)
    _check_folder(path)
    engine = _engine(config, path)
    try:
        with engine.connect() as connection:
            with connection.begin():
                _check_ours(connection, path)
                command.upgrade(_alembic(connection), "head")
                connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
            return MigrationContext.configure(connection).get_current_revision() or ""
    except CommandError as error:
        raise StartRefused(
            f"{path} was made by a newer version of Chargly ({error}): "
            "update this one, or set DATABASE_URL to another file."
        ) from error
    except sa.exc.DatabaseError as error:
        raise StartRefused(_sentence(path, error)) from error
    finally:
        engine.dispose()


def is_ledger_of_others(config: Config, customer_id: str) -> bool:
    """Whether the file has wallets, and this customer's is none of them. Reads only, whatever schema it has."""
    path = sqlite_path(config.database_url)
    if not path.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            query = "SELECT count(*), count(*) FILTER (WHERE customer_id = ?) FROM wallets"
            wallets, own = connection.execute(query, (customer_id,)).fetchone()
    except sqlite3.Error:  # no ledger of ours; `migrate` says what it is
        return False
    return bool(wallets and not own)


def head() -> str:
    """The revision that this version of the code expects."""
    return ScriptDirectory.from_config(_alembic(None)).get_current_head() or ""


def _engine(config: Config, path: Path) -> sa.Engine:
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


def _alembic(connection: sa.Connection | None) -> AlembicConfig:
    alembic = AlembicConfig()
    alembic.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    alembic.attributes["connection"] = connection
    return alembic


def _check_folder(path: Path) -> None:
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
