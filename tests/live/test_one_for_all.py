"""What one of several servers does for all of them, and what all of them hear of from a command."""

import json
import signal
import time
from pathlib import Path

import pytest
from api.test_metrics import samples
from postgres import PostgresServer
from redis_server import RedisServer
from serving import ServerProcess, StartServer, balance, error_of, with_limits

SECONDS_MAX = 15.0

pytestmark = pytest.mark.postgresql


def settled(server: ServerProcess) -> int:
    """How many times a server has settled a wallet, or tried to."""
    with server.client() as api:
        found = samples(api)
    return int(sum(value for name, value in found.items() if name.startswith("chargly_operations_total{kind=Settle")))


def let_expire(server: ServerProcess, customer_id: str) -> None:
    """Gives credits that are there no longer than a moment, and waits until the ledger says so."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    credits = {"credits": 5, "category": "promotional", "expires_at": at}
    with server.client() as api:
        api.post(f"/v1/wallets/{customer_id}/grants", json=credits).raise_for_status()


def until_settled(servers: list[ServerProcess], times: int) -> list[int]:
    deadline = time.monotonic() + SECONDS_MAX
    while sum(counts := list(map(settled, servers))) < times:
        assert time.monotonic() < deadline, counts
        time.sleep(0.05)
    return counts


def test_one_server_settles_for_all_and_another_takes_over_when_it_is_killed(
    new_server: StartServer, tmp_path: Path
) -> None:
    limits = with_limits(tmp_path, lease_seconds=1.0, settle_seconds_between=0.1)
    servers = [new_server(**limits) for _ in range(3)]
    for customer_id in ("a", "b", "c"):
        let_expire(servers[0], customer_id)
    counts = until_settled(servers, 3)
    assert sorted(counts) == [0, 0, 3]
    [busy] = [one for one, count in zip(servers, counts, strict=True) if count]
    others = [one for one in servers if one is not busy]
    busy.stop(signal.SIGKILL)
    let_expire(others[0], "d")
    assert sorted(until_settled(others, 1)) == [0, 1]
    with others[1].client() as api:
        assert [balance(api, id) for id in "abcd"] == [0, 0, 0, 0]


def test_a_server_that_stops_hands_over_at_once(new_server: StartServer, tmp_path: Path) -> None:
    limits = with_limits(tmp_path, lease_seconds=3600.0, settle_seconds_between=0.1)
    first = new_server(**limits)
    let_expire(first, "a")
    until_settled([first], 1)
    second = new_server(**limits)
    first.stop()
    let_expire(second, "b")
    until_settled([second], 1)


def test_a_lease_that_ends_later_than_any_could_is_taken(
    new_server: StartServer, tmp_path: Path, postgres: PostgresServer
) -> None:
    """The clock that it was taken by has gone back since, and nobody may be left to give it back."""
    limits = with_limits(tmp_path, lease_seconds=5.0, settle_seconds_between=0.1)
    first = new_server(**limits)
    let_expire(first, "a")
    until_settled([first], 1)
    first.stop(signal.SIGKILL)
    url = first.env["DATABASE_URL"]
    postgres.execute("UPDATE leases SET until = until + 3600000", url)
    assert postgres.execute("SELECT count(*) FROM leases", url)[0][0] >= 1
    second = new_server(**limits)
    let_expire(second, "b")
    until_settled([second], 1)


@pytest.mark.parametrize("by", ["a command", "a server"])
@pytest.mark.parametrize("bus", ["postgres", "redis"])
def test_a_key_that_is_revoked_ends_on_every_server_at_once(
    new_server: StartServer, tmp_path: Path, bus: str, by: str, request: pytest.FixtureRequest
) -> None:
    """Though they would remember it for an hour."""
    settings = with_limits(tmp_path, key_cache_seconds_max=3600.0)
    if bus == "redis":
        redis: RedisServer = request.getfixturevalue("redis")
        settings["CHARGLY_BUS_URL"] = redis.url
    servers = [new_server(**settings) for _ in range(2)]
    made = servers[0].run("keys", "create", "--name", "leaving", "--scope", "admin", "--json")
    key = json.loads(made.stdout)
    for server in servers:
        with server.client(key["key"]) as api:
            assert api.get("/v1/prices").status_code == 200
    if by == "a command":
        assert servers[0].run("keys", "revoke", key["id"]).returncode == 0
    else:
        with servers[0].client() as admin:
            assert admin.delete(f"/v1/keys/{key['id']}").status_code == 204
    for server in servers:
        with server.client(key["key"]) as api:
            deadline = time.monotonic() + SECONDS_MAX
            while api.get("/v1/prices").status_code == 200:
                assert time.monotonic() < deadline
            error_of(api.get("/v1/prices"), 401, "invalid_key")
