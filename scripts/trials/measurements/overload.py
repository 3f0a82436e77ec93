"""Servers that lose half of what they can do, and clients that go on asking for one and a half times what is left."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from ..arrivals import Arrivals
from ..report import percentile
from ..stage import stage
from .finding import Finding, at_least, at_most, beside, require

SERVERS = 2
AT_ONCE, MS = 8, 20  # of each server: 400 requests a second
LEFT = SERVERS * AT_ONCE / 2 * 1000 / MS  # requests a second after the loss
RATE = 1.5 * LEFT
BEFORE, SETTLING, MEASURED = 5.0, 5.0, 15.0  # seconds
USEFUL = 1.5  # seconds: later answers find nobody who waits; a queue's timeout of 1 s and the service fit in


@dataclass(frozen=True)
class Run:
    goodput: float  # useful answers a second
    p99: float  # of all answers with 200, in seconds
    refused: float  # answers a second that were not 200


async def measure(binary: Path) -> list[Finding]:
    require(binary, 'adaptive_concurrency = "off"')
    on = await run(binary, "")
    off = await run(binary, 'adaptive_concurrency = "off"\nqueue = { size = 0 }')
    return [
        beside("asked for", RATE, "/s"),
        beside("what the servers can do", LEFT, "/s"),
        at_least(f"answers within {USEFUL} s", on.goodput, 0.9 * LEFT, "/s"),
        at_most("p99 of answers", on.p99, USEFUL, "s"),
        beside("refused", on.refused, "/s"),
        beside(f"without the limit: answers within {USEFUL} s", off.goodput, "/s"),
        beside("without the limit: p99 of answers", off.p99, "s"),
        beside("without the limit: refused", off.refused, "/s"),
    ]


async def run(binary: Path, upstream: str) -> Run:
    async with stage(binary, servers=SERVERS, upstream=upstream, response="30s") as ready:
        await capacity(ready.backends, AT_ONCE)
        arrivals = Arrivals(ready.balancer.address, RATE)
        arrivals.start()
        await asyncio.sleep(BEFORE)
        await capacity(ready.backends, AT_ONCE // 2)
        await asyncio.sleep(SETTLING + MEASURED)
        records = await arrivals.finish()
    end = max(record.sent for record in records)
    window = [record for record in records if end - MEASURED <= record.sent]
    good = sorted(record.seconds for record in window if record.status == 200 and not record.problem)
    useful = sum(seconds <= USEFUL for seconds in good)
    return Run(useful / MEASURED, percentile(good, 0.99), (len(window) - len(good)) / MEASURED)


async def capacity(backends: list, at_once: int) -> None:
    for backend in backends:
        await backend.faults(capacity={"requests": at_once, "ms": MS})
