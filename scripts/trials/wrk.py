"""wrk beside a run: as many requests as are answered, until it is told to end."""

import asyncio
import json
import signal
from dataclasses import dataclass

from benchmark.failure import Failure
from benchmark.load import WRK_REPORT
from benchmark.processes import Processes, Program

from .backends import EVERYWHERE


@dataclass(frozen=True)
class WrkReport:
    requests: int
    errors: dict[str, int]  # by kind, those that occurred


@dataclass
class Wrk:
    processes: Processes
    url: str
    connections: int = 32
    program: Program | None = None

    def start(self) -> None:
        script = self.processes.new_file("wrk.lua")
        script.write_text(WRK_REPORT)
        command = ["wrk", "-t1", f"-c{self.connections}", "-d1h", "--timeout", "5s", "-s", str(script), self.url]
        self.program = self.processes.start("wrk", command, EVERYWHERE)

    async def finish(self) -> WrkReport:
        self.program.check()
        self.program.process.send_signal(signal.SIGINT)
        output = await asyncio.to_thread(self.processes.finish, self.program, 30)
        reports = [line[1:] for line in output.splitlines() if line.startswith("@")]
        if len(reports) != 1:
            raise Failure(f"wrk gave no report: {self.program.last_words()}")
        report = json.loads(reports[0])
        kinds = ("connect", "read", "write", "status", "timeout")
        return WrkReport(report["requests"], {kind: report[kind] for kind in kinds if report[kind]})
