"""Pages behind a network that delays, holds, cuts or swallows, clocks that are wrong, and a token URL that fails.

Whatever happened, a page shows what is true soon after it is over, without being loaded again.
"""

import asyncio
import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import pytest_asyncio
import websockets
from api.test_metrics import samples
from browser.conftest import OpenPage
from browser.elements import new_customer
from browser.host import Answer, Site
from browser.hostile import PROTOCOL, Network, Peer
from serving import ServerProcess, StartServer, charge, grant

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from browser.listening import NETWORK_ERRORS, Truth, expect_balance, falls, listening_page, true_states, until_shown
from playwright.async_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

BACK_SECONDS_MAX = 5.0
"""From the end of a trouble until every page shows what is true."""
LOAD_SECONDS_MAX = 15.0
PAGES, CLIENTS_PER_PAGE, WALLETS = 3, 2, 4
FUNDS = 100_000
PAST_SILENCE_MS = 35_000
PULSE_MS = 5_000
HOUR_SECONDS = 3_600
FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS = 250, 4_000
ROUNDS, ROUNDS_TO_SETTLE = 15, 8
CALLERS = 40
"""Clients besides the pages, in each round."""
GROWTH_BYTES_MAX = 4 << 20
"""Over a thousand connections that came and went after those that made the server's memory what it is."""
TOKEN_SECONDS, LIVES = 3, 3
STRANGERS = 10
"""Messages of another ledger's epoch."""
TOKEN_ERRORS = r"status of 503|token_unavailable|token_expired|ERR_EMPTY_RESPONSE"


class Crowd:
    """Pages that each look at a wallet in an element and at another by `connect`; some wallets are seen on several."""

    def __init__(self, server: ServerProcess, api: httpx.Client) -> None:
        self._server, self._api = server, api
        self.customers = [f"user_{secrets.token_hex(6)}" for _ in range(WALLETS)]
        self.pages: dict[Page, tuple[str, str]] = {}
        self._truth: Truth = {}
        self._loads: list[str] = []

    async def open(self, open_page: OpenPage, site: Site, network: Network, *, has_clock: bool = False) -> None:
        tokens = await asyncio.to_thread(self._funded)

        async def one(number: int) -> None:
            shown, heard = self.customers[number], self.customers[number + 1]
            page = await open_page("about:blank", expected=NETWORK_ERRORS)
            if has_clock:
                await page.clock.install()
            page.on("load", lambda loaded: self._loads.append(loaded.url))
            await page.goto(listening_page(site, network, element=f'token="{tokens[shown]}"', tokens=[tokens[heard]]))
            self.pages[page] = (shown, heard)

        await asyncio.gather(*map(one, range(PAGES)))
        await self.shows_truth(LOAD_SECONDS_MAX)

    def _funded(self) -> dict[str, str]:
        for customer in self.customers:
            grant(self._api, customer, FUNDS)
        self._truth = true_states(self._api, self.customers)
        return {customer: self._server.token(customer, expires_in=7_200) for customer in self.customers}

    async def change(self) -> None:
        """Every wallet, twice."""

        def spend() -> None:
            for customer in self.customers * 2:
                assert charge(self._api, customer, credits=1 + secrets.randbelow(9)).status_code == 201
            self._truth = true_states(self._api, self.customers)

        await asyncio.to_thread(spend)

    async def shows_truth(self, seconds_max: float = BACK_SECONDS_MAX) -> None:
        """From now on, it takes no longer."""
        of_pages = {page: {customer: self._truth[customer] for customer in pair} for page, pair in self.pages.items()}
        await until_shown(of_pages, seconds_max)

    async def has_come_through(self) -> None:
        """It lives on: a further change is shown, none was shown before an older one, and no page was loaded again."""
        await self.change()
        await self.shows_truth()
        for page, (shown, _) in self.pages.items():
            await expect_balance(page, self._truth[shown][1])
            assert await falls(page) == []
        assert len(self._loads) == PAGES

    async def fast_forward(self, ms: int) -> None:
        await asyncio.gather(*(page.clock.fast_forward(ms) for page in self.pages))

    async def sit_out(self, ms: int) -> None:
        """Lets time pass in steps too small to be taken for a sleep."""
        for _ in range(0, ms, PULSE_MS):
            await self.fast_forward(PULSE_MS)


@pytest_asyncio.fixture(loop_scope="session")
async def network(host_server: ServerProcess) -> AsyncIterator[Network]:
    async with Network(host_server) as between:
        yield between


@pytest.fixture
def crowd(host_server: ServerProcess, host_api: httpx.Client) -> Crowd:
    return Crowd(host_server, host_api)


def funded(api: httpx.Client) -> str:
    """A new customer."""
    return new_customer(api, FUNDS)


async def test_delays(open_page: OpenPage, site: Site, network: Network, crowd: Crowd) -> None:
    await crowd.open(open_page, site, network)
    network.delay(0.02, 0.3)
    for _ in range(5):
        await crowd.change()
    await network.heal()
    await crowd.shows_truth()
    await crowd.has_come_through()


