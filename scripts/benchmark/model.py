"""The words of this benchmark: scenarios, who takes part in them, what is measured and how good it has to be."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .origins import nginx_pair
from .proxies import Proxy
from .stage import Figures, Placement, Stage, apart

OURS = "loadbalancer"


@dataclass(frozen=True)
class Column:
    """A figure as the tables show it."""

    figure: str
    heading: str
    higher_is_better: bool = False


CPU = Column("cpu", "CPU µs/request")
USER = Column("user", "user")
SYSTEM = Column("system", "system")
RATE = Column("rate", "requests/s", higher_is_better=True)
P50 = Column("p50", "p50 ms")
P99 = Column("p99", "p99 ms")
P999 = Column("p999", "p99.9 ms")
BUSY = Column("busy", "core used %")


@dataclass(frozen=True)
class Bar:
    """What a figure must reach, and what would be better still."""

    column: Column
    limit: float
    stretch: float | None = None
    relative: bool = True  # it is for the ratio to the anchor's figure of the same round


@dataclass(frozen=True)
class Contestant:
    """A proxy in one configuration."""

    name: str
    start: Callable[[Stage, list[str]], Proxy]
    anchor: bool = False  # whether others of its group are compared with it
    group: str = ""
    build: str = ""  # which build of loadbalancer it is
    variant: str = ""  # what tells it from others of the same build
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Cast:
    """Whom a run has to choose contestants from."""

    binaries: dict[str, Path]  # builds of loadbalancer by name, the present one first
    envoy: Path | None


class Measurement(Protocol):
    """Reads figures from one contestant; "errors" is always among them."""

    def prepare(self, stage: Stage, proxy: Proxy) -> None:
        """Once, after the proxy has started."""

    def measure(self, stage: Stage, proxy: Proxy, seconds: float) -> Figures:
        """Once a round."""


@dataclass(frozen=True)
class Scenario:
    name: str
    summary: str
    measurement: Measurement
    contestants: Callable[[Cast], list[Contestant]]
    servers: Callable[[Stage], list[str]] = nginx_pair
    judged: Column = CPU  # the best anchor and the ratios are of this figure
    columns: tuple[Column, ...] | None = (USER, SYSTEM, RATE, P50, P99, BUSY)  # None: whatever was measured
    placement: Callable[[], Placement] = apart
    timed: bool = True  # its figures suffer when other programs keep the cores busy
    most_rounds: int | None = None
    programs: tuple[str, ...] = ("wrk", "nginx", "haproxy")
    quick: bool = False
