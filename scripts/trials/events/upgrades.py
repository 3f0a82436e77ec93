"""The program is replaced while it runs, by each of the ways there are; and is not by what cannot serve."""

import asyncio
import os
import shutil
import signal
import time

from .event import Event

SETTLED = 3.0  # seconds in which a successor that cannot serve has given up


class Upgrade(Event):
    pause = 10.0

    async def happen(self) -> str:
        async with self.stage.changing:
            begun = time.monotonic()
            await self.begin()
            if not await self.stage.balancer.handed_over(begun):
                self.stage.violation(f"{self.name()}: no new process serves")
            elif not await self.stage.balancer.in_force(3):
                self.stage.violation(f"{self.name()}: the new process has another configuration")
            return f"{self.name()}, took {time.monotonic() - begun:.2f} s"

    async def begin(self) -> None:
        os.kill(self.stage.balancer.pid, signal.SIGUSR2)

    def name(self) -> str:
        return f"upgrade {type(self).__name__}"

    async def replace(self, content: bytes | None) -> None:
        """A new file takes the program's place, as packages do it: this content, or another copy of the program."""
        balancer = self.stage.balancer
        beside = balancer.program.with_suffix(".new")
        if content is None:
            await asyncio.to_thread(shutil.copy, balancer.binary, beside)
        else:
            beside.write_bytes(content)
            beside.chmod(0o755)
        beside.replace(balancer.program)


class BySignal(Upgrade):
    """SIGUSR2."""


class NewBinary(Upgrade):
    """SIGUSR2 after the file was replaced."""

    async def begin(self) -> None:
        await self.replace(None)
        await super().begin()


class ByFlag(Upgrade):
    """A process that is started with --upgrade."""

    async def begin(self) -> None:
        self.stage.balancer.launch("--upgrade")


class Refused(Upgrade):
    """The old process goes on."""

    pause = 2.0

    async def happen(self) -> str:
        async with self.stage.changing:
            balancer, before = self.stage.balancer, self.stage.balancer.pid
            await self.begin()
            await asyncio.sleep(SETTLED)
            others = {process.pid for process in balancer.alive()} - {before, *balancer.retired}
            if others:
                self.stage.violation(f"{self.name()}: a successor that cannot serve still runs")
            if not await balancer.serving(before):
                self.stage.violation(f"{self.name()}: the old process serves no more")
            await self.repair()
            return f"{self.name()}, refused"

    async def repair(self) -> None:
        """Takes back what was broken."""


class BrokenBinary(Refused):
    async def begin(self) -> None:
        await self.replace(b"#!/bin/sh\nexit 3\n")
        await super().begin()

    async def repair(self) -> None:
        await self.replace(None)


class BrokenFile(Refused):
    """A file that the successor cannot read; the one that serves never sees it."""

    async def begin(self) -> None:
        balancer = self.stage.balancer
        path = balancer.directory / "broken.toml"
        path.write_text(balancer.configuration.text() + "unknown_key = 1\n")
        successor = balancer.launch("--upgrade", path=path)
        await asyncio.sleep(1)
        if successor.process.poll() in (None, 0):
            self.stage.violation(f"{self.name()}: the successor has not ended with an error")
