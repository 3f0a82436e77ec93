"""Other configurations: taken by each of the ways there are, and refused if they are not valid."""

import asyncio
import os
import signal

from benchmark.processes import free_port

from ..wire import Broken, fetch
from .event import Event

WATCHED = 4.0  # seconds within which a changed file is noticed
ASKED = 3.0  # the same for a signal or a request
MISTAKES = (
    "this is not TOML",
    "[[upstreams]]\nname = 'app'\nservers = ['127.0.0.1:1']\n",  # a second one of that name
    "unknown_key = 1\n",
)


class Reload(Event):
    """Changes something of everything."""

    pause = 0.5
    within = ASKED

    async def happen(self) -> str:
        async with self.stage.changing:
            balancer, configuration, rng = self.stage.balancer, self.stage.balancer.configuration, self.rng
            removed = configuration.extra_port
            configuration.generation += 1
            configuration.servers = {address: rng.randint(1, 4) for address in configuration.servers}
            configuration.strategy = rng.choice(["round_robin", "random", "least_connections", "peak_ewma"])
            configuration.response = f"{rng.randint(5, 12)}s"
            configuration.extra_routes = rng.randint(0, 20)
            configuration.extra_port = 0 if removed else free_port()
            balancer.save(configuration.text())
            await self.ask()
            if not await balancer.in_force(self.within):
                self.stage.violation(f"{self.name()}: generation {configuration.generation} is not in force")
            elif removed:
                await self.gone(removed)
            else:
                await self.there(configuration.extra_port)
            return f"{self.name()}, generation {configuration.generation}"

    async def ask(self) -> None:
        """Has the file read, if it is not noticed by itself."""

    def name(self) -> str:
        return f"reload by {type(self).__name__.lower()}"

    async def there(self, port: int) -> None:
        if (await fetch(("127.0.0.1", port), "/")).status != 200:
            self.stage.violation("a listener that was added does not serve")

    async def gone(self, port: int) -> None:
        try:
            await fetch(("127.0.0.1", port), "/")
            self.stage.violation("a listener that was removed still serves")
        except Broken as error:
            if error.kind != "refused":
                self.stage.violation(f"a listener that was removed still accepts: {error.kind}")


class Rename(Reload):
    within = WATCHED


class Hangup(Reload):
    async def ask(self) -> None:
        os.kill(self.stage.balancer.pid, signal.SIGHUP)


class Post(Reload):
    async def ask(self) -> None:
        answer = await self.stage.balancer.post_reload()
        if answer.status != 200:
            self.stage.violation(f"POST /config/reload: {answer.status} {answer.body.decode().strip()[:300]}")


class Invalid(Event):
    """A file with a mistake changes nothing."""

    async def happen(self) -> str:
        async with self.stage.changing:
            balancer = self.stage.balancer
            before = await balancer.generation()
            configuration = balancer.configuration
            good, configuration.generation = configuration.text(), configuration.generation + 1
            balancer.save(f"{configuration.text()}\n{self.rng.choice(MISTAKES)}")
            configuration.generation -= 1
            if self.rng.random() < 0.5:
                answer = await balancer.post_reload()
                if answer.status != 422:
                    self.stage.violation(f"POST /config/reload with an invalid file: {answer.status}")
            else:
                os.kill(balancer.pid, signal.SIGHUP)
                await asyncio.sleep(0.5)
            if await balancer.generation() != before:
                self.stage.violation("an invalid file has changed something")
            balancer.save(good)
            return "an invalid file"
