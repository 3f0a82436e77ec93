"""Everything that a run needs, started and ready: servers, Redis, the load balancer; and the notes of what happened."""

import asyncio
import contextlib
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.processes import Processes, free_port

from .backends import Backend
from .balancer import Balancer
from .configuration import Configuration, takes
from .redis import Redis


@dataclass(frozen=True)
class Note:
    """Something that was done to the programs, between two moments."""

    what: str
    begun: float
    ended: float


@dataclass
class Stage:
    directory: Path
    processes: Processes
    backends: list[Backend]
    balancer: Balancer
    redis: Redis | None
    begun: float = field(default_factory=time.monotonic)
    notes: list[Note] = field(default_factory=list)
    violations: list[tuple[float, str]] = field(default_factory=list)
    keep: bool = False  # the directory
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)  # one change of configuration or process at a time

    @property
    def journal(self) -> Path:
        return self.directory / "journal"

    def violation(self, text: str) -> None:
        self.violations.append((time.monotonic(), text))

    async def used_again(self, backend: Backend) -> None:
        """Waits until the load balancer takes a server for healthy, unless somebody removed it."""
        deadline = time.monotonic() + 15
        while (server := (await self.balancer.servers()).get(backend.authority)) and server["health"] != "up":
            if time.monotonic() > deadline:
                self.violation(f"{backend.name} runs again but is taken for {server['health']} after 15 s")
                return
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def stage(
    binary: Path,
    servers: int = 3,
    with_redis: bool = False,
    flags: tuple[str, ...] = ("--linger", "500"),
    quick_ejection: bool = False,
    **settings: object,
) -> AsyncIterator[Stage]:
    """Settings are those of a `Configuration`. The directory stays if this fails or is told to `keep` it.

    With `quick_ejection`, servers that were ejected, as they are when they are killed, are given another chance soon.
    """
    directory = Path(tempfile.mkdtemp(prefix="loadbalancer-trial-"))
    with Processes(directory) as processes:
        journal = ("--journal", str(directory / "journal"))
        test_server = binary.parent / "backends1"
        backends = [Backend(f"s{number}", test_server, processes, (*journal, *flags)) for number in range(servers)]
        redis = Redis(processes) if with_redis else None
        if redis:
            redis.start()
        configuration = Configuration(
            servers={backend.authority: 1 for backend in backends},
            port=free_port(),
            admin_port=free_port(),
            directory=directory,
            redis=redis.url if redis else "",
        )
        for name, value in settings.items():
            setattr(configuration, name, value)
        if quick_ejection and takes(binary, directory, ejection := 'ejection = { base = "1s" }'):
            configuration.upstream = ejection
        for backend in backends:
            await backend.start()
        made = Stage(directory, processes, backends, Balancer(binary, processes, configuration), redis)
        try:
            await made.balancer.start()
            yield made
        except BaseException:
            made.keep = True
            raise
        finally:
            if made.keep or made.violations:
                print(f"kept: {directory}")
    # Only now has everything ended that writes there.
    if not made.keep and not made.violations:
        shutil.rmtree(directory)


def seeded(seed: int | None) -> tuple[int, random.Random]:
    chosen = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    return chosen, random.Random(chosen)


def clean_environment() -> None:
    """What somebody has set for a load balancer of theirs is not for ours."""
    for name in [name for name in os.environ if name.startswith("LB_")]:
        del os.environ[name]
