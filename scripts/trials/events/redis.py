"""What happens to Redis. Limits are then counted by the load balancer itself."""

import asyncio

from .event import Event


class Pause(Event):
    async def happen(self) -> str:
        seconds = self.rng.uniform(0.2, 2)
        await self.stage.redis.pause(seconds)
        return f"SIGSTOP Redis for {seconds:.1f} s"


class Kill(Event):
    async def happen(self) -> str:
        await self.stage.redis.kill()
        await asyncio.sleep(self.rng.uniform(0.1, 1))
        self.stage.redis.start()
        return "kill -9 Redis"
