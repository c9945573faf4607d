"""`chargly serve --workers`: several processes behind one port, which start, count, die and end together."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from api.test_metrics import samples
from serving import ServerProcess, StartServer, balance, charge, grant

SECONDS_MAX = 20.0

pytestmark = pytest.mark.postgresql


@pytest.fixture
def pair(database_url: str, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of two processes."""
    server = ServerProcess(tmp_path, "serve --workers 2", DATABASE_URL=database_url).start()
    until(lambda: len(workers_of(server)) == served(server) == 2)
    yield server
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


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline, holds
        time.sleep(0.05)


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
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers_of(pair) - {victim}) == 2 and served(pair) == 3)
    assert f"worker {victim} has ended (-9); there are 2" in pair.log.read_text()
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


def test_processes_whose_parent_is_killed_end_and_free_the_port(pair: ServerProcess) -> None:
    workers = workers_of(pair)
    pair.stop(signal.SIGKILL)
    until(lambda: not any(command_line(pid) for pid in workers))
    pair.start()


@pytest.mark.sqlite
def test_a_file_has_one_process(new_server: StartServer) -> None:
    with pytest.raises(RuntimeError, match="--workers above 1 needs a PostgreSQL database"):
        new_server("serve --workers 2")
