"""The clients, those that are wrk: each sends requests to one proxy for a while and says what became of them."""

import json
import signal
import time
from dataclasses import dataclass
from typing import Protocol

from .failure import Failure
from .stage import Figures, Stage
from .tls import of_clients


class Load(Protocol):
    """Requests for about `seconds` to a URL without path.

    The figures are requests, errors, seconds, and, unless each has a connection of its own, p50, p99 and p99.9 in
    milliseconds.
    """

    def run(self, stage: Stage, url: str, seconds: float) -> Figures: ...


WRK_REPORT = """
done = function(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '\\n@ {"requests": %d, "us": %d, "bytes": %d, "p50": %d, "p99": %d, "p999": %d, ' ..
        '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\\n',
        summary.requests, summary.duration, summary.bytes,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
        errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""


@dataclass(frozen=True)
class Wrk:
    """As many requests as the proxy can answer, over a fixed number of connections."""

    path: str
    connections: int
    body: int  # bytes that each answer has at least
    script: str = ""  # more Lua
    headers: tuple[str, ...] = ()

    def run(self, stage: Stage, url: str, seconds: float) -> Figures:
        script = stage.write("wrk.lua", self.script + WRK_REPORT)
        command = ["wrk", "-t1", f"-c{self.connections}", "-d1h", "--timeout", "5s", "-s", str(script)]
        for header in self.headers:
            command += ["-H", header]
        environment = of_clients(stage.directory) if url.startswith("https:") else None
        program = stage.start_load("wrk", [*command, f"{url}{self.path}"], environment=environment)
        # wrk takes whole seconds only; told to stop by a signal it reports the time that it really ran.
        time.sleep(seconds)
        program.check()
        program.process.send_signal(signal.SIGINT)
        output = stage.processes.finish(program, 30)

        reports = [line[1:] for line in output.splitlines() if line.startswith("@")]
        if len(reports) != 1:
            raise Failure(f"wrk gave no report: {program.last_words()}")
        report = json.loads(reports[0])
        errors = sum(report[kind] for kind in ("connect", "read", "write", "status", "timeout"))
        if not report["requests"]:
            errors += self.connections  # all of them wait; wrk notices a timeout only when an answer comes after all
        if not errors and report["bytes"] < report["requests"] * self.body:
            raise Failure(f"answers to {self.path} are shorter than {self.body} bytes")
        return {
            # wrk counts an answer with an error status as complete.
            "requests": report["requests"] - report["status"],
            "errors": errors,
            "seconds": report["us"] / 1e6,
            "p50": report["p50"] / 1e3,
            "p99": report["p99"] / 1e3,
            "p999": report["p999"] / 1e3,
        }


FILL = """
local sent, answered = 0, 0
request = function()
    sent = sent + 1
    return string.format("GET /128 HTTP/1.1\\r\\nHost: a\\r\\nx-client: %07d\\r\\n\\r\\n", (sent - 1) % COUNT)
end
response = function()
    answered = answered + 1
    if answered == COUNT + 1000 then os.exit(0) end
end
"""


@dataclass(frozen=True)
class FillKeys:
    """Lets a limiter see this many clients once each (and a few of them twice, so that none is left in flight)."""

    count: int

    def __call__(self, stage: Stage, url: str) -> None:
        script = stage.write("fill.lua", FILL.replace("COUNT", str(self.count)))
        program = stage.start_load("wrk", ["wrk", "-t1", "-c64", "-d1h", "-s", str(script), url])
        stage.processes.finish(program, 300)
