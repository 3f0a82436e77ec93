"""The command line of scripts/chaos, and its run."""

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path

from benchmark.failure import Failure
from benchmark.processes import raise_file_limit
from benchmark.tools import provide

from .accounting import Account, Journal, judge_requests, judge_tunnels
from .binary import built
from .clients import Clients
from .events import GROUPS
from .events.event import play
from .report import print_run
from .stage import Stage, clean_environment, seeded, stage
from .tunnels import Tunnels

DESCRIPTION = """\
Kills, restarts and stops servers and Redis, changes the configuration and the servers, and replaces the program, all
while clients send requests and keep WebSocket connections through loadbalancer. Then accounts for every request: each
must have been answered once, and executed once if it was a POST.
"""
EPILOGUE = """\
Prints what was seen, what was excused and why, and every violation. Everything listens on loopback, on ports that are
free, and ends with the script; its directory is kept if there were violations. Without --binary the release build is
made first. The seed decides what happens in which order; when exactly is up to the machine. Exit status: 0 without
violations, 1 with some or if something failed, 2 for wrong usage.
"""
DRAIN = 6.0  # seconds; the drain_timeout of a `Configuration`
LAST_UPGRADE = DRAIN + 3  # seconds before the end, so that every old process is seen to end


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=DESCRIPTION, epilog=EPILOGUE)
    parser.add_argument("--seconds", type=float, default=60, help="how long it lasts (default: 60)")
    parser.add_argument("--seed", type=int, help="of an earlier run (default: another one each time)")
    parser.add_argument("--binary", type=Path, help="a built loadbalancer, with backends1 beside it")
    parser.add_argument("--only", metavar="GROUPS", help=f"what happens, of {','.join(GROUPS)} (default: all)")
    options = parser.parse_args(arguments)
    groups = (options.only or ",".join(GROUPS)).upper().split(",")
    for group in groups:
        if group not in GROUPS:
            parser.error(f"there is no group {group}")
    try:
        clean_environment()
        raise_file_limit()
        provide({"redis-server"})
        binary = options.binary or built()
        return asyncio.run(run(binary.resolve(), options.seconds, options.seed, groups))
    except (Failure, OSError) as failure:
        print(f"scripts/chaos: {failure}", file=sys.stderr)
        return 1


async def run(binary: Path, seconds: float, seed: int | None, groups: list[str]) -> int:
    seed, rng = seeded(seed)
    async with stage(binary, with_redis=True, quick_ejection=True, drain_timeout=f"{DRAIN:.0f}s") as ready:
        clients, tunnels = Clients(ready.balancer.address, rng), Tunnels(ready.balancer.address)
        clients.start()
        tunnels.start()
        await play_all(ready, rng, groups, seconds)
        records, ended = await clients.finish(), await tunnels.finish()

        account = Account()
        judge_requests(records, Journal.read(ready.journal), ready.backends, account)
        judge_tunnels(ended, ready.backends, ready.balancer.upgrades, DRAIN, account)
        account.counts["admin requests without an answer, in upgrades"] = ready.balancer.unanswered
        for at in clients.unasked:
            account.violation(at, "bytes came that belong to no request")
        await judge_processes(ready)
        for at, text in ready.violations:
            account.violation(at, text)
        ready.keep |= bool(account.violations)
        print_run(ready, account, records, seed)
        return 1 if account.violations else 0


async def play_all(ready: Stage, rng: random.Random, groups: list[str], seconds: float) -> None:
    end = time.monotonic() + seconds
    plays = []
    for group in groups:
        until = end - LAST_UPGRADE if group == "UPGRADES" else end
        plays.append(play(GROUPS[group], ready, random.Random(rng.random()), until))
    await asyncio.gather(*plays, asyncio.sleep(seconds))


async def judge_processes(ready: Stage) -> None:
    """What handed over has ended, what serves is there and ends in order, and nobody panicked."""
    balancer, now = ready.balancer, time.monotonic()
    alive = {process.pid for process in balancer.alive()}
    for pid, since in balancer.retired.items():
        if pid in alive and now > since + LAST_UPGRADE:
            ready.violation(f"process {pid} handed over {now - since:.1f} s ago and still runs")
    if balancer.pid not in alive:
        ready.violation("the process that served has ended")
    elif status := await balancer.end():
        if status > 0 or status < -1:
            ready.violation(f"the load balancer ended with status {status}")
    for line in balancer.logs().splitlines():
        if "panicked" in line:
            ready.violation(f"the log says: {line}")
