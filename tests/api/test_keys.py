"""`chargly keys` beside the running server: made, listed, scoped, revoked."""

import contextlib
import json
import sqlite3
import time
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


def test_keys_are_listed_without_their_secrets_and_revoked_by_name(new_server: StartServer) -> None:
    server = new_server()
    secret = made(server, "meter", "backend")["key"]
    listed = server.run("keys", "list", "--json").stdout
    assert secret not in listed
    assert [(one["name"], one["scope"]) for one in json.loads(listed)["keys"]] == [("backend", "meter")]
    assert "backend" in server.run("keys", "list").stdout
    assert server.run("keys", "revoke", "backend").returncode == 0
    assert json.loads(server.run("keys", "list", "--json").stdout)["keys"][0]["revoked_at"] is not None


def test_revoking_what_is_not_there_is_one_sentence(new_server: StartServer) -> None:
    done = new_server().run("keys", "revoke", "nobody")
    assert done.returncode == 1
    assert done.stderr.strip() == "chargly: No open key has the id or name 'nobody'."


def test_a_scope_that_is_none_is_refused(new_server: StartServer) -> None:
    done = new_server().run("keys", "create", "--name", "x", "--scope", "god")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


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
