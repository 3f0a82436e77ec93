"""Starts and ends every process of a run: its cores, its log, its death with the script."""

import contextlib
import ctypes
import os
import random
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .failure import Failure

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
PATIENCE = 5.0  # seconds between asking a process to end and killing it


@dataclass(frozen=True)
class Program:
    """A process that was started here; its output, both streams, is in `log`."""

    name: str
    process: subprocess.Popen
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def check(self) -> None:
        """Fails if it has ended although nobody asked it to."""
        if self.process.poll() is not None:
            raise Failure(f"{self.name} ended with status {self.process.returncode}: {self.last_words()}")

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "it said nothing"


@dataclass
class Processes:
    """All processes that run now; leaving the context ends them."""

    directory: Path
    running: list[Program] = field(default_factory=list)
    files: int = 0

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for program in reversed(self.running.copy()):
            self.stop(program)

    def new_file(self, name: str) -> Path:
        """A path in the directory of this run that no other has."""
        self.files += 1
        return self.directory / f"{self.files:04}-{name.replace(' ', '-')}"

    def start(
        self,
        name: str,
        command: list[str],
        cores: set[int],
        environment: dict[str, str] | None = None,
        descriptors: tuple[int, ...] = (),
    ) -> Program:
        """Starts a program on these cores, in a session of its own so that Ctrl-C reaches only the script."""

        def prepare() -> None:
            os.sched_setaffinity(0, cores)
            raise_file_limit()
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        log = self.new_file(f"{name}.log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=descriptors,
                start_new_session=True,
                preexec_fn=prepare,
            )
        program = Program(name, process, log)
        self.running.append(program)
        return program

    def check(self) -> None:
        """Fails if one of them has ended."""
        for program in self.running:
            program.check()

    def stop(self, program: Program) -> None:
        """Asks it to end, then kills what is left of its session."""
        program.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.process.wait(PATIENCE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.process.wait()
        self.running.remove(program)

    def finish(self, program: Program, seconds: float, statuses: tuple[int, ...] = (0,)) -> str:
        """Waits for it to end by itself and returns its output."""
        try:
            status = program.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{program.name} did not end") from None
        self.running.remove(program)
        if status not in statuses:
            raise Failure(f"{program.name} ended with status {status}: {program.last_words()}")
        return program.log.read_text(errors="replace")


def raise_file_limit() -> None:
    """As many open files as the system lets this process have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def ports() -> Iterator[int]:
    """All ports below those that the system gives to outgoing connections, each once, in random order."""
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(10_000, first_outgoing)
    yield from random.sample(candidates, len(candidates))


PORTS = ports()


def free_port() -> int:
    """A port that nobody listens on and that this run has not used."""
    for port in PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Failure("no free port found")


def wait_until(what: str, program: Program, ready, seconds: float) -> None:
    """Waits until `ready()` is true; fails when the program has ended or time is up."""
    deadline = time.monotonic() + seconds
    while not ready():
        program.check()
        if time.monotonic() > deadline:
            raise Failure(f"{what} is not ready after {seconds:.0f} s: {program.last_words()}")
        time.sleep(0.02)
