"""What is read from a proxy under load: its processor time, or its system calls."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import accounting
from .h2load import h2load
from .load import Load
from .processes import wait_until
from .proxies import Proxy
from .stage import Figures, Stage

WARM_UP = 0.5  # seconds of load before each measurement


@dataclass(frozen=True)
class UnderLoad:
    """Processor time a request, with the figures that the load gives."""

    load: Load
    prelude: Callable[[Stage, str], object] | None = None  # called once with the proxy's URL

    def prepare(self, stage: Stage, proxy: Proxy) -> None:
        if self.prelude:
            self.prelude(stage, proxy.url)

    def measure(self, stage: Stage, proxy: Proxy, seconds: float) -> Figures:
        self.load.run(stage, proxy.url, WARM_UP)
        before = accounting.cpu_time(proxy.pid)
        figures = self.load.run(stage, proxy.url, seconds)
        used = accounting.cpu_time(proxy.pid) - before
        microseconds = used.total / 1e3 / max(figures["requests"], 1)
        return figures | {
            "cpu": microseconds,
            "user": microseconds * used.user_share,
            "system": microseconds * (1 - used.user_share),
            "rate": figures["requests"] / figures["seconds"],
            "busy": used.total / 1e9 / figures["seconds"] * 100,
        }


RECEIVING = ("recvfrom", "read", "readv", "recvmsg")
SENDING = ("sendto", "write", "writev", "sendmsg")


@dataclass(frozen=True)
class SystemCalls:
    """System calls a request, by name; strace slows the proxy down, so times would mean nothing."""

    requests: int
    connections: int
    path: str

    def prepare(self, stage: Stage, proxy: Proxy) -> None:
        self.send(stage, proxy, 1000)

    def measure(self, stage: Stage, proxy: Proxy, seconds: float) -> Figures:
        counts = stage.write("strace.txt", "")
        pids = accounting.family(proxy.pid)
        command = ["strace", "-c", "-f", "-o", str(counts), *(f"--attach={pid}" for pid in pids)]
        strace = stage.start_load("strace", command)
        wait_until("strace", strace, lambda: strace.log.read_text().count("attached") >= len(pids), 10)
        answered = self.send(stage, proxy, self.requests)
        strace.process.send_signal(signal.SIGINT)
        stage.processes.finish(strace, 30, statuses=(0, 128 + signal.SIGINT, -signal.SIGINT))

        calls = {name: count / self.requests for name, count in read_counts(counts).items()}
        totals = {
            "errors": self.requests - answered,
            "all": sum(calls.values()),
            "receiving": sum(calls.get(name, 0) for name in RECEIVING),
            "sending": sum(calls.get(name, 0) for name in SENDING),
        }
        return totals | {"futex": 0} | calls

    def send(self, stage: Stage, proxy: Proxy, requests: int) -> int:
        """Sends requests and returns how many were answered with 200."""
        return len(h2load(stage, f"{proxy.url}{self.path}", self.connections, requests, more=[]).times)


def read_counts(summary: Path) -> dict[str, int]:
    """Calls by name from the table that strace -c writes: shares, times and calls, perhaps errors, then the name."""
    rows = [line.split() for line in summary.read_text().splitlines()]
    rows = [row for row in rows if row and row[0][0].isdigit() and row[-1] != "total"]
    return {row[-1]: int(row[3]) for row in rows}
