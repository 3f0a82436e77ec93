"""Judges every request by what its client saw and what the servers wrote down; and every tunnel.

Sent is answered, once, with what was asked for. Three things are excused, no others; a *kill* of a server is SIGKILL,
and is *during* a request if its process was there when the request was sent and gone before the request ended:

* `executing`: a POST was answered 502, its execution had begun (the journal says so, once) on a server that was
  killed during the request. Nobody may have it executed again.
* `unread`: a POST was answered 502, no server had begun to execute it, and one was killed during the request. The
  bytes may have been anywhere; nobody can know that they had not been read.
* `cut`: an answer had begun to arrive, and its server was killed during the request. What was sent cannot be taken
  back.

A POST is executed at most once, and one that was answered 200 was executed. A tunnel may end when its server is
killed or ends, or when the process of the load balancer that has it has handed over and reached its drain limit.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .backends import Backend, Death
from .clients import Record
from .tunnels import Tunnel

SLACK = 0.5  # seconds by which clocks of different tasks may differ


@dataclass(frozen=True)
class Violation:
    at: float
    text: str


@dataclass
class Account:
    counts: Counter = field(default_factory=Counter)
    excused: Counter = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def violation(self, at: float, text: str) -> None:
        self.violations.append(Violation(at, text))


@dataclass(frozen=True)
class Journal:
    """Which process began to execute which request, in order."""

    begun: dict[str, list[int]]

    @classmethod
    def read(cls, path: Path) -> "Journal":
        begun: dict[str, list[int]] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            name, _, pid, phase = line.split(" ")
            if phase == "begin":
                begun.setdefault(name, []).append(int(pid))
        return cls(begun)

    def of(self, record: Record) -> list[int]:
        return self.begun.get(record.id, [])


def judge_requests(records: list[Record], journal: Journal, backends: list[Backend], account: Account) -> None:
    deaths = {backend.name: backend.deaths for backend in backends}
    kills = [death for all_of_one in deaths.values() for death in all_of_one if death.killed]
    for record in records:
        executed = journal.of(record)
        account.counts[f"{record.method} {record.status or 'without status'}"] += 1
        if record.method == "POST" and len(executed) > 1:
            account.violation(record.sent, f"{name_of(record)}: executed {len(executed)} times, by {executed}")
        elif record.status == 200 and not record.problem:
            if record.method == "POST" and not executed:
                account.violation(record.sent, f"{name_of(record)}: answered, but not executed")
        elif why := excuse(record, executed, kills, deaths.get(record.server, [])):
            account.excused[why] += 1
        else:
            account.violation(record.sent, f"{name_of(record)}: {saw(record, executed)}")


def excuse(record: Record, executed: list[int], kills: list[Death], of_server: list[Death]) -> str | None:
    killed = {death.pid for death in kills if during(death, record)}
    if record.method == "POST" and record.status == 502 and not record.problem:
        if executed and executed[0] in killed:
            return "executing"
        if not executed and killed:
            return "unread"
    if record.status == 200 and record.problem in ("closed", "reset") and any(it.pid in killed for it in of_server):
        return "cut"
    return None


def during(death: Death, record: Record) -> bool:
    return record.sent <= death.ended and death.begun <= record.ended


def name_of(record: Record) -> str:
    return f"{record.id} {record.method} {record.path}"


def saw(record: Record, executed: list[int]) -> str:
    parts = [f"status {record.status}" if record.status else "no answer", record.problem]
    parts += [f"from {record.server}" if record.server else "", f"after {record.seconds:.2f} s"]
    parts += ["on a connection that had served before" if record.reused else "on a new connection"]
    parts += [f"executed by {executed}" if executed else "not executed"]
    return ", ".join(filter(None, parts))


def judge_tunnels(
    tunnels: list[Tunnel], backends: list[Backend], upgrades: list[float], drain: float, account: Account
) -> None:
    deaths = {backend.name: backend.deaths for backend in backends}
    for tunnel in tunnels:
        if not tunnel.problem:
            account.counts["tunnels that we closed"] += 1
            continue
        died = any(
            tunnel.opened <= death.ended and death.begun <= tunnel.ended + SLACK
            for death in deaths.get(tunnel.server, [])
        )
        outlived = any(tunnel.opened <= at + SLACK and tunnel.ended >= at + drain - SLACK for at in upgrades)
        if tunnel.problem in ("closed", "reset") and (died or outlived):
            account.excused["tunnels whose server ended" if died else "tunnels at the drain limit"] += 1
        else:
            what = f"tunnel to {tunnel.server or 'nobody'}: {tunnel.problem}"
            age = tunnel.ended - tunnel.opened
            account.violation(tunnel.ended, f"{what}, after {age:.1f} s and {tunnel.messages} messages")
