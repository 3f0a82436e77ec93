"""Limits of bandwidth: where they stand, who is under them, and how long what they do takes them."""

import asyncio
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

    async def measure(self) -> list[Finding]:
        """Moves what takes so long, and looks how long it took, and whether it was shared evenly."""
        of_one = RATE * SECONDS // self.connections // (1 if self.apart else self.clients)
        sources = [f"127.0.0.{2 + number}" for number in range(self.clients) for _ in range(self.connections)]
        # Connecting is not what is measured.
        address = "127.0.0.1", self.port
        connections = [await Connection.to(address, source=source) for source in sources]
        begun = time.monotonic()
        try:
            ends = await asyncio.gather(*(self.move(connection, of_one) for connection in connections))
        finally:
            for connection in connections:
                connection.close()
        findings = [within(self.name, max(ends) - begun, SECONDS, 5, "s")]
        if len(ends) > 1:
            first = min(ends) - begun
            findings.append(at_least("its first connection was done after", first, 0.8 * SECONDS, "s"))
        return findings

    async def move(self, connection: Connection, length: int) -> float:
        """Has so many bytes moved, and gives the time of the end."""
        answer, headers = Answer(), {"host": "bandwidth"}
        if self.way == "download":
            await connection.exchange("GET", f"/bytes/{length}", headers, b"", answer, PATIENCE)
            is_right = answer.body == pattern(length)
        else:
            await connection.exchange("POST", "/upload", headers, pattern(length), answer, PATIENCE)
            is_right = answer.status == 200 and answer.json()["bytes"] == length
        if not is_right:
            raise Failure(f"{self.name}: status {answer.status}, and not what was asked for")
        return time.monotonic()


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
