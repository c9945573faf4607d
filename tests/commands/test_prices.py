"""`chargly prices`: listed, set, written out as TOML and imported from it."""

import json
import os
import pty
import subprocess
import tomllib
from typing import Any

import pytest
from serving import ServerProcess, StartServer, charge, chargly

FILE = """\
[prices."chat.reply"]
credits = 10
label = "Chat reply"

[prices."doc.scan"]
credits = 5
tiers = [
  { up_to = 10, credits = 5 },
  { credits = 2 },
]
minimum = 8

[costs."chat.reply"]
cost_usd = "0.0042"
per_model = { "gpt-5" = "0.02" }
"""


def write(command: ServerProcess, content: str | bytes = FILE) -> str:
    path = command.folder / "prices.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def imported(command: ServerProcess, content: str = FILE, *options: str) -> dict[str, Any]:
    done = command.run("prices", "import", write(command, content), "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def changed(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["kind"], one["event"]) for one in report["changes"]]


def listed(command: ServerProcess, name: str = "prices") -> dict[str, Any]:
    """The prices, or costs, of the ledger by event."""
    done = command.run("prices", "list", "--json")
    return {one["event"]: one for one in json.loads(done.stdout)[name]}


def refusal(command: ServerProcess, content: str | bytes) -> str:
    done = command.run("prices", "import", write(command, content))
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.removeprefix(f"chargly: {command.folder / 'prices.toml'}").strip()


@pytest.fixture(autouse=True)
def ledger(command: ServerProcess) -> None:
    assert command.run("migrate").returncode == 0


def test_a_file_is_imported_once_and_what_it_does_not_name_stays(command: ServerProcess) -> None:
    before = listed(command)
    report = imported(command)
    assert changed(report) == [("price", "chat.reply"), ("price", "doc.scan"), ("cost", "chat.reply")]
    assert report["changes"][0]["now"] == "8 credits (Chat reply)"
    assert report["changes"][0]["then"] == "10 credits (Chat reply)"
    after = listed(command)
    assert (after["chat.reply"]["credits"], after["chat.reply"]["version"]) == (10, 2)
    scan = after["doc.scan"]
    assert (scan["tiers"], scan["minimum"]) == ([{"up_to": 10, "credits": 5}, {"up_to": None, "credits": 2}], 8)
    assert after["agent.run"] == before["agent.run"]
    assert listed(command, "costs")["chat.reply"]["per_model"] == {"gpt-5": "0.02"}
    assert imported(command) | {"ledger": ""} == {"changes": [], "unchanged": 3, "dry_run": False, "ledger": ""}


def test_a_dry_run_shows_what_would_change_and_changes_nothing(command: ServerProcess) -> None:
    before = listed(command)
    assert len(imported(command, FILE, "--dry-run")["changes"]) == 3
    assert listed(command) == before
    shown = command.run("prices", "import", write(command), "--dry-run").stdout.splitlines()
    assert shown[0] == "price of chat.reply: 8 credits (Chat reply)  →  10 credits (Chat reply)"
    assert shown[1] == (
        "price of doc.scan: new: 5 credits (doc.scan); for each unit 5 up to 10, 2 after that; 8 at least"
    )
    assert shown[2] == "cost of chat.reply: new: $0.0042; gpt-5 $0.02"
    assert shown[3].startswith("3 would change, 0 unchanged, in ")


def test_what_is_written_out_changes_nothing_where_it_is_imported(command: ServerProcess) -> None:
    imported(command, FILE + '[prices."*"]\ncredits = 3\nlabel = "quote \\" and é"\nper_model = { "a.b c" = 0 }\n')
    written = command.run("prices", "export").stdout
    assert set(tomllib.loads(written)["prices"]) == {*listed(command)}
    assert changed(imported(command, written)) == []
    out = command.folder / "out.toml"
    assert command.run("prices", "export", "--out", str(out)).returncode == 0
    assert out.read_text() == written
    again = command.run("prices", "export", "--out", str(out))
    assert (again.returncode, "is there already" in again.stderr) == (1, True)


def test_a_price_for_later_is_imported_once_and_stays_right_when_its_time_has_passed(command: ServerProcess) -> None:
    later = '[prices."doc.scan"]\ncredits = 5\neffective_at = 2999-01-01T00:00:00Z\n'
    assert changed(imported(command, later)) == [("price", "doc.scan")]
    assert changed(imported(command, later)) == []
    assert "# to come: doc.scan: 5 credits" in command.run("prices", "export").stdout
    passed = '[prices."chat.reply"]\ncredits = 8\nlabel = "Chat reply"\neffective_at = 2020-01-01T00:00:00Z\n'
    assert changed(imported(command, passed)) == []
    assert (
        "effective_at: it lies in the past"
        in command.run("prices", "import", write(command, passed.replace("8", "9"))).stderr
    )


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("credits = 10", "credit = 10", "line 2: prices.chat.reply: credit: there is no such field"),
        ("credits = 10", 'credits = "x"', "line 2: prices.chat.reply: credits: it must be a whole number, not text."),
        ("credits = 10", "credits = -1", "line 2: prices.chat.reply: credits: it must be a whole number >= 0."),
        ("credits = 10", "", "line 1: prices.chat.reply: credits: it is missing."),
        ("up_to = 10", "up_to = 0", "line 10: prices.doc.scan: tiers[0].up_to: it must be a whole number >= 1."),
        ("{ credits = 2 }", "{ credits = 2, x = 1 }", "line 10: prices.doc.scan: tiers[1].x: there is no such field."),
        ("{ credits = 2 }", "{ up_to = 9, credits = 2 }", "line 10: prices.doc.scan: tiers[1].up_to: "),
        ("minimum = 8", "minimum = 8.5", "line 11: prices.doc.scan: minimum: it must be a whole number, not a number."),
        ("minimum = 8", "effective_at = 2999-01-01", "line 11: prices.doc.scan: effective_at: "),
        ("minimum = 8", "effective_at = 2999-01-01T00:00:00", "line 11: prices.doc.scan: effective_at: a time with"),
        ("[costs", "[cost", "line 13: cost: there is no such table; a file has prices and costs."),
        ('"0.0042"', '"-1"', "line 14: costs.chat.reply: cost_usd: dollars as text"),
        ('"0.0042"', "0.0042", "line 14: costs.chat.reply: cost_usd: it must be text"),
        ('"0.02"', '"2 EUR"', "line 15: costs.chat.reply: per_model.gpt-5: dollars as text"),
        ('"doc.scan"', '"Doc"', "line 5: prices.Doc: event: an event is named like"),
        ('[prices."chat.reply"]', "", "line 1: prices: it must be a table."),
        ("label = ", "label ", "line 3: Expected '=' after a key in a key/value pair."),
        ("label = ", "credits = 3 #", "line 3: Cannot overwrite a value"),
        ('"0.02" }', '"0.02"', "line 15: Unclosed inline table"),
    ],
)
def test_what_a_file_says_wrong_is_told_with_its_line_and_nothing_is_imported(
    command: ServerProcess, old: str, new: str, why: str
) -> None:
    content = "prices = 4\n" if old == '[prices."chat.reply"]' else FILE.replace(old, new, 1)
    assert refusal(command, content).startswith(f", {why}")
    assert listed(command)["chat.reply"]["version"] == 1


