"""A figure and its bound."""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmark.failure import Failure

from ..configuration import takes
from ..report import table


@dataclass(frozen=True)
class Finding:
    what: str
    figure: str
    bound: str = "-"
    good: bool = True


def at_most(what: str, figure: float, bound: float, unit: str = "") -> Finding:
    return Finding(what, shown(figure, unit), f"at most {shown(bound, unit)}", figure <= bound)


def at_least(what: str, figure: float, bound: float, unit: str = "") -> Finding:
    return Finding(what, shown(figure, unit), f"at least {shown(bound, unit)}", figure >= bound)


def beside(what: str, figure: float, unit: str = "") -> Finding:
    """Promises nothing; it is there to be compared."""
    return Finding(what, shown(figure, unit))


def within(what: str, figure: float, expected: float, percent: float, unit: str = "") -> Finding:
    good = abs(figure - expected) <= expected * percent / 100
    return Finding(what, shown(figure, unit), f"{shown(expected, unit)} ± {percent:g} %", good)


def print_findings(findings: list[Finding]) -> int:
    """Prints them as a table; gives the exit status."""
    verdicts = ["-" if it.bound == "-" else "holds" if it.good else "FAILS" for it in findings]
    rows = [[it.what, it.figure, it.bound, verdict] for it, verdict in zip(findings, verdicts, strict=True)]
    print(table(["what", "found", "promised", ""], rows), flush=True)
    return 0 if all(it.good for it in findings) else 1


def shown(figure: float, unit: str) -> str:
    if not math.isfinite(figure):
        return "none"
    number = f"{figure:.0f}" if float(figure).is_integer() or abs(figure) >= 100 else f"{figure:.3g}"
    return f"{number} {unit}".strip()


def require(binary: Path, lines: str) -> None:
    """Fails if the load balancer does not know these lines of an upstream's."""
    with tempfile.TemporaryDirectory() as directory:
        known = takes(binary, Path(directory), lines)
    if not known:
        raise Failure(f"this load balancer does not take {lines.splitlines()[-1]}")
