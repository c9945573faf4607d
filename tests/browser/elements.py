"""The elements as a page's source writes them, and what a page with them does and says."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import httpx
from serving import ServerProcess, charge, grant

if TYPE_CHECKING:
    from playwright.async_api import ConsoleMessage, Locator, Page, Request, WebSocket, WebSocketRoute

BALANCE, PRICE, ACTIVITY, TOP_UP = ALL = ("chargly-balance", "chargly-price", "chargly-activity", "chargly-top-up")
CORS = {"Access-Control-Allow-Origin": "*"}
"""What an answer needs that a test gives in the server's place."""
WAIT_SECONDS_MAX = 10.0
_HAS_HEARD = """(node, balance) => new Promise((done) => {
  const look = () => node.state?.balance === balance && done();
  node.addEventListener("chargly-change", look);
  look();
})"""


def tag(name: str, **attributes: str | int) -> str:
    """`tag(PRICE, token_url="/t", for_="ask")` as HTML."""
    written = (f'{key.rstrip("_").replace("_", "-")}="{value}"' for key, value in attributes.items())
    return f"<{name} {' '.join(written)}></{name}>"


def everything(**attributes: str) -> str:
    """All four elements, the price of a chat reply among them."""
    return "".join(tag(name, **({"event": "chat.reply"} if name == PRICE else {}), **attributes) for name in ALL)


def new_customer(api: httpx.Client, credits: int) -> str:
    made = f"user_{secrets.token_hex(6)}"
    grant(api, made, credits)
    return made


def spend(api: httpx.Client, customer: str, credits: int, event: str = "chat.reply") -> None:
    answer = charge(api, customer, event, credits=credits)
    assert answer.status_code == 201, answer.text


def set_price(api: httpx.Client, event: str, credits: int, **fields: Any) -> None:
    api.put(f"/v1/prices/{event}", json={"credits": credits, **fields}).raise_for_status()


def change_wallet(api: httpx.Client, customer: str, **settings: Any) -> None:
    api.patch(f"/v1/wallets/{customer}", json=settings).raise_for_status()


async def until(page: Page, expression: str) -> None:
    """Waits until an expression is true in a page. What Playwright itself waits with, a page's CSP may bar."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not await page.evaluate(expression):
            await asyncio.sleep(0.02)


async def set_attribute(element: Locator, name: str, value: str | None) -> None:
    change = "(node, [name, value]) => value === null ? node.removeAttribute(name) : node.setAttribute(name, value)"
    await element.evaluate(change, [name, value])


async def in_state(element: Locator, name: str, *, on: bool = True) -> None:
    """Waits until an element is in the state that `:state(name)` selects, or out of it."""
    from playwright.async_api import expect

    selected = element.and_(element.page.locator(f":state({name})"))
    await expect(selected).to_have_count(1 if on else 0)


async def has_heard(element: Locator, balance: int) -> None:
    """Waits until an element has been told of a balance, whatever it shows."""
    await element.evaluate(_HAS_HEARD, balance)


class Traffic:
    """The requests that a page makes, and the websockets it has open."""

    def __init__(self, page: Page) -> None:
        self.requests: list[Request] = []
        self.sockets: list[WebSocket] = []
        self.frames: list[str | bytes] = []
        """What it sent on any of them."""
        page.on("request", self._on_request)
        page.on("websocket", self._on_socket)

    def to(self, path: str) -> list[str]:
        """The requests whose path holds a word, as method and URL."""
        return [f"{request.method} {request.url}" for request in self.requests if path in request.url]

    @property
    def open_sockets(self) -> list[str]:
        return [socket.url for socket in self.sockets if not socket.is_closed()]

    def _on_request(self, request: Request) -> None:
        self.requests.append(request)

    def _on_socket(self, socket: WebSocket) -> None:
        self.sockets.append(socket)
        socket.on("framesent", self._on_frame)

    def _on_frame(self, frame: str | bytes) -> None:
        self.frames.append(frame)


class Console:
    """What a page says: its warnings, and the elements' events, which the pages of these tests write down there."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._said: list[ConsoleMessage] = []
        page.on("console", self._on_console)

    @property
    def warnings(self) -> list[str]:
        return [message.text for message in self._said if message.type == "warning"]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The details of an event, in their order."""
        found = (message.text.partition(" ") for message in self._said)
        return [json.loads(detail) for event, _, detail in found if event == name]

    async def event(self, name: str, act: Callable[[], Awaitable[object]]) -> dict[str, Any]:
        """The detail of the event that something brings about."""
        async with self._page.expect_console_message(lambda message: message.text.startswith(f"{name} ")) as waited:
            await act()
        detail: dict[str, Any] = json.loads((await waited.value).text.removeprefix(f"{name} "))
        return detail

    def _on_console(self, message: ConsoleMessage) -> None:
        self._said.append(message)


class HeldSockets:
    """Keeps what a page says on its websockets to itself, from `hold` to `release`."""

    def __init__(self) -> None:
        self._holding = True
        self._waiting: list[tuple[WebSocketRoute, str | bytes]] = []

    @classmethod
    async def on(cls, page: Page) -> HeldSockets:
        held = cls()
        await page.route_web_socket("**/v1/live", held._route)
        return held

    def hold(self) -> None:
        self._holding = True

    def release(self) -> None:
        self._holding = False
        for server, message in self._waiting:
            server.send(message)
        self._waiting.clear()

    def _route(self, socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def on_message(message: str | bytes) -> None:
            if self._holding:
                self._waiting.append((server, message))
            else:
                server.send(message)

        socket.on_message(on_message)


async def boxes(page: Page, selectors: Sequence[str]) -> dict[str, Any]:
    """Where things stand on a page, by selector."""
    return {selector: await page.locator(selector).first.bounding_box() for selector in selectors}


async def shows_rows(page: Page, entries: Sequence[dict[str, Any]]) -> None:
    """Waits until `<chargly-activity>` has a row for each entry of a ledger, in order, with the balance after it."""
    from playwright.async_api import expect

    rows = page.locator(f"{ACTIVITY} .row")
    await expect(rows.locator(".credits")).to_have_text([f"{entry['credits']:+,}" for entry in entries])
    await expect(rows.locator("span:first-child b")).to_have_text([entry["description"] for entry in entries])
    left = [f"{entry['balance']:,} left" for entry in entries]
    await expect(rows.locator("span:last-child small")).to_have_text(left)


def charges(api: httpx.Client, customer: str, events: Sequence[str]) -> None:
    """Charges for many events, a credit each, in their order."""
    batch = [{"customer_id": customer, "event": event, "credits": 1} for event in events]
    answer = api.post("/v1/events/batch", json={"events": batch})
    assert answer.status_code in (200, 201, 207), answer.text


def customer_ledger(server: ServerProcess, customer: str) -> bytes:
    """The ledger as CSV, as the customer may read it."""
    with server.client(server.token(customer), Accept="text/csv") as client:
        return client.get(f"/v1/wallets/{customer}/entries").raise_for_status().content
