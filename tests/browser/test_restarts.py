"""A server that restarts again and again while many pages' worth of the widget listens: all come back, to the truth."""

import asyncio
import os
import signal
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import httpx
import pytest
from browser.conftest import OpenPage
from browser.host import Site
from serving import ServerProcess, StartServer, grant

if os.environ.get("CHARGLY_TESTS_NEED_ALL") != "1":
    pytest.importorskip("playwright.async_api")
from browser.listening import NETWORK_ERRORS, Noted, Truth, falls, listening_page, noted, until_shown
from playwright.async_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

RESTARTS = int(os.environ.get("CHARGLY_TESTS_RESTARTS", "2"))
"""With ten or more it takes 300 clients, and wants the machine for itself: CHARGLY_TESTS_RESTARTS=50 pytest -n 0."""
PAGES, CLIENTS_PER_PAGE = 20 if RESTARTS >= 10 else 4, 15
"""Each page has a browser profile of its own, of which each may have at most 255 sockets to one host.

More clients on a page would measure Chromium, which lets a page with 16 handshakes under way wait for 1 to 5 s.
"""
CLIENTS = PAGES * CLIENTS_PER_PAGE
FUNDS = 10**6
LOAD_SECONDS_MAX = 30.0
BACK_SECONDS_MAX = 20.0
"""From when the server is there again; with a core for the server it takes about two."""
KILLED, EVERY = 2, 5
"""Of so many restarts one is a kill: the second of five."""
PAUSE_MS_MIN = 400
"""Half of those who were told of the restart wait longer: any client by 0.1 to 2 s, without regard to others."""
WINDOW_MS = 100
SHARE_MAX = 1 / 3
"""Of all clients that come in any such window."""


class Audience:
    """All pages, and the clients of each."""

    def __init__(self, pages: Mapping[Page, Sequence[str]]) -> None:
        self.pages = pages
        self._loads: list[str] = []
        for page in pages:
            page.on("load", lambda loaded: self._loads.append(loaded.url))

    async def shows_truth(self, api: httpx.Client, seconds_max: float) -> None:
        truth = await asyncio.to_thread(true_states, api)
        of_pages = {page: {name: truth[name] for name in names} for page, names in self.pages.items()}
        await until_shown(of_pages, seconds_max)

    async def noted(self) -> list[Noted]:
        return await asyncio.gather(*map(noted, self.pages))

    async def has_never_fallen_back(self) -> bool:
        fell = await asyncio.gather(*map(falls, self.pages))
        return not any(fell) and not self._loads


async def test_all_come_back_to_the_truth_after_each_restart(
    open_page: OpenPage, site: Site, new_server: StartServer
) -> None:
    server = new_server(CHARGLY_ALLOWED_ORIGINS=site.origin)
    with server.client() as api:
        audience = await opened(open_page, site, server, api)
        await audience.shows_truth(api, LOAD_SECONDS_MAX)
        await audience.noted()
        for number in range(1, RESTARTS + 1):
            how = signal.SIGKILL if number % EVERY == KILLED else signal.SIGTERM
            await asyncio.to_thread(restart, server, api, how)
            await audience.shows_truth(api, BACK_SECONDS_MAX)
            of_pages = await audience.noted()
            opens = [at for page in of_pages for at in page.opens]
            closes = [close for page in of_pages for close in page.closes]
            assert Counter(code for _, code in closes) == {1012 if how == signal.SIGTERM else 1006: CLIENTS}
            assert len(opens) == CLIENTS
            if how == signal.SIGTERM:
                tries = [at for page in of_pages for at in page.tries[:CLIENTS_PER_PAGE]]
                assert median(tries) - min(closes)[0] >= PAUSE_MS_MIN
                assert busiest(tries) <= SHARE_MAX * CLIENTS
                assert busiest(opens) <= SHARE_MAX * CLIENTS
        assert await audience.has_never_fallen_back()


async def opened(open_page: OpenPage, site: Site, server: ServerProcess, api: httpx.Client) -> Audience:
    """The pages, each client with a wallet of its own."""
    tokens = list((await asyncio.to_thread(funded, api)).items())

    pages = {}
    for at in range(0, CLIENTS, CLIENTS_PER_PAGE):
        share = tokens[at : at + CLIENTS_PER_PAGE]
        address = listening_page(site, server, tokens=[token for _, token in share])
        pages[await open_page(address, expected=NETWORK_ERRORS)] = [name for name, _ in share]
    return Audience(pages)


def funded(api: httpx.Client) -> dict[str, str]:
    """A token of each customer."""
    tokens = {}
    for number in range(CLIENTS):
        grant(api, f"user_{number:03}", FUNDS)
        answer = api.post(f"/v1/wallets/user_{number:03}/tokens", json={"expires_in": 3_600}).raise_for_status()
        tokens[f"user_{number:03}"] = answer.json()["token"]
    return tokens


def restart(server: ServerProcess, api: httpx.Client, how: int) -> None:
    """Every wallet changes right before the server stops, and again as soon as it is there."""
    spend(api)
    server.stop(how)
    server.start()
    spend(api)


def spend(api: httpx.Client) -> None:
    events = [{"customer_id": f"user_{number:03}", "event": "x.y", "credits": 1} for number in range(CLIENTS)]
    answer = api.post("/v1/events/batch", json={"events": events}).raise_for_status()
    assert answer.json()["accepted"] == CLIENTS


def true_states(api: httpx.Client) -> Truth:
    """Of all wallets that there are."""
    states: dict[str, tuple[int, int]] = {}
    query: dict[str, str] = {"limit": "100"}
    while len(states) < CLIENTS:
        answer = api.get("/v1/wallets", params=query).raise_for_status().json()
        states |= {wallet["customer_id"]: (wallet["version"], wallet["balance"]) for wallet in answer["wallets"]}
        query["cursor"] = answer["next_cursor"]
    return states


def busiest(times: Iterable[float]) -> int:
    """How many fall into the window that has most of them."""
    ordered = sorted(times)
    return max(bisect_right(ordered, at + WINDOW_MS) - number for number, at in enumerate(ordered))
