"""A Redis of our own that keeps nothing on disk."""

import asyncio
import os
import signal
from dataclasses import dataclass, field

from benchmark.processes import Processes, Program, free_port, wait_until

from .backends import EVERYWHERE


@dataclass
class Redis:
    processes: Processes
    port: int = field(default_factory=free_port)
    program: Program | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self.program = program = self.processes.start("redis", command, EVERYWHERE)
        wait_until("redis", program, lambda: "Ready to accept connections" in program.log.read_text(), 10)

    async def pause(self, seconds: float) -> None:
        os.kill(self.program.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(self.program.pid, signal.SIGCONT)

    async def kill(self) -> None:
        self.program.process.kill()
        await asyncio.to_thread(self.program.process.wait)
        self.processes.running.remove(self.program)
