"""`chargly demo`: a wallet that drains, its buttons and agents, and a pack bought in the sandbox."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import ServerProcess, balance, error_of, next_wallet

from app.config import Config
from app.demo import welcome, with_sandbox

GOOD, DECLINED, REAL = "4242 4242 4242 4242", "4000000000000002", "5555555555554444"
DEMO_ROUTES = [
    *("/demo", "/demo/state", "/demo/token", "/demo/auto-top-up", "/demo/card"),
    *("/sandbox", "/sandbox/payments", "/sandbox/sessions/cs_1", "/sandbox/pay/cs_1", "/sandbox/v1/events"),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A demo whose agents rest."""
    running = ServerProcess(tmp_path_factory.mktemp("demo"), "demo").start()
    with running.client(None) as page:
        page.put("/demo/autoplay", json={"running": False, "speed": "normal"})
    yield running
    running.stop()


@pytest.fixture
def page(demo: ServerProcess) -> Iterator[httpx.Client]:
    """The demo's page: a browser without any key."""
    with demo.client(None) as client:
        yield client


@pytest.fixture
def session(page: httpx.Client) -> tuple[dict[str, Any], str]:
    """A checkout of the demo's wallet, and the id of its session in the sandbox."""
    headers = {"Authorization": f"Bearer {page.get('/demo/token').json()['token']}"}
    answer = page.post("/v1/checkouts", json={"customer_id": "demo", "pack": "chargly_500"}, headers=headers)
    assert answer.status_code == 201, answer.text
    checkout = answer.json()
    return checkout, checkout["url"].rsplit("/", 1)[-1]


def test_the_page_begins_with_its_state(page: httpx.Client) -> None:
    state = page.get("/demo/state").json()
    assert (state["customer_id"], state["name"], state["stripe"]) == ("demo", "Acme AI", "sandbox")
    assert {one["event"]: one["credits"] for one in state["actions"]} == {
        "chat.reply": 8,
        "image.generate": 40,
        "doc.summarize": 12,
        "agent.run": 25,
    }
    assert state["autoplay"] == {"running": False, "speed": "normal"}
    assert page.get("/demo").headers["content-type"].startswith("text/html")


def test_the_wallet_has_some_history(demo: ServerProcess) -> None:
    with demo.client() as api:
        entries = api.get("/v1/wallets/demo/entries").json()["entries"]
    assert entries[-1]["credits"] == 1500
    assert len(entries) >= 8


async def test_a_token_for_the_page_shows_the_wallet_and_an_action_drains_it(
    demo: ServerProcess, page: httpx.Client
) -> None:
    answer = page.get("/demo/token")
    assert answer.headers["cache-control"] == "no-store"
    async with demo.live(answer.json()["token"], origin=demo.address) as ws:
        before = await next_wallet(ws)
        ran = page.post("/demo/actions", json={"event": "agent.run"})
        assert (ran.status_code, ran.json()["credits"]) == (201, 25)
        assert (await next_wallet(ws))["balance"] == before["balance"] - 25


def test_an_action_that_the_demo_has_not_is_refused(page: httpx.Client) -> None:
    error_of(page.post("/demo/actions", json={"event": "steal.credits"}), 404, "not_found")
    error_of(page.post("/demo/actions", json={"event": "chat.reply", "credits": 1}), 400, "invalid_request")


async def test_agents_run_while_somebody_watches_and_stop_when_told(demo: ServerProcess, page: httpx.Client) -> None:
    async with demo.live(page.get("/demo/token").json()["token"], origin=demo.address) as ws:
        await next_wallet(ws)
        on = page.put("/demo/autoplay", json={"running": True, "speed": "fast"})
        assert on.json() == {"running": True, "speed": "fast"}
        assert [entry["kind"] for entry in (await next_wallet(ws))["entries"]] == ["event"]
        off = page.put("/demo/autoplay", json={"running": False, "speed": "normal"})
        assert off.json()["running"] is False
    error_of(page.put("/demo/autoplay", json={"running": True, "speed": "ludicrous"}), 400, "invalid_request")


