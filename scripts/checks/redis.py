"""redis-benchmark, and what it says."""

import csv

from benchmark.failure import Failure
from benchmark.processes import Processes
from trials.backends import EVERYWHERE


def rates(processes: Processes, port: int, flags: list[str]) -> dict[str, float]:
    """Requests a second by test, none of which may fail."""
    command = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "--csv", *flags]
    output = processes.finish(processes.start("redis-benchmark", command, EVERYWHERE), 120)
    if "Error" in output:
        raise Failure(f"redis-benchmark: {output.strip()}")
    rows = csv.DictReader(line for line in output.splitlines() if line.startswith('"'))
    found = {row["test"]: float(row["rps"]) for row in rows}
    if not found:
        raise Failure(f"redis-benchmark said nothing of rates: {output.strip()}")
    return found
