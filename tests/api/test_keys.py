"""`/v1/keys`: made, listed without secrets, revoked, and felt where they are in use."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import ServerProcess, StartServer, error_of, grant, with_limits

from app.api.auth import Authenticator
from app.config import Config
from app.errors import InvalidKey
from app.store.db import Database
from app.store.keys import create_key, revoke_key


def made(api: httpx.Client, scope: str = "meter", name: str = "a key") -> dict[str, Any]:
    answer = api.post("/v1/keys", json={"name": name, "scope": scope})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_key_works_at_once_and_its_name_is_in_the_ledger(
    server: ServerProcess, api: httpx.Client, customer_id: str
) -> None:
    answer = api.post("/v1/keys", json={"name": "the shop", "scope": "admin"})
    key = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert list(key) == ["id", "name", "scope", "created_at", "revoked_at", "key"]
    assert re.fullmatch(r"sk_admin_[0-9a-f]{40}", key["key"])
    assert (key["name"], key["scope"], key["revoked_at"]) == ("the shop", "admin", None)
    with server.client(key["key"]) as shop:
        grant(shop, customer_id, 10)
        assert shop.get(f"/v1/wallets/{customer_id}/entries").json()["entries"][0]["actor"] == "the shop"


def test_a_key_has_the_scope_that_it_was_made_with(server: ServerProcess, api: httpx.Client) -> None:
    for scope in ("meter", "prices"):
        key = made(api, scope)
        with server.client(key["key"]) as other:
            assert other.get("/v1/prices").status_code == 200
            error_of(other.get("/v1/keys"), 403, "forbidden_scope")
            error_of(other.post("/v1/keys", json={"name": "x", "scope": "admin"}), 403, "forbidden_scope")
            error_of(other.delete(f"/v1/keys/{key['id']}"), 403, "forbidden_scope")


def test_all_are_listed_newest_first_and_never_a_secret(server: ServerProcess, api: httpx.Client) -> None:
    first, second = made(api, name="first"), made(api, "prices", "second")
    assert api.delete(f"/v1/keys/{first['id']}").status_code == 204
    answer = api.get("/v1/keys")
    ours = [key for key in answer.json()["keys"] if key["id"] in (first["id"], second["id"])]
    revoked_at = ours[-1]["revoked_at"]
    assert revoked_at >= first["created_at"]
    del first["key"], second["key"]
    assert ours == [second, first | {"revoked_at": revoked_at}]
    assert "sk_" not in answer.text
    assert "CHARGLY_API_KEY" not in [key["name"] for key in answer.json()["keys"]]
    listed = server.run("keys", "list").stdout
    assert f"{first['id']}  meter   made {first['created_at']}  revoked {revoked_at}" in listed


def test_they_are_walked_in_pages_and_none_is_missed_or_shown_twice(new_server: StartServer) -> None:
    with new_server().client() as api:
        assert api.get("/v1/keys").json() == {"keys": [], "next_cursor": None}
        ids = [made(api, name=f"key {number}")["id"] for number in range(5)]
        api.delete(f"/v1/keys/{ids[1]}").raise_for_status()
        pages = [api.get("/v1/keys", params={"limit": 2}).raise_for_status().json()]
        later = made(api, name="later")["id"]
        while cursor := pages[-1]["next_cursor"]:
            query = {"limit": 2, "cursor": cursor}
            pages.append(api.get("/v1/keys", params=query).raise_for_status().json())
        assert [[key["id"] for key in page["keys"]] for page in pages] == [
            [ids[4], ids[3]],
            [ids[2], ids[1]],
            [ids[0]],
        ]
        assert [key["revoked_at"] is None for page in pages for key in page["keys"]] == [True, True, True, False, True]
        assert api.get("/v1/keys", params={"limit": 1}).json()["keys"][0]["id"] == later


@pytest.mark.parametrize(
    ("name", "value"), [("limit", "0"), ("limit", "101"), ("limit", "x"), ("cursor", "zz"), ("page", "2")]
)
def test_what_is_no_page_is_refused_by_its_field(api: httpx.Client, name: str, value: str) -> None:
    assert error_of(api.get("/v1/keys", params={name: value}), 400, "invalid_request")["field"] == name


@pytest.mark.parametrize("cursor", ["00", "27", "e5908d"])
def test_a_cursor_of_somebody_elses_making_is_no_fault_of_ours(api: httpx.Client, cursor: str) -> None:
    answer = api.get("/v1/keys", params={"cursor": cursor})
    assert answer.status_code in (200, 400), answer.text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scope": "meter"}, "name"),
        ({"name": "", "scope": "meter"}, "name"),
        ({"name": "x" * 256, "scope": "meter"}, "name"),
        ({"name": "a\nb", "scope": "meter"}, "name"),
        ({"name": "   ", "scope": "meter"}, "name"),
        ({"name": "stripe", "scope": "meter"}, "name"),
        ({"name": "CHARGLY_API_KEY", "scope": "admin"}, "name"),
        ({"name": " stripe ", "scope": "meter"}, "name"),
        ({"name": "x"}, "scope"),
        ({"name": "x", "scope": "god"}, "scope"),
        ({"name": "x", "scope": None}, "scope"),
        ({"name": "x", "scope": "meter", "key": "sk_mine"}, "key"),
        ({"name": "x", "scope": "meter", "expires_at": None}, "expires_at"),
    ],
)
def test_what_is_no_key_is_refused_by_its_field(api: httpx.Client, body: dict[str, Any], field: str) -> None:
    before = api.get("/v1/keys").json()
    assert error_of(api.post("/v1/keys", json=body), 400, "invalid_request")["field"] == field
    assert api.get("/v1/keys").json() == before


def test_only_an_open_key_is_revoked_and_by_its_id_alone(api: httpx.Client) -> None:
    key = made(api, name="some name of a key")
    for unknown in ("key_nobody", "some%20name%20of%20a%20key", "CHARGLY_API_KEY"):
        error_of(api.delete(f"/v1/keys/{unknown}"), 404, "not_found")
    answer = api.delete(f"/v1/keys/{key['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    error_of(api.delete(f"/v1/keys/{key['id']}"), 404, "not_found")


def test_a_key_named_like_anothers_id_stays(server: ServerProcess, api: httpx.Client) -> None:
    key = made(api)
    namesake = made(api, name=key["id"])
    assert api.delete(f"/v1/keys/{key['id']}").status_code == 204
    with server.client(namesake["key"]) as other:
        assert other.get("/v1/prices").status_code == 200


def test_a_revoked_key_ends_at_once_though_it_would_be_remembered_for_an_hour(
    new_server: StartServer, tmp_path: Path
) -> None:
    server = new_server(**with_limits(tmp_path, key_cache_seconds_max=3600.0))
    with server.client() as api:
        leaving, staying = made(api), made(api)
        with server.client(leaving["key"]) as one, server.client(staying["key"]) as other:
            assert one.get("/v1/prices").status_code == other.get("/v1/prices").status_code == 200
            assert api.delete(f"/v1/keys/{leaving['id']}").status_code == 204
            error_of(one.get("/v1/prices"), 401, "invalid_key")
            assert other.get("/v1/prices").status_code == 200


def test_an_admin_key_may_revoke_itself(server: ServerProcess, api: httpx.Client) -> None:
    key = made(api, "admin")
    with server.client(key["key"]) as admin:
        assert admin.delete(f"/v1/keys/{key['id']}").status_code == 204
        error_of(admin.get("/v1/keys"), 401, "invalid_key")


@pytest.mark.postgresql
def test_a_server_that_cannot_be_told_feels_it_within_five_seconds(new_server: StartServer) -> None:
    """Its bus is nowhere."""
    servers = [new_server(CHARGLY_BUS_URL="redis://127.0.0.1:1/0") for _ in range(2)]
    with servers[0].client() as api, servers[1].client((key := made(api))["key"]) as other:
        assert other.get("/v1/prices").status_code == 200
        assert api.delete(f"/v1/keys/{key['id']}").status_code == 204
        deadline = time.monotonic() + 5.5
        while other.get("/v1/prices").status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        error_of(other.get("/v1/prices"), 401, "invalid_key")


@pytest.mark.sqlite
async def test_a_key_that_is_revoked_while_it_is_looked_up_is_not_remembered(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(config := Config(database_url=database_url))
    await db.open()
    try:
        key, secret = await create_key(db, "leaving", "admin")
        auth = Authenticator(db, config, "a secret")
        look_up: Callable[[str], Any] = auth._look_up

        async def late(hashed: str) -> Any:
            found = await look_up(hashed)
            await revoke_key(db, key.id)
            auth.forget_keys()
            return found

        monkeypatch.setattr(auth, "_look_up", late)
        assert (await auth.by_key(secret)).name == "leaving"
        monkeypatch.undo()
        with pytest.raises(InvalidKey):
            await auth.by_key(secret)
    finally:
        await db.close()
