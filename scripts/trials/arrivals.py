"""Requests that arrive at a rate of their own, whether or not earlier ones have been answered."""

import asyncio
import time
from dataclasses import dataclass, field

from .clients import IDS, PATIENCE, Record
from .wire import Address, Answer, Broken, Connection


@dataclass
class Arrivals:
    address: Address
    rate: float  # a second
    records: list[Record] = field(default_factory=list)
    idle: list[Connection] = field(default_factory=list)
    ending: bool = False
    task: asyncio.Task | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.run())

    async def finish(self) -> list[Record]:
        """No new requests; waits for what is under way."""
        self.ending = True
        await self.task
        for connection in self.idle:
            connection.close()
        return self.records

    async def run(self) -> None:
        begun, sent = time.monotonic(), 0
        async with asyncio.TaskGroup() as under_way:
            while not self.ending:
                # What is late, because the machine was busy, is sent at once.
                due = int((time.monotonic() - begun) * self.rate)
                for _ in range(due - sent):
                    under_way.create_task(self.ask())
                sent = max(sent, due)
                await asyncio.sleep(0.002)

    async def ask(self) -> None:
        record = Record(f"r{next(IDS)}", "GET", "/", time.monotonic())
        answer = Answer()
        try:
            connection = self.take() or await Connection.to(self.address)
            await connection.exchange("GET", "/", {"host": "load"}, b"", answer, PATIENCE)
            if connection.open:
                self.idle.append(connection)
        except Broken as error:
            record.problem = error.kind
        record.status, record.server, record.ended = answer.status, answer.server, time.monotonic()
        self.records.append(record)

    def take(self) -> Connection | None:
        while self.idle:
            connection = self.idle.pop()
            if connection.state() == "silent":
                return connection
            connection.close()
        return None