@pytest.mark.parametrize("outlasts_silence", [False, True], ids=["short", "long"])
async def test_stall(open_page: OpenPage, site: Site, network: Network, crowd: Crowd, outlasts_silence: bool) -> None:
    await crowd.open(open_page, site, network, has_clock=outlasts_silence)
    network.stall()
    await crowd.change()
    if outlasts_silence:
        await crowd.sit_out(PAST_SILENCE_MS)
        await crowd.change()
    await network.heal()
    await crowd.shows_truth()
    await crowd.has_come_through()


async def test_cut(open_page: OpenPage, site: Site, network: Network, crowd: Crowd) -> None:
    await crowd.open(open_page, site, network)
    network.cut()
    await crowd.change()
    for page in crowd.pages:  # each client twice; what it waits then leaves time for a machine that is busy
        await page.wait_for_function("(count) => listening.tries.length >= count", arg=3 * CLIENTS_PER_PAGE)
    await network.heal()
    await crowd.shows_truth()
    await crowd.has_come_through()


@pytest.mark.parametrize("heals_first", [False, True], ids=["noticed-while-away", "noticed-when-back"])
async def test_half_open_connection_is_noticed_by_its_silence(
    open_page: OpenPage, site: Site, network: Network, crowd: Crowd, heals_first: bool
) -> None:
    await crowd.open(open_page, site, network, has_clock=True)
    network.swallow()
    await crowd.change()
    if heals_first:
        await network.heal()
        await crowd.sit_out(PAST_SILENCE_MS)
    else:
        await crowd.sit_out(PAST_SILENCE_MS)
        await crowd.change()
        await network.heal()
    await crowd.shows_truth()
    await crowd.has_come_through()


async def test_half_open_connection_is_given_up_when_the_browser_says_so(
    open_page: OpenPage, site: Site, network: Network, crowd: Crowd
) -> None:
    await crowd.open(open_page, site, network)
    network.swallow()
    await crowd.change()
    for page in crowd.pages:
        await page.context.set_offline(True)
    await network.heal()
    for page in crowd.pages:
        await page.context.set_offline(False)
    await crowd.shows_truth()
    await crowd.has_come_through()


async def test_half_open_connection_is_replaced_after_a_sleep(
    open_page: OpenPage, site: Site, network: Network, crowd: Crowd
) -> None:
    await crowd.open(open_page, site, network, has_clock=True)
    network.swallow()
    await crowd.change()
    for page in crowd.pages:  # timers stand still meanwhile
        await page.clock.set_system_time(time.time() + HOUR_SECONDS)
    await network.heal()
    await crowd.fast_forward(PULSE_MS)
    await crowd.shows_truth()
    await crowd.has_come_through()


async def test_server_is_as_it_was_after_many_troubles(
    open_page: OpenPage, site: Site, new_server: StartServer
) -> None:
    server = new_server(CHARGLY_ALLOWED_ORIGINS=site.origin)
    async with Network(server) as network:
        with server.client() as api:
            crowd = Crowd(server, api)
            await crowd.open(open_page, site, network, has_clock=True)
            token = server.token(crowd.customers[0])
            resident = []
            for number in range(ROUNDS):
                others = [asyncio.create_task(listen(network, token)) for _ in range(CALLERS)]
                await asyncio.to_thread(until_sockets, api, CLIENTS_PER_PAGE * PAGES + CALLERS)
                network.stall()
                await crowd.change()
                if number % 3:
                    network.cut()
                await network.heal()
                await crowd.fast_forward(FIRST_BACKOFF_MS)
                await crowd.shows_truth()
                for other in others:
                    other.cancel()
                await asyncio.gather(*others)
                await asyncio.to_thread(until_sockets, api, CLIENTS_PER_PAGE * PAGES)
                resident.append((await asyncio.to_thread(samples, api))["process_resident_memory_bytes"])
            await crowd.has_come_through()
            assert resident[-1] - resident[ROUNDS_TO_SETTLE - 1] < GROWTH_BYTES_MAX


async def listen(network: Network, token: str) -> None:
    """A client that is no browser, for as long as its connection lasts."""
    with contextlib.suppress(OSError, websockets.WebSocketException, asyncio.CancelledError):
        async with websockets.connect(f"ws://127.0.0.1:{network.port}/v1/live", subprotocols=[PROTOCOL]) as socket:
            await socket.send(json.dumps({"type": "subscribe", "token": token}))
            async for _ in socket:
                pass


def until_sockets(api: httpx.Client, count: int) -> None:
    """Until the server has as many open."""
    deadline = time.monotonic() + BACK_SECONDS_MAX
    while (sockets := samples(api)["chargly_sockets"]) != count:
        assert time.monotonic() < deadline, f"{sockets:.0f} sockets are open, not {count}"
        time.sleep(0.02)


