"""One of three servers answers every second request with an error."""

import asyncio
import random
import time
from pathlib import Path

from ..clients import Clients, greeting
from ..stage import Stage, stage
from .finding import Finding, at_most, beside, require

SECONDS = 30.0


async def measure(binary: Path) -> list[Finding]:
    require(binary, 'ejection = { base = "30s" }')
    took, failed = await run(binary, 503)
    took_500, failed_500 = await run(binary, 500)
    return [
        at_most("until it is ejected, answering 503", took, 5, "s"),
        at_most(f"errors that clients saw in {SECONDS:.0f} s", failed, 0.1, "%"),
        at_most("until it is ejected, answering 500, which is not tried again", took_500, 5, "s"),
        beside("errors that clients saw", failed_500, "%"),
    ]


async def run(binary: Path, status: int) -> tuple[float, float]:
    """Seconds until the server is ejected, and the share of requests that failed in percent."""
    async with stage(binary) as ready:
        clients = Clients(ready.balancer.address, random.Random(1), greeting, pause=0.02)
        clients.start()
        await asyncio.sleep(1)
        await ready.backends[0].faults(errors={"ratio": 0.5, "status": status}, seed=1)
        begun = time.monotonic()
        took = await ejected(ready, begun)
        await asyncio.sleep(max(0.0, begun + SECONDS - time.monotonic()))
        records = [record for record in await clients.finish() if record.sent >= begun]
        failed = sum(record.status != 200 or bool(record.problem) for record in records)
        return took, 100 * failed / len(records)


async def ejected(ready: Stage, begun: float) -> float:
    while time.monotonic() < begun + SECONDS:
        samples = await ready.balancer.samples("lb_server_ejected")
        if any(value and ready.backends[0].authority in labels for labels, value in samples.items()):
            return time.monotonic() - begun
        await asyncio.sleep(0.05)
    return float("inf")
