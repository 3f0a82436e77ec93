"""The command line of scripts/databases, and its run."""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmark.failure import Failure
from benchmark.processes import Processes
from benchmark.tools import provide
from trials.redis import Redis
from trials.report import table

from . import redis
from .command import arguments, run
from .forwarding import Listener, processes, start
from .postgresql import COPY_ROWS, PostgreSql, find_programs

DESCRIPTION = """\
Starts redis-server and PostgreSQL, and loadbalancer before both, with mode = "tcp". Has redis-benchmark and pgbench
work with them directly and through it in turn, and copies a large table both ways; prints how fast that was, and fails
at the first error. What is missing is installed with apt-get, for which the script has to be run by root.
"""
REDIS = {  # flags of redis-benchmark
    "one by one": ["-t", "ping_mbulk,set,get", "-c", "50"],
    "16 in a pipeline": ["-t", "set,get", "-c", "50", "-P", "16"],
    "values of 100 kB": ["-t", "set,get", "-c", "10", "-d", "100000"],
    "a connection each": ["-t", "get", "-c", "10", "-k", "0"],
}
REQUESTS = {"16 in a pipeline": 20, "values of 100 kB": 0.2, "a connection each": 0.2}  # for one of the first kind
POSTGRESQL = {  # flags of pgbench
    "reading": ["--select-only", "--client=8"],
    "writing": ["--client=8"],
    "reading, a connection each": ["--select-only", "--client=4", "--connect"],
}
Rates = dict[str, float]
T = TypeVar("T")


def main(given: list[str]) -> int:
    parser = arguments("databases", DESCRIPTION, "nothing")
    parser.add_argument("--rounds", type=int, default=2, help="how often everything is done (default: 2)")
    parser.add_argument("--seconds", type=int, default=4, help="how long a run of pgbench takes (default: 4)")
    parser.add_argument("--requests", type=int, default=40_000, help="of a run of redis-benchmark (default: 40000)")
    options = parser.parse_args(given)
    if min(options.rounds, options.seconds, options.requests) < 1:
        parser.error("1 is the least of everything")
    return run("databases", options.binary, lambda binary: measure(binary, options))


def measure(binary: Path, options: argparse.Namespace) -> int:
    find_programs()
    provide({"redis-server", "redis-benchmark", "initdb", "psql", "setpriv"})
    find_programs()
    with processes() as running:
        store = Redis(running)
        store.start()
        database = PostgreSql.start(running)
        listeners = [
            Listener("redis", "tcp", f"127.0.0.1:{store.port}"),
            Listener("postgresql", "tcp", database.address),
        ]
        start(running, binary, [listener.text() for listener in listeners])

        def once(redis_port: int, postgresql_port: int) -> Rates:
            found = redis_rates(running, redis_port, options.requests)
            return found | postgresql_rates(database, postgresql_port, options.seconds)

        places = [(store.port, database.port), (listeners[0].port, listeners[1].port)]
        rounds = []
        for number in range(options.rounds):
            # Who comes first may find the machine in another state.
            order = (0, 1) if number % 2 == 0 else (1, 0)
            of_round = {place: once(*places[place]) for place in order}
            rounds.append((of_round[0], of_round[1]))
        running.check()
    rows = []
    for what in rounds[0][0]:
        direct, through = (statistics.median(of_round[place][what] for of_round in rounds) for place in (0, 1))
        rows.append([what, f"{direct:.0f}", f"{through:.0f}", f"{through / direct:.2f}"])
    print(table(["what", "direct, 1/s", "through, 1/s", "ratio"], rows))
    print("\nno errors, no lost or changed rows")
    return 0


def redis_rates(running: Processes, port: int, requests: int) -> Rates:
    found = {}
    for kind, flags in REDIS.items():
        count = max(1, int(requests * REQUESTS.get(kind, 1)))
        of_kind = redis.rates(running, port, ["-n", str(count), *flags])
        found |= {f"Redis, {kind}: {test}": rate for test, rate in of_kind.items()}
    return found


def postgresql_rates(database: PostgreSql, port: int, seconds: int) -> Rates:
    found = {
        f"PostgreSQL, {kind}: transactions": database.transactions(port, flags, seconds)
        for kind, flags in POSTGRESQL.items()
    }
    rows, took = timed(lambda: database.copied(port))
    if (came := rows.count(b"\n")) != COPY_ROWS:
        raise Failure(f"{came} of {COPY_ROWS} rows came")
    found["PostgreSQL, COPY TO: rows"] = COPY_ROWS / took
    arrived, took = timed(lambda: database.copied_back(port, rows))
    if arrived != COPY_ROWS:
        raise Failure(f"{arrived} of {COPY_ROWS} rows arrived as they should")
    found["PostgreSQL, COPY FROM: rows"] = COPY_ROWS / took
    return found


def timed(work: Callable[[], T]) -> tuple[T, float]:
    begun = time.monotonic()
    return work(), time.monotonic() - begun
