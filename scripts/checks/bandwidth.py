"""The command line of scripts/bandwidth, and its run."""

import asyncio
import subprocess
import time
from pathlib import Path

from benchmark.failure import Failure
from trials.measurements.finding import Finding, at_least, at_most, print_findings
from trials.wire import Address, Answer, Connection

from .command import arguments, run
from .forwarding import Listener, processes, start, start_server
from .limits import RATE_TEXT, Case, cases, measure_all

DESCRIPTION = """\
Has loadbalancer limit the bandwidth of listeners, routes and servers to 1 MB/s, over TCP and HTTP. Looks whether what
takes 10 s then does, however many connections share it, and whether small messages pass as if there were no limit.
"""
REQUESTS = 2000  # with small bodies, over HTTP
CONNECTIONS = 4
LONGEST = 4.0  # seconds that they may take; at a packet or a page each they would take longer
SLOWEST = 0.7  # of the rate of small messages over TCP without a limit


def main(given: list[str]) -> int:
    options = arguments("bandwidth", DESCRIPTION, "backends1 and throughput").parse_args(given)
    return run("bandwidth", options.binary, measure)


def measure(binary: Path) -> int:
    with processes() as running:
        server = start_server(running, binary, "backends1")
        small = start_server(running, binary, "throughput", "serve")
        limit = f'bandwidth = {{ upload = "{RATE_TEXT}", download = "{RATE_TEXT}" }}'
        limited, free = Listener("limited", "tcp", small, limit), Listener("free", "tcp", small)
        requests = Case("small bodies", "http", "upload", "listeners", CONNECTIONS)
        all_cases = list(cases())
        tables = [case.text(server) for case in [*all_cases, requests]]
        start(running, binary, [*tables, limited.text(), free.text()])

        findings = asyncio.run(measure_all(all_cases))
        findings.append(small_messages(binary, free.address, limited.address))
        findings.append(asyncio.run(small_bodies(("127.0.0.1", requests.port))))
        running.check()
    return print_findings(findings)


def small_messages(binary: Path, free: str, limited: str) -> Finding:
    """How many messages pass a limit that they are far below, beside how many do without it."""
    command = [str(binary.parent / "throughput"), "run", "--direct", free, "--through", limited]
    command += ["--only", "requests", "--size", "10", "--connections", str(CONNECTIONS)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    row = next((line for line in done.stdout.splitlines() if "requests of" in line), "")
    if done.returncode or not row:
        raise Failure(f"{done.stderr.strip() or done.stdout}")
    ratio = float(row.split("|")[4])
    return at_least("tcp, messages of 10 B, of as many as without a limit", 100 * ratio, 100 * SLOWEST, "%")


async def small_bodies(address: Address) -> Finding:
    begun = time.monotonic()
    await asyncio.gather(*(ask(address, REQUESTS // CONNECTIONS) for _ in range(CONNECTIONS)))
    return at_most(f"http, {REQUESTS} requests with bodies of 10 B", time.monotonic() - begun, LONGEST, "s")


async def ask(address: Address, count: int) -> None:
    connection, body = await Connection.to(address), b"0123456789"
    for _ in range(count):
        answer = Answer()
        await connection.exchange("POST", "/echo", {"host": "bandwidth"}, body, answer, 10.0)
        if answer.body != body:
            raise Failure(f"small bodies: status {answer.status}, and not what was sent")
    connection.close()
