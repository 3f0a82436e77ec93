"""A hundred reloads and three upgrades under load, with a thousand WebSockets open."""

import asyncio
import os
import random
import signal
import time
from pathlib import Path

from benchmark.failure import Failure

from ..balancer import Balancer
from ..stage import Stage, stage
from ..tunnels import Tunnel, Tunnels
from ..wrk import Wrk
from .finding import Finding, at_least, at_most, beside

RELOADS = 100
UPGRADES = 3
TUNNELS = 1000
DRAIN = 25.0  # seconds: the last upgrade comes while the first old process still carries its WebSockets
BETWEEN = 4.0  # seconds between two upgrades


async def measure(binary: Path) -> list[Finding]:
    async with stage(binary, servers=2, drain_timeout=f"{DRAIN:.0f}s") as ready:
        balancer = ready.balancer
        tunnels = Tunnels(balancer.address, TUNNELS, interval=2.0, again=False)
        tunnels.start()
        await until("the WebSockets open", lambda: tunnels.alive() == TUNNELS, 30)
        wrk = Wrk(ready.processes, f"http://127.0.0.1:{balancer.configuration.port}/bytes/100")
        wrk.start()
        begun = time.monotonic()
        refused = await reload(ready)
        took = time.monotonic() - begun
        closed = TUNNELS - tunnels.alive()
        upgraded = await upgrade(balancer)
        report = await wrk.finish()
        await carried(balancer)
        ended = await tunnels.finish()
    findings = [
        at_most(f"reloads that failed, of {RELOADS}", refused, 0),
        beside("a reload until it is in force, on average", float("nan") if refused else 1000 * took / RELOADS, "ms"),
        at_least("upgrades", upgraded, UPGRADES),
        beside("requests meanwhile", report.requests),
        at_most(f"errors of clients {report.errors or ''}".strip(), sum(report.errors.values()), 0),
        at_most(f"WebSockets closed by reloads, of {TUNNELS}", closed, 0),
    ]
    if balancer.upgrades:
        findings.append(beside("requests to the admin API that upgrades left without an answer", balancer.unanswered))
        early = [tunnel for tunnel in ended if is_early(tunnel, balancer.upgrades[0])]
        findings.append(at_most(f"WebSockets closed before the drain limit of {DRAIN:.0f} s", len(early), 0))
    return findings


async def reload(ready: Stage) -> int:
    """By a request, one after the other; how many were not taken."""
    balancer, rng, refused = ready.balancer, random.Random(1), 0
    configuration = balancer.configuration
    for _ in range(RELOADS):
        configuration.generation += 1
        configuration.extra_routes = rng.randint(0, 20)
        configuration.servers = {address: rng.randint(1, 4) for address in configuration.servers}
        balancer.save(configuration.text())
        if (await balancer.post_reload()).status != 200 or not await balancer.in_force(2):
            refused += 1
            if refused == 3:
                return RELOADS  # the others would not fare better
    return refused


async def upgrade(balancer: Balancer) -> int:
    for number in range(UPGRADES):
        begun = time.monotonic()
        os.kill(balancer.pid, signal.SIGUSR2)
        if not await balancer.handed_over(begun):
            return number
        await asyncio.sleep(BETWEEN)
    return UPGRADES


async def carried(balancer: Balancer) -> None:
    """Waits until the process that has the WebSockets has ended."""
    if balancer.retired:
        first = next(iter(balancer.retired))
        until_end = DRAIN + 10
        await until("the old process ends", lambda: first not in {it.pid for it in balancer.alive()}, until_end)


def is_early(tunnel: Tunnel, upgraded: float) -> bool:
    return bool(tunnel.problem) and tunnel.ended < upgraded + DRAIN - 0.5


async def until(what: str, condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.05)
