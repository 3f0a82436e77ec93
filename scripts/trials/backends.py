"""The test servers: started, killed, ended, stopped for a while, and told what goes wrong with them."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.failure import Failure
from benchmark.processes import Processes, Program, free_port

from .wire import Address, Broken, fetch

EVERYWHERE = frozenset(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Death:
    """A process of a server that was killed, or asked to end, between two moments."""

    pid: int
    killed: bool
    begun: float
    ended: float


@dataclass
class Backend:
    name: str
    binary: Path
    processes: Processes
    flags: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    program: Program | None = None
    deaths: list[Death] = field(default_factory=list)

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.port

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        command = [str(self.binary), "--name", self.name, "--listen", self.authority, *self.flags]
        self.program = self.processes.start(self.name, command, EVERYWHERE)
        deadline = time.monotonic() + 10
        while not await self.answers():
            self.program.check()
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} does not answer: {self.program.last_words()}")
            await asyncio.sleep(0.02)

    async def answers(self) -> bool:
        try:
            return (await fetch(self.address, "/faults", timeout=1)).status == 200
        except Broken:
            return False

    async def kill(self) -> None:
        await self.die(signal.SIGKILL)

    async def terminate(self) -> None:
        await self.die(signal.SIGTERM)

    async def die(self, how: signal.Signals) -> None:
        program = self.program
        begun = time.monotonic()
        os.kill(program.pid, how)
        await asyncio.to_thread(program.process.wait)
        self.deaths.append(Death(program.pid, how == signal.SIGKILL, begun, time.monotonic()))
        self.processes.running.remove(program)
        self.program = None

    async def pause(self, seconds: float) -> None:
        os.kill(self.program.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(self.program.pid, signal.SIGCONT)

    async def faults(self, **faults: object) -> None:
        answer = await fetch(self.address, "/faults", "POST", faults)
        if answer.status != 200:
            raise Failure(f"{self.name} does not take faults: {answer.body.decode()}")
