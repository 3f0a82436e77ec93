"""WebSocket-like connections: an upgrade, then numbered messages whose echo is checked."""

import asyncio
import time
from dataclasses import dataclass, field

from .wire import Address, Answer, Broken, Connection

PATIENCE = 10.0  # seconds that an echo may take


@dataclass(slots=True)
class Tunnel:
    """One of them; times are monotonic seconds."""

    opened: float
    server: str = ""
    ended: float = 0.0
    messages: int = 0
    problem: str = ""  # a kind of `Broken`, `wrong`, or `not opened: STATUS`; nothing if we closed it


@dataclass
class Tunnels:
    """Keeps so many open; each that ends is followed by another one unless told otherwise."""

    address: Address
    count: int = 8
    interval: float = 0.1  # seconds between two messages of a tunnel
    again: bool = True
    all: list[Tunnel] = field(default_factory=list)
    ending: bool = False
    tasks: list[asyncio.Task] = field(default_factory=list)

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self.keep_one()) for _ in range(self.count)]

    def alive(self) -> int:
        return sum(bool(tunnel.server) and not tunnel.ended for tunnel in self.all)

    async def finish(self) -> list[Tunnel]:
        self.ending = True
        await asyncio.gather(*self.tasks)
        return self.all

    async def keep_one(self) -> None:
        while not self.ending:
            tunnel = Tunnel(time.monotonic())
            self.all.append(tunnel)
            try:
                await self.live(tunnel)
            except Broken as error:
                tunnel.problem = error.kind if tunnel.server else f"not opened: {error.kind}"
            tunnel.ended = time.monotonic()
            if not self.again:
                return
            if not tunnel.server:
                await asyncio.sleep(0.2)

    async def live(self, tunnel: Tunnel) -> None:
        connection = await Connection.to(self.address)
        try:
            answer = Answer()
            headers = {"host": "chaos", "connection": "upgrade", "upgrade": "echo"}
            await connection.exchange("GET", "/ws", headers, b"", answer, PATIENCE)
            if answer.status != 101:
                tunnel.problem = f"not opened: {answer.status}"
                return
            tunnel.server = answer.server
            while not self.ending:
                message = b"message %d\n" % tunnel.messages
                await talk(connection, message, tunnel)
                tunnel.messages += 1
                await asyncio.sleep(self.interval)
                if connection.state() == "closed":
                    raise Broken("closed")
        finally:
            connection.close()


async def talk(connection: Connection, message: bytes, tunnel: Tunnel) -> None:
    try:
        await connection.send(message)
        echo = await asyncio.wait_for(connection.read_exactly(len(message)), PATIENCE)
    except (asyncio.TimeoutError, TimeoutError):
        raise Broken("timeout") from None
    except ConnectionError:
        raise Broken("reset") from None
    if echo != message:
        tunnel.problem = "wrong"
