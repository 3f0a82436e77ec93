"""Where a scenario is played: cores, directory, processes and the versions that take part."""

import os
from dataclasses import dataclass
from pathlib import Path

from .failure import Failure
from .processes import Processes, Program

Figures = dict[str, float]  # what was measured, by name
ROOT = Path(__file__).resolve().parents[2]
CORES = frozenset(os.sched_getaffinity(0))  # what this script was given, before it chooses among them


@dataclass(frozen=True)
class Placement:
    """Which cores proxies may use, which everything else, and how many workers a proxy gets."""

    proxy: frozenset[int]
    load: frozenset[int]

    @property
    def workers(self) -> int:
        return len(self.proxy)


def apart() -> Placement:
    """The first core is the proxy's, the others are for load generators and origins."""
    first, *others = sorted(CORES)
    if not others:
        raise Failure("this machine has one core; two are the least that can keep proxy and load apart")
    return Placement(frozenset([first]), frozenset(others))


def together() -> Placement:
    """Everybody may use all cores."""
    return Placement(CORES, CORES)


@dataclass(frozen=True)
class Stage:
    """What proxies, origins and load generators need to be started."""

    processes: Processes
    placement: Placement

    @property
    def directory(self) -> Path:
        return self.processes.directory

    def start_proxy(self, name: str, command: list[str], **more) -> Program:
        return self.processes.start(name, command, self.placement.proxy, **more)

    def start_load(self, name: str, command: list[str], **more) -> Program:
        return self.processes.start(name, command, self.placement.load, **more)

    def write(self, name: str, text: str) -> Path:
        path = self.processes.new_file(name)
        path.write_text(text)
        return path
