"""Every example of docs/ledger.md, run against a real server in the order of the page."""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ledger.md"
_FENCE = re.compile(r"^```http\n(.*?)^```", re.DOTALL | re.MULTILINE)
_WAIT = "(a moment later)"
_IN = re.compile(r"in (\d+) s\Z")
LATER_SECONDS_MAX = 8


def steps() -> Iterator[tuple[str, str, bool]]:
    """What is sent, what should come back, and whether it may take a moment."""
    for block in _FENCE.findall(PAGE.read_text()):
        later, sent = False, ""
        for line in block.splitlines():
            if line == _WAIT:
                later = True
            elif line.startswith("> "):
                sent = line[2:]
            else:
                assert line.startswith("< ")
                yield sent, line[2:], later
                later = False


class Transcript:
    """Runs a page's steps; `names` are the values that later steps refer to."""

    def __init__(self, api: httpx.Client) -> None:
        self._api = api
        self.names: dict[str, Any] = {}

    def run(self, sent: str, expected: str, *, later: bool) -> None:
        deadline = time.monotonic() + (LATER_SECONDS_MAX if later else 0)
        while True:
            answer = self._send(sent)
            status, _, body = expected.partition(" ")
            fault = self._fault(json.loads(body), answer.json(), "answer")
            if fault is None and answer.status_code == int(status):
                return
            assert time.monotonic() < deadline, f"{sent}\n{fault}\n{answer.status_code} {answer.text}"
            time.sleep(0.1)

    def _send(self, sent: str) -> httpx.Response:
        method, target, *body = self._filled(sent).split(" ", 2)
        content = json.loads(body[0], object_hook=_times) if body else None
        return self._api.request(method, target, json=content)

    def _filled(self, text: str) -> str:
        return re.sub(r"\$(\w+)", lambda match: str(self.names[match[1]]), text)

    def _fault(self, expected: Any, found: Any, where: str) -> str | None:
        """Where an answer differs; a name that is new takes its value."""
        if isinstance(expected, dict):
            faults = (
                self._fault(value, found.get(name, "nothing"), f"{where}.{name}") for name, value in expected.items()
            )
            return next((fault for fault in faults if fault), None)
        if isinstance(expected, list):
            if len(expected) != len(found):
                return f"{where} has {len(found)} elements"
            pairs = enumerate(zip(expected, found, strict=True))
            return next((fault for i, (a, b) in pairs if (fault := self._fault(a, b, f"{where}[{i}]"))), None)
        if isinstance(expected, str) and expected.startswith("$"):
            expected = self.names.setdefault(expected[1:], found)
        return None if expected == found else f"{where} is {found!r}, not {expected!r}"


def _times(fields: dict[str, Any]) -> dict[str, Any]:
    """Times such as `in 1 s` as the contract wants them."""
    for name, value in fields.items():
        if isinstance(value, str) and (match := _IN.match(value)):
            at = datetime.now(UTC) + timedelta(seconds=int(match[1]))
            fields[name] = at.isoformat(timespec="milliseconds")
    return fields


def test_every_example_answers_as_the_page_says(api: httpx.Client) -> None:
    done = 0
    transcript = Transcript(api)
    for sent, expected, later in steps():
        transcript.run(sent, expected, later=later)
        done += 1
    assert done > 40
