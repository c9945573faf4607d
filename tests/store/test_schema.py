"""The schema on SQLite: what the migrations make is what the code reads, and the file is ours alone."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.config import Config
from app.errors import StartRefused
from app.store.migrate import migrate
from app.store.schema import REVISION, metadata
from app.store.server_lock import ServerLock
from app.store.upgrade import newest_revision


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(database_url=f"sqlite:///{tmp_path}/ledger.db")


def test_migrating_twice_is_migrating_once(config: Config) -> None:
    assert migrate(config) == migrate(config) == REVISION


def test_the_revision_that_the_code_names_is_the_newest_migration() -> None:
    assert newest_revision() == REVISION


def test_the_migrations_make_the_tables_that_the_code_knows(config: Config) -> None:
    migrate(config)
    engine = sa.create_engine(config.database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_index_of_low_wallets_has_those_alone(config: Config, tmp_path: Path) -> None:
    """However many have a threshold: a page of low ones looks at no other."""
    migrate(config)
    connection = sqlite3.connect(tmp_path / "ledger.db")
    [(sql,)] = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'wallets_with_threshold'")
    connection.close()
    assert sql.endswith("(customer_id) WHERE balance < low_balance_threshold")


def test_every_table_is_strict(config: Config, tmp_path: Path) -> None:
    migrate(config)
    connection = sqlite3.connect(tmp_path / "ledger.db")
    loose = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 0"
        " AND name NOT LIKE 'sqlite_%' AND name <> 'alembic_version'"
    ).fetchall()
    connection.close()
    assert loose == []


def test_a_start_that_dies_half_way_leaves_the_file_as_it_was(config: Config, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.executescript("PRAGMA application_id = 1128810322; CREATE TABLE packs (code TEXT)")
    connection.close()
    with pytest.raises(StartRefused):
        migrate(config)
    connection = sqlite3.connect(tmp_path / "ledger.db")
    assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("packs",)]
    connection.close()


def test_a_file_of_another_program_is_refused(config: Config, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(StartRefused, match="another program"):
        migrate(config)


def test_a_file_that_is_no_database_is_refused(config: Config, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("a shopping list\n" * 100)
    with pytest.raises(StartRefused, match="not a SQLite database"):
        migrate(config)


def test_a_second_server_on_one_file_is_refused_and_the_lock_ends_with_its_holder(config: Config) -> None:
    first = ServerLock(config.database_url)
    with first, pytest.raises(StartRefused, match="DATABASE_URL"), ServerLock(config.database_url):
        pass
    with ServerLock(config.database_url):
        pass


def test_the_seeds_prices_and_packs_are_in_a_new_database(config: Config, tmp_path: Path) -> None:
    migrate(config)
    connection = sqlite3.connect(tmp_path / "ledger.db")
    prices = dict(connection.execute("SELECT event, credits FROM prices").fetchall())
    packs = connection.execute("SELECT code, credits, amount FROM packs ORDER BY code").fetchall()
    connection.close()
    assert prices == {"chat.reply": 8, "image.generate": 40, "doc.summarize": 12, "agent.run": 25}
    assert packs == [("chargly_1200", 1200, 2000), ("chargly_500", 500, 1000)]
