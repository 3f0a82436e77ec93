"""The command line of scripts/reliability."""

import argparse
import asyncio
import sys
from pathlib import Path

from benchmark.failure import Failure
from benchmark.processes import raise_file_limit
from benchmark.tools import provide

from .binary import built
from .measurements import MEASUREMENTS
from .measurements.finding import print_findings
from .stage import clean_environment
from .wire import Broken

DESCRIPTION = """\
Measures what loadbalancer promises for bad times: reloads and upgrades under load, rolling restarts of servers, slow,
faulty and overloaded servers. Prints a table of figures and bounds.
"""
EPILOGUE = """\
Everything listens on loopback, on ports that are free, and ends with the script. Without --binary the release build
is made first. Exit status: 0 if all bounds hold, 1 if one does not or something failed, 2 for wrong usage.
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/reliability", description=DESCRIPTION, epilog=EPILOGUE)
    names = ", ".join(MEASUREMENTS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {names}; without any, all")
    parser.add_argument("--binary", type=Path, help="a built loadbalancer, with backends1 beside it")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in MEASUREMENTS:
            parser.error(f"there is no measurement {name}")
    try:
        clean_environment()
        raise_file_limit()
        chosen = options.names or list(MEASUREMENTS)
        if "reloads" in chosen:
            provide({"wrk"})
        binary = (options.binary or built()).resolve()
    except (Failure, OSError) as failure:
        print(f"scripts/reliability: {failure}", file=sys.stderr)
        return 1
    return max([measure(name, binary) for name in chosen])


def measure(name: str, binary: Path) -> int:
    """Prints the table of one measurement; gives the exit status."""
    print(f"\n## {name}\n", flush=True)
    try:
        findings = asyncio.run(MEASUREMENTS[name](binary))
    except (Failure, Broken, OSError) as failure:
        print(f"failed: {failure}")
        return 1
    return print_findings(findings)
