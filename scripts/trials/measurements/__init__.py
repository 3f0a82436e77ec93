"""What scripts/reliability measures, a file each: `measure(binary)` gives what was found beside what is promised."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from . import ejection, hedging, overload, reloads, rolling
from .finding import Finding

MEASUREMENTS: Mapping[str, Callable[[Path], Awaitable[list[Finding]]]] = {
    "reloads": reloads.measure,
    "rolling": rolling.measure,
    "hedging": hedging.measure,
    "ejection": ejection.measure,
    "overload": overload.measure,
}
