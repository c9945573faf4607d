"""`chargly keys` beside the running server: made, listed, scoped, revoked."""

import contextlib
import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from serving import ServerProcess, StartServer, charge, error_of, grant


def made(server: ServerProcess, scope: str, name: str = "a key") -> dict[str, Any]:
    done = server.run("keys", "create", "--name", name, "--scope", scope, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_key_made_beside_the_running_server_works_at_once(new_server: StartServer) -> None:
    server = new_server()
    key = made(server, "admin", "ops")
    assert key["key"].startswith("sk_")
    assert (key["name"], key["scope"], key["revoked_at"]) == ("ops", "admin", None)
    with server.client(key["key"]) as api:
        grant(api, "u", 10)
        entry = api.get("/v1/wallets/u/entries").json()["entries"][0]
        assert entry["actor"] == "ops"


def test_a_meter_key_meters_and_does_nothing_else(new_server: StartServer) -> None:
    server = new_server()
    with server.client() as admin:
        grant(admin, "u", 100)
    with server.client(made(server, "meter")["key"]) as api:
        assert charge(api, "u").status_code == 201
        assert api.post("/v1/wallets/u/tokens").status_code == 201
        for method, path in (("POST", "/v1/wallets/u/grants"), ("PUT", "/v1/prices/a"), ("PATCH", "/v1/wallets/u")):
            error_of(api.request(method, path, json={}), 403, "forbidden_scope")


def test_a_prices_key_reads_and_changes_the_catalogue_and_nothing_else(new_server: StartServer) -> None:
    server = new_server()
    with server.client(made(server, "prices")["key"]) as api:
        assert api.put("/v1/prices/a.b", json={"credits": 1}).status_code == 201
        assert api.put("/v1/packs/p", json={"name": "P", "credits": 1, "amount": 100}).status_code == 200
        error_of(charge(api, "u"), 403, "forbidden_scope")
        error_of(api.get("/v1/wallets"), 403, "forbidden_scope")
        for path in ("/v1/prices", "/v1/prices/a.b", "/v1/prices/a.b/versions", "/v1/packs"):
            assert api.get(path).status_code == 200, path


def test_a_revoked_key_ends_within_five_seconds_even_where_it_is_in_use(new_server: StartServer) -> None:
    server = new_server()
    key, kept = made(server, "meter", "leaving"), made(server, "meter", "staying")
    with server.client(key["key"]) as api, server.client(kept["key"]) as other:
        assert api.get("/v1/prices").status_code == 200
        done = server.run("keys", "revoke", key["id"], "--json")
        assert [one["name"] for one in json.loads(done.stdout)["keys"]] == ["leaving"]
        deadline = time.monotonic() + 5.5
        while api.get("/v1/prices").status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        error_of(api.get("/v1/prices"), 401, "invalid_key")
        assert other.get("/v1/prices").status_code == 200


def test_keys_are_listed_without_their_secrets_and_revoked_by_name(command: ServerProcess) -> None:
    key = made(command, "meter", "backend")
    secret, ledger = key["key"], key["ledger"]
    listed = command.run("keys", "list", "--json").stdout
    assert secret not in listed
    [key] = json.loads(listed)["keys"]
    assert (key["name"], key["scope"]) == ("backend", "meter")
    shown = command.run("keys", "list")
    words = [key["id"], "meter", "made", key["created_at"], "open", "backend"]
    assert (shown.stdout.split(), shown.stderr) == (words, f"Keys of the ledger {ledger}.\n")
    revoked = command.run("keys", "revoke", "backend").stdout
    assert revoked == f"Revoked backend ({key['id']}) of the ledger {ledger}.\n"
    [key] = json.loads(command.run("keys", "list", "--json").stdout)["keys"]
    assert f"  revoked {key['revoked_at']}  backend\n" in command.run("keys", "list").stdout


def test_a_name_that_several_keys_have_revokes_none_and_their_ids_are_told(command: ServerProcess) -> None:
    first, second = made(command, "meter", "backend"), made(command, "admin", "backend")
    done = command.run("keys", "revoke", "backend")
    each = ", ".join(f"{key['id']} (made {key['created_at']})" for key in (first, second))
    said = f"chargly: 2 open keys are named 'backend'; revoke one by its id: {each}.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    assert command.run("keys", "revoke", first["id"]).returncode == 0
    done = command.run("keys", "revoke", "backend", "--json")  # the name is one key's again
    assert [key["id"] for key in json.loads(done.stdout)["keys"]] == [second["id"]]


@pytest.mark.sqlite
def test_a_new_key_is_alone_on_standard_output(command: ServerProcess) -> None:
    done = command.run("keys", "create", "--name", "backend", "--scope", "meter")
    assert re.fullmatch(r"sk_meter_[0-9a-f]{40}\n", done.stdout)
    assert done.stderr == f"It opens the ledger {command.folder}/ledger.db. Keep it: it is not shown again.\n"


def test_revoking_what_is_not_there_is_one_sentence(command: ServerProcess) -> None:
    assert command.run("migrate").returncode == 0
    done = command.run("keys", "revoke", "nobody")
    assert done.returncode == 1
    assert done.stderr.strip() == "chargly: No open key has the id or name 'nobody'."


@pytest.mark.sqlite
def test_a_scope_that_is_none_is_refused(command: ServerProcess) -> None:
    done = command.run("keys", "create", "--name", "x", "--scope", "god")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


@pytest.mark.sqlite
@pytest.mark.parametrize("name", ["", "  ", "a\tb", "x" * 256, "stripe", "CHARGLY_API_KEY"])
def test_a_name_that_is_none_or_the_ledgers_own_is_refused_and_makes_no_ledger(tmp_path: Path, name: str) -> None:
    done = ServerProcess(tmp_path).run("keys", "create", "--name", name, "--scope", "meter")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("chargly: name: ")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sqlite
def test_the_database_holds_only_hashes_of_keys(new_server: StartServer) -> None:
    server = new_server()
    secret = made(server, "admin")["key"]
    with server.client(secret) as api:
        grant(api, "u", 10)
    server.stop()
    files = [path for path in server.folder.iterdir() if path.is_file()]
    assert server.folder / "ledger.db" in files
    for path in files:
        assert secret.encode() not in path.read_bytes(), path.name
    with contextlib.closing(sqlite3.connect(server.folder / "ledger.db")) as database:
        [(hashed,)] = database.execute("SELECT hash FROM api_keys").fetchall()
    assert len(hashed) == 64
