"""What the command lines have in common: --binary, and how a run ends."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmark.failure import Failure
from benchmark.processes import raise_file_limit
from trials.binary import built
from trials.stage import clean_environment
from trials.wire import Broken

EPILOGUE = """\
Everything listens on loopback, on ports that are free, and ends with the script. Without --binary the release build
is made first. Exit status: 0 if all is as promised, 1 if something is not or failed, 2 for wrong usage.
"""


def arguments(name: str, description: str, beside: str) -> argparse.ArgumentParser:
    """`beside` are the programs that have to be beside the load balancer."""
    parser = argparse.ArgumentParser(prog=f"scripts/{name}", description=description, epilog=EPILOGUE)
    parser.add_argument("--binary", type=Path, help=f"a built loadbalancer, with {beside} beside it")
    return parser


def run(name: str, binary: Path | None, check: Callable[[Path], int]) -> int:
    """Gives the exit status that `check` gives, or that of a failure."""
    try:
        clean_environment()
        raise_file_limit()
        return check((binary or built()).resolve())
    except (Failure, Broken, OSError) as failure:
        print(f"scripts/{name}: {failure}", file=sys.stderr)
        return 1
