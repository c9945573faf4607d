"""The endpoints themselves: what is taken, what is refused, and what is never shown again."""

import base64
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import ServerProcess, StartServer, error_of, with_limits
from webhooks.receiver import Hooks

from app.rules.notices import NOTICE_TYPES

PATH = "/v1/webhook-endpoints"
URL = "http://127.0.0.1:9/hooks"


def test_an_endpoint_is_made_read_changed_and_deleted(api: httpx.Client, hooks: Hooks) -> None:
    made = hooks.add(URL, "wallet.low", "price.changed", "wallet.low")
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) >= 24
    assert made["id"].startswith("whe_")
    assert made == {
        "id": made["id"],
        "url": URL,
        "events": ["wallet.low", "price.changed"],
        "description": None,
        "enabled": True,
        "disabled_reason": None,
        "failing_since": None,
        "former_secret_until": None,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert hooks.read(made) == made
    listed = api.get(PATH)
    assert made in listed.json()["webhook_endpoints"]
    assert secret not in listed.text
    change = {"url": f"{URL}/2", "events": ["*"], "description": "ours", "enabled": False}
    changed = api.patch(f"{PATH}/{made['id']}", json=change).json()
    assert {name: changed[name] for name in change} == change
    assert secret not in api.get(f"{PATH}/{made['id']}").text
    assert hooks.read(made) == changed
    assert api.patch(f"{PATH}/{made['id']}", json={"description": None}).json()["description"] is None
    assert api.delete(f"{PATH}/{made['id']}").status_code == 204
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/rotate"),
        ("POST", "/test"),
        ("GET", "/deliveries"),
        ("POST", "/deliveries/del_1/retry"),
    ):
        body = {"json": {}} if method == "PATCH" else {}
        error_of(api.request(method, f"{PATH}/{made['id']}{path}", **body), 404, "not_found")


@pytest.mark.parametrize("event", NOTICE_TYPES)
def test_every_type_can_be_listened_to(hooks: Hooks, event: str) -> None:
    assert hooks.add(URL, event)["events"] == [event]


@pytest.mark.parametrize(
    ("events", "field", "near"),
    [
        ([], "events", None),
        (["wallet.loww"], "events[0]", "wallet.low"),
        (["wallet.low", "price.change"], "events[1]", "price.changed"),
        (["nothing like it"], "events[0]", None),
        (["webhook.test"], "events[0]", None),
        (["*", "wallet.low"], "events", None),
        (["wallet.low "], "events[0]", "wallet.low"),
        ([7], "events[0]", None),
        ("*", "events", None),
        (None, "events", None),
    ],
)
def test_other_types_are_refused(api: httpx.Client, events: Any, field: str, near: str | None) -> None:
    error = error_of(api.post(PATH, json={"url": URL, "events": events}), 400, "invalid_request")
    assert error["field"] == field
    assert error.get("did_you_mean") == near
    if near:
        assert near in error["message"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks",
        "/hooks",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///hooks",
        "https://example.com:99999/",
        "https://example.com:port/",
        "https://[::1/",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://example.com/#part",
        "https://example.com/a b",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/\n",
        "https://exämple.com/",
        "https://example.com/" + "x" * 2_000,
    ],
)
def test_what_is_no_address_is_refused(api: httpx.Client, hooks: Hooks, url: str) -> None:
    refused = api.post(PATH, json={"url": url, "events": ["*"]})
    assert error_of(refused, 400, "invalid_request")["field"] == "url"
    made = hooks.add(URL)
    assert error_of(api.patch(f"{PATH}/{made['id']}", json={"url": url}), 400, "invalid_request")["field"] == "url"


@pytest.mark.sqlite
def test_without_private_targets_an_address_must_lie_on_the_internet(new_server: StartServer) -> None:
    with new_server().client() as api:
        for url in (
            "http://example.com/hooks",
            "https://localhost/hooks",
            "https://localhost./",
            "https://api.localhost/",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://10.0.0.8:8443/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[fd00::1]/",
        ):
            refused = api.post(PATH, json={"url": url, "events": ["*"]})
            assert error_of(refused, 400, "invalid_request")["field"] == "url", url
        for url in ("https://example.com/hooks", "https://93.184.215.14/", "https://[2606:4700::1111]:8443/?a=b"):
            assert api.post(PATH, json={"url": url, "events": ["price.changed"]}).status_code == 201


@pytest.mark.sqlite
def test_the_setting_is_true_or_false(new_server: StartServer) -> None:
    with pytest.raises(RuntimeError, match=r"CHARGLY_WEBHOOK_PRIVATE_TARGETS must be true or false, and it is 'yes'\."):
        new_server(CHARGLY_WEBHOOK_PRIVATE_TARGETS="yes")


def test_there_may_be_so_many(new_server: StartServer, tmp_path: Path) -> None:
    server = new_server(CHARGLY_WEBHOOK_PRIVATE_TARGETS="true", **with_limits(tmp_path, webhook_endpoints_max=3))
    answers: list[httpx.Response] = []
    with server.client() as api:

        def make() -> None:
            answers.append(api.post(PATH, json={"url": URL, "events": ["*"]}))

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [400] * 5
        first = api.get(PATH).json()["webhook_endpoints"][0]
        assert api.delete(f"{PATH}/{first['id']}").status_code == 204
        make()
        assert answers[-1].status_code == 201


def test_only_an_admin_may(server: ServerProcess, hooks: Hooks) -> None:
    made = hooks.add(URL)
    key = server.run("keys", "create", "--name", "meter", "--scope", "prices", "--json")
    with server.client(key.stdout.split('"key"')[1].split('"')[1]) as api:
        for method, path in (("POST", PATH), ("GET", PATH), ("POST", f"{PATH}/{made['id']}/rotate")):
            error_of(api.request(method, path), 403, "forbidden_scope")


def test_a_rotation_has_bounds(api: httpx.Client, hooks: Hooks) -> None:
    made = hooks.add(URL)
    for seconds in (-1, 604_801, 1.5, "1"):
        refused = api.post(f"{PATH}/{made['id']}/rotate", json={"overlap_seconds": seconds})
        assert error_of(refused, 400, "invalid_request")["field"] == "overlap_seconds"
