"""`chargly widget`: the script tag that pins this version."""

import base64
import hashlib
import json
import re

import pytest
from serving import ServerProcess, StartServer

from app import __version__

pytestmark = pytest.mark.sqlite

FILE = f"/static/widget-{__version__}.js"
TAG = re.compile(r'<script type="module" src="(\S+)" integrity="(sha384-\S{64})" crossorigin="anonymous"></script>\n')


def told(command: ServerProcess, *words: str) -> dict[str, str]:
    done = command.run("widget", *words, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def test_the_tag_fits_what_a_server_serves(new_server: StartServer) -> None:
    server = new_server()
    done = server.run("widget", "--server", server.address)
    assert (done.returncode, done.stderr) == (0, "")
    tag = TAG.fullmatch(done.stdout)
    assert tag is not None, done.stdout
    src, integrity = tag.groups()
    assert src == server.address + FILE
    with server.client(None) as browser:
        served = browser.get(src).content
    assert integrity == "sha384-" + base64.b64encode(hashlib.sha384(served).digest()).decode()
    assert told(server, "--server", server.address) == {"version": __version__, "src": src, "integrity": integrity}


def test_the_server_is_the_one_named_else_where_browsers_reach_it_else_where_it_listens(
    command: ServerProcess,
) -> None:
    there = "https://credits.example.com"
    assert told(command)["src"] == f"http://127.0.0.1:{command.port}{FILE}"
    command.env |= {"HOST": "::1", "PORT": "81"}
    assert told(command)["src"] == f"http://[::1]:81{FILE}"
    assert "CHARGLY_PUBLIC_URL" in command.run("widget").stderr
    command.env["CHARGLY_PUBLIC_URL"] = f"{there}/"
    assert told(command)["src"] == there + FILE
    assert command.run("widget").stderr == ""
    assert told(command, "--server", "http://other.example.com:8000/")["src"] == f"http://other.example.com:8000{FILE}"


@pytest.mark.parametrize(
    "server",
    ["", "credits.example.com", "ftp://credits.example.com", "http://[", "https://a.example.com/?x", "https://a b.com"],
)
def test_what_is_no_address_of_a_server_is_refused_in_a_sentence(command: ServerProcess, server: str) -> None:
    done = command.run("widget", "--server", server)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("chargly: --server must be")
    assert len(done.stderr.splitlines()) == 1


def test_a_tag_holds_nothing_but_its_address(command: ServerProcess) -> None:
    done = command.run("widget", "--server", 'https://a.example.com/"onload="alert(1)')
    assert '"onload' not in done.stdout


def test_it_makes_no_ledger(command: ServerProcess) -> None:
    (ledger,) = command.folder.glob("*.db")
    ledger.unlink()
    told(command)
    assert not list(command.folder.glob("*.db"))
