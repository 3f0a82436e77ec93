"""Limits of bandwidth: where they stand, who is under them, and how long what they do takes them."""

import asyncio
import functools
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmark.failure import Failure
from benchmark.processes import free_port
from trials.clients import PATTERN
from trials.measurements.finding import Finding, at_least, within
from trials.wire import Answer, Connection

SECONDS = 10  # that a case takes
RATE = 1_000_000  # bytes a second, as RATE_TEXT says
RATE_TEXT = "1MB/s"
PATIENCE = 10 * SECONDS


@dataclass(frozen=True)
class Case:
    """One limit with a listener, a route and an upstream of its own."""

    name: str
    mode: str  # of the listener
    way: str  # download or upload
    place: str  # of the limit: listeners, routes or upstreams
    connections: int  # of each client
    clients: int = 1
    key: str = ""  # as it is without one
    apart: bool = False  # whether each client has the rate for itself
    port: int = field(default_factory=free_port)

    def text(self, server: str) -> str:
        key = f', key = "{self.key}"' if self.key else ""
        limit = f'bandwidth = {{ {self.way} = "{RATE_TEXT}"{key} }}'
        name = f"limited-{self.port}"
        upstream = f'upstream = "{name}"'
        tables = {
            "listeners": [f'name = "{name}"', f'listen = "127.0.0.1:{self.port}"', f'mode = "{self.mode}"'],
            "upstreams": [f'name = "{name}"', f'servers = ["{server}"]', 'health_check = { kind = "off" }'],
        }
        if self.mode == "http":
            tables["routes"] = [f'name = "{name}"', f'listeners = ["{name}"]', upstream]
        else:
            tables["listeners"].append(upstream)
        tables[self.place].append(limit)
        return "\n".join(f"[[{table}]]\n" + "\n".join(lines) + "\n" for table, lines in tables.items())

    @property
    def length(self) -> int:
        """Bytes of one connection."""
        return RATE * SECONDS // self.connections // (1 if self.apart else self.clients)

    async def connect(self) -> list[Connection]:
        """What is not measured, and would disturb what others measure: connecting, and making what is sent."""
        pattern(self.length)
        sources = [f"127.0.0.{2 + number}" for number in range(self.clients) for _ in range(self.connections)]
        return [await Connection.to(("127.0.0.1", self.port), source=source) for source in sources]

    async def measure(self, connections: list[Connection]) -> list[float]:
        """Moves what takes so long over all of these, and gives the seconds that each took."""
        begun = time.monotonic()
        return [ended - begun for ended in await asyncio.gather(*map(self.move, connections))]

    async def move(self, connection: Connection) -> float:
        """Has its bytes moved, and gives the time of the end."""
        answer, headers, content = Answer(), {"host": "bandwidth"}, pattern(self.length)
        if self.way == "download":
            await connection.exchange("GET", f"/bytes/{self.length}", headers, b"", answer, PATIENCE)
            is_right = answer.body == content
        else:
            await connection.exchange("POST", "/upload", headers, content, answer, PATIENCE)
            is_right = answer.status == 200 and answer.json()["bytes"] == self.length
        if not is_right:
            raise Failure(f"{self.name}: status {answer.status}, and not what was asked for")
        return time.monotonic()

    def findings(self, ends: list[float]) -> list[Finding]:
        """Whether it took as long as it should, and was shared evenly."""
        found = [within(self.name, max(ends), SECONDS, 5, "s")]
        if len(ends) > 1:
            found.append(at_least("its first connection was done after", min(ends), 0.8 * SECONDS, "s"))
        return found


async def measure_all(all_cases: list[Case]) -> list[Finding]:
    """All at once: they have nothing in common."""
    connections = [await case.connect() for case in all_cases]
    try:
        ends = await asyncio.gather(*map(Case.measure, all_cases, connections))
    finally:
        for connection in itertools.chain(*connections):
            connection.close()
    return list(itertools.chain(*map(Case.findings, all_cases, ends)))


@functools.cache
def pattern(length: int) -> bytes:
    return (PATTERN * (length // len(PATTERN) + 1))[:length]


def cases() -> Iterator[Case]:
    for mode in ("tcp", "http"):
        for way in ("download", "upload"):
            for connections in (1, 10):
                name = f"{mode}, a client's {way}, {connections} connection{'s' if connections > 1 else ''}"
                yield Case(name, mode, way, "listeners", connections)
    for way in ("download", "upload"):
        yield Case(f"http, a client's {way} on a route", "http", way, "routes", 4)
        for mode in ("tcp", "http"):
            yield Case(f"{mode}, a server's {way}, which two clients share", mode, way, "upstreams", 1, clients=2)
        yield Case(f"tcp, {way} of all, which two clients share", "tcp", way, "listeners", 2, clients=2, key="total")
        yield Case(f"tcp, two clients' {way}, each for itself", "tcp", way, "listeners", 1, clients=2, apart=True)
