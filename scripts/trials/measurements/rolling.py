"""A rolling restart of all servers under load, half of it POSTs."""

import asyncio
import random
from pathlib import Path

from ..accounting import Account, Journal, judge_requests
from ..clients import Clients
from ..stage import stage
from .finding import Finding, at_most, beside

ROUNDS = 3
LINGER = ("--linger", "500")


async def measure(binary: Path) -> list[Finding]:
    total, failed = await roll(binary, LINGER)
    plain_total, plain_failed = await roll(binary, ())
    return [
        beside("requests", total),
        at_most("failed", failed, 0),
        beside("requests, with servers that close their connections at once", plain_total),
        beside("failed, of POSTs on connections that the server was closing", plain_failed),
    ]


async def roll(binary: Path, flags: tuple[str, ...]) -> tuple[int, int]:
    """Requests, and those that failed."""
    async with stage(binary, flags=flags, quick_ejection=True) as ready:
        clients = Clients(ready.balancer.address, random.Random(1), pause=0.005)
        clients.start()
        for _ in range(ROUNDS):
            for backend in ready.backends:
                await asyncio.sleep(0.3)
                await backend.terminate()
                await backend.start()
                await ready.used_again(backend)
        records = await clients.finish()
        account = Account()
        judge_requests(records, Journal.read(ready.journal), ready.backends, account)
        for violation in account.violations[:5]:
            print(f"  {violation.text}")
        return len(records), len(account.violations) + account.excused.total()
