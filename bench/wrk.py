"""The load: wrk, one thread, each connection asking again as soon as it is answered."""

import os
import re
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Final, Self

import msgspec

from bench.failure import BenchFailed
from bench.machine import busy_seconds
from bench.processes import Server
from bench.programs import API_KEY

WARM_UP_SECONDS: Final = 1
_GRACE_SECONDS: Final = 30
_SCRIPT_END: Final = """
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("result: %%d answers, %%d us, p50 %%d us, p99 %%d us, %%d refused, %%d broken\\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
"""
_BATCH_SCRIPT: Final = (
    """\
local batch

function init()
  local headers = {["Authorization"] = "Bearer %(key)s", ["Content-Type"] = "application/json"}
  local events = {}
  for number = 1, %(events)d do
    local wallet = (number - 1) %% %(wallets)d + 1
    events[number] = string.format('{"customer_id":"user_%%04d","event":"chat.reply"}', wallet)
  end
  batch = wrk.format("POST", "/v1/events/batch", headers, '{"events":[' .. table.concat(events, ",") .. ']}')
end

function request()
  return batch
end
"""
    + _SCRIPT_END
)
_SCRIPT: Final = (
    """\
local events, sent = {}, 0

function init()
  local headers = {["Authorization"] = "Bearer %(key)s", ["Content-Type"] = "application/json"}
  for number = 1, %(wallets)d do
    local body = string.format('{"customer_id":"user_%%04d","event":"chat.reply"}', number)
    events[number] = wrk.format("POST", "/v1/events", headers, body)
  end
end

function request()
  sent = sent %% #events + 1
  return events[sent]
end
"""
    + _SCRIPT_END
)
_DELAY: Final = """
function delay()
  return math.random(0, %(most)d)
end
"""
_RESULT: Final = re.compile(
    r"^result: (\d+) answers, (\d+) us, p50 (\d+) us, p99 (\d+) us, (\d+) refused, (\d+) broken$", re.MULTILINE
)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One run of wrk.

    `cpu_us` is the server's processor time for each request, in microseconds; `others` the share of all cores that
    neither the server nor wrk used, which makes a run on a busy machine known as one. None where there is no `/proc`.
    """

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float | None
    others: float | None


class _Used(msgspec.Struct, frozen=True):
    """Processor time in seconds so far: of the server, of every wrk, of the whole machine."""

    server: float | None
    wrk: float
    machine: float | None

    @classmethod
    def by_now(cls, server: Server) -> Self:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(server.cpu_seconds(), children.ru_utime + children.ru_stime, busy_seconds())


def check_installed() -> None:
    """Looks for wrk.

    Raises:
        BenchFailed: it is not there.

    """
    if shutil.which("wrk") is None:
        raise BenchFailed("wrk makes the load and is not installed: apt-get install wrk (brew install wrk on macOS).")


def write_script(path: Path, wallets: int) -> Path:
    """Writes the script that posts a `chat.reply` to each of so many wallets in turn."""
    path.write_text(_SCRIPT % {"key": API_KEY, "wallets": wallets})
    return path


def write_paced_script(path: Path, wallets: int, connections: int, per_second: int) -> Path:
    """Writes the script that does as `write_script`'s, but waits before each request, by chance, for about that rate.

    All connections together ask a little less often: what an answer takes comes on top of the wait.
    """
    most_ms = 2 * connections * 1000 // per_second
    path.write_text(_SCRIPT % {"key": API_KEY, "wallets": wallets} + _DELAY % {"most": most_ms})
    return path


def write_batch_script(path: Path, wallets: int, events: int) -> Path:
    """Writes the script that posts batches of so many events, each of them to the next wallet."""
    path.write_text(_BATCH_SCRIPT % {"key": API_KEY, "wallets": wallets, "events": events})
    return path


def load(server: Server, script: Path, *, seconds: int, connections: int) -> Load:
    """Loads a server for some seconds.

    Raises:
        BenchFailed: a request was refused, or a connection failed.

    """
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "10s",
        "-s",
        str(script),
        "--latency",
        server.url,
    ]
    before = _Used.by_now(server)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _GRACE_SECONDS, check=False)
    after = _Used.by_now(server)
    found = _RESULT.search(done.stdout)
    if done.returncode != 0 or found is None:
        raise BenchFailed(f"wrk failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    answers, duration_us, p50_us, p99_us, refused, broken = map(int, found.groups())
    if refused or broken or not answers:
        raise BenchFailed(
            f"{server.url} refused {refused} of {answers} requests, and {broken} connections failed or timed out:\n"
            f"{done.stdout[-2000:]}"
        )
    cpu_us, others = _shares(before, after, answers, duration_us)
    return Load(
        requests=answers,
        requests_per_second=round(answers / duration_us * 1e6, 1),
        p50_ms=p50_us / 1000,
        p99_ms=p99_us / 1000,
        cpu_us=cpu_us,
        others=others,
    )


def _shares(before: _Used, after: _Used, answers: int, duration_us: int) -> tuple[float | None, float | None]:
    """What `Load.cpu_us` and `Load.others` say."""
    if before.server is None or after.server is None or before.machine is None or after.machine is None:
        return None, None
    server, wrk, machine = after.server - before.server, after.wrk - before.wrk, after.machine - before.machine
    cores_us = duration_us * (os.cpu_count() or 1)
    return round(server / answers * 1e6, 1), round(max(0.0, machine - server - wrk) * 1e6 / cores_us, 3)
