"""Callers that ask a server for everything at once, at random, and hold every answer against those before it."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
from ledgers import soon

EVENTS = ("chat.reply", "image.generate", "doc.summarize", "agent.run")
MEMBERS = (None, None, "alice", "bob")


class Sent(msgspec.Struct, frozen=True):
    """A request that took effect, and its answer."""

    customer_id: str
    path: str
    body: dict[str, Any]
    status: int
    answer: dict[str, Any]


class Storm:
    """What all callers of one run know: the wallets, what was made in them, and what was answered.

    Args:
        client: an admin's.
        customers: whose wallets it is about.
        seed: each caller's choices follow from it and the caller's number.

    """

    def __init__(self, client: httpx.AsyncClient, customers: list[str], seed: int) -> None:
        self._client = client
        self._customers = customers
        self._seed = seed
        self.steps = 0
        self.sent: list[Sent] = []
        self.seen = dict.fromkeys(customers, 0)
        """By wallet, the highest version that was answered."""
        self._holds: list[tuple[str, str]] = []
        self._events: list[tuple[str, str]] = []
        self._grants: list[tuple[str, str]] = []
        self._keys = 0

    async def call(self, number: int, steps: int) -> None:
        """One caller, from its first step to its last."""
        chance = random.Random(f"{self._seed}/{number}")
        actions, weights = zip(*ACTIONS.items(), strict=True)
        for _ in range(steps):
            [action] = chance.choices(actions, weights)
            await action(self, chance)
            self.steps += 1

    # A request, and what holds for every answer

    async def post(self, customer_id: str, path: str, body: dict[str, Any], *refusals: int) -> dict[str, Any] | None:
        """The answer of what took effect, None where it was refused as it may be."""
        floor = self.seen[customer_id]
        answer = await self._client.post(path, json=body)
        if answer.status_code not in (200, 201):
            assert answer.status_code in refusals, (path, body, answer.status_code, answer.text)
            assert list(answer.json()) == ["error"]
            return None
        told: dict[str, Any] = answer.json()
        if "idempotent-replayed" not in answer.headers:
            self.take(Sent(customer_id, path, body, answer.status_code, told), floor)
        return told

    def take(self, sent: Sent, floor: int) -> None:
        """Notes what took effect. `floor` is a version that had been answered before it was asked."""
        self.sent.append(sent)
        version = sent.answer.get("version")
        if version is not None:
            assert version > floor, (sent, floor)
            self.seen[sent.customer_id] = max(self.seen[sent.customer_id], version)

    def key(self, chance: random.Random) -> dict[str, str]:
        if chance.random() < 0.3:
            return {}
        self._keys += 1
        return {"idempotency_key": f"k{self._keys}"}

    def action_of(self, chance: random.Random, customer_id: str) -> dict[str, Any]:
        """An event, by its price or over so many credits, by somebody or nobody."""
        body: dict[str, Any] = {"customer_id": customer_id, "event": chance.choice(EVENTS)} | self.key(chance)
        if chance.random() < 0.6:
            body["credits"] = chance.randint(1, 40)
        else:
            body["quantity"] = chance.randint(1, 3)
        member = chance.choice(MEMBERS)
        return body if member is None else body | {"member": member}

    # What is asked

    async def event(self, chance: random.Random) -> None:
        customer = chance.choice(self._customers)
        made = await self.post(customer, "/v1/events", self.action_of(chance, customer), 402, 403)
        if made is not None:
            self._events.append((customer, made["id"]))

    async def batch(self, chance: random.Random) -> None:
        items = [self.action_of(chance, chance.choice(self._customers)) for _ in range(chance.randint(1, 8))]
        floors = dict(self.seen)
        answer = await self._client.post("/v1/events/batch", json={"events": items})
        assert answer.status_code == 200, answer.text
        for item, result in zip(items, answer.json()["results"], strict=True):
            assert result["status"] in (201, 402, 403), result
            if result["status"] == 201:
                customer = item["customer_id"]
                self.take(Sent(customer, "/v1/events", item, 201, result["event"]), floors[customer])
                self._events.append((customer, result["event"]["id"]))

    async def hold(self, chance: random.Random) -> None:
        customer = chance.choice(self._customers)
        body = self.action_of(chance, customer) | {"expires_in": chance.choice((1, 2, 900))}
        made = await self.post(customer, "/v1/holds", body, 402, 403)
        if made is not None:
            self._holds.append((customer, made["id"]))

    async def capture(self, chance: random.Random) -> None:
        if self._holds:
            customer, hold_id = chance.choice(self._holds[-20:])
            body = chance.choice(({}, {"credits": chance.randint(1, 60)}, {"quantity": chance.randint(1, 3)}))
            body = body | self.key(chance)
            made = await self.post(customer, f"/v1/holds/{hold_id}/capture", body, 402, 403, 409)
            if made is not None:
                assert made["hold_id"] == hold_id
                self._events.append((customer, made["id"]))

    async def release(self, chance: random.Random) -> None:
        if self._holds:
            customer, hold_id = chance.choice(self._holds[-20:])
            made = await self.post(customer, f"/v1/holds/{hold_id}/release", self.key(chance), 409)
            assert made is None or made["status"] == "released"

    async def reverse(self, chance: random.Random) -> None:
        if self._events:
            customer, event_id = chance.choice(self._events[-30:])
            assert await self.post(customer, f"/v1/events/{event_id}/reverse", self.key(chance))

    async def grant(self, chance: random.Random) -> None:
        customer = chance.choice(self._customers)
        body = {"credits": chance.randint(10, 200), "category": chance.choice(("paid", "promotional"))}
        body |= {"priority": chance.choice((50, 50, 0, 255))} | self.key(chance)
        if chance.random() < 0.4:
            body["expires_at"] = soon(chance.uniform(1.2, 3))
        if chance.random() < 0.3:
            body["effective_at"] = soon(chance.uniform(0.2, 1))
        made = await self.post(customer, f"/v1/wallets/{customer}/grants", body, 400)
        if made is None:  # on a busy machine it may be over before it has come
            assert body["expires_at"] < soon(0), body
            return
        self._grants.append((customer, made["id"]))

    async def void(self, chance: random.Random) -> None:
        if self._grants:
            customer, grant_id = chance.choice(self._grants[-10:])
            await self.post(customer, f"/v1/wallets/{customer}/grants/{grant_id}/void", self.key(chance), 400)

    async def adjust(self, chance: random.Random) -> None:
        customer = chance.choice(self._customers)
        body = {"credits": chance.choice((-1, 1)) * chance.randint(1, 30), "reason": "r"} | self.key(chance)
        await self.post(customer, f"/v1/wallets/{customer}/adjustments", body, 402)

    async def again(self, chance: random.Random) -> None:
        """What took effect, asked again with its key: the same answer, or a conflict where it is another request."""
        keyed = [sent for sent in self.sent[-100:] if "idempotency_key" in sent.body]
        if not keyed:
            return
        sent = chance.choice(keyed)
        answer = await self._client.post(sent.path, json=sent.body)
        assert (answer.status_code, answer.json()) == (sent.status, sent.answer), sent
        assert answer.headers["idempotent-replayed"] == "true"
        if "credits" in sent.body:
            other = sent.body | {"credits": sent.body["credits"] + (1 if sent.body["credits"] > 0 else -1)}
            answer = await self._client.post(sent.path, json=other)
            assert answer.status_code == 409, (sent, answer.text)

    async def settings(self, chance: random.Random) -> None:
        """It is frozen for a moment, may overdraw, and is limited, together and each by itself."""
        customer = chance.choice(self._customers)
        changes: dict[str, Any] = {"overdraft_limit": chance.choice((0, 0, 30)), "frozen": chance.random() < 0.2}
        if chance.random() < 0.3:
            changes["spend_limit"] = chance.choice((None, {"credits": 100_000, "per": "day"}))
        floor = self.seen[customer]
        answer = await self._client.patch(f"/v1/wallets/{customer}", json=changes)
        assert answer.status_code == 200, answer.text
        assert answer.json()["version"] >= floor

    async def limit(self, chance: random.Random) -> None:
        customer = chance.choice(self._customers)
        limit = {"credits": chance.choice((50, 500, 5000)), "per": chance.choice(("day", "week", "month"))}
        path = f"/v1/wallets/{customer}/members/{chance.choice(('alice', 'bob'))}"
        answer = await self._client.patch(path, json={"spend_limit": chance.choice((None, limit))})
        assert answer.status_code == 200, answer.text

    async def read(self, chance: random.Random) -> None:
        """A wallet is never older than an answer that came before it was asked for, and adds up."""
        customer = chance.choice(self._customers)
        floor = self.seen[customer]
        answer = await self._client.get(f"/v1/wallets/{customer}")
        assert answer.status_code == 200, answer.text
        wallet = answer.json()
        assert wallet["version"] >= floor
        assert wallet["available"] == wallet["balance"] - wallet["held"] + wallet["overdraft_limit"]
        assert sum(one["remaining"] for one in wallet["grants"] if one["status"] != "pending") >= wallet["balance"]

    async def quote(self, chance: random.Random) -> None:
        body = {"customer_id": chance.choice(self._customers), "event": chance.choice(EVENTS), "member": "alice"}
        answer = await self._client.post("/v1/quote", json=body)
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert said["allowed"] is (said["reason"] is None)
        assert said["covers"] >= 1 if said["allowed"] else said["covers"] == 0


ACTIONS: dict[Callable[[Storm, random.Random], Awaitable[None]], int] = {
    Storm.event: 24,
    Storm.batch: 6,
    Storm.hold: 16,
    Storm.capture: 12,
    Storm.release: 6,
    Storm.reverse: 6,
    Storm.grant: 8,
    Storm.void: 3,
    Storm.adjust: 4,
    Storm.again: 8,
    Storm.settings: 3,
    Storm.limit: 2,
    Storm.read: 6,
    Storm.quote: 4,
}
"""What a caller asks for, and how often."""
