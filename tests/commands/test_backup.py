"""`chargly backup`: a whole copy beside a running server, which becomes a ledger again."""

import contextlib
import json
import sqlite3
import threading
from pathlib import Path

import pytest
from serving import ServerProcess, StartServer, charge, grant

from app.store import backup


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute(sql).fetchall()


@pytest.mark.sqlite
def test_a_copy_beside_a_busy_server_is_whole_and_serves_again(new_server: StartServer, tmp_path: Path) -> None:
    server = new_server()
    over = threading.Event()
    charged = 0

    def meter() -> None:
        nonlocal charged
        with server.client() as api:
            while not over.is_set():
                charged += charge(api, "u", credits=1).status_code == 201

    with server.client() as api:
        grant(api, "u", 10**6)
        metering = threading.Thread(target=meter)
        metering.start()
        try:
            done = server.run("backup", "copy.db", "--json")
        finally:
            over.set()
            metering.join()
        assert done.returncode == 0, done.stderr
        left = api.get("/v1/wallets/u").json()
    copy = tmp_path / "copy.db"
    told = json.loads(done.stdout)
    assert (told["file"], told["bytes"], told["wallets"], told["mismatch"]) == ("copy.db", copy.stat().st_size, 1, None)
    [(balance, version)] = rows(copy, "SELECT balance, version FROM wallets")
    assert (10**6 - balance, version, told["entries"]) == (version - 1, version, version)
    assert left["balance"] == 10**6 - charged <= balance
    assert sorted(one.name for one in tmp_path.glob("copy.db*")) == ["copy.db"]
    server.stop()
    copy.replace(tmp_path / "ledger.db")
    for leftover in tmp_path.glob("ledger.db-*"):
        leftover.unlink()
    with server.start().client() as api:
        assert api.get("/v1/wallets/u").json()["balance"] == balance
        assert charge(api, "u", credits=1).status_code == 201


@pytest.mark.sqlite
def test_a_copy_is_as_private_as_the_ledger_and_overwrites_nothing(command: ServerProcess) -> None:
    ledger, copy = command.folder / "ledger.db", command.folder / "copy.db"
    ledger.unlink()
    assert command.run("migrate").returncode == 0
    assert ledger.stat().st_mode & 0o777 == 0o600
    done = command.run("backup", "copy.db")
    assert done.stdout.startswith(f"Copied 0 wallets and 0 entries of {ledger} to copy.db, ")
    assert done.stdout.endswith(" bytes: every promise holds.\n")
    assert copy.stat().st_mode & 0o777 == 0o600
    before = copy.read_bytes()
    for left in ("again.db.part", "again.db.part-wal", "again.db.part-shm"):
        (command.folder / left).write_bytes(b"of one that was killed" * 500)
    assert command.run("backup", "again.db").returncode == 0
    (command.folder / "again.db").unlink()
    for words, sentence in (
        (["copy.db"], "chargly: copy.db is there already, and is not overwritten"),
        (["nowhere/copy.db"], "chargly: nowhere/copy.db cannot be made: its folder does not exist."),
    ):
        refused = command.run("backup", *words)
        assert (refused.returncode, refused.stderr.startswith(sentence)) == (1, True), refused.stderr
    assert copy.read_bytes() == before
    command.env["DATABASE_URL"] = "sqlite:///none.db"
    assert "There is no ledger at" in command.run("backup", "other.db").stderr
    assert sorted(one.name for one in command.folder.glob("*.db*")) == ["copy.db", "ledger.db"]


@pytest.mark.sqlite
def test_a_copy_of_a_ledger_that_breaks_a_promise_is_kept_and_told(command: ServerProcess) -> None:
    (command.folder / "balances.csv").write_text("customer_id,credits\nann,7\n")
    assert command.run("import", "balances.csv").returncode == 0
    with contextlib.closing(sqlite3.connect(command.folder / "ledger.db")) as database, database:
        database.execute("UPDATE wallets SET balance = 8")
    done = command.run("backup", "copy.db")
    assert done.returncode == 1
    assert "the ledger breaks a promise: wallet ann: the balance" in done.stdout
    assert rows(command.folder / "copy.db", "SELECT balance FROM wallets") == [(8,)]


@pytest.mark.postgresql
def test_postgresql_has_its_own_means(command: ServerProcess) -> None:
    done = command.run("backup", "copy.db")
    assert done.returncode == 1
    assert "pg_dump" in done.stderr
    assert not (command.folder / "copy.db").exists()


def test_a_damaged_copy_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "copy.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (a PRIMARY KEY)")
        database.executemany("INSERT INTO t VALUES (?)", [(f"{number:0900}",) for number in range(100)])
        database.commit()
    backup.check_file(path)
    content = bytearray(path.read_bytes())
    content[-2000:-1000] = bytes(1000)
    path.write_bytes(content)
    with pytest.raises((backup.NotWhole, sqlite3.DatabaseError)):
        backup.check_file(path)
