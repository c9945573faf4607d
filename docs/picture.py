"""Draws `docs/picture.svg`: runs real actions and a sandboxed top-up on a fresh demo server, then plots its ledger.

    python docs/picture.py

Every number in the picture is read from the server's answers; only their places on the paper are made here.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape

import httpx

TARGET: Final = Path(__file__).with_name("picture.svg")
CUSTOMER: Final = "ada"
KEY: Final = "sk_test_picture_0123456789"
CARD: Final = "4242 4242 4242 4242"
BEFORE: Final = ("doc.summarize", "chat.reply", "image.generate", "agent.run", "chat.reply", "agent.run")
REFUSED: Final = "image.generate"
AFTER: Final = ("image.generate", "agent.run", "chat.reply")
SECONDS_MAX: Final = 20.0

WIDTH, HEIGHT = 900, 456
EDGE, RADIUS = 1, 14
CALL_WIDTH = 590
TOP_HEIGHT = 162
CHART_TOP = TOP_HEIGHT + 14
PLOT_LEFT, PLOT_RIGHT, PLOT_END = 24, 860, 874
PLOT_TOP, PLOT_FLOOR = CHART_TOP + 84, HEIGHT - 24

STYLE: Final = """
    text { font-family: ui-sans-serif, -apple-system, "Segoe UI", system-ui, Inter, Roboto, "Helvetica Neue",
      Arial, sans-serif; font-size: 12px; fill: #191a17; }
    .mono { font-family: ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, "DejaVu Sans Mono", monospace;
      font-size: 13px; white-space: pre; }
    .card { fill: #ffffff; stroke: #e5e3dc; }
    .head { font-size: 12px; fill: #6b6d64; }
    .faint, .after { fill: #6b6d64; }
    .soft { fill: #4b4d46; }
    .word { fill: #0a7457; }
    .amount { font-weight: 640; font-variant-numeric: tabular-nums; }
    .after { font-size: 11px; font-variant-numeric: tabular-nums; }
    .in { fill: #0a7457; }
    .no { fill: #95590a; }
    .line { fill: none; stroke: #0a7457; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
    .wait { stroke: #95590a; stroke-dasharray: 1 5; }
    .fill { fill: url(#fade); }
    .fade { stop-color: #0a7457; }
    .floor { stroke: #e5e3dc; }
    .dot { fill: #0a7457; stroke: #ffffff; stroke-width: 2.5; }
    .halo { fill: #0a7457; opacity: 0.16; }
    .big { font-size: 54px; font-weight: 640; letter-spacing: -0.03em; font-variant-numeric: tabular-nums; }
    .button { fill: #0a7457; }
    .on { fill: #ffffff; font-size: 13px; font-weight: 560; }
    .tag { fill: #e6f2ec; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0efe9; }
      .card { fill: #1a1b18; stroke: #33342e; }
      .head, .faint, .after { fill: #a0a296; }
      .soft { fill: #c3c4ba; }
      .word, .in { fill: #45c799; }
      .no { fill: #e8b04b; }
      .line { stroke: #45c799; }
      .wait { stroke: #e8b04b; }
      .fade { stop-color: #45c799; }
      .floor { stroke: #33342e; }
      .dot { fill: #45c799; stroke: #1a1b18; }
      .halo, .button { fill: #45c799; }
      .on { fill: #06241a; }
      .tag { fill: #16291f; }
    }
"""


class Step(NamedTuple):
    """One step of the line: what it is called, its credits (None: refused), the balance after it, and that in words."""

    label: str
    credits: int | None
    balance: int
    after: str


class Story(NamedTuple):
    """What the server answered: the ledger, the action it refused, the last call's answer, and the wallet."""

    entries: list[dict[str, Any]]
    refusal: dict[str, Any]
    last: dict[str, Any]
    wallet: dict[str, Any]


@contextmanager
def demo_server() -> Iterator[str]:
    """A `chargly demo` in a folder of its own, on a port that the system picks; gives its address."""
    foreign = ("CHARGLY_", "STRIPE_", "DATABASE_", "HOST", "PORT")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    env |= {"PORT": "0", "CHARGLY_API_KEY": KEY}
    command = [str(Path(sys.executable).with_name("chargly")), "demo"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
        try:
            yield _address(process)
        finally:
            process.terminate()
            process.wait(SECONDS_MAX)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if "http://" in line:
            address = line.split()[-1].removesuffix("/demo")
            _wait_until_ready(address)
            return address
    raise RuntimeError("chargly demo did not say where it listens")


def _wait_until_ready(address: str) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError("chargly demo was not ready in time")


def run(address: str) -> Story:
    """The story over HTTP: credits, actions, one that is refused, a top-up, more actions."""
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {KEY}"}, timeout=SECONDS_MAX) as api:
        grant = {"credits": 150, "category": "promotional"}
        _good(api.post(f"/v1/wallets/{CUSTOMER}/grants", json=grant))
        _good(api.put("/v1/packs/refill", json={"name": "Refill", "credits": 150, "amount": 300}))
        for event in BEFORE:
            _good(_meter(api, event))
        refused = _meter(api, REFUSED)
        assert refused.status_code == 402, refused.text
        top_up(api)
        last = [_good(_meter(api, event)) for event in AFTER][-1]
        entries = _good(api.get(f"/v1/wallets/{CUSTOMER}/entries"))["entries"][::-1]
        label = _good(api.get(f"/v1/prices/{REFUSED}"))["label"]
        refusal = refused.json()["error"] | {"label": label, "version": 1 + len(BEFORE)}
        return Story(entries, refusal, last, _good(api.get(f"/v1/wallets/{CUSTOMER}")))


def _meter(api: httpx.Client, event: str) -> httpx.Response:
    return api.post("/v1/events", json={"customer_id": CUSTOMER, "event": event})


def top_up(api: httpx.Client) -> None:
    """Buys a pack as a browser would: a checkout, the sandbox's card, and a wait until the webhook has landed it."""
    checkout = _good(api.post("/v1/checkouts", json={"customer_id": CUSTOMER, "pack": "refill"}))
    session = checkout["url"].rpartition("/")[2]
    _good(api.post(f"/sandbox/sessions/{session}/pay", json={"card": CARD}))
    deadline = time.monotonic() + SECONDS_MAX
    while _good(api.get(f"/v1/checkouts/{checkout['id']}"))["status"] != "paid":
        assert time.monotonic() < deadline, "the top-up did not land"
        time.sleep(0.05)


def _good(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


def steps(story: Story) -> list[Step]:
    """The line's steps: each entry of the ledger, and the refusal where it came."""
    found: list[Step] = []
    for entry in story.entries:
        found.append(Step(entry["description"], entry["credits"], entry["balance"], str(entry["balance"])))
        if entry["version"] == story.refusal["version"]:
            refusal = story.refusal
            after = f"{refusal['available']} of {refusal['required']}"
            found.append(Step(refusal["label"], None, refusal["balance"], after))
    return found


def draw(story: Story) -> str:
    """The whole picture."""
    line = steps(story)
    words = (
        f"A metering call and its answer; below, the balance of one wallet over {len(story.entries)} ledger entries, "
        f"from {line[0].balance} credits down, up again with a top-up, to {line[-1].balance}."
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t d">',
            '  <title id="t">One call meters an action, and the balance moves</title>',
            f'  <desc id="d">{escape(words)}</desc>',
            f"  <style>{STYLE}  </style>",
            '  <defs><linearGradient id="fade" x1="0" y1="0" x2="0" y2="1">',
            '    <stop class="fade" offset="0" stop-opacity="0.2"/><stop class="fade" offset="1" stop-opacity="0.02"/>',
            "  </linearGradient></defs>",
            *_call(story),
            *_widget(story),
            *_chart(line),
            "</svg>\n",
        ]
    )


def _card(x: float, y: float, width: float, height: float) -> str:
    size = f'width="{width - 2 * EDGE}" height="{height - 2 * EDGE}"'
    return f'  <rect class="card" x="{x + EDGE}" y="{y + EDGE}" {size} rx="{RADIUS}"/>'


def _text(x: float, y: float, words: str, classes: str = "", anchor: str = "") -> str:
    marks = (f' class="{classes}"' if classes else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'  <text x="{x:g}" y="{y:g}"{marks}>{escape(words)}</text>'


def _call(story: Story) -> Iterator[str]:
    request = json.dumps({"customer_id": CUSTOMER, "event": AFTER[-1]})
    shown = {name: story.last[name] for name in ("label", "credits", "balance", "available", "version")}
    first, second = json.dumps(shown).split(', "available"')
    yield _card(0, 0, CALL_WIDTH, TOP_HEIGHT)
    yield _text(24, 32, "Your backend, for each AI action", "head")
    yield _text(24, 62, "POST /v1/events", "mono word")
    yield _text(24, 83, request, "mono")
    yield '  <rect class="tag" x="24" y="101" width="39" height="20" rx="6"/>'
    yield _text(43.5, 115.5, "201", "mono word", "middle")
    yield _text(76, 115.5, first + ",", "mono soft")
    yield _text(76, 136.5, f' "available"{second[:-1]}, …}}', "mono soft")


def _widget(story: Story) -> Iterator[str]:
    left = CALL_WIDTH + 14
    yield _card(left, 0, WIDTH - left, TOP_HEIGHT)
    yield _text(left + 24, 32, "Your customer’s page, pushed live", "head")
    yield _text(left + 23, 104, f"{story.wallet['balance']}", "big")
    yield _text(left + 24, 130, "credits", "faint")
    yield f'  <rect class="button" x="{WIDTH - 108}" y="72" width="84" height="36" rx="9"/>'
    yield _text(WIDTH - 66, 94.5, "Top up", "on", "middle")


def _chart(line: list[Step]) -> Iterator[str]:
    top = max(step.balance for step in line)
    width = (PLOT_RIGHT - PLOT_LEFT) / len(line)

    def x(slot: float) -> float:
        return PLOT_END if slot == len(line) else round(PLOT_LEFT + slot * width, 1)

    def y(credits: float) -> float:
        return round(PLOT_FLOOR - credits / top * (PLOT_FLOOR - PLOT_TOP), 1)

    yield _card(0, CHART_TOP, WIDTH, HEIGHT - CHART_TOP)
    yield _text(24, CHART_TOP + 31, "The wallet’s ledger, one step an entry", "head")
    yield f'  <path class="floor" d="M{x(0)} {y(0)}H{x(len(line))}"/>'
    outline = f"M{x(0)} {y(0)}" + "".join(f"V{y(step.balance)}H{x(i + 1)}" for i, step in enumerate(line))
    yield f'  <path class="fill" d="{outline}V{y(0)}Z"/>'
    yield f'  <path class="line" d="{_solid(line, x, y)}"/>'
    for i, step in enumerate(line):
        if step.credits is None:
            yield f'  <path class="line wait" d="M{x(i) + 5} {y(step.balance)}H{x(i + 1) - 4}"/>'
        yield from _labels(step, x(i + 0.5), y(step.balance), last=i == len(line) - 1)
    end = (x(len(line)), y(line[-1].balance))
    yield f'  <circle class="halo" cx="{end[0]}" cy="{end[1]}" r="11"/>'
    yield f'  <circle class="dot" cx="{end[0]}" cy="{end[1]}" r="6"/>'


def _solid(line: list[Step], x: Any, y: Any) -> str:
    """The stepped line, lifted where an action was refused: nothing happened there."""
    path = f"M{x(0)} {y(0)}"
    for i, step in enumerate(line):
        path += f"M{x(i + 1)} {y(step.balance)}" if step.credits is None else f"V{y(step.balance)}H{x(i + 1)}"
    return path


def _labels(step: Step, x: float, y: float, *, last: bool) -> Iterator[str]:
    name, _, rest = step.label.partition(" ")
    lines = [f"{name} {rest}"] if len(step.label) <= 10 else [name, rest]
    if step.credits is None:
        amount, mood = "402", " no"
    else:
        amount, mood = f"{step.credits:+d}".replace("-", "−"), " in" if step.credits > 0 else ""
    for i, words in enumerate(reversed(lines)):
        yield _text(x, y - 9 - 14 * i, words, "soft", "middle")
    yield _text(x, y - 10 - 14 * len(lines), amount, f"amount{mood}", "middle")
    yield _text(x, y + 17, step.after, "amount" if last else "after", "middle")


def main() -> None:
    with demo_server() as address:
        story = run(address)
    TARGET.write_text(draw(story))
    print(f"{TARGET.name}: {len(story.entries)} entries, balance {story.wallet['balance']}")


if __name__ == "__main__":
    main()
