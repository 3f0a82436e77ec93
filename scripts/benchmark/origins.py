"""The servers behind the proxies, always on the cores of the load."""

import functools
import socket
from pathlib import Path

from .nginx_config import write_nginx_config
from .processes import free_port, wait_until
from .stage import ROOT, Stage
from .web import answers

SMALL = "x" * 128  # also the answer to any path that is not named below
KIB = "x" * 1024
FILES = {"100k": 100 * 1024, "10m": 10 * 1024 * 1024}


def nginx_pair(stage: Stage) -> list[str]:
    """Two nginx, each with one worker."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    for address in addresses:
        nginx_origin(stage, address, address)
    return addresses


def nginx_at_many_addresses(stage: Stage, count: int = 10_000) -> list[str]:
    """One nginx behind many loopback addresses.

    Its one socket is bound to all addresses, but also to the loopback device, so that nothing outside can reach it.
    nginx cannot do the latter, but it takes open sockets from the variable NGINX, its way to upgrade itself.
    """
    port = free_port()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        listener.bind(("0.0.0.0", port))
        listener.listen(4096)
        addresses = [f"127.1.{number // 250}.{number % 250 + 1}:{port}" for number in range(count)]
        inherited = {"environment": {"NGINX": f"{listener.fileno()};"}, "descriptors": (listener.fileno(),)}
        nginx_origin(stage, f"0.0.0.0:{port}", addresses[0], **inherited)
    return addresses


def nginx_origin(stage: Stage, listen: str, address: str, **inherited) -> None:
    """An nginx with one worker that answers at this address."""
    config = f"""
        open_file_cache max=16 inactive=1h;
        server {{
            listen {listen} backlog=4096;
            root {files(stage.directory)};
            location = /health {{ return 200 "ok"; }}
            location = /1k {{ return 200 "{KIB}"; }}
            location = /100k {{ }}
            location = /10m {{ }}
            location / {{ return 200 "{SMALL}"; }}
        }}
    """
    path = write_nginx_config(stage, "origin", 1, config)
    program = stage.start_load("origin", ["nginx", "-c", str(path), "-e", "stderr"], **inherited)
    wait_until(program.name, program, lambda: answers(address, "/health"), 10)


@functools.cache
def files(directory: Path) -> Path:
    """The large answers, written once a run; they stay in the page cache and nginx sends them with sendfile."""
    root = directory / "files"
    root.mkdir()
    for name, size in FILES.items():
        (root / name).write_bytes(b"x" * size)
    return root


def upload_pair(stage: Stage) -> list[str]:
    """The project's test servers, because nginx answers a POST to `return` before it has read the body."""
    return [test_server(stage, name) for name in ("backends1", "backends2")]


def test_server(stage: Stage, name: str) -> str:
    address = f"127.0.0.1:{free_port()}"
    binary = ROOT / "target/release" / name
    program = stage.start_load(name, [str(binary), "--listen", address, "--name", name])
    wait_until(name, program, lambda: answers(address, "/health"), 10)
    return address


def redis(stage: Stage) -> str:
    """A Redis of our own that keeps nothing on disk."""
    port = free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    program = stage.start_load("redis", command)
    wait_until("redis", program, lambda: "Ready to accept connections" in program.log.read_text(), 10)
    return f"127.0.0.1:{port}"
