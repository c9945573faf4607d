"""Starting on PostgreSQL: migrated once whoever comes first, refused in a sentence without the password."""

import asyncio
import concurrent.futures
import importlib.util
import json
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from msgspec.structs import replace
from postgres import PostgresServer, database_of
from serving import ServerProcess, charge
from sqlalchemy.ext.asyncio import create_async_engine

from app.config import Config, Limits, load
from app.errors import StartRefused
from app.store.migrate import is_ledger_of_others, migrate
from app.store.schema import REVISION, metadata

pytestmark = pytest.mark.postgresql

PASSWORD = "p@ss/w%rd:#?&="
"""Every character that means something in an address."""


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[str]:
    """The address of a database without a table."""
    url = postgres.empty_database()
    yield url
    postgres.drop(url)


@pytest.fixture
def locked(postgres: PostgresServer, empty: str) -> Iterator[Callable[[str], str]]:
    """A role that must give its password; makes an address of a password."""
    postgres.execute(f"CREATE ROLE clerk LOGIN PASSWORD '{PASSWORD}'")
    postgres.execute(f"ALTER DATABASE {database_of(empty)} OWNER TO clerk")
    postgres.execute("GRANT ALL ON SCHEMA public TO clerk", empty)
    with postgres.asking_passwords_of("clerk"):
        yield lambda password: empty.replace("postgres@", f"clerk:{urllib.parse.quote(password, safe='')}@")
    postgres.execute("REVOKE ALL ON SCHEMA public FROM clerk", empty)
    postgres.execute(f"ALTER DATABASE {database_of(empty)} OWNER TO postgres")
    postgres.execute("DROP OWNED BY clerk CASCADE", empty)
    postgres.execute("DROP ROLE clerk")


def refusal(url: str, **limits: float) -> str:
    with pytest.raises(StartRefused) as refused:
        migrate(Config(database_url=url, limits=Limits(**limits)))  # type: ignore[arg-type]
    sentence = str(refused.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_migrating_twice_is_migrating_once(empty: str) -> None:
    config = Config(database_url=empty)
    assert migrate(config) == migrate(config) == REVISION


def test_a_ledger_that_is_to_be_read_is_not_made(postgres: PostgresServer, empty: str, tmp_path: Path) -> None:
    done = ServerProcess(tmp_path, DATABASE_URL=empty).run("verify")
    name = f"postgresql:///{database_of(empty)}"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"chargly: There is no ledger in {name}: let DATABASE_URL name one, or make it with `chargly migrate`.\n"
    )
    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", empty) == []


def test_many_processes_may_migrate_at_once(empty: str, tmp_path: Path) -> None:
    def run(_: int) -> subprocess.CompletedProcess[str]:
        return ServerProcess(tmp_path, DATABASE_URL=empty).run("migrate", "--json")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = list(pool.map(run, range(4)))
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 4
    assert [json.loads(one.stdout)["revision"] for one in done] == [REVISION] * 4


def test_the_migrations_make_the_tables_that_the_code_knows(empty: str) -> None:
    migrate(Config(database_url=empty))

    async def differences() -> list[object]:
        async def connected() -> object:
            return await asyncpg.connect(empty)

        engine = create_async_engine("postgresql+asyncpg://", async_creator=connected, poolclass=sa.NullPool)
        async with engine.connect() as connection:
            found = await connection.run_sync(lambda sync: compare_metadata(MigrationContext.configure(sync), metadata))
        await engine.dispose()
        return found

    assert asyncio.run(differences()) == []


def test_every_text_of_ours_is_sorted_by_code_point(postgres: PostgresServer, database_url: str) -> None:
    columns = postgres.execute(
        "SELECT table_name, column_name, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'text' AND table_name <> 'alembic_version'",
        database_url,
    )
    assert len(columns) > 30
    assert [tuple(column) for column in columns if column["collation_name"] != "C"] == []


def test_a_database_of_another_program_is_refused_and_left_alone(postgres: PostgresServer, empty: str) -> None:
    postgres.execute("CREATE TABLE recipes (name text)", empty)
    assert "another program" in refusal(empty)
    postgres.execute("CREATE TABLE alembic_version (version_num text)", empty)
    assert "another program" in refusal(empty)
    tables = postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", empty)
    assert sorted(row[0] for row in tables) == ["alembic_version", "recipes"]


