"""Pages that listen to wallets, by an element and by the widget's `connect`, and tell what they have shown."""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import httpx
from browser.host import WIDGET, Reached, Site
from playwright.async_api import Locator, Page, expect

_NOTED = """
const now = () => performance.timeOrigin + performance.now();
const { shown, falls, epochs } = (globalThis.listening = {
  shown: {}, falls: [], epochs: new Set(), tries: [], opens: [], closes: [],
});
let wanted;

globalThis.WebSocket = class extends WebSocket {
  constructor(...words) {
    super(...words);
    listening.tries.push(now());
    this.addEventListener("open", () => {
      listening.opens.push(now());
      this.addEventListener("close", ({ code }) => listening.closes.push([now(), code]));
    });
  }
};

function look() {
  if (!wanted) return;
  const { truth, resolve } = wanted;
  const right = ([customer, state]) => String(state) === String([shown[customer]?.version, shown[customer]?.balance]);
  if (Object.entries(truth).every(right)) resolve();
}

listening.hear = ({ customer_id: customer, epoch, version, balance }) => {
  const last = shown[customer];
  if (last?.epoch === epoch && version < last.version) falls.push([customer, last.version, version]);
  epochs.add(epoch);
  shown[customer] = { epoch, version, balance };
  look();
};
listening.untilShown = (truth) => new Promise((resolve) => {
  wanted = { truth, resolve };
  look();
});
document.addEventListener("chargly-change", ({ detail }) => listening.hear(detail));
"""
"""What a page notes, from before it loads the widget. Nothing here waits by a clock, which a test may set."""

_CONNECT = """
import { connect } from "%(widget)s";
for (const token of %(tokens)s) {
  connect({ server: "%(server)s", token, onChange: listening.hear });
}
"""

NETWORK_ERRORS = r"^WebSocket connection to 'ws://127\.0\.0\.1:\d+/v1/live' failed|^Failed to load resource: net::ERR_"

Truth = Mapping[str, tuple[int, int]]
"""The version and balance of each customer's wallet."""


class Noted(NamedTuple):
    """What a page has noted since it was last asked, with times in ms; closes are those of sockets that were open."""

    tries: list[float]
    opens: list[float]
    closes: list[tuple[float, int]]


def listening_page(site: Site, server: Reached, *, element: str = "", tokens: Sequence[str] = ()) -> str:
    """The address of a page with an element of those attributes, and a `connect` for each token."""
    widget = site.script(WIDGET.read_text(encoding="utf-8"))
    words = {"widget": widget, "tokens": json.dumps(list(tokens)), "server": server.address}
    balance = f'<chargly-balance server="{server.address}" {element}></chargly-balance>' if element else ""
    return site.document(
        server,
        f'<!doctype html><html lang="en"><head><title>Listening</title><script>{_NOTED}</script></head>'
        f'<body>{balance}<script type="module">{_CONNECT % words}</script></body></html>',
    )


def true_states(api: httpx.Client, customers: Iterable[str]) -> Truth:
    """What the server says of each."""
    answers = [api.get(f"/v1/wallets/{customer}").raise_for_status().json() for customer in customers]
    return {answer["customer_id"]: (answer["version"], answer["balance"]) for answer in answers}


async def until_shown(truths: Mapping[Page, Truth], seconds_max: float) -> float:
    """Waits until each page shows what is true of its wallets. Says how many seconds that took."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds_max):
            asked = ((page, dict(truth)) for page, truth in truths.items())
            await asyncio.gather(
                *(page.evaluate("(truth) => listening.untilShown(truth)", truth) for page, truth in asked)
            )
    except TimeoutError:
        wrong = {}
        for page, truth in truths.items():
            shown = await page.evaluate("listening.shown")
            for customer, state in truth.items():
                seen = shown.get(customer, {})
                if (seen.get("version"), seen.get("balance")) != state:
                    wrong[customer] = (seen, state)
        raise AssertionError(f"{len(wrong)} wallets are not shown as they are: {list(wrong.items())[:5]}") from None
    return time.monotonic() - began


async def noted(page: Page) -> Noted:
    """What the page has noted since it was last asked."""
    taken = "['tries', 'opens', 'closes'].map((name) => listening[name].splice(0))"
    return Noted(*await page.evaluate(taken))


async def falls(page: Page) -> list[list[object]]:
    """Each customer whose version fell within an epoch, with both versions."""
    return await page.evaluate("listening.falls")


def shown_balance(page: Page) -> Locator:
    return page.locator("chargly-balance .balance")


async def expect_balance(page: Page, balance: int) -> None:
    """The element shows it and has nothing else to say."""
    await expect(shown_balance(page)).to_have_text(f"{balance:,}")
    await expect(page.locator("chargly-balance .status")).to_have_text("")
