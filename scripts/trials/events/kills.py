"""What happens to servers, to one at a time."""

import asyncio

from ..backends import Backend
from .event import Event


class OfBackend(Event):
    def one(self) -> Backend:
        return self.rng.choice(self.stage.backends)


class Kill(OfBackend):
    """A server dies, and comes back after a while."""

    async def happen(self) -> str:
        backend = self.one()
        await backend.kill()
        await asyncio.sleep(self.rng.uniform(0.05, 2))
        await backend.start()
        await self.stage.used_again(backend)
        return f"kill -9 {backend.name}"


class Restart(OfBackend):
    """All servers are asked to end, and started again, one after the other."""

    async def happen(self) -> str:
        for backend in self.rng.sample(self.stage.backends, len(self.stage.backends)):
            await backend.terminate()
            await backend.start()
            await self.stage.used_again(backend)
        return "rolling restart"


class Pause(OfBackend):
    """A server stands still for less than anybody's timeout."""

    async def happen(self) -> str:
        backend = self.one()
        seconds = self.rng.uniform(0.2, 1.5)
        await backend.pause(seconds)
        await self.stage.used_again(backend)
        return f"SIGSTOP {backend.name} for {seconds:.1f} s"
