"""Changes of servers through the admin API."""

import asyncio

from ..wire import Answer, fetch
from .event import Event

PATIENCE = 100  # tries, a tenth of a second apart: after an upgrade the old process may still have the state file


class OfServer(Event):
    async def ask(self, method: str, path: str, body: object, good: int) -> None:
        answer = Answer()
        for _ in range(PATIENCE):
            answer = await fetch(self.stage.balancer.admin, path, method, body)
            if answer.status == good:
                return
            await asyncio.sleep(0.1)
        text = answer.body.decode().strip()[:300]
        self.stage.violation(f"{method} {path}: {answer.status} {text}")

    def address(self) -> str:
        return self.rng.choice(self.stage.backends).authority


class Drain(OfServer):
    async def happen(self) -> str:
        async with self.stage.changing:
            path = f"/servers/{self.address()}"
            await self.ask("PATCH", path, {"drain": True}, 200)
            await asyncio.sleep(self.rng.uniform(0.1, 1))
            await self.ask("PATCH", path, {"drain": False}, 200)
            return "a server drained"


class Weigh(OfServer):
    async def happen(self) -> str:
        async with self.stage.changing:
            weight = self.rng.randint(1, 9)
            await self.ask("PATCH", f"/servers/{self.address()}", {"weight": weight}, 200)
            return f"a server's weight changed to {weight}"


class Remove(OfServer):
    async def happen(self) -> str:
        async with self.stage.changing:
            address = self.address()
            await self.ask("DELETE", f"/servers/{address}", None, 200)
            await asyncio.sleep(self.rng.uniform(0.1, 1))
            await self.ask("POST", "/servers", {"address": address, "upstream": "app"}, 201)
            return "a server removed and added"
