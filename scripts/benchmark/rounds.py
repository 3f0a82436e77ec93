"""Plays a scenario: all contestants up, then rounds in which each has its turn."""

import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from . import accounting
from .model import Cast, Contestant, Scenario
from .processes import Processes
from .stage import Figures, Stage


@dataclass(frozen=True)
class Sample:
    """One contestant in one round."""

    contestant: str
    round: int
    figures: Figures


@dataclass(frozen=True)
class Outcome:
    """All samples of a scenario."""

    scenario: Scenario
    contestants: list[Contestant]
    samples: list[Sample]

    @property
    def errors(self) -> int:
        return int(sum(sample.figures["errors"] for sample in self.samples))

    def raw(self) -> dict:
        return {"scenario": self.scenario.name, "samples": [asdict(sample) for sample in self.samples]}


def play(scenario: Scenario, cast: Cast, directory: Path, rounds: int, seconds: float) -> Outcome:
    contestants = scenario.contestants(cast)
    rounds = min(rounds, scenario.most_rounds or rounds)
    samples = []
    with Processes(directory) as processes:
        stage = Stage(processes, scenario.placement())
        progress(f"{scenario.name}: starting")
        servers = scenario.servers(stage)
        running = {}
        for contestant in contestants:
            running[contestant] = contestant.start(stage, servers)
            scenario.measurement.prepare(stage, running[contestant])
        for number in range(rounds):
            for contestant in rotated(contestants, number):
                clock = OthersClock(processes)
                figures = scenario.measurement.measure(stage, running[contestant], seconds)
                figures |= {"others": clock.share()}
                processes.check()
                samples.append(Sample(contestant.name, number + 1, figures))
                progress(
                    f"{scenario.name}: round {number + 1} of {rounds}: {contestant.name}: "
                    f"{scenario.judged.heading} {figures[scenario.judged.figure]:.4g}"
                    + (f", {figures['errors']:.0f} errors" if figures["errors"] else "")
                )
    return Outcome(scenario, contestants, samples)


class OthersClock:
    """Measures how much of a core programs take that are not of this run: they make its figures worthless."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.begin = time.monotonic()
        self.others = self.others_time()

    def share(self) -> float:
        return max(0.0, self.others_time() - self.others) / (time.monotonic() - self.begin)

    def others_time(self) -> float:
        """Seconds since some time in the past."""
        ended_and_self = sum(os.times()[:4])
        running = sum(accounting.cpu_time(program.pid).total for program in self.processes.running)
        return (accounting.machine_time() - running) / 1e9 - ended_and_self


def rotated(contestants: list[Contestant], places: int) -> list[Contestant]:
    """Another one begins each round, so that no place in the order is anybody's advantage."""
    places %= len(contestants)
    return contestants[places:] + contestants[:places]


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
