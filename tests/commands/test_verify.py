"""`chargly verify`, and what every command that reads says where there is no ledger."""

import contextlib
import json
import sqlite3

import pytest
from serving import ServerProcess


@pytest.mark.sqlite
def test_the_verdict_names_the_ledger_that_was_read(command: ServerProcess) -> None:
    assert command.run("migrate").returncode == 0
    path = command.folder / "ledger.db"
    said = command.run("verify").stdout
    assert said.startswith(f"0 wallets and 0 entries in {path}, read in ")
    assert said.endswith(" s: every promise holds.\n")
    (command.folder / "balances.csv").write_text("customer_id,credits\nann,1\n")
    assert command.run("import", "balances.csv").returncode == 0
    assert command.run("verify").stdout.startswith(f"1 wallet and 1 entry in {path}, ")
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE wallets SET balance = 2")
        database.commit()
    broken = command.run("verify")
    assert (broken.returncode, len(broken.stdout.splitlines())) == (1, 2)
    assert broken.stdout.endswith(" s: broken promises in 1 wallet.\n")
    totals = {"wallets": 1, "entries": 1, "mismatches": 1, "ledger": str(path)}
    assert json.loads(command.run("verify", "--json").stdout.splitlines()[-1]) == totals


@pytest.mark.sqlite
def test_what_only_reads_makes_no_ledger(command: ServerProcess) -> None:
    command.env["DATABASE_URL"] = "sqlite:///new.db"
    path = command.folder / "new.db"
    sentence = f"chargly: There is no ledger at {path}; set DATABASE_URL (a demo's is sqlite:///chargly-demo.db).\n"
    for words in (["verify"], ["export", "--all"], ["keys", "list"], ["keys", "revoke", "backend"]):
        done = command.run(*words)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
    assert list(command.folder.glob("new.db*")) == []
    path.touch()
    assert command.run("verify").stderr == sentence
    assert [(one.name, one.stat().st_size) for one in command.folder.glob("new.db*")] == [("new.db", 0)]
