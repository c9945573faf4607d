"""The documents name what the code has: every setting, limit, route and error code, and only files that exist."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from app import config, errors
from app.api.routes import ROUTES

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md")))
_VARIABLE = re.compile(r'"((?:CHARGLY_|STRIPE_)[A-Z_]+|HOST|PORT|DATABASE_URL)"')
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"```.*?```", re.DOTALL)


def settings() -> list[str]:
    return sorted(set(_VARIABLE.findall(inspect.getsource(config))))


def limits() -> list[str]:
    return list(config.Limits.__struct_fields__)


def codes() -> list[str]:
    def below(parent: type[errors.ChargeError]) -> Iterator[type[errors.ChargeError]]:
        yield parent
        for child in parent.__subclasses__():
            yield from below(child)

    return sorted({error.code for error in below(errors.ChargeError)})


def links() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        targets = _LINK.findall(_FENCE.sub("", page.read_text()))
        found += [(page.relative_to(ROOT).as_posix(), target) for target in targets if "://" not in target]
    return found


def headings(page: Path) -> set[str]:
    """The anchors that a Markdown page's headings make."""
    words = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in words}


def test_the_tests_of_this_file_see_what_there_is() -> None:
    assert len(settings()) >= 12
    assert set(config.load({}, None).__struct_fields__) >= {"host", "database_url"}
    assert len(links()) > 10


@pytest.mark.parametrize("name", settings())
def test_a_setting_has_its_row(name: str) -> None:
    assert f"| `{name}` |" in (DOCS / "settings.md").read_text()


@pytest.mark.parametrize("name", limits())
def test_a_limit_has_its_row_with_its_value(name: str) -> None:
    row = re.search(rf"^\| `{name}` \| ([\d. ]+)", (DOCS / "settings.md").read_text(), re.MULTILINE)
    assert row is not None
    assert float(row[1].replace(" ", "")) == msgspec.structs.asdict(config.Limits())[name]


@pytest.mark.parametrize(("method", "path"), sorted((route.method, route.path) for route in ROUTES))
def test_a_route_has_its_heading(method: str, path: str) -> None:
    assert f"### `{method} {path}`\n" in (DOCS / "api.md").read_text()


def test_the_page_has_no_route_that_the_server_lacks() -> None:
    written = re.findall(r"^### `(\w+) (\S+)`$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert sorted(written) == sorted((route.method, route.path) for route in ROUTES)


@pytest.mark.parametrize("code", codes())
def test_an_error_code_has_its_row(code: str) -> None:
    assert f"| `{code}` |" in (DOCS / "api.md").read_text()


@pytest.mark.parametrize(("page", "target"), links())
def test_a_relative_link_leads_somewhere(page: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    assert file.exists()
    if anchor:
        assert anchor in headings(file)


def test_the_guide_to_embedding_shows_the_files_as_they_are() -> None:
    shown = re.findall(r"^```\w+\n(.*?)^```$", (DOCS / "embed.md").read_text(), re.MULTILINE | re.DOTALL)
    files = [file.read_text() for file in (DOCS / "embed").iterdir() if file.is_file()]
    assert sorted(shown) == sorted(files)
