"""`chargly serve --workers`: several processes behind one port, which start, count, die and end together."""

import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from api.test_metrics import samples
from postgres import PostgresServer
from prometheus_client.mmap_dict import MmapedDict
from serving import ServerProcess, StartServer, balance, charge, error_of, grant, with_limits

from app.config import LIMITS
from app.metrics import SHARED_FOLDER

SECONDS_MAX = 20.0

pytestmark = pytest.mark.postgresql


@pytest.fixture
def pair(database_url: str, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of two processes."""
    with running_pair(tmp_path, database_url) as server:
        yield server


@pytest.fixture
def uncertain_pair(own_postgres: PostgresServer, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of two processes on a PostgreSQL that the test may stop."""
    with running_pair(tmp_path, own_postgres.new_database()) as server:
        yield server


@contextlib.contextmanager
def running_pair(folder: Path, database_url: str) -> Iterator[ServerProcess]:
    server = ServerProcess(folder, "serve --workers 2", DATABASE_URL=database_url).start()
    try:
        until(lambda: len(workers_of(server)) == served(server) == 2)
        yield server
    finally:
        left = workers_of(server)
        server.stop(signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def workers_of(server: ServerProcess) -> set[int]:
    """The processes that serve: children that hold its port's socket, not what multiprocessing keeps for itself."""
    assert server.process is not None
    with contextlib.suppress(FileNotFoundError):
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        return {int(pid) for pid in children if "spawn_main" in command_line(int(pid))}
    return set()


def command_line(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def served(server: ServerProcess) -> int:
    """How many processes have begun to serve so far."""
    return server.log.read_text().count(" serves\n")


def until(holds: Callable[[], bool], seconds_max: float = SECONDS_MAX) -> None:
    deadline = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < deadline, holds
        time.sleep(0.05)


def counts_of(pid: int) -> Path:
    """The file in which a process counts."""
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    [folder] = [value for name, _, value in (one.partition("=") for one in variables) if name == SHARED_FOLDER]
    return Path(folder) / f"counter_{pid}.db"


def counted(pid: int) -> float:
    """How many operations a process has counted."""
    values = MmapedDict.read_all_values_from_file(str(counts_of(pid)))
    return sum(value for key, value, *_ in values if "chargly_operations_total" in key)


def test_all_processes_meter_and_any_of_them_answers_for_all(pair: ServerProcess) -> None:
    def meter(number: int) -> int:
        with pair.client() as api:  # a connection of its own, which one of the processes takes
            return charge(api, "u", credits=1, idempotency_key=f"k{number % 50}").status_code

    with pair.client() as api, ThreadPoolExecutor(8) as threads:
        grant(api, "u", 1000)
        assert set(threads.map(meter, range(100))) == {201}
        assert balance(api, "u") == 950
        until(lambda: samples(api)["chargly_bus_connected"] == 1)
        found = [samples(api), samples(api)]
    assert all(counted(pid) > 0 for pid in workers_of(pair)), "one process answered everything"
    for one in found:
        events = {name: value for name, value in one.items() if "kind=Event" in name}
        assert sum(events.values()) == 100
        assert events["chargly_operations_total{kind=Event,result=applied}"] == 50
        assert one["chargly_batch_operations_sum"] == 101
        assert "process_resident_memory_bytes" not in one


def test_a_process_that_dies_is_replaced_and_what_it_counted_stays(pair: ServerProcess) -> None:
    before = workers_of(pair)
    with pair.client() as api:
        grant(api, "u", 10)
    victim = min(before)
    files = counts_of(victim).parent
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers_of(pair) - {victim}) == 2 and served(pair) == 3)
    assert f"worker {victim} has ended (-9)\n" in pair.log.read_text()
    assert list(files.glob(f"*_{victim}.db")) == []
    with pair.client() as api:
        assert charge(api, "u", credits=1).status_code == 201
        found = samples(api)
    assert found["chargly_operations_total{kind=AddGrant,result=applied}"] == 1
    assert found["chargly_operations_total{kind=Event,result=applied}"] == 1


def test_a_hangup_replaces_each_process_and_keeps_what_was_counted(pair: ServerProcess) -> None:
    before = workers_of(pair)
    with pair.client() as api:
        grant(api, "u", 10)
    assert pair.process is not None
    pair.process.send_signal(signal.SIGHUP)
    until(lambda: served(pair) == 4 and not workers_of(pair) & before)
    with pair.client() as api:
        assert charge(api, "u", credits=1).status_code == 201
        found = samples(api)
    assert found["chargly_operations_total{kind=AddGrant,result=applied}"] == 1
    assert found["chargly_operations_total{kind=Event,result=applied}"] == 1


def test_it_ends_with_all_its_processes_when_it_is_told_to(pair: ServerProcess) -> None:
    assert pair.process is not None
    workers = workers_of(pair)
    pair.process.send_signal(signal.SIGTERM)
    assert pair.process.wait(SECONDS_MAX) == 0
    assert [pid for pid in workers if command_line(pid)] == []
    assert "Traceback" not in pair.log.read_text()


@pytest.mark.parametrize("way", ["one is killed", "one more is wanted"])
def test_while_the_database_is_away_no_process_can_start_and_those_that_serve_go_on(
    engine: str, own_postgres: PostgresServer, uncertain_pair: ServerProcess, way: str
) -> None:
    before = workers_of(uncertain_pair)
    assert uncertain_pair.process is not None
    own_postgres.stop()
    if way == "one is killed":
        os.kill(min(before), signal.SIGKILL)
    else:
        uncertain_pair.process.send_signal(signal.SIGTTIN)
    until(lambda: "it was not seen to serve; another starts in" in uncertain_pair.log.read_text())
    assert uncertain_pair.process.poll() is None
    with uncertain_pair.client() as api:
        assert api.get("/readyz").status_code == 503
    own_postgres.start()
    until(lambda: served(uncertain_pair) == 3)
    with uncertain_pair.client() as api:
        grant(api, "u", 5)
        assert balance(api, "u") == 5


def test_a_process_of_another_version_than_the_schemas_does_not_serve(
    pair: ServerProcess, postgres: PostgresServer
) -> None:
    """As when a new version was installed beside a running server, and one of its processes died then."""
    url = pair.env["DATABASE_URL"]
    [(revision,)] = postgres.execute("SELECT version_num FROM alembic_version", url)
    postgres.execute("UPDATE alembic_version SET version_num = 'other'", url)
    os.kill(min(workers_of(pair)), signal.SIGKILL)
    until(lambda: "The ledger's schema is at other" in pair.log.read_text())
    assert served(pair) == 2
    postgres.execute(f"UPDATE alembic_version SET version_num = '{revision}'", url)
    until(lambda: served(pair) == 3)


def test_where_the_system_allows_no_more_processes_those_that_serve_go_on(pair: ServerProcess) -> None:
    before = workers_of(pair)
    assert pair.process is not None
    files = resource.prlimit(pair.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pair.process.pid, resource.RLIMIT_NOFILE, (3, files[1]))
    os.kill(min(before), signal.SIGKILL)
    until(lambda: "a worker cannot be started: [Errno 24]" in pair.log.read_text())
    with pair.client() as api:
        grant(api, "u", 5)
    resource.prlimit(pair.process.pid, resource.RLIMIT_NOFILE, files)
    until(lambda: served(pair) == 3)
    pair.process.send_signal(signal.SIGTERM)
    assert pair.process.wait(SECONDS_MAX) == 0


def test_where_none_can_start_it_ends(engine: str, own_postgres: PostgresServer, tmp_path: Path) -> None:
    url = own_postgres.new_database()
    own_postgres.execute("ALTER SYSTEM SET max_connections = 4")
    own_postgres.stop()
    own_postgres.start()
    with pytest.raises(RuntimeError, match="no worker could start"):
        ServerProcess(tmp_path, "serve --workers 2", DATABASE_URL=url).start()


def test_while_it_stops_its_port_is_closed(pair: ServerProcess) -> None:
    assert pair.process is not None
    with socket.create_connection(("127.0.0.1", pair.port)) as slow:  # it is waited for, as for any request
        slow.sendall(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        with pair.client() as api:
            assert api.get("/healthz").status_code == 200
        pair.process.send_signal(signal.SIGTERM)
        until(lambda: refuses(pair.port), LIMITS.shutdown_seconds_max / 2)
        assert pair.process.poll() is None
    assert pair.process.wait(SECONDS_MAX) == 0


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_it_stops_in_good_time_though_the_database_hangs(
    engine: str, own_postgres: PostgresServer, uncertain_pair: ServerProcess
) -> None:
    assert uncertain_pair.process is not None
    with own_postgres.hanging():
        uncertain_pair.process.send_signal(signal.SIGTERM)
        assert uncertain_pair.process.wait(SECONDS_MAX) == 0
    assert "Traceback" not in uncertain_pair.log.read_text()


def test_what_waits_for_a_database_that_hangs_is_told_so_at_the_stop(
    engine: str, own_postgres: PostgresServer, tmp_path: Path
) -> None:
    limits = with_limits(tmp_path, shutdown_seconds_max=1, database_close_seconds_max=0.5)
    server = ServerProcess(tmp_path, DATABASE_URL=own_postgres.new_database(), **limits).start()
    assert server.process is not None
    with server.client() as api, server.client() as other, own_postgres.hanging(), ThreadPoolExecutor(2) as threads:
        writes = threads.submit(grant_to, api)
        reads = threads.submit(other.get, "/v1/wallets/u")
        with server.client() as third:
            until(lambda: samples(third)["chargly_queue_operations"] == 1)
        server.process.send_signal(signal.SIGTERM)
        assert "may still have been written" in error_of(writes.result(), 503, "busy")["message"]
        error_of(reads.result(), 503, "shutting_down")
        server.process.wait(SECONDS_MAX)
    assert "Traceback" not in server.log.read_text()


def grant_to(api: httpx.Client) -> httpx.Response:
    return api.post("/v1/wallets/u/grants", json={"credits": 5, "category": "paid"})


def test_processes_whose_parent_is_killed_end_and_free_the_port(pair: ServerProcess) -> None:
    workers = workers_of(pair)
    pair.stop(signal.SIGKILL)
    until(lambda: not any(command_line(pid) for pid in workers))
    pair.start()


@pytest.mark.sqlite
def test_a_file_has_one_process(new_server: StartServer) -> None:
    with pytest.raises(RuntimeError, match="--workers above 1 needs a PostgreSQL database"):
        new_server("serve --workers 2")
