"""The load balancer's configuration: what of it varies during a run, and its text."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

MINIMAL = """\
[admin]
state_file = "/nonexistent/state"
[[listeners]]
listen = "127.0.0.1:1"
[[upstreams]]
name = "app"
servers = ["127.0.0.1:2"]
"""


def takes(binary: Path, directory: Path, lines: str) -> bool:
    """Whether a load balancer knows the keys in these lines, which belong to an upstream or come with their table."""
    path = directory / "candidate.toml"
    path.write_text(MINIMAL + lines + "\n")
    command = [str(binary), "--check", "--config", str(path)]
    known = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
    path.unlink()
    return known


@dataclass
class Configuration:
    """What a run changes. A generation is what `/generation` answers, so that all can see which one is in force."""

    servers: dict[str, int]  # addresses with weights
    port: int
    admin_port: int
    directory: Path
    redis: str = ""
    workers: int = 2
    drain_timeout: str = "6s"
    generation: int = 0
    strategy: str = "round_robin"
    response: str = "8s"
    extra_routes: int = 0
    extra_port: int = 0
    top: str = ""  # more lines: at the top level,
    upstream: str = ""  # of the upstream,
    route: str = ""  # and of its route
    more: str = ""  # whole tables
    health_check: str = 'interval = "500ms", timeout = "1s", fall = 2, rise = 1'

    def text(self) -> str:
        return "\n".join(filter(None, [self.head(), self.listeners(), self.routes(), self.upstreams(), self.more])) + "\n"

    def head(self) -> str:
        lines = [f"workers = {self.workers}", f'drain_timeout = "{self.drain_timeout}"', self.top, "[admin]"]
        lines += [f'listen = "127.0.0.1:{self.admin_port}"', f'state_file = "{self.directory}/state"']
        if self.redis:
            lines += ["[redis]", f'url = "{self.redis}"', 'timeout = "50ms"']
            lines += ["[rate_limit]", "requests = 1000000000", 'window = "10s"', 'store = "redis"']
        return "\n".join(lines)

    def listeners(self) -> str:
        ports = {"web": self.port} | ({"extra": self.extra_port} if self.extra_port else {})
        return "\n".join(f'[[listeners]]\nname = "{name}"\nlisten = "127.0.0.1:{port}"' for name, port in ports.items())

    def routes(self) -> str:
        generation = f'rate_limit = "off"\nrespond = {{ body = "{self.generation}" }}'
        routes = [
            f'name = "generation"\npaths = ["/generation"]\n{generation}',
            f'name = "app"\nupstream = "app"\n{self.route}',
        ]
        routes += [
            f'name = "extra{number}"\npaths = ["/extra/{number}/*"]\nupstream = "app"\nstrip_prefix = "/extra/{number}"'
            for number in range(self.extra_routes)
        ]
        return "\n".join(f"[[routes]]\n{route}" for route in routes)

    def upstreams(self) -> str:
        servers = ", ".join(
            f'{{ address = "{address}", weight = {weight} }}' for address, weight in self.servers.items()
        )
        return "\n".join(
            [
                '[[upstreams]]\nname = "app"',
                f'strategy = "{self.strategy}"',
                f"servers = [{servers}]",
                f"health_check = {{ {self.health_check} }}",
                f'timeouts = {{ response = "{self.response}" }}',
                self.upstream,
            ]
        )
