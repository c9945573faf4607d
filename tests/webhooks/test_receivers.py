"""The receivers of the guide take real deliveries, act once on each, and refuse what is not ours."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import free_port
from webhooks.receiver import Hooks

from app.store.webhooks import Endpoint
from app.webhooks.signing import new_secret, signed_headers

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
COMMANDS = {"python": [sys.executable, DOCS / "webhooks/receiver.py"], "node": ["node", DOCS / "webhooks/receiver.mjs"]}
Start = Callable[[dict[str, Any], int], "subprocess.Popen[str]"]


@pytest.fixture(params=COMMANDS)
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts a receiver with an endpoint's secret; it says when it listens."""
    running: list[subprocess.Popen[str]] = []

    def begin(endpoint: dict[str, Any], port: int) -> "subprocess.Popen[str]":
        env = os.environ | {"WEBHOOK_SECRET": endpoint["secret"], "PORT": str(port)}
        made = subprocess.Popen(
            COMMANDS[request.param], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        running.append(made)
        assert line(made) == f"listens on {port}"
        return made

    yield begin
    for one in running:
        one.kill()
        one.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_message_is_acted_on_once(api: httpx.Client, hooks: Hooks, start: Start) -> None:
    port = free_port()
    endpoint = hooks.add(f"http://127.0.0.1:{port}/")
    process = start(endpoint, port)
    first = hooks.test(endpoint)
    assert line(process).startswith("webhook.test ")
    hooks.ended(endpoint)
    api.post(f"/v1/webhook-endpoints/{endpoint['id']}/deliveries/{first['id']}/retry")
    again = hooks.once(lambda: hooks.deliveries(endpoint)[0], lambda one: one["attempts"] == 2)
    assert again["status"] == "delivered"
    price = api.put("/v1/prices/doc.scan", json={"credits": 9}).json()
    told = line(process)  # the second time it said nothing
    assert told.startswith("price.changed ")
    assert str(price["version"]) in told


def test_both_of_two_secrets_are_taken_while_a_rotation_lasts(api: httpx.Client, hooks: Hooks, start: Start) -> None:
    port = free_port()
    endpoint = hooks.add(f"http://127.0.0.1:{port}/")
    process = start(endpoint, port)
    assert api.post(f"/v1/webhook-endpoints/{endpoint['id']}/rotate").status_code == 200
    hooks.test(endpoint)
    assert line(process).startswith("webhook.test ")
    assert hooks.ended(endpoint)[0]["status"] == "delivered"


def test_what_is_not_signed_by_us_now_is_refused(hooks: Hooks, start: Start) -> None:
    port = free_port()
    endpoint = hooks.add(f"http://127.0.0.1:{port}/")
    process = start(endpoint, port)
    now, body = int(time.time()), json.dumps({"type": "forged", "data": {}})

    def post(secret: str, at: int, sent: str = body, **changed: str) -> int:
        ours = Endpoint(id="whe_1", url="", events=("*",), secret=secret, created_at=0, updated_at=0)
        headers = signed_headers(ours, "msg_1", body, at) | changed
        return httpx.post(f"http://127.0.0.1:{port}/", content=sent, headers=headers).status_code

    good = endpoint["secret"]
    assert post(new_secret(), now) == 401
    assert post(good, now - 400) == 401
    assert post(good, now + 400) == 401
    assert post(good, now, sent=body + " ") == 401
    assert post(good, now, **{"webhook-id": "msg_2"}) == 401
    assert httpx.post(f"http://127.0.0.1:{port}/", content=body).status_code == 401
    assert post(good, now) == 204
    assert line(process).startswith("forged")


def test_the_guide_shows_the_files_as_they_are() -> None:
    shown = re.findall(r"^```(?:python|js)\n(.*?)^```$", (DOCS / "webhooks.md").read_text(), re.MULTILINE | re.DOTALL)
    assert shown == [(DOCS / f"webhooks/receiver.{kind}").read_text() for kind in ("py", "mjs")]
