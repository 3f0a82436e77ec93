"""Connections that wait: how much memory a proxy holds for each."""

import resource
import socket
import ssl
import time
from dataclasses import dataclass

from . import accounting
from .failure import Failure
from .proxies import Proxy
from .stage import Figures, Stage
from .tls import trusting

AT_ONCE = 64  # requests in flight while the connections are opened
WAIT = 5.0  # seconds between the last request, or the last close, and a look at the memory
OWN_FILES = 1000  # descriptors that are kept for everything but these connections


@dataclass(frozen=True)
class IdleConnections:
    """Bytes of memory a connection: what the proxy holds more than before they were opened."""

    connections: int  # or as many as the limit of open files allows
    path: str
    body: int

    def prepare(self, stage: Stage, proxy: Proxy) -> None:
        # The first requests of all make what any number of connections shares.
        close(self.open(proxy, AT_ONCE))
        time.sleep(1)

    def measure(self, stage: Stage, proxy: Proxy, seconds: float) -> Figures:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        count = min(self.connections, limit - OWN_FILES)
        before = accounting.memory(proxy.pid)
        connections = []
        for _ in range(0, count, AT_ONCE):
            connections += self.open(proxy, min(AT_ONCE, count - len(connections)))
        time.sleep(WAIT)
        held = accounting.memory(proxy.pid)
        lost = sum(map(has_ended, connections))
        close(connections)
        time.sleep(WAIT)
        left = accounting.memory(proxy.pid)
        return {
            "errors": lost,
            "connections": count,
            "bytes": (held - before) / count,
            "left": (left - before) / count,
            "before": before / 1024,
        }

    def open(self, proxy: Proxy, count: int) -> list[socket.socket]:
        """Opens connections that each have had one answer."""
        host, port = proxy.address.split(":")
        connections = [socket.create_connection((host, int(port)), timeout=10) for _ in range(count)]
        if proxy.tls:
            client = trusting()
            connections = [client.wrap_socket(connection) for connection in connections]
        for connection in connections:
            connection.sendall(f"GET {self.path} HTTP/1.1\r\nHost: {proxy.address}\r\n\r\n".encode())
        for connection in connections:
            self.read_answer(connection)
        return connections

    def read_answer(self, connection: socket.socket) -> None:
        answer = b""
        while len(answer.partition(b"\r\n\r\n")[2]) < self.body:
            received = connection.recv(65536)
            if not received:
                raise Failure("a connection that should stay was closed")
            answer += received
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise Failure(f"answered {answer.splitlines()[0].decode(errors='replace')!r}")


def has_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


def close(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()
