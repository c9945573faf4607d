"""The elements' lives in a page: they come, move, change hands, are set up wrongly, are looked away from, and go."""

import json
import os
from collections.abc import Callable
from types import SimpleNamespace

import httpx
import jwt
import pytest
from browser.conftest import OpenPage
from browser.elements import (
    ACTIVITY,
    ALL,
    BALANCE,
    PRICE,
    TOP_UP,
    Console,
    HeldSockets,
    Traffic,
    charges,
    everything,
    has_heard,
    in_state,
    new_customer,
    set_attribute,
    shows_rows,
    spend,
    tag,
)
from browser.host import Answer, Site
from serving import ServerProcess, free_port, grant, whole_ledger

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from playwright.async_api import Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

QUIET = r"status of 404|ERR_CONNECTION_REFUSED|<chargly-"
"""What the browser itself says of an address that is none, and the elements' own warnings."""
LOOK_AWAY = """
let hidden = false;
Object.defineProperty(Document.prototype, "hidden", { get: () => hidden });
Object.defineProperty(Document.prototype, "visibilityState", { get: () => (hidden ? "hidden" : "visible") });
window.look = (away) => {
  hidden = away;
  document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
};
window.framesAsked = 0;
const frame = window.requestAnimationFrame;
window.requestAnimationFrame = (act) => {
  if (hidden) window.framesAsked += 1;
  return frame(act);
};
"""
"""A tab that is hidden when a test says so, and counts the frames that are asked for meanwhile."""
CONNECT = """async ({ module, tokenUrl }) => {
  const { connect } = await import(module);
  window.told = [];
  const note = (status) => window.told.at(-1) === status || window.told.push(status);
  connect({ tokenUrl, onStatus: note });
}"""
"""Notes each status that a page's own component is told of."""
NOTE_NUMBERS = """(node) => {
  window.shown = [];
  const note = () => window.shown.push(Number(node.textContent.replace(",", "")));
  new MutationObserver(note).observe(node, { childList: true });
}"""
GROW_AND_REMOVE = """(attributes) => {
  window.grown = [];
  for (let at = 0; at < 200; at += 1) {
    const element = document.createElement(attributes.names[at % attributes.names.length]);
    for (const [name, value] of Object.entries(attributes.written)) element.setAttribute(name, value);
    document.body.append(element);
    element.remove();
    if (at % 3 === 0) document.body.append(element);
    window.grown.push(new WeakRef(element));
  }
}"""


@pytest.fixture
def customer(host_api: httpx.Client) -> str:
    """A customer with 100 credits."""
    return new_customer(host_api, 100)


def balance(page: Page) -> Locator:
    return page.locator(f"{BALANCE} .balance")