async def test_peer_that_doubles_shuffles_and_tells_of_another_ledger(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client
) -> None:
    shown, heard = funded(host_api), funded(host_api)
    async with Peer(host_server, strangers=STRANGERS, seed=1) as peer:
        element = f'token="{host_server.token(shown)}"'
        address = listening_page(site, peer, element=element, tokens=[host_server.token(heard)])
        page = await open_page(address, expected=NETWORK_ERRORS)
        await until_shown({page: true_states(host_api, [shown, heard])}, LOAD_SECONDS_MAX)

        async with asyncio.timeout(LOAD_SECONDS_MAX):
            while peer.strangers_left:
                await asyncio.to_thread(charge, host_api, shown, credits=1)
                await asyncio.to_thread(charge, host_api, heard, credits=1)
        truth = await asyncio.to_thread(true_states, host_api, [shown, heard])
        await until_shown({page: truth}, BACK_SECONDS_MAX)
        await expect_balance(page, truth[shown][1])
        assert await falls(page) == []
        assert await page.evaluate("listening.epochs.size") == 1
    assert peer.lies > STRANGERS


async def test_clock_that_is_wrong(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client
) -> None:
    async def lives(hours: int) -> None:
        customer = await asyncio.to_thread(funded, host_api)
        minted = 0

        def mint() -> str:
            nonlocal minted
            minted += 1
            return host_server.token(customer, expires_in=TOKEN_SECONDS)

        url = site.token_url(mint)
        page = await open_page("about:blank", expected=TOKEN_ERRORS)
        await page.clock.install(time=time.time() + hours * HOUR_SECONDS)
        await page.goto(listening_page(site, host_server, element=f'token-url="{url}"'))
        for number in range(1, LIVES + 1):
            if number > 1:
                async with page.expect_response(url):
                    pass
            await asyncio.to_thread(charge, host_api, customer, credits=1)
            truth = await asyncio.to_thread(true_states, host_api, [customer])
            await until_shown({page: truth}, LOAD_SECONDS_MAX if number == 1 else BACK_SECONDS_MAX)
        await expect_balance(page, FUNDS - LIVES)
        assert minted >= LIVES

    await asyncio.gather(lives(1), lives(-1))


class TokenUrl:
    """Gives tokens of a few seconds, or what it is told to give instead."""

    def __init__(self, mint: Callable[[], str]) -> None:
        self._mint = mint
        self._goes_on = threading.Event()
        self.instead: Callable[[TokenUrl], Answer] | None = None
        self.asked_in_vain = 0

    def answer(self) -> Answer:
        if self.instead is None:
            return self._token()
        self.asked_in_vain += 1
        return self.instead(self)

    def _token(self) -> Answer:
        return Answer(f'{{"token": "{self._mint()}"}}', "application/json")

    def down(self) -> Answer:
        return Answer("down", "text/plain", status=503)

    def nonsense(self) -> Answer:
        return Answer('{"token": "a.b.c"}', "application/json")

    def page(self) -> Answer:
        return Answer("<!doctype html><title>Sign in</title>")

    def slow(self) -> Answer:
        """As slow as can be: the answer comes when the trouble is over."""
        self._goes_on.wait()
        return self._token()

    def recover(self) -> None:
        self.instead = None
        self._goes_on.set()


async def test_token_url_that_fails_for_a_while(
    open_page: OpenPage, site: Site, host_server: ServerProcess, host_api: httpx.Client
) -> None:
    async def recovers(trouble: Callable[[TokenUrl], Answer]) -> None:
        customer = await asyncio.to_thread(funded, host_api)
        tokens = TokenUrl(lambda: host_server.token(customer, expires_in=TOKEN_SECONDS))
        url = site.answering(tokens.answer)
        page = await open_page(listening_page(site, host_server, element=f'token-url="{url}"'), expected=TOKEN_ERRORS)
        try:
            await until_shown({page: await asyncio.to_thread(true_states, host_api, [customer])}, LOAD_SECONDS_MAX)
            tokens.instead = trouble
            await expect(page.locator("chargly-balance .status")).to_have_text("Reconnecting…")
            assert tokens.asked_in_vain
            await asyncio.to_thread(charge, host_api, customer, credits=1)
        finally:
            tokens.recover()
        truth = await asyncio.to_thread(true_states, host_api, [customer])
        await until_shown({page: truth}, BACK_SECONDS_MAX)
        await expect_balance(page, FUNDS - 1)

    await asyncio.gather(*map(recovers, (TokenUrl.down, TokenUrl.nonsense, TokenUrl.page, TokenUrl.slow)))


async def test_server_that_is_gone_for_ten_minutes(open_page: OpenPage, site: Site, new_server: StartServer) -> None:
    server = new_server(CHARGLY_ALLOWED_ORIGINS=site.origin)
    with server.client() as api:
        async with Network(server) as network:
            crowd = Crowd(server, api)
            await crowd.open(open_page, site, network, has_clock=True)
            await crowd.change()
            await asyncio.to_thread(server.stop)
            for _ in range(10):
                await crowd.fast_forward(60_000)
            await asyncio.to_thread(server.start)
            await crowd.fast_forward(LONGEST_BACKOFF_MS)
            await crowd.shows_truth()
            await crowd.has_come_through()
