"""Several servers on one ledger: each shows what the others write, and what commands write beside it."""

import asyncio
import json
from typing import Any

import pytest
import websockets
from postgres import PostgresServer
from redis.asyncio import Redis as AsyncRedis
from redis_server import RedisServer
from serving import ServerProcess, StartServer, charge, grant, next_wallet


@pytest.fixture(params=["postgres", "redis"])
def pair(request: pytest.FixtureRequest, new_server: StartServer) -> tuple[ServerProcess, ServerProcess]:
    """Two servers on one PostgreSQL, which hear of each other over it or over Redis."""
    env = {"CHARGLY_BUS_URL": request.getfixturevalue("redis").url} if request.param == "redis" else {}
    return new_server(**env), new_server(**env)


async def shown_until(ws: websockets.ClientConnection, version: int) -> list[dict[str, Any]]:
    """The messages up to that version."""
    messages = [await next_wallet(ws)]
    while messages[-1]["version"] < version:
        messages.append(await next_wallet(ws))
    return messages


@pytest.mark.postgresql
async def test_what_one_writes_the_other_shows_with_every_entry(pair: tuple[ServerProcess, ServerProcess]) -> None:
    one, other = pair
    with one.client() as api, other.client() as second:
        grant(api, "u", 1000)
        async with one.live(one.token("u")) as here, other.live(other.token("u")) as there:
            await next_wallet(here)
            await next_wallet(there)

            def meter() -> None:
                for number in range(60):
                    assert charge(second if number % 3 else api, "u", credits=1).status_code == 201

            metering = asyncio.create_task(asyncio.to_thread(meter))
            pages = await asyncio.gather(shown_until(here, 61), shown_until(there, 61))
            await metering
    for messages in pages:
        assert messages[-1]["balance"] == 940
        assert [message["version"] for message in messages] == sorted({message["version"] for message in messages})
        assert not any(message["gap"] for message in messages)
        assert [entry["version"] for message in messages for entry in message["entries"]] == list(range(2, 62))


@pytest.mark.postgresql
async def test_a_change_of_a_price_is_heard_by_the_pages_of_the_other(
    pair: tuple[ServerProcess, ServerProcess],
) -> None:
    one, other = pair
    with one.client() as api:
        grant(api, "u", 10)
        async with other.live(other.token("u")) as page:
            before = (await next_wallet(page))["prices"]
            assert api.put("/v1/prices/a.b", json={"credits": 3}).status_code == 201
            charge(api, "u", "a.b")
            assert (await next_wallet(page))["prices"] > before


@pytest.mark.postgresql
async def test_a_notice_of_prices_is_believed_only_as_far_as_the_catalogue_goes(
    new_server: StartServer, postgres: PostgresServer
) -> None:
    server = new_server()
    with server.client() as api:
        grant(api, "u", 10)
        async with server.live(server.token("u")) as page:
            first = await next_wallet(page)
            forged = json.dumps({"sender": "nobody", "generation": 10**15, "wallets": [["u", 10**15]]})
            said = f"SELECT pg_notify('chargly:{first['epoch']}', '{forged}')"
            postgres.execute(said, server.env["DATABASE_URL"])
            assert charge(api, "u", credits=1).status_code == 201
            pushed = await next_wallet(page)
            assert (pushed["version"], pushed["prices"]) == (2, first["prices"])
            assert api.put("/v1/prices/a.b", json={"credits": 3}).status_code == 201
            charge(api, "u", "a.b")
            assert (await next_wallet(page))["prices"] == first["prices"] + 1


@pytest.mark.postgresql
async def test_what_is_no_text_on_redis_breaks_no_connection(new_server: StartServer, redis: RedisServer) -> None:
    one, other = (new_server(CHARGLY_BUS_URL=redis.url) for _ in range(2))
    with one.client() as api:
        grant(api, "u", 10)
        async with other.live(other.token("u")) as page:
            channel = f"chargly:{(await next_wallet(page))['epoch']}"
            async with AsyncRedis.from_url(redis.url) as client:
                assert await client.publish(channel, b"\xff\x00") == 2
            charge(api, "u", credits=1)
            assert (await next_wallet(page, 1))["balance"] == 9
    said = other.log.read_text()
    assert "something on the bus is no notice" in said
    assert not any(words in said for words in ("the bus failed", "the bus is away"))


@pytest.mark.postgresql
async def test_a_redis_that_was_away_is_made_up_for(new_server: StartServer, redis: RedisServer) -> None:
    one, other = (new_server(CHARGLY_BUS_URL=redis.url) for _ in range(2))
    with one.client() as api:
        grant(api, "u", 100)
        async with other.live(other.token("u")) as page:
            await next_wallet(page)
            redis.stop()
            for _ in range(3):
                assert charge(api, "u", credits=1).status_code == 201
            shown = await shown_within(page, 4, seconds=15)
            assert [entry["version"] for message in shown for entry in message["entries"]] == [2, 3, 4]
            with other.client() as second:
                assert second.get("/readyz").status_code == 200
            redis.start()


@pytest.mark.postgresql
async def test_servers_start_without_their_redis(new_server: StartServer, redis: RedisServer) -> None:
    redis.stop()
    server = new_server(CHARGLY_BUS_URL=redis.url)
    with server.client() as api:
        grant(api, "u", 10)
        async with server.live(server.token("u")) as page:
            await next_wallet(page)
            assert charge(api, "u", credits=1).status_code == 201
            assert (await next_wallet(page))["balance"] == 9


@pytest.mark.sqlite
async def test_what_a_command_writes_beside_a_server_is_shown(new_server: StartServer) -> None:
    server = new_server()
    with server.client() as api:
        grant(api, "u", 5)
    async with server.live(server.token("u")) as page:
        await next_wallet(page)
        (server.folder / "balances.csv").write_text("customer_id,credits\nu,1160\n")
        assert server.run("import", "balances.csv").returncode == 0
        [message] = await shown_within(page, 2, seconds=10)
        assert (message["balance"], [entry["credits"] for entry in message["entries"]]) == (1165, [1160])


async def shown_within(ws: websockets.ClientConnection, version: int, *, seconds: float) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    async with asyncio.timeout(seconds):
        while not messages or messages[-1]["version"] < version:
            message = json.loads(await ws.recv())
            if message["type"] == "wallet":
                messages.append(message)
    return messages


@pytest.mark.sqlite
def test_a_bus_beside_a_file_is_refused(new_server: StartServer) -> None:
    for url, sentence in (
        ("redis://localhost:1/0", "CHARGLY_BUS_URL is for servers that share a PostgreSQL database"),
        ("amqp://user:secret@host", "CHARGLY_BUS_URL must be redis://"),
    ):
        with pytest.raises(RuntimeError, match=sentence) as refused:
            new_server(CHARGLY_BUS_URL=url)
        assert "secret" not in str(refused.value)
