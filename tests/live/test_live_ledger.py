"""Over the websocket: holds, captures, releases, reversals and voids as they happen, and what time brings by itself."""

from typing import Any

import httpx
from ledgers import capture, give, hold, release, reverse, soon, void
from serving import ServerProcess, charge, next_wallet


def told(message: dict[str, Any]) -> tuple[int, int, int, list[tuple[str, int]]]:
    entries = [(entry["kind"], entry["credits"]) for entry in message["entries"]]
    return message["balance"], message["held"], message["available"], entries


async def test_a_hold_its_capture_and_a_release_are_pushed(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    async with server.live(server.token(customer)) as ws:
        await next_wallet(ws)
        first = hold(api, customer, 60)
        pushed = await next_wallet(ws)
        assert (told(pushed), pushed["version"]) == ((100, 60, 40, []), first["version"])
        event = capture(api, first["id"], credits=25, cost_usd="0.1", metadata={"secret": 1}).json()
        pushed = await next_wallet(ws)
        assert told(pushed) == (75, 0, 75, [("event", -25)])
        assert pushed["entries"][0]["id"] == event["id"]
        assert "secret" not in str(pushed)
        second = hold(api, customer, 10)
        await next_wallet(ws)
        release(api, second["id"], reason="secret")
        pushed = await next_wallet(ws)
        assert (told(pushed), pushed["version"]) == ((75, 0, 75, []), 5)


async def test_a_hold_that_runs_out_is_pushed_though_nobody_asks(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    async with server.live(server.token(customer)) as ws:
        await next_wallet(ws)
        made = hold(api, customer, 60, expires_in=1)
        assert told(await next_wallet(ws)) == (100, 60, 40, [])
        pushed = await next_wallet(ws, 10)
        assert (told(pushed), pushed["version"]) == ((100, 0, 100, []), 3)
        assert made["expires_at"] <= pushed["at"]


async def test_a_grant_that_expires_and_one_that_begins_are_pushed_though_nobody_asks(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    async with server.live(server.token(customer)) as ws:
        await next_wallet(ws)
        give(api, customer, 30, expires_at=soon(0.6))
        assert told(await next_wallet(ws)) == (130, 0, 130, [("grant", 30)])
        give(api, customer, 7, effective_at=soon(0.6))
        assert told(await next_wallet(ws)) == (130, 0, 130, [])
        seen: list[tuple[str, int]] = []
        while len(seen) < 2:
            pushed = await next_wallet(ws, 10)
            seen += told(pushed)[3]
        assert sorted(seen) == [("expiry", -30), ("grant", 7)]
        assert (pushed["balance"], pushed["version"]) == (107, 5)


async def test_a_reversal_a_void_and_a_members_limit_are_pushed(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    event = charge(api, customer).json()
    made = give(api, customer, 30)
    async with server.live(server.token(customer)) as ws:
        await next_wallet(ws)
        reverse(api, event["id"])
        assert told(await next_wallet(ws)) == (130, 0, 130, [("reversal", 8)])
        void(api, customer, made["id"])
        assert told(await next_wallet(ws)) == (100, 0, 100, [("void", -30)])
        api.patch(f"/v1/wallets/{customer}/members/alice", json={"spend_limit": {"credits": 5, "per": "day"}})
        pushed = await next_wallet(ws)
        assert (told(pushed), pushed["version"]) == ((100, 0, 100, []), 6)


async def test_a_batch_is_pushed_as_one_change_with_all_of_its_entries(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    items = [{"customer_id": customer, "event": "x.y", "credits": number} for number in range(1, 6)]
    async with server.live(server.token(customer)) as ws:
        await next_wallet(ws)
        assert api.post("/v1/events/batch", json={"events": items}).json()["accepted"] == 5
        pushed = await next_wallet(ws)
        assert told(pushed) == (85, 0, 85, [("event", -number) for number in range(1, 6)])
        assert pushed["gap"] is False


async def test_a_batch_of_more_than_twenty_says_that_there_is_a_gap(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    items = [{"customer_id": customer, "event": "x.y", "credits": 1} for _ in range(25)]
    async with server.live(server.token(customer)) as ws:
        await next_wallet(ws)
        api.post("/v1/events/batch", json={"events": items})
        pushed = await next_wallet(ws)
        assert (pushed["gap"], pushed["version"]) == (True, 26)
        assert [entry["version"] for entry in pushed["entries"]] == list(range(7, 27))


async def test_a_resume_tells_what_moved_credits_and_the_state_with_all_holds(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    async with server.live(server.token(customer)) as ws:
        seen = await next_wallet(ws)
    made = hold(api, customer, 60)
    capture(api, made["id"], credits=5)
    kept = hold(api, customer, 20)
    async with server.live(server.token(customer), epoch=seen["epoch"], since=seen["version"]) as ws:
        state = await next_wallet(ws)
        assert (told(state), state["version"]) == ((95, 20, 75, [("event", -5)]), 4)
        release(api, kept["id"])
        assert told(await next_wallet(ws)) == (95, 0, 95, [])


async def test_a_refused_hold_and_a_replayed_capture_push_nothing(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    made = hold(api, customer, 60)
    capture(api, made["id"], credits=5)
    async with server.live(server.token(customer)) as ws:
        await next_wallet(ws)
        api.post("/v1/holds", json={"customer_id": customer, "credits": 96})
        capture(api, made["id"], credits=5)
        capture(api, made["id"], credits=6)
        charge(api, customer, credits=1)
        pushed = await next_wallet(ws)
    assert (told(pushed), pushed["version"]) == ((94, 0, 94, [("event", -1)]), 4)
