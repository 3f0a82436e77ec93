"""A figure and its bound."""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmark.failure import Failure

from ..configuration import takes


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