async def test_a_pack_bought_in_the_sandbox_lands_by_webhook_and_is_seen(
    demo: ServerProcess, page: httpx.Client, session: tuple[dict[str, Any], str]
) -> None:
    checkout, session_id = session
    assert checkout["url"].startswith(f"{demo.address}/sandbox/pay/cs_test_")
    shown = page.get(f"/sandbox/sessions/{session_id}").json()
    assert (shown["amount"], shown["currency"], shown["status"]) == (1000, "usd", "open")
    assert "500 credits" in shown["description"]
    pay = f"/sandbox/sessions/{session_id}/pay"
    async with demo.live(page.get("/demo/token").json()["token"], origin=demo.address) as ws:
        before = await next_wallet(ws)
        for card, code in ((DECLINED, "card_declined"), (REAL, "incorrect_number"), ("", "incorrect_number")):
            answer = page.post(pay, json={"card": card})
            assert (answer.status_code, answer.json()["error"]["code"]) == (402, code)
        assert page.get(f"/sandbox/sessions/{session_id}").json()["status"] == "open"
        paid = page.post(pay, json={"card": GOOD})
        assert paid.json()["redirect"] == f"{demo.address}/top-up/return?checkout={checkout['id']}"
        pushed = await next_wallet(ws)
    assert (pushed["balance"], pushed["entries"][0]["kind"]) == (before["balance"] + 500, "top_up")
    assert page.get(f"/v1/checkouts/{checkout['id']}/status").json()["status"] == "paid"
    assert page.post(pay, json={"card": GOOD}).status_code == 200
    with demo.client() as api:
        assert balance(api, "demo") == pushed["balance"]


def test_paying_needs_a_card(page: httpx.Client, session: tuple[dict[str, Any], str]) -> None:
    for body in (b"", b"[]", b"{}", b"\xff"):
        answer = page.post(f"/sandbox/sessions/{session[1]}/pay", content=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "card")


