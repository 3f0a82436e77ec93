"""What an event is, and how those of a group follow each other."""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from ..stage import Note, Stage
from ..wire import Broken


@dataclass
class Event(ABC):
    """Happens once; when it is over, everything is as before, or in another order that is as good."""

    pause: ClassVar[float] = 1.0  # seconds until the next one of its group, at least

    stage: Stage
    rng: random.Random

    @abstractmethod
    async def happen(self) -> str:
        """Does it, notes violations in the stage, and says what it was."""


async def play(kinds: list[type[Event]], stage: Stage, rng: random.Random, end: float) -> None:
    """Events of these kinds, each kind once before any comes again, in random order until the end."""
    pause = Event.pause
    while True:
        for kind in rng.sample(kinds, len(kinds)):
            await asyncio.sleep(pause * rng.uniform(1.0, 1.5))
            pause = kind.pause
            if time.monotonic() >= end:
                return
            begun = time.monotonic()
            try:
                what = await kind(stage, rng).happen()
            except Broken as error:
                what = f"{kind.__module__.rpartition('.')[2]} {kind.__name__}: {error.kind}"
                stage.violation(f"an event could not be completed: {what}")
            stage.notes.append(Note(what, begun, time.monotonic()))
