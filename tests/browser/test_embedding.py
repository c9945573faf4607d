"""The snippets of docs/embed: each one built, served and run as a reader would, against a real server."""

import importlib.util
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote

import httpx
import jwt
import pytest
from browser.conftest import FRAMEWORKS, OpenPage, missing
from browser.elements import new_customer
from browser.host import WIDGET, Site, digest
from serving import ADMIN_KEY, ServerProcess, charge, grant

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

FOLDER = Path(__file__).parent
EMBED = FOLDER.parents[1] / "docs" / "embed"
CHARGLY = "https://credits.example.com"
"""Where the snippets look for the server."""
SECONDS_MAX = 60
PATIENCE_SECONDS_MAX = 8
"""What a page waits for a token, less something: the widget gives up after ten seconds."""
SIGNED_OUT = r"401 \(Unauthorized\)|signed_out"

Build = Callable[[str], Path]
StartBackend = Callable[[str], str]


@pytest.fixture(scope="session")
def build(node: str, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Bundles a snippet by name."""

    @cache
    def built(name: str) -> Path:
        file = tmp_path_factory.mktemp(name) / f"{name}.mjs"
        words = [node, str(FRAMEWORKS / "build.mjs"), name, str(file)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
        assert done.returncode == 0, done.stderr
        return file

    return built


@pytest.fixture
def customer(host_server: ServerProcess, host_api: httpx.Client, site: Site) -> str:
    """A customer with 100 credits, who is signed in at the site."""
    made = new_customer(host_api, 100)
    site.token_url(lambda: host_server.token(made), "/chargly-token")
    return made


def host_page(site: Site, server: ServerProcess, script: str, head: str = "") -> str:
    """The page of an app that is one script."""
    source = site.script(script.replace(CHARGLY, server.address))
    app = f'<div id="app"></div><button id="leave">Leave</button><script type="module" src="{source}"></script>'
    html = f'<!doctype html><html lang="en"><head><title>App</title>{head}</head><body>{app}</body></html>'
    return site.document(server, html)


async def sees_it_drain(page: Page, api: httpx.Client, customer: str) -> None:
    """The balance falls live, and the page's own listener hears of it."""
    balance = page.locator("chargly-balance .balance")
    said = page.locator("p[role=status]")
    await expect(balance).to_have_text("100")
    assert charge(api, customer).status_code == 201
    await expect(balance).to_have_text("92")
    await expect(said).to_have_text("")
    assert charge(api, customer, credits=60).status_code == 201
    await expect(balance).to_have_text("32")
    await expect(said).to_have_text("Only 32 credits left.")
    grant(api, customer, 100)
    await expect(balance).to_have_text("132")
    await expect(said).to_have_text("")


async def test_plain_html(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    html = (EMBED / "page.html").read_text(encoding="utf-8").replace(CHARGLY, host_server.address)
    page = await open_page(site.document(host_server, html))
    await sees_it_drain(page, host_api, customer)


@pytest.mark.parametrize("framework", ["react", "vue", "svelte"])
async def test_framework(
    framework: str,
    build: Build,
    open_page: OpenPage,
    site: Site,
    host_server: ServerProcess,
    host_api: httpx.Client,
    customer: str,
) -> None:
    url = host_page(site, host_server, build(framework).read_text(encoding="utf-8"))
    page = await open_page("about:blank")
    await page.clock.install()
    async with page.expect_websocket() as opened:
        await page.goto(url)
    await sees_it_drain(page, host_api, customer)

    wallet = await opened.value
    async with wallet.expect_event("close"):
        await page.get_by_role("button", name="Leave").click()
        await expect(page.locator("chargly-balance")).to_have_count(0)
        await page.clock.fast_forward(5_000)  # the widget keeps a socket for a moment, for the next page of an app


async def test_react_hook(
    build: Build, open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page(host_page(site, host_server, build("react").read_text(encoding="utf-8")))
    button = page.get_by_role("button", name="Generate (40 credits)")
    await expect(button).to_be_enabled()
    assert charge(host_api, customer, credits=61).status_code == 201
    await expect(button).to_be_disabled()
    grant(host_api, customer, 1)
    await expect(button).to_be_enabled()


@pytest.mark.parametrize("genuine", [True, False])
async def test_import_map_holds_the_widget_to_its_hash(
    genuine: bool, build: Build, open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str
) -> None:
    integrity = digest(WIDGET.read_bytes() if genuine else b"another file")
    names = json.dumps({"integrity": {f"{host_server.address}/static/widget.js": integrity}})
    head = f'<script type="importmap">{names}</script>'
    url = host_page(site, host_server, build("svelte").read_text(encoding="utf-8"), head)
    page = await open_page("about:blank", expected=r"(?!)" if genuine else "valid digest|dynamically imported module")
    async with page.expect_event("console", lambda said: genuine or "valid digest" in said.text):
        await page.goto(url)
    await expect(page.locator("chargly-balance .balance")).to_have_text(["100"] if genuine else [])


@pytest.fixture(params=["nextjs", "fastapi", "django"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def start_backend(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartBackend]:
    """Runs the snippet as an app's backend that asks the Chargly at an address, and tells its own."""
    running: list[subprocess.Popen[bytes]] = []
    if backend == "nextjs":
        words = [request.getfixturevalue("node"), str(request.getfixturevalue("build")(backend))]
    elif importlib.util.find_spec(backend) is None:
        missing(f"{backend} is not installed: in the checkout, pip install '.[test]'")
    else:
        words = [sys.executable, str(FOLDER / "backends" / f"{backend}_site.py")]

    def start(chargly: str) -> str:
        env = os.environ | {
            "CHARGLY_URL": chargly,
            "CHARGLY_API_KEY": ADMIN_KEY,
            "SESSION_SECRET": secrets.token_hex(32),
            "PYTHONPATH": str(EMBED),
        }
        # What asks before the backend is up waits in the socket's queue.
        with socket.create_server(("127.0.0.1", 0)) as listening, (tmp_path / "backend.log").open("ab") as log:
            fd = listening.fileno()
            running.append(
                subprocess.Popen([*words, str(fd)], env=env, cwd=tmp_path, pass_fds=[fd], stdout=log, stderr=log)
            )
            return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for process in running:
        process.terminate()
        process.wait(15)


@pytest.fixture
def signing_in(backend: str) -> str:
    """Who signs in: where the backend does not number its users, one whose id a path has to encode."""
    return str(secrets.randbelow(2**31)) if backend == "django" else f"ada+{secrets.token_hex(6)} é%2F?#&"


def visitor(address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=address, timeout=SECONDS_MAX, verify=False)


async def sign_in(browser: httpx.AsyncClient, customer: str) -> None:
    answer = await browser.get("/sign-in", params={"customer": customer})
    assert answer.status_code == 204


async def test_token_route_feeds_the_widget(
    start_backend: StartBackend,
    signing_in: str,
    open_page: OpenPage,
    site: Site,
    host_server: ServerProcess,
    host_api: httpx.Client,
) -> None:
    grant(host_api, quote(signing_in, safe=""), 100)
    address = start_backend(host_server.address)
    site.forward("/chargly-token", address)
    async with visitor(address) as browser:
        await sign_in(browser, signing_in)
        cookies = [{"name": cookie.name, "value": cookie.value, "url": site.origin} for cookie in browser.cookies.jar]

    element = '<chargly-balance token-url="/chargly-token"></chargly-balance>'
    page = await open_page(site.page(host_server, element), expected=SIGNED_OUT)
    await expect(page.locator("chargly-balance .status")).to_have_text("Sign in again")
    await page.context.add_cookies(cookies)
    await page.reload()
    balance = page.locator("chargly-balance .balance")
    await expect(balance).to_have_text("100")
    assert charge(host_api, signing_in).status_code == 201
    await expect(balance).to_have_text("92")


async def test_token_route_makes_tokens_for_the_session_alone(
    start_backend: StartBackend, signing_in: str, host_server: ServerProcess
) -> None:
    async with visitor(start_backend(host_server.address)) as browser:
        somebody = {"customer": "eve", "customer_id": "eve", "id": "eve"}
        answers = [await browser.get("/chargly-token", params=somebody)]
        assert answers[0].status_code == 401
        await sign_in(browser, signing_in)
        answers += [await browser.get("/chargly-token", params=somebody)]
        assert answers[1].status_code == 200
    assert list(answers[1].json()) == ["token"]
    claims = jwt.decode(answers[1].json()["token"], options={"verify_signature": False})
    assert claims["sub"] == signing_in
    assert all("no-store" in answer.headers["Cache-Control"] for answer in answers)


async def test_token_route_says_when_chargly_is_away(start_backend: StartBackend, signing_in: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with visitor(start_backend(f"http://127.0.0.1:{silent.getsockname()[1]}")) as browser:
            await sign_in(browser, signing_in)
            hung = await browser.get("/chargly-token")
            silent.close()
            refused = await browser.get("/chargly-token")
    for answer in (hung, refused):
        assert answer.status_code == 502
        assert "no-store" in answer.headers["Cache-Control"]
    assert hung.elapsed.total_seconds() < PATIENCE_SECONDS_MAX
