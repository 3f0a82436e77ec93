"""What the kernel says that a proxy has used, over all its processes and threads, and what everybody has."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class CpuTime:
    """Processor time of a family of processes, in nanoseconds; `user` and `system` come in whole ticks."""

    total: int
    user: int
    system: int

    def __sub__(self, earlier: "CpuTime") -> "CpuTime":
        return CpuTime(self.total - earlier.total, self.user - earlier.user, self.system - earlier.system)

    @property
    def user_share(self) -> float:
        ticks = self.user + self.system
        return self.user / ticks if ticks else 0.0


def family(pid: int) -> list[int]:
    """A process and all processes below it."""
    pids = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            pids += family(int(child))
    return pids


def cpu_time(pid: int) -> CpuTime:
    total = user = system = 0
    for member in family(pid):
        total += time.clock_gettime_ns(cpu_clock(member))
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11]) * TICK_NS
        system += int(fields[12]) * TICK_NS
    return CpuTime(total, user, system)


def cpu_clock(pid: int) -> int:
    """The clock that counts a process's time on a core, as clock_getcpuclockid(3) makes it.

    It is the sum of what /proc/PID/task/*/schedstat says, to the nanosecond and up to this moment, and it keeps the
    time of threads that have ended.
    """
    return (~pid << 3) | 2


def machine_time() -> int:
    """Nanoseconds that the cores of this machine were busy, in whole ticks."""
    user, nice, system, _idle, _waiting, *interrupts_and_steal = map(int, first_line("/proc/stat").split()[1:9])
    return (user + nice + system + sum(interrupts_and_steal)) * TICK_NS


def first_line(path: str) -> str:
    return Path(path).read_text().partition("\n")[0]


def memory(pid: int) -> int:
    """Proportional set size in bytes: pages that several processes share count once."""
    total = 0
    for member in family(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total