def test_a_session_that_is_not_there_is_a_404(page: httpx.Client) -> None:
    for method, path in (("GET", "sessions/cs_1"), ("POST", "sessions/cs_1/pay"), ("GET", "v1/checkout/sessions/cs_1")):
        answer = page.request(method, f"/sandbox/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "resource_missing")


def test_the_sandbox_refuses_a_parameter_that_it_does_not_know(page: httpx.Client) -> None:
    answer = page.post("/sandbox/v1/checkout/sessions", data={"mode": "payment", "colour": "blue"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "colour")


def test_the_sandbox_refuses_a_session_without_a_price(page: httpx.Client) -> None:
    answer = page.post("/sandbox/v1/checkout/sessions", data={"mode": "payment"})
    assert answer.status_code == 400, answer.text


def test_the_wallet_fills_itself_once_a_card_is_saved(demo: ServerProcess, page: httpx.Client) -> None:
    path = "/demo/auto-top-up"
    before = page.get(path)
    assert before.headers["cache-control"] == "no-store"
    assert (before.json()["card_saved"], before.json()["auto_top_up"]) == (False, None)
    error = error_of(page.put(path, json={"on": True}), 400, "invalid_request")
    assert error["field"] == "auto_top_up.payment_method"
    assert page.get(path).json() == before.json()

    checkout = page.post("/demo/card", json={})
    assert checkout.status_code == 201, checkout.text
    session = checkout.json()["url"].rsplit("/", 1)[-1]
    paid = page.post(f"/sandbox/sessions/{session}/pay", json={"card": GOOD}).raise_for_status()
    assert paid.json()["redirect"] == f"{demo.address}/demo#itself"
    deadline = time.monotonic() + 10
    while not page.get(path).json()["card_saved"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    on = page.put(path, json={"on": True}).raise_for_status().json()
    shown = on["auto_top_up"]
    assert (shown["status"], shown["threshold"], shown["monthly_limit"]) == ("active", 100, 10_000)
    assert (shown["stripe_customer"], shown["payment_method"], on["pay_url"]) == (None, None, None)
    off = page.put(path, json={"on": False}).raise_for_status().json()
    assert (off["auto_top_up"], off["card_saved"]) == (None, True)


def test_a_form_of_another_site_begins_nothing(page: httpx.Client) -> None:
    form = {"Content-Type": "text/plain"}
    error_of(page.post("/demo/card", content=b"{}", headers=form), 415, "unsupported_media_type")
    error_of(page.put("/demo/auto-top-up", content=b'{"on": true}', headers=form), 415, "unsupported_media_type")
    error_of(page.put("/demo/auto-top-up", json={"on": True, "pack": "gold"}), 400, "invalid_request")


def test_a_demo_says_where_it_is_and_what_key_opens_it(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "demo", CHARGLY_API_KEY="", DATABASE_URL="").start()
    try:
        said = server.log.read_text()
        assert f"{server.address}/demo" in said
        assert "no real money moves" in said
        [key] = re.findall(r"sk_demo_\w+", said)
        with server.client(key) as api:
            assert balance(api, "demo") > 0
        assert (tmp_path / "chargly-demo.db").is_file()
    finally:
        server.stop()


def test_a_demo_started_again_keeps_its_wallet_and_is_not_seeded_twice(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "demo").start()
    try:
        with server.client() as api:
            first = api.get("/v1/wallets/demo").json()
        server.stop()
        server.start()
        with server.client() as api:
            assert api.get("/v1/wallets/demo").json() == first
    finally:
        server.stop()


@pytest.mark.parametrize("path", DEMO_ROUTES)
def test_a_demos_route_is_in_no_other_command(server: ServerProcess, path: str) -> None:
    with server.client() as api:
        error_of(api.get(path), 404, "not_found")


def test_a_demo_keeps_out_of_a_ledger_in_earnest(tmp_path: Path) -> None:
    mine = ServerProcess(tmp_path).start()
    with mine.client() as api:
        api.post("/v1/wallets", json={"customer_id": "real"})
    mine.stop()
    refused = ServerProcess(tmp_path, "demo").run("demo")
    assert refused.returncode == 1
    assert "wallets of its own" in refused.stderr


def test_a_sandbox_behind_an_address_of_ipv6_is_found() -> None:
    config = with_sandbox(Config(host="::1"), port=8000)
    assert httpx.URL(config.stripe_api_base).host == "::1"


def test_a_key_that_the_operator_chose_is_not_shown() -> None:
    config = Config(api_key="sk_live_of_the_operator")
    assert "sk_live" not in welcome(config, "http://127.0.0.1:8000", key_is_ours=False)
    assert "sk_live" in welcome(config, "http://127.0.0.1:8000", key_is_ours=True)


OWN_KEY = {"STRIPE_SECRET_KEY": "sk_test_of_the_operator", "STRIPE_WEBHOOK_SECRET": "whsec_of_the_operator"}


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("https://api.stripe.com", "Stripe itself"),
        ("http://127.0.0.1:12111", "what STRIPE_API_BASE names"),
        ("http://127.0.0.1:8001/sandbox", "what STRIPE_API_BASE names"),
    ],
)
def test_only_the_demos_own_sandbox_is_said_to_move_no_money(base: str, said: str) -> None:
    mine = Config(stripe_secret_key="sk_test_mine", stripe_webhook_secrets=("whsec_mine",), stripe_api_base=base)
    shown = welcome(with_sandbox(mine, port=8000), "http://127.0.0.1:8000", key_is_ours=True)
    assert said in shown
    assert "no real money" not in shown
    own = with_sandbox(Config(stripe_api_base=base), port=8000)
    assert "no real money moves" in welcome(own, "http://127.0.0.1:8000", key_is_ours=True)


def test_a_history_is_not_begun_beside_an_operators_stripe(tmp_path: Path) -> None:
    refused = ServerProcess(tmp_path, "demo", **OWN_KEY).run("demo", "--history")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("chargly: --history makes up purchases")
    assert len(refused.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
