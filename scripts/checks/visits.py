"""Clients that open a connection for each request, and end it with the answer."""

import asyncio
import time
from dataclasses import dataclass, field

from trials.clients import IDS, Record
from trials.wire import Address, Broken, fetch

PATIENCE = 10.0  # seconds that a visit may take


@dataclass
class Visits:
    """Some clients; what is behind `address` is a test server, whatever is between."""

    address: Address
    count: int = 8
    pause: float = 0.005  # seconds
    records: list[Record] = field(default_factory=list)
    ending: bool = False
    tasks: list[asyncio.Task] = field(default_factory=list)

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self.run()) for _ in range(self.count)]

    async def finish(self) -> list[Record]:
        self.ending = True
        await asyncio.gather(*self.tasks)
        return self.records

    async def run(self) -> None:
        while not self.ending:
            record = Record(f"v{next(IDS)}", "GET", "/", time.monotonic())
            try:
                answer = await fetch(self.address, "/", timeout=PATIENCE)
                record.status, record.server = answer.status, answer.server
            except Broken as error:
                record.problem = error.kind
            record.ended = time.monotonic()
            self.records.append(record)
            await asyncio.sleep(self.pause)