def test_files_that_cannot_be_read(command: ServerProcess) -> None:
    assert refusal(command, b"\xff") == "is not in UTF-8."
    assert refusal(command, "#" * (1 << 20) + "#") == "is larger than 1,048,576 bytes."
    assert refusal(command, "x = " + "[" * 20_000) == "is nested too deeply."
    assert refusal(command, FILE.replace("10", "9" * 5_000, 1)) == "has a number of too many digits."
    missing = command.run("prices", "import", str(command.folder / "none.toml"))
    assert (missing.returncode, "cannot be read: No such file" in missing.stderr) == (1, True)


def test_on_a_terminal_it_asks_first(command: ServerProcess) -> None:
    def answered(answer: bytes) -> str:
        master, slave = pty.openpty()
        with subprocess.Popen(
            [chargly(), "prices", "import", write(command)],
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=command.env,
            cwd=command.folder,
        ) as asking:
            os.close(slave)
            os.write(master, answer)
            out, _ = asking.communicate(timeout=60)
        os.close(master)
        return out.decode()

    assert "Nothing was changed." in answered(b"n\n")
    assert listed(command)["chat.reply"]["version"] == 1
    assert "3 changed" in answered(b"y\n")
    assert listed(command)["chat.reply"]["version"] == 2


def test_a_price_is_set_and_what_is_not_named_stays(command: ServerProcess) -> None:
    def put(*options: str) -> dict[str, Any]:
        done = command.run("prices", "set", *options, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    put("chat.reply", "9", "--model", "gpt-5=20", "--minimum", "2")
    made = put("chat.reply", "11", "--model", "o3=30")
    assert (made["version"], made["label"], made["minimum"]) == (3, "Chat reply", 2)
    assert made["per_model"] == {"gpt-5": 20, "o3": 30}
    assert put("video.render", "7", "--label", "Video", "--at", "2999-01-01T00:00:00Z")["status"] == "scheduled"
    assert "video.render: 7 credits (Video); from 2999" in command.run("prices", "list").stdout
    too_many = str(10**12 + 1)
    for options in (
        ("Chat", "1"),
        ("chat.reply", "-1"),
        ("chat.reply", too_many),
        ("chat.reply", str(2**63)),
        ("chat.reply", "1", "--minimum", too_many),
        ("chat.reply", "1", "--model", f"o3={too_many}"),
        ("chat.reply", "1", "--model", "gpt-5"),
    ):
        done = command.run("prices", "set", *options)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
    assert command.run("prices", "set", "chat.reply", "1", "--at", "2020-01-01T00:00:00Z").returncode == 1
    assert listed(command)["chat.reply"]["version"] == 3


def test_a_running_server_charges_what_a_command_set(new_server: StartServer) -> None:
    server = new_server()
    with server.client() as api:
        api.post("/v1/wallets/u/grants", json={"credits": 100, "category": "paid"})
        assert charge(api, "u").json()["credits"] == 8
        assert server.run("prices", "import", write(server)).returncode == 0
        assert charge(api, "u").json()["credits"] == 10
        assert api.get("/v1/wallets/u/entries", params={"limit": 1}).json()["entries"][0]["cost_usd"] == "0.0042"