def test_a_database_of_a_newer_version_is_refused(postgres: PostgresServer, database_url: str) -> None:
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", database_url)
    assert "newer version" in refusal(database_url)


def test_a_migration_that_fails_leaves_nothing(
    postgres: PostgresServer, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.execute("CREATE TYPE checkouts AS (a int)", empty)  # no table, and its name is taken
    assert "already exists" in refusal(empty)
    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", empty) == []


def test_another_process_that_migrates_for_too_long_is_named(postgres: PostgresServer, empty: str) -> None:
    async def migrate_beside_one_that_holds_the_lock() -> str:
        other = await asyncpg.connect(empty)
        await other.execute("SELECT pg_advisory_lock(1128810322)")
        try:
            return await asyncio.to_thread(refusal, empty, migration_wait_seconds_max=0.1)
        finally:
            await other.close()

    assert "Another process" in asyncio.run(migrate_beside_one_that_holds_the_lock())


def test_a_wrong_password_is_refused_without_being_said(locked: Callable[[str], str]) -> None:
    sentence = refusal(locked("hush-hush"))
    assert "DATABASE_URL" in sentence
    assert "password authentication failed" in sentence
    assert "hush" not in sentence


def test_a_password_of_any_characters_opens_the_database(locked: Callable[[str], str]) -> None:
    assert migrate(load({"DATABASE_URL": locked(PASSWORD)}, None)) == REVISION


def test_no_message_shows_the_password(empty: str, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, DATABASE_URL=empty.replace("postgres@", "postgres:hush-hush@"))
    server.start()
    made = server.run("keys", "create", "--name", "backend", "--scope", "meter")
    with server.client(made.stdout.split()[0]) as api:
        assert charge(api, "u", "x.y", credits=1).status_code == 402
    server.stop()
    for text in (made.stdout + made.stderr, server.log.read_text()):
        assert f"postgresql:///{database_of(empty)}" in text
        assert "hush" not in text


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///nothing?host=/no/such/folder",
        "postgresql://user:hush-hush@127.0.0.1:1/name",
        "postgresql://user:hush-hush@no.such.host.invalid/name",
    ],
)
def test_a_server_that_cannot_be_reached_is_a_sentence(url: str) -> None:
    sentence = refusal(url)
    assert "DATABASE_URL" in sentence
    assert "cannot be reached" in sentence
    assert "hush" not in sentence


def test_a_database_that_does_not_exist_is_a_sentence(postgres: PostgresServer) -> None:
    assert "does not exist" in refusal(postgres.url("nothing"))


def test_a_database_without_utf8_is_refused(postgres: PostgresServer) -> None:
    postgres.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    assert "UTF8" in refusal(postgres.url("latin"))
    postgres.drop(postgres.url("latin"))


def test_a_database_that_forgets_what_it_has_committed_is_refused(postgres: PostgresServer, empty: str) -> None:
    postgres.execute(f"ALTER DATABASE {database_of(empty)} SET synchronous_commit = off")
    assert "synchronous_commit is off" in refusal(empty)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hush/hush@host/name",
        "postgresql://user:hush#hush@host/name",
        "postgresql://user:hush?hush@host/name",
        "postgresql://user:12/hush@host/name",
        "postgresql://user:hush@host:x/name",
        "postgresql://user:hush@hush@host/name",
        "postgresql://user:hush@[host/name",
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StartRefused, match="DATABASE_URL") as refused:
        load({"DATABASE_URL": url}, None)
    assert "hush" not in str(refused.value)


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(StartRefused, match=r"in Chargly's checkout, pip install '\.\[postgres\]'"):
        load({"DATABASE_URL": "postgresql://localhost/name"}, None)


def test_a_ledger_of_others_is_told_from_the_demos_and_from_none(
    postgres: PostgresServer, database_url: str, empty: str
) -> None:
    config = Config(database_url=database_url)
    assert not is_ledger_of_others(replace(config, database_url=empty), "demo")
    assert not is_ledger_of_others(replace(config, database_url=postgres.url("nothing")), "demo")
    assert not is_ledger_of_others(config, "demo")
    for customer, others in (("u", True), ("demo", False)):
        postgres.execute(
            "INSERT INTO wallets (customer_id, balance, held, version, overdraft_limit, frozen, created_at,"
            f" last_entry_at) VALUES ('{customer}', 0, 0, 1, 0, 0, 1, 1)",
            database_url,
        )
        assert is_ledger_of_others(config, "demo") is others
