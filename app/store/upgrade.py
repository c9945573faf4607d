"""Alembic, which runs the migrations. It is slow to import, and most starts find nothing to do."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from app.errors import StartRefused


def upgrade(connection: sa.Connection, name: str, revision: str = "head") -> None:
    """Runs the migrations that a database lacks, in the connection's transaction.

    Args:
        connection: to the database.
        name: what a refusal calls it.
        revision: the last one to run.

    Raises:
        StartRefused: the database has a revision that this version does not know.

    """
    try:
        command.upgrade(_config(connection), revision)
    except CommandError as error:
        raise StartRefused(
            f"{name} was made by a newer version of Chargly ({error}): "
            "update this one, or let DATABASE_URL name another."
        ) from error


def newest_revision() -> str | None:
    """The last of the migrations that are there."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def _config(connection: sa.Connection | None) -> AlembicConfig:
    alembic = AlembicConfig()
    alembic.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    alembic.attributes["connection"] = connection
    return alembic
