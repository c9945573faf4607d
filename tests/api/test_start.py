"""Starting: a wrong setting, file or port is one sentence that names it, and never a traceback."""

import json
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest
from serving import ServerProcess, StartServer, charge

pytestmark = pytest.mark.sqlite


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a command that refused to begin."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("chargly: ")
    assert lines[0].endswith(".")
    return lines[0]


def serve(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return ServerProcess(folder, **env).run("serve")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "x"),
        ("PORT", "99999"),
        ("PORT", "-1"),
        ("PORT", "8000.0"),
        ("DATABASE_URL", "mysql://localhost/db"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "chargly.db"),
        ("DATABASE_URL", "sqlite:////no/such/folder/ledger.db"),
        ("DATABASE_URL", "sqlite:////tmp"),
        ("DATABASE_URL", "postgresql://user:password@localhost/name"),
        ("CHARGLY_API_KEY", "short"),
        ("CHARGLY_API_KEY", "pk_0123456789abcdef0123456789"),
        ("CHARGLY_API_KEY", "sk_" + "0123456789" * 20),
        ("CHARGLY_TOKEN_SECRET", "too short"),
        ("CHARGLY_ALLOWED_ORIGINS", "app.example.com"),
        ("CHARGLY_ALLOWED_ORIGINS", "https://a.example.com, https://b.example.com/path"),
        ("CHARGLY_ALLOWED_ORIGINS", "*"),
        ("CHARGLY_ALLOWED_ORIGINS", "https://["),
        ("CHARGLY_TOP_UP_URL", "javascript:alert(1)"),
        ("CHARGLY_TOP_UP_URL", "http://["),
        ("CHARGLY_PUBLIC_URL", "credits.example.com"),
        ("CHARGLY_WELCOME_CREDITS", "-5"),
        ("CHARGLY_USD_RATES", "eur"),
        ("CHARGLY_USD_RATES", "eur=0"),
        ("CHARGLY_USD_RATES", "eur=1.08;gbp=1.27"),
        ("CHARGLY_USD_RATES", "usd=1"),
        ("CHARGLY_USD_RATES", "eur=1,eur=2"),
        ("CHARGLY_USD_RATES", "eur=１"),
        ("CHARGLY_WELCOME_CREDITS", "ten"),
        ("CHARGLY_WELCOME_CREDITS", "9999999999999"),
        ("CHARGLY_SOCKETS_PER_ADDRESS", "-1"),
        ("CHARGLY_SOCKETS_PER_ADDRESS", "many"),
        ("STRIPE_WEBHOOK_SECRET", "secret"),
        ("STRIPE_API_BASE", "ftp://stripe"),
        ("STRIPE_SECRET_KEY", "sk_test_alone"),
        ("STRIPE_SECRET_KEY", "pk_live_for_browsers"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_a,secret_b"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_a,whsec_b,whsec_c"),
        ("CHARGLY_PROMOTION_CODES", "yes"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_alone"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(tmp_path: Path, name: str, value: str) -> None:
    sentence = refusal(serve(tmp_path, **{name: value}))
    assert name in sentence
    assert [one.name for one in tmp_path.iterdir()] == []


@pytest.mark.parametrize("host", ["999.1.1.1", "192.0.2.1"])  # no address, and none of this machine's
def test_an_address_that_cannot_be_listened_on_is_named(tmp_path: Path, host: str) -> None:
    sentence = refusal(serve(tmp_path, HOST=host))
    assert f"HOST must be an address or name of this machine, and it is '{host}'" in sentence
    assert "PORT" not in sentence


def test_a_secret_is_never_said(tmp_path: Path) -> None:
    for name in ("CHARGLY_API_KEY", "CHARGLY_TOKEN_SECRET", "STRIPE_WEBHOOK_SECRET"):
        assert "hush-hush" not in refusal(serve(tmp_path, **{name: "hush-hush"}))


def test_a_live_key_goes_to_stripe_alone(tmp_path: Path) -> None:
    settings = {"STRIPE_WEBHOOK_SECRET": "whsec_x", "STRIPE_API_BASE": "http://127.0.0.1:9"}
    for key in ("sk_live_0123456789", "rk_live_0123456789"):
        sentence = refusal(serve(tmp_path, STRIPE_SECRET_KEY=key, **settings))
        assert "STRIPE_API_BASE" in sentence
        assert key not in sentence


def test_a_key_without_its_webhook_secret_is_refused(tmp_path: Path) -> None:
    assert "STRIPE_WEBHOOK_SECRET" in refusal(serve(tmp_path, STRIPE_SECRET_KEY="sk_test_1"))


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE theirs (a)")
    database.close()
    before = path.read_bytes()
    for command in ("serve", "migrate"):
        sentence = refusal(ServerProcess(tmp_path).run(command))
        assert "another program" in sentence
        assert "DATABASE_URL" in sentence
    after = sqlite3.connect(path)
    assert after.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    after.close()
    assert path.stat().st_size == len(before)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("a poem, not a ledger\n" * 100)
    assert "not a SQLite database" in refusal(serve(tmp_path))
    assert path.read_text().startswith("a poem")


def test_a_port_in_use_is_a_sentence(new_server: StartServer, tmp_path: Path) -> None:
    taken = str(new_server().port)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    sentence = refusal(serve(elsewhere, PORT=taken))
    assert taken in sentence
    assert "PORT" in sentence
    assert list(elsewhere.iterdir()) == []


def test_a_folder_that_is_not_there_is_named_as_such(tmp_path: Path) -> None:
    sentence = refusal(serve(tmp_path, DATABASE_URL="sqlite:///nodir/ledger.db"))
    assert sentence == "chargly: DATABASE_URL names nodir/ledger.db, and its folder does not exist."


def test_a_second_server_on_the_same_file_refuses_to_start(new_server: StartServer, tmp_path: Path) -> None:
    first = new_server()
    sentence = refusal(serve(tmp_path))
    assert "already runs" in sentence
    assert "DATABASE_URL" in sentence
    with first.client() as api:
        assert charge(api, "u", "x.y", credits=1).status_code == 402


def test_a_killed_server_leaves_no_lock(new_server: StartServer) -> None:
    server = new_server()
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    server.start()


def test_migrate_may_be_run_twice_and_beside_a_server(new_server: StartServer, tmp_path: Path) -> None:
    (fresh := tmp_path / "fresh").mkdir()
    runs = [ServerProcess(fresh).run("migrate", "--json") for _ in range(2)]
    first, second = (json.loads(done.stdout) for done in runs)
    assert first == second
    assert first["revision"]
    assert new_server().run("migrate").returncode == 0


def test_a_database_of_a_newer_version_is_refused_in_a_sentence(tmp_path: Path) -> None:
    ServerProcess(tmp_path).run("migrate")
    database = sqlite3.connect(tmp_path / "ledger.db")
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()
    database.close()
    refusal(serve(tmp_path))


def test_a_dotenv_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CHARGLY_WELCOME_CREDITS=7\nPORT=1\n")
    server = ServerProcess(tmp_path).start()
    try:
        with server.client() as api:
            assert charge(api, "u", "x.y", credits=2).json()["balance"] == 5
    finally:
        server.stop()


def test_a_wrong_value_in_the_dotenv_file_is_named_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CHARGLY_WELCOME_CREDITS=many\n")
    assert "CHARGLY_WELCOME_CREDITS" in refusal(serve(tmp_path))


def test_a_dotenv_file_that_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00PORT=1")
    assert ".env" in refusal(serve(tmp_path))


def test_the_first_line_says_where_the_server_listens_and_the_next_how_to_make_a_key(new_server: StartServer) -> None:
    server = new_server(DATABASE_URL="sqlite:///ledger.db", CHARGLY_API_KEY="")
    first = f"listens on {server.address} and keeps its ledger in {server.folder}/ledger.db."
    hint = "There are no keys yet: chargly keys create --name ops --scope admin"
    said = server.log.read_text().splitlines()
    assert (said[0].endswith(first), said[1:]) == (True, [hint])
    server.stop()
    assert server.run("keys", "create", "--name", "ops", "--scope", "admin").returncode == 0
    server.start()
    assert server.log.read_text().splitlines()[2:] == [said[0]]


def test_commands_have_help_and_the_version_is_told(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    assert re.fullmatch(r"chargly \d+\.\d+\S*\n", server.run("--version").stdout)
    assert server.run("version").stdout == server.run("--version").stdout
    assert json.loads(server.run("version", "--json").stdout)["version"]
    for words in ([], ["serve"], ["keys", "create"]):
        assert server.run(*words, "--help").returncode == 0
