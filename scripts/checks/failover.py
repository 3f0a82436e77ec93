"""The command line of scripts/failover, and its run."""

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

from benchmark.processes import free_port
from trials.accounting import during
from trials.backends import Backend, Death
from trials.clients import Clients, Record, greeting
from trials.measurements.finding import Finding, at_least, at_most, beside, print_findings
from trials.report import percentile
from trials.stage import Stage, stage
from trials.tunnels import Tunnel, Tunnels

from .command import arguments, run
from .visits import Visits

DESCRIPTION = """\
Starts two servers and loadbalancer before them, with a listener for HTTP and one for TCP. While clients send requests,
open connections and keep others open, kills one server with SIGKILL and starts it again. Says what clients noticed,
whether the other server took over, and when the first one was back.
"""
BEFORE, WITHOUT, AFTER = 2.0, 4.0, 3.0  # seconds: with both servers, with one, and from when the killed one is back
FIRST = 0.1  # seconds after the kill in which a new connection may still fail
PATIENCE = 15.0  # seconds that a server which runs again may take until it is used


@dataclass
class Seen:
    """What happened, and what each kind of client saw of it."""

    killed: Backend
    death: Death
    begun: float
    restarted: float
    back: float
    requests: list[Record]
    visits: list[Record]
    tunnels: list[Tunnel]


def main(given: list[str]) -> int:
    options = arguments("failover", DESCRIPTION, "backends1").parse_args(given)
    return run("failover", options.binary, lambda binary: print_findings(asyncio.run(measure(binary))))


async def measure(binary: Path) -> list[Finding]:
    port = free_port()
    tcp = f'[[listeners]]\nname = "tcp"\nlisten = "127.0.0.1:{port}"\nmode = "tcp"\nupstream = "app"'
    upstream = 'slow_start = "0s"\nejection = { base = "1s" }'
    async with stage(binary, servers=2, more=tcp, upstream=upstream) as ready:
        seen = await play(ready, ("127.0.0.1", port))
        panics = ready.balancer.logs().count("panicked")
    return [*of_requests(seen), *of_visits(seen), *of_tunnels(seen), *of_shares(seen), at_most("panics", panics, 0)]


async def play(ready: Stage, tcp: tuple[str, int]) -> Seen:
    begun = time.monotonic()
    clients = Clients(ready.balancer.address, random.Random(1), greeting, count=8, pause=0.01)
    visits, tunnels = Visits(tcp), Tunnels(tcp, interval=0.05, again=False)
    for load in (clients, visits, tunnels):
        load.start()
    await asyncio.sleep(BEFORE)
    killed = ready.backends[0]
    await killed.kill()
    await asyncio.sleep(WITHOUT)
    await killed.start()
    restarted = time.monotonic()
    back = await used(killed, clients.records, visits.records, restarted)
    await asyncio.sleep(AFTER)
    all_seen = [await load.finish() for load in (clients, visits, tunnels)]
    return Seen(killed, killed.deaths[0], begun, restarted, back, *all_seen)


async def used(backend: Backend, requests: list[Record], visits: list[Record], since: float) -> float:
    """When both kinds of clients had an answer from it."""
    while time.monotonic() < since + PATIENCE:
        seen = [first_answer(backend, kind, since) for kind in (requests, visits)]
        if None not in seen:
            return max(seen)
        await asyncio.sleep(0.01)
    return float("inf")


def first_answer(backend: Backend, records: list[Record], since: float) -> float | None:
    return min((one.ended for one in records if one.server == backend.name and one.sent > since), default=None)


def of_requests(seen: Seen) -> list[Finding]:
    failed = [one for one in seen.requests if has_failed(one)]
    begin, end = seen.death.begun - 1, seen.death.ended + 1
    around = sorted(1000 * one.seconds for one in seen.requests if begin <= one.sent <= end)
    return [
        beside("HTTP: requests", len(seen.requests)),
        at_most("HTTP: requests that failed", len(failed), 0),
        beside("HTTP: latency around the kill, p50", percentile(around, 0.5), "ms"),
        beside("HTTP: latency around the kill, worst", percentile(around, 1.0), "ms"),
    ]


def of_visits(seen: Seen) -> list[Finding]:
    failed = [one for one in seen.visits if has_failed(one)]
    # The killed server had them, or may have had.
    cut = [one for one in failed if during(seen.death, one)]
    after = [one.sent - seen.death.ended for one in failed if one.sent > seen.death.ended]
    unexplained = len(failed) - len(cut) - sum(0 < at <= FIRST for at in after)
    return [
        beside("TCP: connections opened", len(seen.visits)),
        at_most("TCP: cut by the kill, of 8 at once", len(cut), 8),
        beside("TCP: opened after the kill that failed", len(after)),
        beside("TCP: the last of these, after the kill", 1000 * max(after, default=0.0), "ms"),
        at_most(f"TCP: failed at other times than in the first {1000 * FIRST:.0f} ms", unexplained, 0),
    ]


def of_tunnels(seen: Seen) -> list[Finding]:
    to_killed = [tunnel for tunnel in seen.tunnels if tunnel.server == seen.killed.name]
    to_other = [tunnel for tunnel in seen.tunnels if tunnel.server not in ("", seen.killed.name)]
    ended = [tunnel.ended - seen.death.begun for tunnel in to_killed if tunnel.problem in ("closed", "reset")]
    return [
        at_least("TCP: connections kept open to the killed server", len(to_killed), 1),
        at_most("TCP: of these, not ended by the kill", len(to_killed) - len(ended), 0),
        at_most("TCP: the last of these ended after", 1000 * max(ended, default=0.0), 1000, "ms"),
        at_least("TCP: connections kept open to the other server", len(to_other), 1),
        at_most("TCP: of these, disturbed", sum(bool(tunnel.problem) for tunnel in to_other), 0),
    ]


def of_shares(seen: Seen) -> list[Finding]:
    findings = []
    for name, records in (("HTTP", seen.requests), ("TCP", seen.visits)):
        before = good(records, seen.begun + 0.5, seen.death.begun)
        without = good(records, seen.death.ended, seen.restarted)
        after = good(records, seen.back, float("inf"))
        rate_before = len(before) / (seen.death.begun - seen.begun - 0.5)
        rate_without = len(without) / (seen.restarted - seen.death.ended)
        kept = 100 * rate_without / rate_before
        findings += [
            at_least(f"{name}: share of the server before it is killed", of_server(before, seen), 40, "%"),
            at_least(f"{name}: answers a second without it, of those before", kept, 60, "%"),
            at_least(f"{name}: its share when it is back", of_server(after, seen), 40, "%"),
        ]
    return [*findings, at_most("used again after its start, for both", seen.back - seen.restarted, 3, "s")]


def good(records: list[Record], begin: float, end: float) -> list[Record]:
    return [one for one in records if begin <= one.sent <= end and not has_failed(one)]


def of_server(records: list[Record], seen: Seen) -> float:
    return 100 * sum(one.server == seen.killed.name for one in records) / max(1, len(records))


def has_failed(record: Record) -> bool:
    return record.status != 200 or bool(record.problem)
