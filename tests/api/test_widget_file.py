"""The widget's two addresses: one that always has the newest version, and one for each version that never changes."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import ServerProcess, error_of

from app import __version__
from app.api import pages
from app.api.pages import Files

pytestmark = pytest.mark.sqlite

PLAIN, PINNED = "/static/widget.js", f"/static/widget-{__version__}.js"
FOR_EVER = "public, max-age=31536000, immutable"
ANYWHERE = "https://anywhere.example.com"


@pytest.fixture
def page(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client(None, Origin=ANYWHERE) as client:
        yield client


def may_be_loaded_anywhere(answer: httpx.Response) -> bool:
    headers = answer.headers
    allowed = (headers["access-control-allow-origin"], headers["cross-origin-resource-policy"])
    return allowed == ("*", "cross-origin")


def test_this_version_is_the_file_and_is_kept_for_ever(page: httpx.Client) -> None:
    plain, pinned = page.get(PLAIN), page.get(PINNED)
    assert (pinned.status_code, pinned.content) == (200, plain.content)
    assert "javascript" in pinned.headers["content-type"]
    assert (plain.headers["cache-control"], pinned.headers["cache-control"]) == ("no-cache", FOR_EVER)
    assert may_be_loaded_anywhere(pinned)


def test_it_answers_head_and_says_when_it_has_not_changed(page: httpx.Client) -> None:
    head = page.head(PINNED)
    assert (head.status_code, head.content, head.headers["cache-control"]) == (200, b"", FOR_EVER)
    again = page.get(PINNED, headers={"If-None-Match": head.headers["etag"]})
    assert (again.status_code, again.content, again.headers["cache-control"]) == (304, b"", FOR_EVER)
    assert may_be_loaded_anywhere(again)


@pytest.mark.parametrize("version", ["0.0.1", "99.0.0", "1.2", "1.0.0rc2", "1.0.0.post1", "2.0.0.dev3", "10.20.30.40"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_another_version_leads_to_the_newest(page: httpx.Client, version: str, method: str) -> None:
    answer = page.request(method, f"/static/widget-{version}.js")
    assert (answer.status_code, answer.headers["location"]) == (307, PLAIN)
    assert answer.headers["cache-control"] == "no-cache"
    assert may_be_loaded_anywhere(answer)
    assert page.request(method, answer.headers["location"]).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "widget-.js",
        "widget-1.js",
        "widget-x.js",
        "widget-latest.js",
        "widget-1.0.0",
        "widget-1.0.0.css",
        "widget-1..0.js",
        "widget-1.0.0 .js",
        "widget-1.0.0%0a.js",
        "widget-1.0.0.js%0a",
        "widget-٣.0.0.js",
        f"widget-{'1' * 300}.0.0.js",
        "widget--1.0.0.js",
        "xwidget-1.0.0.js",
        "folder/widget-1.0.0.js",
        "demo-1.0.0.js",
    ],
)
def test_what_is_no_version_is_nothing(page: httpx.Client, name: str) -> None:
    error_of(page.get(f"/static/{name}"), 404, "not_found")


@pytest.mark.parametrize("version", [__version__, "0.0.1"])
def test_another_method_is_refused_on_every_version(page: httpx.Client, version: str) -> None:
    error_of(page.post(f"/static/widget-{version}.js", json={}), 405, "method_not_allowed")


async def test_types_are_text_that_a_browser_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "widget.d.ts").write_text("export {};\n")
    monkeypatch.setattr(pages, "STATIC", tmp_path)
    transport = httpx.ASGITransport(Files())
    async with httpx.AsyncClient(transport=transport, base_url="http://x", verify=False) as client:
        first = await client.get("/widget.d.ts")
        assert (first.status_code, first.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        again = await client.get("/widget.d.ts", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.headers.get("content-type")) == (304, None)
