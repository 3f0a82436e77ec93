"""The command line: what it means, what it prints and how it ends."""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from . import tools
from .failure import Failure
from .model import OURS, Cast, Scenario
from .processes import raise_file_limit
from .report import Results, summary
from .rounds import play
from .scenarios import SCENARIOS
from .stage import apart

DESCRIPTION = """\
Measures how much processor time a request costs loadbalancer beside nginx, HAProxy and, if asked, Envoy: all in one
run, one worker each on a core of its own, load generator and servers on the others. Prints a table for each scenario,
with the ratio to the best of the others and the bar for it; progress goes to standard error.
"""
EPILOGUE = """\
Needs cargo, two cores, wrk, h2load, nginx, haproxy, redis-server, strace and openssl; what is missing is installed with
apt-get when run by root. Everything listens on loopback, on ports that are free. Exit status: 0 if there was no error in any
answer, 1 if there was or something else failed, 2 for wrong usage. Missed bars are reported, not failures.
"""
PROGRAM = "scripts/bench"


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    rounds: int
    seconds: float


FULL = Effort(5, 3)
QUICK = Effort(3, 1.5)


class Ended(Exception):
    """A signal asked the run to end."""


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.list:
        width = max(len(scenario.name) for scenario in SCENARIOS)
        for scenario in SCENARIOS:
            print(f"{scenario.name.ljust(width)}  {scenario.summary}")
        return 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        return bench(options)
    except (Failure, OSError) as failure:
        print(f"{PROGRAM}: {failure}", file=sys.stderr)
        return 1
    except Ended as ended:
        print(f"{PROGRAM}: ended by {ended}", file=sys.stderr)
        return 1


def end(number: int, _frame: object) -> None:
    # Once is enough: what cleans up after this must not be interrupted.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    raise Ended(signal.Signals(number).name)


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="the core scenarios, in under 3 minutes")
    which.add_argument("--only", metavar="NAMES", type=scenario_names, help="these scenarios, separated by commas")
    which.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument("--with", dest="peer", choices=["envoy"], help="measure Envoy too")
    parser.add_argument(
        "--binary",
        metavar="NAME=PATH",
        action="append",
        type=named_binary,
        default=[],
        help="measure another build of loadbalancer beside the present one; may be repeated",
    )
    parser.add_argument("--rounds", metavar="N", type=positive_int, help="rounds (5; with --quick 3)")
    parser.add_argument("--seconds", metavar="S", type=seconds, help="of load in a round (3; with --quick 1.5)")
    parser.add_argument("--json", metavar="FILE", type=new_file, help="write the figures of each round to FILE")
    parser.add_argument("--no-build", action="store_true", help="use target/release as it is")
    parser.add_argument("--keep", action="store_true", help="leave configurations and logs behind and say where")
    options = parser.parse_args(arguments)
    names = [OURS, *(name for name, _ in options.binary)]
    if len(set(names)) != len(names) or {"nginx", "haproxy", "envoy"} & set(names):
        parser.error("--binary: each build needs a name of its own")
    return options


def scenario_names(text: str) -> list[str]:
    known = [scenario.name for scenario in SCENARIOS]
    names = text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"no scenario {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def named_binary(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (equals and path and re.fullmatch(r"[\w.-]+", name)):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    if not os.access(path, os.X_OK) or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{path} is not a program")
    return name, Path(path).resolve()


def new_file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written")
    return path


def positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.5 to 3600")
    return value


def bench(options: argparse.Namespace) -> int:
    scenarios = chosen(options)
    default = QUICK if options.quick else FULL
    effort = Effort(options.rounds or default.rounds, options.seconds or default.seconds)
    placement = apart()

    programs = {program for scenario in scenarios for program in scenario.programs}
    tools.provide(programs)
    if not options.no_build:
        tools.build()
    binaries = builds(options)
    envoy = tools.envoy() if options.peer else None
    raise_file_limit()
    os.sched_setaffinity(0, placement.load)

    directory = Path(tempfile.mkdtemp(prefix="loadbalancer-bench-"))
    try:
        cast = Cast(copies(binaries, directory), envoy)
        facts = {"machine": tools.machine(), "versions": tools.versions(programs, cast.binaries, cast.envoy)}
        print(heading(facts, effort), flush=True)
        results, failures = measure(scenarios, cast, directory, effort)
    finally:
        if options.keep:
            print(f"configurations and logs are in {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)

    if results:
        print(summary(results), end="", flush=True)
    if options.json:
        raw = facts | {"rounds": effort.rounds, "seconds": effort.seconds}
        raw["scenarios"] = [each.outcome.raw() for each in results]
        options.json.write_text(json.dumps(raw, indent=2) + "\n")
    failures += [f"{each.scenario.name}: {each.outcome.errors} errors" for each in results if each.outcome.errors]
    for failure in failures:
        print(f"{PROGRAM}: {failure}", file=sys.stderr)
    return 1 if failures else 0


def measure(scenarios: list[Scenario], cast: Cast, directory: Path, effort: Effort) -> tuple[list[Results], list[str]]:
    """Plays the scenarios and prints their tables; one that fails does not keep the others from being measured."""
    results, failures = [], []
    for scenario in scenarios:
        try:
            results.append(Results(play(scenario, cast, directory, effort.rounds, effort.seconds)))
        except Failure as failure:
            failures.append(f"{scenario.name}: {failure}")
        else:
            print(results[-1].table(), flush=True)
    return results, failures


def chosen(options: argparse.Namespace) -> list[Scenario]:
    if options.only:
        return [scenario for scenario in SCENARIOS if scenario.name in options.only]
    return [scenario for scenario in SCENARIOS if scenario.quick or not options.quick]


def builds(options: argparse.Namespace) -> dict[str, Path]:
    """The builds of loadbalancer that take part, by name."""
    for program in (OURS, "backends1", "backends2"):
        if not (tools.RELEASE / program).is_file():
            raise Failure(f"target/release/{program} is missing: run without --no-build")
    return {OURS: tools.RELEASE / OURS, **dict(options.binary)}


def copies(binaries: dict[str, Path], directory: Path) -> dict[str, Path]:
    """The same builds at places where nobody replaces them during the run."""
    places = {name: directory / f"build-{name}" for name in binaries}
    for name, binary in binaries.items():
        shutil.copy(binary, places[name])
    return places


def heading(facts: dict, effort: Effort) -> str:
    machine, versions = facts["machine"], facts["versions"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; "
        f"rounds: {effort.rounds}, each of {effort.seconds:g} s; medians (least–most), ratios within a round.",
        "",
        *(f"* {name}: {version}" for name, version in versions.items()),
        "",
    ]
    return "\n".join(lines)
