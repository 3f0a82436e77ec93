"""A load balancer with what a check needs of listeners, each with a server of its own behind it."""

import contextlib
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.processes import Processes, Program, free_port, wait_until
from trials.backends import EVERYWHERE


@dataclass(frozen=True)
class Listener:
    name: str
    mode: str
    server: str  # HOST:PORT
    lines: str = ""  # more keys of it
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def text(self) -> str:
        # A server of UDP says nothing by itself, and one of TCP may speak first.
        kind = "off" if self.mode == "udp" else "tcp"
        return f"""
[[listeners]]
name = "{self.name}"
listen = "{self.address}"
mode = "{self.mode}"
upstream = "{self.name}"
{self.lines}
[[upstreams]]
name = "{self.name}"
servers = ["{self.server}"]
health_check = {{ kind = "{kind}" }}
"""


@contextlib.contextmanager
def processes() -> Iterator[Processes]:
    """Those of a run, in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="loadbalancer-check-") as directory:
        with Processes(Path(directory)) as running:
            yield running


def start_server(running: Processes, binary: Path, *command: str) -> str:
    """Starts a test server beside the load balancer on a free port, and gives its address."""
    address = f"127.0.0.1:{free_port()}"
    name, *flags = command
    program = running.start(name, [str(binary.parent / name), *flags, "--listen", address], EVERYWHERE)
    wait_until(name, program, lambda: "listening on" in program.log.read_text(), 10)
    return address


def start(running: Processes, binary: Path, tables: list[str]) -> Program:
    """Starts the load balancer with these listeners and what belongs to them, and waits until it is ready."""
    admin = free_port()
    config = running.new_file("config.toml")
    state = running.directory / "state"
    head = f'upgrade_socket = "off"\n[admin]\nlisten = "127.0.0.1:{admin}"\nstate_file = "{state}"\n'
    config.write_text(head + "\n".join(tables))
    program = running.start("loadbalancer", [str(binary), "--config", str(config)], EVERYWHERE)
    wait_until("the load balancer", program, lambda: is_ready(admin), 10)
    return program


def is_ready(admin: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=1) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