async def test_an_element_may_move_and_come_back(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page("about:blank")
    traffic = Traffic(page)
    elements = everything(token=host_server.token(customer))
    await page.goto(site.page(host_server, f"{elements}<section></section>"))
    await expect(balance(page)).to_have_text("100")
    await expect(page.locator(f"{TOP_UP} .pack")).to_have_count(2)
    await page.evaluate("document.querySelector('section').append(...document.body.querySelectorAll('[token]'))")
    spend(host_api, customer, 8)
    await expect(balance(page)).to_have_text("92")
    await page.evaluate("(window.all = [...document.querySelectorAll('[token]')]).forEach((node) => node.remove())")
    charges(host_api, customer, ["agent.run", "doc.summarize"])
    await page.evaluate("document.body.append(...window.all)")
    await expect(balance(page)).to_have_text("90")
    await expect(page.locator(f"{PRICE} .base")).to_have_text("8 credits · 11 left")
    await shows_rows(page, whole_ledger(host_api, customer))
    await expect(page.locator(f"{TOP_UP} .pack")).to_have_count(2)
    spend(host_api, customer, 8)
    await expect(balance(page)).to_have_text("82")
    assert len(traffic.sockets) == 1


@pytest.mark.parametrize("name", ["token", "token-url"])
async def test_attributes_may_be_set_once_it_is_in_the_page(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str, name: str
) -> None:
    page = await open_page(site.page(host_server, "<main></main>"))
    traffic, console = Traffic(page), Console(page)
    token = host_server.token(customer)
    value = token if name == "token" else site.token_url(lambda: token)
    await page.locator("main").evaluate(
        "(main, [tag, name, value]) => main.appendChild(document.createElement(tag)).setAttribute(name, value)",
        [BALANCE, name, value],
    )
    await expect(balance(page)).to_have_text("100")
    assert console.warnings == []
    assert {socket.url for socket in traffic.sockets} == {f"ws://127.0.0.1:{host_server.port}/v1/live"}


async def test_two_customers_on_one_page_are_kept_apart(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, other: str
) -> None:
    both = everything(token=host_server.token(customer)) + everything(token=host_server.token(other))
    page = await open_page("about:blank")
    traffic = Traffic(page)
    await page.goto(site.page(host_server, both))
    await expect(balance(page)).to_have_text(["100", "7"])
    spend(host_api, customer, 8)
    await expect(balance(page)).to_have_text(["92", "7"])
    grant(host_api, other, 10)
    await expect(balance(page)).to_have_text(["92", "17"])
    await expect(page.locator(f"{PRICE} .base")).to_have_text(["8 credits · 11 left", "8 credits · 2 left"])
    for at, whose in enumerate((customer, other)):
        newest = page.locator(ACTIVITY).nth(at).locator(".row").first
        await expect(newest).to_contain_text(f"{whole_ledger(host_api, whose)[0]['balance']} left")
    assert len(traffic.sockets) == 2


async def test_nothing_of_the_first_customer_is_shown_once_the_token_url_answers_another(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, other: str
) -> None:
    signed_in = [customer]
    host_api.post("/v1/holds", json={"customer_id": customer, "event": "agent.run"}).raise_for_status()
    charges(host_api, customer, ["chat.reply", "doc.summarize"] * 35)
    url = site.token_url(lambda: host_server.token(signed_in[0], expires_in=5))
    page = await open_page("about:blank")
    sockets = await HeldSockets.on(page)
    sockets.release()
    await page.goto(site.page(host_server, everything(token_url=url) + tag(BALANCE, token_url=url, low=50)))
    await expect(balance(page)).to_have_text(["30", "30"])
    await expect(page.locator(f"{BALANCE} .status").last).to_have_text("Running low")
    await expect(page.locator(f"{ACTIVITY} .row")).to_have_count(10)
    await page.evaluate(CONNECT, {"module": f"{host_server.address}/static/widget.js", "tokenUrl": url})
    await page.wait_for_function("window.told.join() === 'live'")

    sockets.hold()
    signed_in[0] = other
    async with page.expect_response(url):
        pass
    await page.wait_for_function("window.told.join() === 'live,connecting'")
    await expect(balance(page)).to_have_text(["…", "…"])
    shown = {
        "balance": page.locator(f"{BALANCE} .base").first,
        "low balance": page.locator(f"{BALANCE} .base").last,
        "activity": page.locator(f"{ACTIVITY} .rows"),
    }
    await expect(shown["activity"]).not_to_contain_text("30 left")
    for what, where in shown.items():
        for old in ("30", "25 held", "Running low"):
            await expect(where, f"the {what} still shows the first customer").not_to_contain_text(old)
    await in_state(page.locator(BALANCE).last, "low", on=False)

    sockets.release()
    await expect(balance(page)).to_have_text(["7", "7"])
    await expect(page.locator(f"{PRICE} .base")).to_have_text("8 credits · 1 more needed")
    await shows_rows(page, whole_ledger(host_api, other))
    await expect(page.get_by_role("button", name="Load more")).to_be_hidden()
    assert await page.locator(BALANCE).first.evaluate("(node) => node.state.customer_id") == other


async def test_a_count_that_runs_ends_when_the_customer_changes(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str, other: str
) -> None:
    page = await open_page("about:blank")
    await page.clock.install()
    await page.goto(site.page(host_server, tag(BALANCE, token=host_server.token(customer))))
    await expect(balance(page)).to_have_text("100")
    await page.clock.pause_at(await page.evaluate("Date.now() / 1000 + 1"))
    spend(host_api, customer, 90)
    await has_heard(page.locator(BALANCE), 10)
    await page.clock.run_for(100)
    await expect(balance(page)).not_to_have_text("100")
    await set_attribute(page.locator(BALANCE), "token", host_server.token(other))
    await has_heard(page.locator(BALANCE), 7)
    await page.clock.run_for(2_000)
    await expect(balance(page)).to_have_text("7")


async def test_the_count_lands_on_the_true_balance_after_a_burst(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    grant(host_api, customer, 900)
    page = await open_page(site.page(host_server, tag(BALANCE, token=host_server.token(customer))))
    await expect(balance(page)).to_have_text("1,000")
    await balance(page).evaluate(NOTE_NUMBERS)
    for _ in range(40):
        spend(host_api, customer, 13)
    await expect(balance(page)).to_have_text("480")
    shown = await page.evaluate("window.shown")
    assert shown == sorted(shown, reverse=True), "a balance that only falls was shown rising"
    assert shown[-1] == 480


async def test_a_hidden_tab_draws_nothing_and_is_right_when_it_is_seen_again(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page("about:blank")
    await page.add_init_script(LOOK_AWAY)
    await page.goto(site.page(host_server, everything(token=host_server.token(customer))))
    await expect(balance(page)).to_have_text("100")
    await shows_rows(page, whole_ledger(host_api, customer))
    await page.evaluate("window.look(true)")
    for event, left in (("chat.reply", 92), ("agent.run", 67), ("chat.reply", 59)):
        host_api.post("/v1/events", json={"customer_id": customer, "event": event}).raise_for_status()
        await has_heard(page.locator(ACTIVITY), left)
    grant(host_api, customer, 41)
    await has_heard(page.locator(ACTIVITY), 100)
    assert await page.evaluate("window.framesAsked") == 0
    await page.evaluate("window.look(false)")
    await expect(balance(page)).to_have_text("100")
    await expect(page.locator(f"{PRICE} .base")).to_have_text("8 credits · 12 left")
    await shows_rows(page, whole_ledger(host_api, customer))


async def test_a_hidden_tab_asks_for_no_prices(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    page = await open_page("about:blank", expected="closed before the connection is established")
    await page.clock.install()
    await page.add_init_script(LOOK_AWAY)
    await page.goto(
        site.page(host_server, tag(PRICE, token=host_server.token(customer), event="chat.reply")),
    )
    price = page.locator(f"{PRICE} .base")
    await expect(price).to_have_text("8 credits · 12 left")
    await page.clock.fast_forward(10_000)
    await page.evaluate("window.look(true)")
    traffic = Traffic(page)
    spend(host_api, customer, 8)
    await expect(price).to_have_text("8 credits · 11 left")
    for _ in range(6):
        await page.clock.fast_forward(10_000)
    assert traffic.to("/v1/quote") == []
    await page.evaluate("window.look(false)")
    async with page.expect_response("**/v1/quote"):
        await page.clock.fast_forward(10_000)


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


WRONG: dict[str, tuple[Callable[[ServerProcess, Site, str], dict[str, str]], str, str]] = {
    "a server without a scheme": (
        lambda _server, _site, token: {"server": "credits.example.com", "token": token},
        "Unavailable",
        'server="credits.example.com"',
    ),
    "a token-url that is no address": (
        lambda *_: {"token_url": "http://["},
        "Connecting…",
        'http://[ must answer {"token": "…"}. It gave no answer.',
    ),
    "a token-url that is not there": (
        lambda _server, site, _token: {"token_url": f"{site.origin}/nowhere"},
        "Connecting…",
        'nowhere must answer {"token": "…"}. It gave 404.',
    ),
    "a token-url that answers a page": (
        lambda _server, site, _token: {"token_url": site.answering(lambda: Answer("<!doctype html><p>Sign in"))},
        "Connecting…",
        'must answer {"token": "…"}',
    ),
    "a token-url that answers another shape": (
        lambda _server, site, token: {
            "token_url": site.answering(lambda: Answer(json.dumps({"jwt": token}), "application/json"))
        },
        "Connecting…",
        'must answer {"token": "…"}',
    ),
    "no token": (lambda *_: {}, "Unavailable", "token-url"),
    "a token that has ended": (
        lambda *_: {"token": jwt.encode({"sub": "ada", "exp": 1}, "of nobody, and more than 32 bytes long")},
        "Sign in again",
        "token",
    ),
    "an API key in the token's place": (lambda *_: {"token": "sk_test_admin"}, "Unavailable", "token"),
}


@pytest.mark.parametrize("mistake", WRONG)
async def test_a_mistake_is_a_quiet_element_and_one_warning_that_says_how_to_mend_it(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str, mistake: str
) -> None:
    written, status, mend = WRONG[mistake]
    attributes = written(host_server, site, host_server.token(customer))
    page = await open_page("about:blank", expected=QUIET)
    console = Console(page)
    two = tag(BALANCE, **attributes) * 2
    async with page.expect_console_message(lambda said: said.type == "warning"):
        await page.goto(site.page(host_server, two))
    await page.wait_for_load_state("networkidle")
    await expect(page.locator(f"{BALANCE} .status")).to_have_text([status] * 2)
    await expect(balance(page)).to_have_text(["…" if status == "Connecting…" else "–"] * 2)
    assert len(console.warnings) == 1, console.warnings
    assert mend in console.warnings[0], f"“{console.warnings[0]}” does not say {mend!r}"


async def test_a_server_that_does_not_answer_is_one_warning_that_names_it(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str
) -> None:
    dead = nowhere()
    reached = SimpleNamespace(address=host_server.address, port=int(dead.rpartition(":")[2]))
    page = await open_page("about:blank", expected=QUIET)
    console = Console(page)
    elements = tag(BALANCE, token=host_server.token(customer), server=dead)
    async with page.expect_console_message(lambda said: said.type == "warning"):
        await page.goto(site.page(reached, elements * 2))
    await expect(page.locator(f"{BALANCE} .status")).to_have_text(["Connecting…"] * 2)
    await in_state(page.locator(BALANCE).first, "error", on=False)
    assert console.warnings == [
        f"<{BALANCE}> {dead} does not answer. Is it in the page's CSP? (unreachable)",
    ]


async def test_activity_that_is_signed_out_does_not_say_that_it_loads(
    open_page: OpenPage, site: Site, host_server: ServerProcess
) -> None:
    ended = jwt.encode({"sub": "ada", "exp": 1}, "of nobody, and more than 32 bytes long")
    page = await open_page(site.page(host_server, tag(ACTIVITY, token=ended)), expected="token_expired|401")
    await expect(page.locator(f"{ACTIVITY} .status")).to_have_text("Sign in again")
    await expect(page.locator(f"{ACTIVITY} .note", has_text="Loading…")).to_be_hidden()


async def test_each_element_is_quiet_without_a_token(
    open_page: OpenPage, site: Site, host_server: ServerProcess
) -> None:
    page = await open_page("about:blank", expected="missing_token")
    console = Console(page)
    await page.goto(site.page(host_server, everything()))
    for name in ALL:
        await in_state(page.locator(name), "error")
        await expect(page.locator(f"{name} .base")).to_have_attribute("aria-busy", "false")
    await expect(page.locator(f"{PRICE} .base")).to_have_text("–")
    for name in (ACTIVITY, TOP_UP):
        await expect(page.locator(f"{name} .status")).to_have_text("Unavailable")
        await expect(page.locator(name).get_by_role("button")).to_have_count(0)
    assert len(console.warnings) == len(ALL), console.warnings


async def test_tokens_are_kept_nowhere(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client, customer: str
) -> None:
    tokens: list[str] = []

    def mint() -> str:
        tokens.append(host_server.token(customer))
        return tokens[-1]

    page = await open_page("about:blank", expected="status of 503")
    traffic = Traffic(page)
    url = site.token_url(mint)
    await page.goto(site.page(host_server, everything(token_url=url)))
    await expect(balance(page)).to_have_text("100")
    await expect(page.locator(f"{ACTIVITY} .row")).to_have_count(1)
    await page.locator(f"{TOP_UP} .pack").first.click()
    await expect(page.locator(f"{TOP_UP} .note")).to_contain_text("no Stripe key")
    spend(host_api, customer, 8)
    await expect(balance(page)).to_have_text("92")
    kept = await page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])")
    kept += str(await page.context.cookies()) + page.url
    kept += "".join(request.url for request in traffic.requests) + "".join(one.url for one in traffic.sockets)
    assert len(tokens) == 1, "four elements of one token-url asked more than once"
    assert not any(part in kept for token in tokens for part in token.split("."))


async def test_200_elements_that_came_and_went_leave_nothing_open(
    open_page: OpenPage, site: Site, host_server: ServerProcess, customer: str
) -> None:
    page = await open_page("about:blank")
    traffic = Traffic(page)
    await page.goto(site.page(host_server, "<main></main>"))
    written = {"token": host_server.token(customer), "event": "chat.reply"}
    async with page.expect_console_message(lambda said: said.text.startswith("chargly-change")):
        await page.evaluate(GROW_AND_REMOVE, {"names": ALL, "written": written})
    assert len(traffic.sockets) == 1
    (socket,) = traffic.sockets
    async with socket.expect_event("close"):
        await page.evaluate("document.body.replaceChildren()")
    browser = await page.context.new_cdp_session(page)
    alive = ["all"]
    for _ in range(100):  # until the last answer that one of them asked for is in
        await browser.send("HeapProfiler.collectGarbage")
        alive = await page.evaluate("window.grown.map((one) => one.deref()?.localName).filter(Boolean)")
        if not alive:
            break
    assert alive == []
    assert traffic.open_sockets == []
