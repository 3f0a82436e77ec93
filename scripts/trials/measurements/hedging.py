"""One of three servers answers a share of its requests a second late."""

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path

from ..clients import Clients, greeting
from ..report import percentile
from ..stage import stage
from .finding import Finding, at_least, at_most, beside, require

SECONDS = 15.0
WARM = 3.0  # seconds until there is something to take a percentile of
SLOW = {"ratio": 0.05, "ms": 1000}


@dataclass(frozen=True)
class Run:
    p99: float  # milliseconds
    additional: float  # tries beyond the requests, in percent of these


async def measure(binary: Path) -> list[Finding]:
    require(binary, '[[routes]]\nupstream = "app"\nhedge = { after = "50ms", budget = "2%" }')
    without = await run(binary, "")
    fixed = await run(binary, 'hedge = { after = "50ms", budget = "2%" }')
    observed = await run(binary, 'hedge = { after = "p95", budget = "2%" }')
    return [
        beside("p99 without hedging", without.p99, "ms"),
        beside("p99 with hedging after 50 ms", fixed.p99, "ms"),
        at_least("that is lower by", without.p99 / fixed.p99, 5, "times"),
        at_most("additional requests", fixed.additional, 2.0, "%"),
        beside('p99 with hedging after "p95"', observed.p99, "ms"),
        at_most("additional requests", observed.additional, 2.0, "%"),
    ]


async def run(binary: Path, route: str) -> Run:
    async with stage(binary, route=route) as ready:
        await ready.backends[0].faults(slow=SLOW, seed=1)
        clients = Clients(ready.balancer.address, random.Random(1), greeting, count=24, pause=0.02)
        clients.start()
        await asyncio.sleep(SECONDS + WARM)
        records = await clients.finish()
        begun = min(record.sent for record in records) + WARM
        times = sorted(record.seconds * 1000 for record in records if record.sent >= begun)
        tries = await ready.balancer.metric("lb_server_requests_total")
        hedges = await ready.balancer.metric("lb_upstream_hedges_total")
        additional = max(tries - len(records), hedges)
        return Run(percentile(times, 0.99), 100 * additional / len(records))
