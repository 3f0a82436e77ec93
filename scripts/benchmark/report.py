"""The tables and verdicts of a run, in Markdown."""

import math
from collections import Counter
from dataclasses import dataclass
from statistics import median

from .model import OURS, Bar, Column, Contestant
from .rounds import Outcome

NOISE = 0.1  # of a core: what other programs may take before it is worth a warning


@dataclass(frozen=True)
class Verdict:
    """How a contestant did at one of its bars."""

    contestant: str
    what: str
    value: float
    bar: Bar

    @property
    def words(self) -> str:
        if self.bar.stretch is not None and self.meets(self.bar.stretch):
            return "stretch reached"
        return "reached" if self.meets(self.bar.limit) else "missed"

    def meets(self, limit: float) -> bool:
        return self.value >= limit if self.bar.column.higher_is_better else self.value <= limit

    def limits(self) -> tuple[str, str]:
        sign = ">=" if self.bar.column.higher_is_better else "<="
        return f"{sign} {self.bar.limit:,g}", "" if self.bar.stretch is None else f"{sign} {self.bar.stretch:,g}"

    def sentence(self) -> str:
        limit, stretch = self.limits()
        aim = f"bar {limit}, stretch {stretch}" if stretch else f"bar {limit}"
        return f"{self.contestant}, {self.what}: {aim}: {self.words} with {number(self.value)}"


class Results:
    """The samples of a scenario, by contestant."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.scenario = outcome.scenario

    def series(self, contestant: Contestant, figure: str) -> list[float]:
        """A contestant's figure, round after round; 0 for a system call that it did not make."""
        samples = [sample for sample in self.outcome.samples if sample.contestant == contestant.name]
        return [sample.figures.get(figure, 0.0) for sample in sorted(samples, key=lambda sample: sample.round)]

    def typical(self, contestant: Contestant, figure: str) -> float:
        return median(self.series(contestant, figure))

    def anchor(self, contestant: Contestant) -> Contestant:
        """The best of those that a contestant is compared with."""
        judged = self.scenario.judged
        best = max if judged.higher_is_better else min
        anchors = [other for other in self.outcome.contestants if other.anchor and other.group == contestant.group]
        return best(anchors, key=lambda other: self.typical(other, judged.figure))

    def ratios(self, contestant: Contestant, other: Contestant, column: Column) -> list[float]:
        """To another contestant's figure of the same round."""
        pairs = zip(self.series(contestant, column.figure), self.series(other, column.figure), strict=True)
        return [own / its if its else math.inf for own, its in pairs]

    def verdicts(self) -> list[Verdict]:
        return [self.verdict(contestant, bar) for contestant in self.outcome.contestants for bar in contestant.bars]

    def verdict(self, contestant: Contestant, bar: Bar) -> Verdict:
        if bar.relative:
            anchor = self.anchor(contestant)
            value = median(self.ratios(contestant, anchor, bar.column))
            return Verdict(contestant.name, f"{bar.column.heading} to {anchor.name}", value, bar)
        return Verdict(contestant.name, bar.column.heading, self.typical(contestant, bar.column.figure), bar)

    def table(self) -> str:
        judged = self.scenario.judged
        columns = self.columns()
        headings = ["", judged.heading, *(column.heading for column in columns), "errors", "ratio"]
        rows = []
        for contestant in self.outcome.contestants:
            cells = [contestant.name, spread(self.series(contestant, judged.figure))]
            cells += [number(self.typical(contestant, column.figure)) for column in columns]
            cells.append(f"{sum(self.series(contestant, 'errors')):.0f}")
            cells.append(spread(self.ratios(contestant, self.anchor(contestant), judged)))
            rows.append(cells)
        sentences = [verdict.sentence() for verdict in self.verdicts()] + self.between_builds() + self.disturbance()
        lines = [f"### {self.scenario.name}: {self.scenario.summary}", "", markdown(headings, rows), ""]
        return "\n".join(lines + [f"* {sentence}" for sentence in sentences]) + "\n"

    def columns(self) -> tuple[Column, ...]:
        """Those of the scenario, or else one for each figure that is above zero, the largest first."""
        if self.scenario.columns is not None:
            return self.scenario.columns
        largest = Counter()
        for sample in self.outcome.samples:
            largest |= Counter(sample.figures)
        elsewhere = ("errors", "others", self.scenario.judged.figure)
        shown = [name for name, value in largest.most_common() if value >= 0.005 and name not in elsewhere]
        return tuple(Column(name, name) for name in shown)

    def between_builds(self) -> list[str]:
        """The present build beside the others."""
        contestants = self.outcome.contestants
        return [
            f"{present.name} to {other.name}: {spread(self.ratios(present, other, self.scenario.judged))}"
            for present in contestants
            for other in contestants
            if present.build == OURS and other.build not in ("", OURS) and other.variant == present.variant
        ]

    def disturbance(self) -> list[str]:
        """A warning if other programs kept the cores busy."""
        if not self.doubtful():
            return []
        return [f"Other programs took up to {self.others():.0%} of a core: the figures are doubtful."]

    def doubtful(self) -> bool:
        return self.scenario.timed and self.others() > NOISE

    def others(self) -> float:
        """The largest part of a core that other programs took while somebody was measured."""
        return max(sample.figures["others"] for sample in self.outcome.samples)


def summary(all_results: list[Results]) -> str:
    """One row for each bar of the run."""
    rows = []
    for results in all_results:
        for verdict in results.verdicts():
            about = [results.scenario.name, verdict.contestant, verdict.what]
            words = f"{verdict.words} (doubtful)" if results.doubtful() else verdict.words
            rows.append([*about, number(verdict.value), *verdict.limits(), words])
    headings = ["scenario", "contestant", "what", "value", "bar", "stretch", ""]
    return f"### Summary\n\n{markdown(headings, rows)}\n"


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[place]) for row in [headings, *rows]) for place in range(len(headings))]
    rule = ["-" * max(3, width) for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [headings, rule, *rows]
    )


def spread(values: list[float]) -> str:
    """The median, and in brackets the extremes if there are several values."""
    middle = number(median(values))
    return f"{middle} ({number(min(values))}–{number(max(values))})" if len(values) > 1 else middle


def number(value: float) -> str:
    """Three significant digits, and all of a whole number."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 or value == 0 else 3
    return f"{value:.{digits}f}"
