"""Clients with keep-alive connections, and what they remember of each request."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .wire import Address, Answer, Broken, Connection

PATTERN = bytes(range(251)) * 1024  # what test servers answer: the byte at offset i is i % 251
SIZES = (0, 1, 100, 5_000, 20_000, 64 * 1024, 200 * 1024)
PATIENCE = 15.0  # seconds that a client waits for an answer
IDS = itertools.count(1)


@dataclass(slots=True)
class Record:
    """A request and what became of it; times are monotonic seconds."""

    id: str
    method: str
    path: str
    sent: float
    ended: float = 0.0
    status: int = 0
    server: str = ""
    problem: str = ""  # a kind of `Broken`, or `wrong` for an answer to something else
    reused: bool = False  # whether the connection had served before

    @property
    def seconds(self) -> float:
        return self.ended - self.sent


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes
    is_right: Callable[[Answer], bool]


def mixed(rng: random.Random) -> Request:
    """Half of them are POSTs; bodies both ways of 0 B to 200 KiB."""
    size = rng.choice(SIZES)
    match rng.randrange(10):
        case 0 | 1 | 2:
            return Request("GET", f"/bytes/{size}", b"", lambda answer: answer.body == PATTERN[:size])
        case 3:
            return Request("GET", f"/delay/{rng.randrange(20, 300)}", b"", greets)
        case 4:
            return Request("GET", "/", b"", greets)
        case 5 | 6 | 7:
            return upload(rng, size)
        case _:
            start = rng.randrange(251)
            body = PATTERN[start : start + size]
            return Request("POST", "/echo", body, lambda answer: answer.body == body)


def upload(rng: random.Random, size: int | None = None) -> Request:
    length = rng.choice(SIZES) if size is None else size
    return Request("POST", "/upload", PATTERN[:length], lambda answer: answer.json()["bytes"] == length)


def greeting(_: random.Random) -> Request:
    return Request("GET", "/", b"", greets)


def greets(answer: Answer) -> bool:
    return answer.body.startswith(b"Hello")


@dataclass
class Clients:
    """Some clients, each of which has one request after the other answered, with pauses between."""

    address: Address
    rng: random.Random
    kind: Callable[[random.Random], Request] = mixed
    count: int = 16
    pause: float = 0.015  # seconds, on average
    records: list[Record] = field(default_factory=list)
    unasked: list[float] = field(default_factory=list)  # when bytes came that belong to no request
    ending: bool = False
    tasks: list[asyncio.Task] = field(default_factory=list)

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self.run(random.Random(self.rng.random()))) for _ in range(self.count)]

    async def finish(self) -> list[Record]:
        """No new requests; waits for the answers to those that were sent."""
        self.ending = True
        await asyncio.gather(*self.tasks)
        return self.records

    async def run(self, rng: random.Random) -> None:
        connection = None
        while not self.ending:
            # As every client with a pool does: what was closed meanwhile is not used.
            if connection and connection.open and (state := connection.state()) != "silent":
                if state == "bytes":
                    self.unasked.append(time.monotonic())
                connection.close()
            request = self.kind(rng)
            record = Record(f"r{next(IDS)}", request.method, request.path, time.monotonic())
            try:
                if not connection or not connection.open:
                    connection = None
                    connection = await Connection.to(self.address)
                record.reused = connection.used
                await self.ask(connection, request, record)
            except Broken as error:
                record.problem = error.kind
            record.ended = time.monotonic()
            self.records.append(record)
            if record.problem:
                await asyncio.sleep(0.1)  # what went wrong once would do so a thousand times a second
            await asyncio.sleep(rng.expovariate(1 / self.pause))
        if connection:
            connection.close()

    async def ask(self, connection: Connection, request: Request, record: Record) -> None:
        headers = {"host": "chaos", "x-chaos-id": record.id}
        answer = Answer()
        try:
            await connection.exchange(request.method, request.path, headers, request.body, answer, PATIENCE)
        finally:
            record.status, record.server = answer.status, answer.server
        if answer.status == 200 and not request.is_right(answer):
            record.problem = "wrong"
