"""The load balancer: its processes (several, while one takes over from another), its configuration, its admin API."""

import asyncio
import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.failure import Failure
from benchmark.processes import Processes, Program

from .backends import EVERYWHERE
from .configuration import Configuration
from .wire import Address, Answer, Broken, fetch

LONGEST_UPGRADE = 10.0  # seconds until a new process serves
ATTEMPTS_PAUSE = 0.02
CLOCK_SLACK = 1.5  # seconds; upgrades are further apart


@dataclass(frozen=True)
class Process:
    pid: int
    born: int  # clock ticks since the machine started


@dataclass
class Balancer:
    """`binary` is copied, since upgrades replace it."""

    binary: Path
    processes: Processes
    configuration: Configuration
    programs: list[Program] = field(default_factory=list)  # the leaders of the sessions that all processes belong to
    upgrades: list[float] = field(default_factory=list)  # when a new process had taken over
    retired: dict[int, float] = field(default_factory=dict)  # processes that handed over, and when
    pid: int = 0  # of the process that serves
    unanswered: int = 0  # requests to the admin API that got no answer while one process took over from another

    @property
    def directory(self) -> Path:
        return self.processes.directory

    @property
    def path(self) -> Path:
        """Of the configuration."""
        return self.directory / "config.toml"

    @property
    def program(self) -> Path:
        return self.directory / "loadbalancer"

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.configuration.port

    @property
    def admin(self) -> Address:
        return "127.0.0.1", self.configuration.admin_port

    async def start(self) -> None:
        shutil.copy(self.binary, self.program)
        self.path.write_text(self.configuration.text())
        self.pid = self.launch().pid
        await self.ready()

    def launch(self, *flags: str, path: Path | None = None) -> Program:
        command = [str(self.program), "--config", str(path or self.path), *flags]
        self.programs.append(self.processes.start("loadbalancer", command, EVERYWHERE))
        return self.programs[-1]

    async def ready(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            self.programs[-1].check()
            try:
                if (await fetch(self.admin, "/readyz")).status == 200:
                    return
            except Broken:
                pass
            if time.monotonic() > deadline:
                raise Failure(f"the load balancer is not ready: {self.programs[-1].last_words()}")
            await asyncio.sleep(ATTEMPTS_PAUSE)

    async def end(self) -> int:
        """Asks the process that serves to end, and gives its status; -1 if it is not ours to wait for."""
        os.kill(self.pid, signal.SIGTERM)
        for program in self.programs:
            if program.pid == self.pid:
                return await asyncio.to_thread(program.process.wait, 30)
        return -1

    # ---- processes ----

    def alive(self) -> list[Process]:
        """All of ours that run, the youngest last."""
        for program in self.programs:
            program.process.poll()  # what has ended is no zombie
        sessions = {program.pid for program in self.programs}
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (process := process_of(entry, sessions)):
                found.append(process)
        return sorted(found, key=lambda process: process.born)

    async def handed_over(self, since: float) -> bool:
        """Waits for another process to serve; False if none does in time."""
        while time.monotonic() < since + LONGEST_UPGRADE:
            others = [process.pid for process in self.alive() if process.pid not in {self.pid, *self.retired}]
            if others and await self.serving(others[-1]):
                self.retired[self.pid] = time.monotonic()
                self.upgrades.append(time.monotonic())
                self.pid = others[-1]
                return True
            await asyncio.sleep(ATTEMPTS_PAUSE)
        return False

    async def serving(self, pid: int) -> bool:
        """Whether it is this process that answers at the admin API."""
        born = next((process.born for process in self.alive() if process.pid == pid), None)
        if born is None:
            return False
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
        began = int(boot.split()[1]) + born / os.sysconf("SC_CLK_TCK")
        try:
            return abs(await self.metric("process_start_time_seconds") - began) < CLOCK_SLACK
        except Broken:
            self.unanswered += 1
            return False

    def logs(self) -> str:
        return "\n".join(program.log.read_text(errors="replace") for program in self.programs)

    # ---- configuration ----

    def save(self, text: str) -> None:
        """As editors do: a new file that takes the old one's place."""
        beside = self.path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.path)

    async def generation(self) -> str:
        return (await fetch(self.address, "/generation")).body.decode()

    async def in_force(self, seconds: float) -> bool:
        """Waits until the configuration is in force, three times in a row: workers change one by one."""
        deadline, row = time.monotonic() + seconds, 0
        while row < 3:
            row = row + 1 if await self.generation() == str(self.configuration.generation) else 0
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(ATTEMPTS_PAUSE)
        return True

    async def post_reload(self) -> Answer:
        """Waits for its turn while another reload is under way."""
        while (answer := await fetch(self.admin, "/config/reload", "POST")).status == 409:
            await asyncio.sleep(ATTEMPTS_PAUSE)
        return answer

    # ---- admin API ----

    async def servers(self) -> dict[str, dict]:
        listed = (await fetch(self.admin, "/servers")).json()
        return {server["address"]: server for server in listed["servers"]}

    async def samples(self, name: str) -> dict[str, float]:
        """All samples of a metric, by their labels as they are written."""
        lines = (await fetch(self.admin, "/metrics")).body.decode().splitlines()
        found = {}
        for line in lines:
            sample, _, value = line.rpartition(" ")
            family, _, labels = sample.partition("{")
            if family == name:
                found[labels.rstrip("}")] = float(value)
        return found

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        return sum((await self.samples(name)).values())


def process_of(entry: Path, sessions: set[int]) -> Process | None:
    """A process that runs, if it belongs to one of the sessions."""
    try:
        state, *rest = (entry / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    # After the state: parent, group, session; the start is the 22nd field of the file.
    if state == "Z" or int(rest[2]) not in sessions:
        return None
    return Process(int(entry.name), int(rest[18]))
