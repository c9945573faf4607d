"""The ledger's promises after a storm: many callers, several wallets, everything that may be asked, at random."""

import asyncio
import os
import random
import sys
from collections import Counter
from typing import Any

import httpx
import pytest
from api.storm import Storm
from ledgers import QUIET, check_ledger, every_hold
from serving import ADMIN_KEY, ServerProcess, grant, next_wallet

CALLERS = 12
STEPS_OF_EACH = int(os.environ.get("CHARGLY_TESTS_STORM", "100"))
SEED = int(os.environ.get("CHARGLY_TESTS_SEED", "0")) or random.SystemRandom().randint(1, 2**31)


async def listen(server: ServerProcess, customer_id: str, over: asyncio.Event) -> list[dict[str, Any]]:
    """Every message of a wallet, until the storm is over and its last state has come."""
    heard: list[dict[str, Any]] = []
    async with server.live(server.token(customer_id)) as ws:
        while True:
            try:
                heard.append(await next_wallet(ws, 0.5))
            except TimeoutError:
                if over.is_set():
                    return heard


async def test_a_storm_of_everything_leaves_every_promise_kept(
    server: ServerProcess, api: httpx.Client, customer_id: str, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.stdout.write(f"CHARGLY_TESTS_SEED={SEED}\n")
    customers = [f"{customer_id}_{number}" for number in range(4)]
    for customer in customers:
        grant(api, customer, 1500)
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx.AsyncClient(base_url=server.address, headers=headers, timeout=20, verify=False) as client:
        storm, over = Storm(client, customers, SEED), asyncio.Event()
        listeners = [asyncio.create_task(listen(server, customer, over)) for customer in customers]
        async with asyncio.TaskGroup() as callers:
            for number in range(CALLERS):
                callers.create_task(storm.call(number, STEPS_OF_EACH))
        over.set()
        heard = await asyncio.gather(*listeners)
    for customer, messages in zip(customers, heard, strict=True):
        sent = [one for one in storm.sent if one.customer_id == customer]
        entries = await asyncio.to_thread(check_ledger, api, customer)
        check_answers(entries, [one.answer for one in sent if "version" in one.answer])
        check_keys(entries, {one.body["idempotency_key"] for one in sent if "idempotency_key" in one.body})
        check_effects(entries)
        check_messages(entries, messages, storm.seen[customer])
        check_members(api, customer, entries)
    with capsys.disabled():
        sys.stderr.write(f"\na storm on {engine}: {storm.steps} steps, {len(storm.sent)} of them changed a wallet\n")


def check_answers(entries: list[dict[str, Any]], answers: list[dict[str, Any]]) -> None:
    """What was answered is in the ledger, as it was answered, once."""
    by_version = {entry["version"]: entry for entry in entries}
    twice = [version for version, count in Counter(answer["version"] for answer in answers).items() if count > 1]
    assert not twice, [answer for answer in answers if answer["version"] in twice]
    for answer in answers:
        entry = by_version[answer["version"]]
        for name in ("balance", "held", "available"):
            assert entry[name] == answer[name], (entry, answer)
        if entry["kind"] in ("event", "reversal", "adjustment"):
            assert (entry["id"], abs(entry["credits"])) == (answer["id"], abs(answer["credits"]))


def check_keys(entries: list[dict[str, Any]], keys: set[str]) -> None:
    """Each key that was answered took effect once, and no other did."""
    kept = [entry["idempotency_key"] for entry in entries if entry["idempotency_key"] is not None]
    assert len(kept) == len(set(kept))
    assert set(kept) == keys


def check_effects(entries: list[dict[str, Any]]) -> None:
    """What was reversed came back whole."""
    by_id = {entry["id"]: entry for entry in entries}
    for entry in entries:
        if entry["kind"] == "reversal":
            event = by_id[entry["id"].replace("rev_", "evt_")]
            assert entry["credits"] == -event["credits"]
            assert entry["version"] > event["version"]


def check_messages(entries: list[dict[str, Any]], messages: list[dict[str, Any]], answered: int) -> None:
    """What was pushed was committed, in the order of its versions, with all that was answered, and misses no entry."""
    by_version = {entry["version"]: entry for entry in entries}
    versions = [message["version"] for message in messages]
    assert versions == sorted(set(versions))
    assert versions[-1] >= answered
    for message in messages:
        committed = by_version[message["version"]]
        for name in ("balance", "held", "available"):
            assert message[name] == committed[name], (message, committed)
        for shown in message["entries"]:
            assert shown.items() <= by_version[shown["version"]].items()
    pushed = [shown["version"] for message in messages[1:] for shown in message["entries"]]
    assert pushed == sorted(set(pushed))
    if not any(message["gap"] for message in messages):
        moved = [entry["version"] for entry in entries if entry["kind"] not in QUIET]
        assert pushed == [version for version in moved if versions[0] < version <= versions[-1]]


def check_members(api: httpx.Client, customer_id: str, entries: list[dict[str, Any]]) -> None:
    """What each member holds and has spent this month is what their holds and events say."""
    month = entries[-1]["created_at"][:7]
    spent: Counter[str] = Counter()
    by_id = {entry["id"]: entry for entry in entries}
    for entry in entries:
        event = by_id.get(entry["id"].replace("rev_", "evt_"), entry)
        if entry["kind"] in ("event", "reversal") and event["created_at"].startswith(month):
            spent[entry["member"] or ""] -= entry["credits"]
    wallet = api.get(f"/v1/wallets/{customer_id}").json()
    assert wallet["spent"]["month"] == spent.total()
    held, after, members = None, held_by_member(api, customer_id), []
    while held != after:  # a hold that ran out while they were read frees what its member held
        held = after
        members = api.get(f"/v1/wallets/{customer_id}/members").json()["members"]
        after = held_by_member(api, customer_id)
    for member in members:
        assert (member["held"], member["spent"]["month"]) == (after[member["member"]], spent[member["member"]])


def held_by_member(api: httpx.Client, customer_id: str) -> Counter[str]:
    held: Counter[str] = Counter()
    for one in every_hold(api, customer_id, status="open"):
        held[one["member"] or ""] += one["credits"]
    return held
